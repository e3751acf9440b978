// The viewer: one state, one draw; every control changes the state and asks for a draw.

(() => {
  const $ = (id) => document.getElementById(id);
  const report = JSON.parse($("report").textContent);
  const stage = $("stage"), canvas = $("canvas"), live = $("live");
  const KEPT = 48; // decoded slices
  const state = {
    series: null, at: 0, mode: "compare", window: [0, 1], preset: "", limit: 1, divider: 0.5,
    tool: "window", zoom: 1, x: 0, y: 0, map: "", opacity: 0, pixels: null,
  };
  const cache = new Map();
  const painted = { before: fresh(1, 1), after: fresh(1, 1), removed: fresh(1, 1), key: "", overlay: null };
  let waiting = false, pointerValue = "", speak = 0;

  if (!("DecompressionStream" in window)) {
    $("too-old").hidden = false;
    return;
  }

  // ---- slices

  const slice = () => state.series.slices[state.at];

  function decoded(item) {
    if (!cache.has(item)) cache.set(item, decodePair(item));
    const found = cache.get(item);
    cache.delete(item); // to the end: the first are the least used
    cache.set(item, found);
    for (const key of cache.keys()) {
      if (cache.size <= KEPT) break;
      cache.delete(key);
    }
    return found;
  }

  async function load() {
    const wanted = slice();
    const pixels = await decoded(wanted);
    const map = wanted.maps[state.map];
    const levels = map && (await decodeMap(map));
    if (wanted !== slice() || map !== wanted.maps[state.map]) return;
    state.pixels = pixels;
    painted.overlay = levels ? paintMap(levels) : null;
    if (levels) showScale(levels.levels.some((level) => level < 0));
    painted.key = "";
    if ($("map-none")) $("map-none").hidden = Boolean(map);
    draw();
    for (const near of [1, -1, 2]) {
      const next = state.series.slices[state.at + near];
      if (next) decoded(next);
    }
  }

  function goTo(at) {
    const last = state.series.slices.length - 1;
    state.at = Math.max(0, Math.min(last, at));
    tell();
    load();
  }

  function open(number, sliceNumber) {
    const series = report.series.find((s) => s.number === number);
    const middle = Math.floor(series.slices.length / 2);
    let at = middle;
    if (sliceNumber !== undefined) {
      const nearest = (best, s, i) => Math.abs(s.number - sliceNumber) < Math.abs(series.slices[best].number - sliceNumber) ? i : best;
      at = series.slices.reduce(nearest, 0);
    }
    if (series !== state.series) {
      Object.assign(state, { series, window: [...series.window], limit: series.limit, zoom: 1, x: 0, y: 0, at });
      state.preset = nameOf(state.window);
      showSeries();
    }
    goTo(at);
  }

  const nameOf = (w) =>
    state.series.ct ? (report.presets.find(([, low, high]) => low === w[0] && high === w[1]) || [""])[0] : "";

  // ---- drawing

  function draw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      if (state.pixels) render();
    });
  }

  function paint() {
    const { pixels, series, window: [low, high], limit } = state;
    const key = [low, high, limit].join();
    if (key === painted.key) return;
    painted.key = key;
    for (const name of ["before", "after", "removed"]) {
      painted[name].width = pixels.width;
      painted[name].height = pixels.height;
    }
    paintGrey(painted.before, pixels.before, pixels.zero, pixels.step, low, high, series.inverted);
    paintGrey(painted.after, pixels.after, pixels.zero, pixels.step, low, high, series.inverted);
    paintGrey(painted.removed, pixels.removed, 0, pixels.step, -limit, limit, false);
  }

  // Where the image lies on the stage, in CSS pixels.
  function place() {
    const box = stage.getBoundingClientRect(), aspect = state.series.aspect;
    const width = Math.min(box.width, box.height / aspect) * state.zoom, height = width * aspect;
    return { box, width, height, left: (box.width - width) / 2 + state.x, top: (box.height - height) / 2 + state.y };
  }

  const split = (at) => at.box.width * state.divider;

  function render() {
    paint();
    const at = place(), ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(at.box.width * ratio);
    canvas.height = Math.round(at.box.height * ratio);
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.imageSmoothingQuality = "high";
    const put = (image, from, to) => {
      context.save();
      context.beginPath();
      context.rect(from, 0, to - from, at.box.height);
      context.clip();
      context.drawImage(image, at.left, at.top, at.width, at.height);
      context.restore();
    };
    if (state.mode === "compare") {
      const x = split(at);
      put(painted.before, 0, x);
      put(painted.after, x, at.box.width);
    } else {
      put(painted[state.mode], 0, at.box.width);
    }
    if (painted.overlay && state.opacity > 0) {
      context.globalAlpha = state.opacity;
      put(painted.overlay, 0, at.box.width);
      context.globalAlpha = 1;
    }
    context.strokeStyle = "#ffb340";
    context.lineWidth = 1.5;
    for (const [top, bottom, left, right] of slice().boxes) {
      context.strokeRect(at.left + left * at.width, at.top + top * at.height, (right - left) * at.width, (bottom - top) * at.height);
    }
    if (state.mode === "compare") drawDivider(context, split(at), at.box.height);
    corners();
  }

  function drawDivider(context, x, height) {
    context.fillStyle = "#ffffffd0";
    context.fillRect(x - 0.75, 0, 1.5, height);
    context.beginPath();
    context.arc(x, height / 2, 13, 0, 7);
    context.fill();
    context.fillStyle = "#111";
    for (const side of [-1, 1]) {
      context.beginPath();
      context.moveTo(x + side * 8, height / 2);
      context.lineTo(x + side * 3, height / 2 - 4);
      context.lineTo(x + side * 3, height / 2 + 4);
      context.fill();
    }
  }

  const short = (value) => String(Number(value.toPrecision(Math.abs(value) >= 1000 ? 4 : 3))).replace("-", "−");
  const unit = () => (state.series.ct ? " HU" : "");

  function corners() {
    const { series, mode, window: [low, high], limit } = state;
    const titles = { compare: "Before", before: "Before", after: "After", removed: "Removed: before − after" };
    $("c-left").textContent = `${titles[mode]}\n${series.label}`;
    $("c-right").textContent = mode === "compare" ? "After" : "";
    $("c-value").textContent = pointerValue;
    $("c-window").textContent =
      mode === "removed" ? `−${short(limit)} to ${short(limit)}${unit()}` : `L ${short((low + high) / 2)}  W ${short(high - low)}`;
    ["left", "top", "right", "bottom"].forEach((side, i) => ($("e-" + side).textContent = series.edges[i] || ""));
    stage.dataset.window = `${low} ${high}`;
    stage.dataset.slice = slice().number;
  }

  // ---- controls follow the state

  function showSeries() {
    const { series } = state, many = series.slices.length > 1;
    $("slicebar").hidden = !many;
    $("slice").max = series.slices.length;
    document.querySelectorAll(".thumb").forEach((b) => b.setAttribute("aria-pressed", Number(b.dataset.series) === series.number));
    $("ticks").replaceChildren(...series.slices.flatMap((s, i) => {
      if (!s.flags.length || !many) return [];
      const tick = document.createElement("i");
      tick.style.left = `${(100 * i) / (series.slices.length - 1)}%`;
      return [tick];
    }));
    const names = [...(series.ct ? report.presets.map(([name]) => name) : []), "auto"];
    $("presets").replaceChildren(...names.map((name) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name[0].toUpperCase() + name.slice(1);
      button.dataset.preset = name;
      button.addEventListener("click", () => usePreset(name));
      return button;
    }));
    showMaps();
    showWindow();
  }

  function showMaps() {
    const select = $("map");
    if (!select) return;
    const names = [...new Set(state.series.slices.flatMap((s) => Object.keys(s.maps)))];
    select.replaceChildren(...names.map((name) => new Option(name, name)));
    if (!names.includes(state.map)) state.map = names[0] || "";
    select.value = state.map;
    $("overlay").disabled = names.length === 0;
  }

  function showScale(signed) {
    const scale = $("scale"), [low, high] = scale.querySelectorAll("span");
    scale.classList.toggle("signed", signed);
    low.textContent = signed ? "lost" : "little";
    high.textContent = signed ? "gained" : "much";
  }

  function showWindow() {
    const [low, high] = state.window;
    if (document.activeElement !== $("level")) $("level").value = Number(((low + high) / 2).toPrecision(6));
    if (document.activeElement !== $("width")) $("width").value = Number((high - low).toPrecision(6));
    document.querySelectorAll("#presets button").forEach((b) => b.setAttribute("aria-pressed", b.dataset.preset === state.preset));
  }

  function tell() {
    const { series } = state, now = slice();
    $("slice").value = state.at + 1;
    const text = `Slice ${now.number} of ${series.total}`;
    $("slice").setAttribute("aria-valuetext", text);
    $("slice-text").textContent = `${now.number} / ${series.total}`;
    stage.setAttribute("aria-label", `${series.label}, ${text.toLowerCase()}`);
    $("slice-flag").hidden = !now.flags.length;
    $("slice-flag").textContent = now.flags.length ? `⚠ ${now.flags.join("; ")}` : "";
    clearTimeout(speak);
    speak = setTimeout(() => (live.textContent = now.flags.length ? `${text}. Flagged: ${now.flags.join("; ")}` : text), 250);
  }

  function setWindow(low, high, preset = "") {
    if (!(high > low)) return;
    state.window = [low, high];
    state.preset = preset || nameOf(state.window);
    showWindow();
    draw();
  }

  function usePreset(name) {
    if (name === "auto") {
      if (state.pixels) setWindow(...autoWindow(state.pixels), "auto");
    } else setWindow(...report.presets.find(([n]) => n === name).slice(1), name);
  }

  function setMode(mode) {
    state.mode = mode;
    document.querySelector(`input[name="mode"][value="${mode}"]`).checked = true;
    $("divider-line").hidden = mode !== "compare";
    draw();
  }

  function setDivider(share) {
    state.divider = Math.max(0, Math.min(1, share));
    $("divider").value = Math.round(100 * state.divider);
    draw();
  }

  function zoomBy(factor, x = 0, y = 0) {
    const zoom = Math.max(1, Math.min(12, state.zoom * factor)), real = zoom / state.zoom;
    // What lies under (x, y), from the middle of the stage, stays there.
    Object.assign(state, { zoom, x: x + (state.x - x) * real, y: y + (state.y - y) * real });
    if (zoom === 1) state.x = state.y = 0;
    $("zoom-text").textContent = `${Math.round(100 * zoom)} %`;
    draw();
  }

  function reset() {
    Object.assign(state, { zoom: 1, x: 0, y: 0, limit: state.series.limit });
    zoomBy(1);
    setDivider(0.5);
    setWindow(...state.series.window);
  }

  // ---- mouse and touch

  const pointers = new Map();
  let drag = null, wheel = 0;

  const middle = (at) => ({ x: at.x - stage.clientWidth / 2, y: at.y - stage.clientHeight / 2 });
  const spot = (event) => {
    const box = stage.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };

  stage.addEventListener("pointerdown", (event) => {
    if (event.button > 0) return;
    stage.setPointerCapture(event.pointerId);
    const at = spot(event);
    pointers.set(event.pointerId, at);
    const reach = event.pointerType === "touch" ? 24 : 12;
    const divides = state.mode === "compare" && Math.abs(at.x - split(place())) < reach;
    // With one slice there is nothing to scroll.
    const tool = state.tool === "slices" && state.series.slices.length < 2 ? "window" : state.tool;
    drag = { tool: divides ? "divider" : tool, at, first: state.at, window: [...state.window], limit: state.limit };
  });

  stage.addEventListener("pointermove", (event) => {
    const at = spot(event), before = pointers.get(event.pointerId);
    readout(at);
    if (!before || !drag) return;
    pointers.set(event.pointerId, at);
    if (pointers.size > 1) return pinch(event.pointerId, before, at);
    const dx = at.x - drag.at.x, dy = at.y - drag.at.y;
    if (drag.tool === "divider") setDivider(at.x / stage.clientWidth);
    else if (drag.tool === "slices") {
      const step = Math.max(6, Math.min(24, stage.clientHeight / state.series.slices.length));
      const next = drag.first + Math.round(dy / step);
      if (next !== state.at) goTo(next);
    } else if (drag.tool === "move") {
      state.x += at.x - before.x;
      state.y += at.y - before.y;
      draw();
    } else if (state.mode === "removed") {
      state.limit = drag.limit * Math.exp(dx / 250);
      draw();
    } else {
      const [low, high] = drag.window, width = (high - low) * Math.exp(dx / 250);
      const level = (low + high) / 2 + ((high - low) * dy) / 400;
      setWindow(level - width / 2, level + width / 2);
    }
  });

  function pinch(moved, before, at) {
    const other = [...pointers].find(([id]) => id !== moved)[1];
    const length = (a) => Math.hypot(a.x - other.x, a.y - other.y) || 1;
    const centre = middle({ x: (at.x + other.x) / 2, y: (at.y + other.y) / 2 });
    drag.tool = "none";
    zoomBy(length(at) / length(before), centre.x, centre.y);
    if (state.zoom > 1) {
      state.x += (at.x - before.x) / 2;
      state.y += (at.y - before.y) / 2;
    }
  }

  for (const end of ["pointerup", "pointercancel"]) {
    stage.addEventListener(end, (event) => {
      pointers.delete(event.pointerId);
      if (!pointers.size) drag = null;
    });
  }
  stage.addEventListener("pointerleave", () => readout(null));

  function readout(at) {
    const pixels = state.pixels;
    if (!pixels) return;
    let text = "";
    if (at) {
      const p = place();
      const x = Math.floor(((at.x - p.left) / p.width) * pixels.width);
      const y = Math.floor(((at.y - p.top) / p.height) * pixels.height);
      if (x >= 0 && y >= 0 && x < pixels.width && y < pixels.height) {
        const value = (codes) => short(pixels.zero + pixels.step * codes[y * pixels.width + x]);
        text = `${value(pixels.before)} → ${value(pixels.after)}${unit()}`;
      }
    }
    pointerValue = text;
    $("c-value").textContent = text;
  }

  stage.addEventListener("wheel", (event) => {
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      const at = middle(spot(event));
      return zoomBy(Math.exp(-event.deltaY / 300), at.x, at.y);
    }
    if (state.series.slices.length < 2) return;
    event.preventDefault();
    // One notch of a wheel is one slice; a touchpad's many small steps are added up.
    wheel += event.deltaMode ? 40 * Math.sign(event.deltaY) : Math.max(-40, Math.min(40, event.deltaY));
    const steps = Math.trunc(wheel / 40);
    if (!steps) return;
    wheel -= 40 * steps;
    goTo(state.at + steps);
  }, { passive: false });

  // ---- keys, only while the image has the focus

  const KEYS = {
    ArrowUp: () => goTo(state.at - 1), ArrowDown: () => goTo(state.at + 1),
    PageUp: () => goTo(state.at - 10), PageDown: () => goTo(state.at + 10),
    Home: () => goTo(0), End: () => goTo(state.series.slices.length - 1),
    ArrowLeft: () => setDivider(state.divider - 0.05), ArrowRight: () => setDivider(state.divider + 0.05),
    c: () => setMode("compare"), b: () => setMode("before"), a: () => setMode("after"), r: () => setMode("removed"),
    "+": () => zoomBy(1.25), "=": () => zoomBy(1.25), "-": () => zoomBy(0.8), 0: reset,
  };

  stage.addEventListener("keydown", (event) => {
    const act = KEYS[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });

  // ---- controls

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-series]");
    if (!button) return;
    const number = button.dataset.slice;
    open(Number(button.dataset.series), number === undefined ? undefined : Number(number));
    if (number !== undefined) {
      stage.scrollIntoView({ block: "nearest" });
      stage.focus({ preventScroll: true });
    }
  });
  document.querySelectorAll('input[name="mode"]').forEach((i) => i.addEventListener("change", () => setMode(i.value)));
  document.querySelectorAll('input[name="tool"]').forEach((i) => i.addEventListener("change", () => (state.tool = i.value)));
  $("slice").addEventListener("input", () => goTo(Number($("slice").value) - 1));
  $("previous").addEventListener("click", () => goTo(state.at - 1));
  $("next").addEventListener("click", () => goTo(state.at + 1));
  $("divider").addEventListener("input", () => setDivider($("divider").value / 100));
  for (const id of ["level", "width"]) {
    $(id).addEventListener("input", () => {
      const level = $("level").valueAsNumber, width = $("width").valueAsNumber;
      if (Number.isFinite(level) && width > 0) setWindow(level - width / 2, level + width / 2);
    });
  }
  $("zoom-in").addEventListener("click", () => zoomBy(1.25));
  $("zoom-out").addEventListener("click", () => zoomBy(0.8));
  $("reset").addEventListener("click", reset);
  if ($("map")) {
    $("map").addEventListener("change", () => {
      state.map = $("map").value;
      load();
    });
    $("opacity").addEventListener("input", () => {
      state.opacity = $("opacity").value / 100;
      draw();
    });
  }

  new ResizeObserver(draw).observe(stage);
  if (matchMedia("(pointer: coarse)").matches) {
    state.tool = "slices";
    document.querySelector('input[name="tool"][value="slices"]').checked = true;
  }
  open(report.series[0].number);
})();
