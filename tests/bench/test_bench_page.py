"""The page: what is in it, that nothing can be smuggled into it, and that a browser shows and drives it."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from bench_rows import row, rows, save_examples, tasks
from PIL import Image

from medfpl.bench.examples import Example, find_examples
from medfpl.bench.outputs import write_outputs
from medfpl.bench.page import encode, headlines
from medfpl.scan import Intensity
from medfpl.views import Window

NASTY = "<script>alert(1)</script>\"'&$x$"
METHODS = ("medfpl", "dpir", "mean", "nlm")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    found = rows(kinds=("ct", "mr"), noises=("gaussian", "motion", "poisson"), methods=METHODS, patients=2, slices=1)
    save_examples(folder / "examples", found)
    write_outputs(found, tasks(found), folder, compare_paper=True, notes=["a remark"])
    return folder / "report.html"


def test_nothing_in_it_is_fetched_from_elsewhere(report: Path) -> None:
    text = report.read_text("utf-8")
    assert "default-src &#39;none&#39;" in text
    assert re.findall(r"(?:src|href)=[\"'](?!data:|#)[^\"']*", text) == []
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", text).replace("http-equiv", "")
    assert not re.search(r"\son[a-z]+=|\sstyle=|@import|url\(", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))


def test_its_policy_is_of_its_own_style_and_script(report: Path) -> None:
    import hashlib

    text = report.read_text("utf-8")
    for tag, name in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name} &#39;sha256-{digest}&#39;" in text


def test_whatever_comes_from_outside_is_escaped(tmp_path: Path) -> None:
    names = {"case": NASTY, "noise": NASTY, "method": NASTY, "prior": NASTY, "tuning": NASTY, "kind": NASTY}
    found = [row(**{**names, "unit": NASTY, "error": NASTY, "settings": json.dumps({NASTY: NASTY})}), row(prior=NASTY)]
    write_outputs(found, [], tmp_path, notes=[NASTY])
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "<script>alert" not in text
    assert text.count("<script") == 1
    assert "<script>" not in (tmp_path / "table.md").read_text("utf-8").replace(r"\<script\>", "")


def test_the_headline_says_how_far_it_is_behind() -> None:
    (one,) = headlines([row(psnr=27.0), row(method="nlm", psnr=29.0)])
    assert one.value == "27.0"
    assert one.detail == "\N{MINUS SIGN}2.00 dB against the best other, nlm"
    (other,) = headlines([row(method="nlm", psnr=29.0), row(method="mean", psnr=30.0)])
    assert (other.value, other.detail) == ("30.0", "")


def examples(count: int, side: int) -> list[Example]:
    made = []
    for i in range(count):
        g = np.random.default_rng(i)
        clean, noisy, out = (g.normal(500, 200, (side, side)).astype(np.float32) for _ in range(3))
        intensity = Intensity("mr", "1", 0, 1000)
        made.append(Example(f"c{i}", "gaussian", intensity, clean, noisy, {"medfpl": out}, Window(0, 1000, "")))
    return made


def test_images_get_smaller_before_any_is_left_out() -> None:
    shown, remark = encode(examples(1, 300), 10_000_000)
    assert (len(shown), remark) == (1, "")
    shown, remark = encode(examples(2, 300), 160_000)
    assert len(shown) == 2
    assert "Shown smaller" in remark
    shown, remark = encode(examples(4, 300), 60_000)
    assert 0 < len(shown) < 4
    assert f"{4 - len(shown)} more are in the folder examples" in remark


def test_the_images_are_what_they_are_called(tmp_path: Path) -> None:
    save_examples(tmp_path, rows(kinds=("ct",), noises=("gaussian",), methods=("medfpl", "mean"), patients=1))
    (example,) = find_examples(tmp_path)
    (shown,), _ = encode([example], 10_000_000)
    assert list(shown["images"]) == ["noisy", "clean", "medfpl", "mean"]

    def grey(name: str) -> np.ndarray:
        data = base64.b64decode(shown["images"][name].removeprefix("data:image/webp;base64,"))
        return np.asarray(Image.open(io.BytesIO(data)).convert("L")).astype(float)

    wanted = np.clip((example.clean + 150) / 400, 0, 1) * 255  # the abdomen window
    assert np.abs(grey("clean") - wanted).mean() < 4
    assert np.std(grey("noisy") - wanted) > 2 * np.std(grey("medfpl") - wanted)
    error = np.square((example.results["medfpl"] - example.clean).astype(float) / 2000).mean()
    assert shown["psnr"]["medfpl"] == f"{-10 * np.log10(error):.1f}"


def column(page, table: str, index: int) -> list[str]:
    cells = page.locator(f"section:has(> #{table}) tbody tr > :nth-child({index})")
    return cells.all_text_contents()


def test_columns_sort_by_click_and_by_key_and_say_so(browser_page, report: Path) -> None:
    browser_page.goto(report.as_uri())
    heads = browser_page.locator("section:has(> #psnr-ct) thead th")
    before = column(browser_page, "psnr-ct", 3)
    heads.nth(2).locator("button").click()
    numbers = [float(t) for t in column(browser_page, "psnr-ct", 3)]
    assert numbers[:-1] == sorted((float(t) for t in before[:-1]), reverse=True)
    assert numbers[-1] == float(before[-1])  # the mean stays at the foot
    assert heads.nth(2).get_attribute("aria-sort") == "descending"
    heads.nth(2).locator("button").press("Enter")
    assert [float(t) for t in column(browser_page, "psnr-ct", 3)][:-1] == sorted(numbers[:-1])
    assert heads.nth(2).get_attribute("aria-sort") == "ascending"
    heads.nth(0).locator("button").press("Space")
    assert column(browser_page, "psnr-ct", 1) == ["gaussian", "motion", "poisson", "mean"]
    assert heads.nth(2).get_attribute("aria-sort") is None


def test_a_method_called_mean_is_sorted_like_any_other(browser_page, report: Path) -> None:
    browser_page.goto(report.as_uri())
    browser_page.locator("section:has(> #summary-ct) thead th button").nth(1).click()
    numbers = [float(t) for t in column(browser_page, "summary-ct", 2)]
    assert numbers == sorted(numbers, reverse=True)
    assert "mean" in column(browser_page, "summary-ct", 1)


def test_a_kind_is_chosen_with_the_keys(browser_page, report: Path) -> None:
    browser_page.goto(report.as_uri())
    browser_page.locator("#kinds input").first.focus()
    browser_page.keyboard.press("ArrowRight")
    browser_page.keyboard.press("ArrowRight")
    assert browser_page.locator("#kinds input:checked").get_attribute("value") == "mr"
    shown = browser_page.locator("[data-kind]:visible").evaluate_all("all => all.map(e => e.dataset.kind)")
    assert set(shown) == {"mr"}
    assert browser_page.locator("#case option").all_text_contents() == ["MR: mr0-0"]


def test_the_slider_uncovers_one_image_over_the_other(browser_page, report: Path) -> None:
    browser_page.goto(report.as_uri())
    stage, cut = browser_page.locator("#stage"), browser_page.locator("#cut")
    assert browser_page.locator("#name-left").text_content().startswith("noisy, ")
    assert browser_page.locator("#name-right").text_content().startswith("medfpl, ")
    cut.focus()
    browser_page.keyboard.press("Home")
    assert stage.evaluate("e => getComputedStyle(e).getPropertyValue('--cut')") == "0%"
    for _ in range(3):
        browser_page.keyboard.press("ArrowRight")
    assert stage.evaluate("e => getComputedStyle(e).getPropertyValue('--cut')") == "3%"
    box = stage.bounding_box()
    browser_page.mouse.click(box["x"] + 0.8 * box["width"], box["y"] + 0.5 * box["height"])
    assert cut.input_value() == "80"
    assert "80 % noisy" in cut.get_attribute("aria-valuetext")


def test_noise_and_methods_are_chosen_and_kept(browser_page, report: Path) -> None:
    browser_page.goto(report.as_uri())
    sources = {browser_page.locator("#over").get_attribute("src")}
    browser_page.select_option("#right", "nlm")
    sources.add(browser_page.locator("#over").get_attribute("src"))
    browser_page.select_option("#noise", "motion")
    sources.add(browser_page.locator("#over").get_attribute("src"))
    assert len(sources) == 3
    assert browser_page.locator("#right").input_value() == "nlm"
    assert browser_page.locator("#over").get_attribute("alt").startswith("motion noise, nlm")
    assert browser_page.locator("#over").evaluate("e => e.complete && e.naturalWidth") == 96
    browser_page.locator("#difference").check()
    assert browser_page.locator("#over").evaluate("e => getComputedStyle(e).mixBlendMode") == "difference"


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_wider_than_the_screen(browser_page, report: Path, width: int) -> None:
    browser_page.set_viewport_size({"width": width, "height": 800})
    browser_page.goto(report.as_uri())
    assert browser_page.evaluate("document.documentElement.scrollWidth") <= width
    load = "e => (e.loading = 'eager', e).decode().then(() => 0, () => 1)"
    broken = sum(figure.evaluate(load) for figure in browser_page.locator("figure img").all())
    assert broken == 0


def test_dark_is_the_systems_choice_and_the_buttons(browser_page, report: Path) -> None:
    def back() -> int:
        colour = browser_page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)))

    browser_page.goto(report.as_uri())
    assert back() > 700
    browser_page.emulate_media(color_scheme="dark")
    assert back() < 100
    assert browser_page.locator("#theme").text_content() == "Light"
    browser_page.locator("#theme").click()
    assert back() > 700
    browser_page.emulate_media(color_scheme="light")
    browser_page.locator("#theme").press("Enter")
    assert back() < 100


def test_text_is_readable_in_light_and_dark(browser_page, report: Path) -> None:
    # WCAG AA: 4.5 to 1, for the fainter of the two text colours too.
    script = """() => {
      const light = (c) => { const v = c.match(/[0-9.]+/g).slice(0, 3).map((x) => x / 255)
        .map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
        return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
      const of = (e, back) => { const [a, b] = [light(getComputedStyle(e).color), light(back)].sort((x, y) => y - x);
        return (a + 0.05) / (b + 0.05); };
      const back = getComputedStyle(document.body).backgroundColor;
      return ["h1", ".small", ".notes li", "nav a"].map((s) => of(document.querySelector(s), back));
    }"""
    for scheme in ("light", "dark"):
        browser_page.emulate_media(color_scheme=scheme)
        browser_page.goto(report.as_uri())
        assert min(browser_page.evaluate(script)) >= 4.5
