"use strict";

const find = (id) => document.getElementById(id);

// Sorting: each column's heading becomes a button; rows of means stay at the foot.
function sortBy(table, column, direction) {
  const body = table.tBodies[0];
  const key = (row) => {
    const cell = row.cells[column];
    const value = cell.dataset.value === undefined ? NaN : Number(cell.dataset.value);
    return { value, text: cell.textContent.trim() };
  };
  const rows = [...body.rows].filter((row) => !row.classList.contains("last"));
  const last = [...body.rows].filter((row) => row.classList.contains("last"));
  const keys = new Map(rows.map((row) => [row, key(row)]));
  const numeric = [...keys.values()].some((k) => !Number.isNaN(k.value));
  rows.sort((a, b) => {
    const [x, y] = [keys.get(a), keys.get(b)];
    if (!numeric) return direction * x.text.localeCompare(y.text);
    // What has no number stays last, whichever way.
    if (Number.isNaN(x.value) || Number.isNaN(y.value)) return Number.isNaN(x.value) - Number.isNaN(y.value);
    return x.value === y.value ? 0 : direction * (x.value < y.value ? -1 : 1);
  });
  body.append(...rows, ...last);
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      // Numbers are first shown from the largest, names from A.
      const first = column === 0 ? "ascending" : "descending";
      const other = column === 0 ? "descending" : "ascending";
      const next = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((h) => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", next);
      sortBy(table, column, next === "ascending" ? 1 : -1);
    });
  });
}

// Light and dark: as the system says, until the button says otherwise.
const system = window.matchMedia("(prefers-color-scheme: dark)");
const theme = find("theme");
const dark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
const nameTheme = () => { theme.textContent = dark() ? "Light" : "Dark"; };
theme.hidden = false;
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = dark() ? "light" : "dark";
  nameTheme();
});
system.addEventListener("change", nameTheme);
nameTheme();

// Example images.
const compare = (() => {
  const source = find("data");
  if (!source) return { show: () => {} };
  const examples = JSON.parse(source.textContent);
  const [stage, over, under, cut] = ["stage", "over", "under", "cut"].map(find);
  const fill = (select, options, wanted) => {
    const keep = options.some(([value]) => value === select.value) ? select.value : wanted;
    select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
    select.value = options.some(([value]) => value === keep) ? keep : options[0][0];
  };
  const names = { ct: "CT", xray: "X-ray", mr: "MR", other: "Other" };
  let kind = "";

  function choices() {
    const wanted = examples.filter((e) => !kind || e.kind === kind);
    find("examples").hidden = wanted.length === 0;
    if (!wanted.length) return;
    const cases = [...new Map(wanted.map((e) => [e.case, `${names[e.kind] || e.kind}: ${e.case}`]))];
    fill(find("case"), cases, cases[0][0]);
    const of = wanted.filter((e) => e.case === find("case").value);
    fill(find("noise"), of.map((e) => [e.noise, e.noise]), "gaussian");
    const one = of.find((e) => e.noise === find("noise").value);
    const images = Object.keys(one.images).map((name) => [name, name]);
    fill(find("left"), images, "noisy");
    const made = images.map(([name]) => name).filter((name) => name !== "noisy" && name !== "clean");
    fill(find("right"), images, made.find((name) => name.startsWith("medfpl")) || made[0] || "noisy");
    draw(one);
  }

  function draw(one) {
    const label = (name) => (one.psnr[name] ? `${name}, ${one.psnr[name]} dB` : name);
    for (const [image, side] of [[under, "left"], [over, "right"]]) {
      const name = find(side).value;
      image.width = one.width;
      image.height = one.height;
      image.classList.toggle("small", one.width < 360); // enlarged: show its pixels
      image.src = one.images[name];
      image.alt = `${one.noise} noise, ${label(name)}`;
      find(`name-${side}`).textContent = label(name);
    }
    find("about").textContent = one.about;
  }

  const move = () => {
    stage.style.setProperty("--cut", `${cut.value}%`);
    cut.setAttribute("aria-valuetext", `${cut.value} % ${find("left").value}, the rest ${find("right").value}`);
  };
  const drag = (event) => {
    if (event.type === "pointermove" && !event.buttons) return;
    const box = stage.getBoundingClientRect();
    cut.value = String(Math.round((100 * (event.clientX - box.left)) / box.width));
    move();
  };
  for (const id of ["case", "noise", "left", "right"]) find(id).addEventListener("change", () => { choices(); move(); });
  find("difference").addEventListener("change", (event) => stage.classList.toggle("difference", event.target.checked));
  cut.addEventListener("input", move);
  stage.addEventListener("pointerdown", drag);
  stage.addEventListener("pointermove", drag);
  stage.addEventListener("dragstart", (event) => event.preventDefault());
  find("compare").hidden = false;
  return { show: (wanted) => { kind = wanted; choices(); move(); } };
})();

// One kind of image, or all.
const kinds = find("kinds");
kinds.hidden = false;
kinds.addEventListener("change", () => {
  const wanted = kinds.querySelector("input:checked").value;
  for (const part of document.querySelectorAll("[data-kind]")) {
    part.hidden = Boolean(wanted) && part.dataset.kind !== wanted;
  }
  compare.show(wanted);
});
compare.show("");
