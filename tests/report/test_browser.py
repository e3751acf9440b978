"""The page in a browser, as a doctor uses it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from page_making import chest, lowered, page_of, scan_of

from medfpl.report.collector import Flag

if TYPE_CHECKING:
    from playwright.sync_api import Page

DEPTH, SIZE = 9, 64
PIXEL = "([x, y]) => [...document.getElementById('canvas').getContext('2d').getImageData(x, y, 1, 1).data]"
MIDDLE = DEPTH // 2
INSIDE = ((20, 28), (20, 36), (28, 20), (4, 4))  # soft tissue twice, lung, air: middles of the squares of noise


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A page with two series, maps and a flag, and the scans on it."""
    folder = tmp_path_factory.mktemp("report")
    ct = scan_of(chest(DEPTH, SIZE, grain=8), folder / "ct.npy")
    xray = scan_of(np.abs(chest(1, SIZE, seed=3)) / 4, folder / "x.npy", kind="xray")
    change = np.zeros(ct.pixels.shape, np.float32)
    change[:, : SIZE // 2] = -0.9
    plain = page_of([ct, xray], folder / "plain.html", result_of=lowered)
    page_of([ct], folder / "rich.html", maps={"change": change}, flags=[Flag("look here", 6, (8, 24, 8, 24), 2)])
    return {"ct": ct, "plain": folder / "plain.html", "rich": folder / "rich.html", "text": plain}


def opened(page: "Page", path: Path) -> "Page":
    page.goto(path.as_uri())
    page.wait_for_selector("#stage[data-window]")
    return page


def settled(page: "Page") -> None:
    """Wait until what was asked for is drawn."""
    page.wait_for_timeout(150)


def number(page: "Page") -> int:
    return int(page.get_attribute("#stage", "data-slice") or 0)


def window(page: "Page") -> tuple[float, float]:
    low, high = (page.get_attribute("#stage", "data-window") or "").split()
    return float(low), float(high)


def grey_at(page: "Page", row: int, column: int) -> int:
    """Return the grey on the canvas in the middle of a pixel of the square image."""
    box = page.locator("#canvas").bounding_box()
    assert box
    side = min(box["width"], box["height"])
    x = (box["width"] - side) / 2 + (column + 0.5) / SIZE * side
    y = (box["height"] - side) / 2 + (row + 0.5) / SIZE * side
    red, green, blue, alpha = page.evaluate(PIXEL, [int(x), int(y)])
    assert red == green == blue
    assert alpha == 255
    return int(red)


def expected(value: float, low: float, high: float) -> float:
    return float(np.clip(255 * (np.rint(value) - low) / (high - low), 0, 255))


def test_shows_the_right_pixels(browser_page: "Page", pages: dict[str, Any]) -> None:
    page = opened(browser_page, pages["plain"])
    low, high = window(page)
    assert (low, high) == (-160, 240)
    before, after = pages["ct"].pixels[MIDDLE], lowered(pages["ct"]).scan.pixels[MIDDLE]
    assert number(page) == MIDDLE + 1
    for mode, image in (("before", before), ("after", after)):
        page.focus("#stage")
        page.keyboard.press(mode[0])
        settled(page)
        shown = [grey_at(page, y, x) for y, x in INSIDE]
        truth = [expected(image[y, x], low, high) for y, x in INSIDE]
        np.testing.assert_allclose(shown, truth, atol=1.5)


def test_wheel_keys_and_slider_change_the_slice(browser_page: "Page", pages: dict[str, Any]) -> None:
    page = opened(browser_page, pages["plain"])
    page.hover("#stage")
    scrolled = page.evaluate("window.scrollY")
    page.mouse.wheel(0, 100)
    settled(page)
    assert number(page) == MIDDLE + 2
    assert page.evaluate("window.scrollY") == scrolled
    page.focus("#stage")
    for key, where in (("ArrowDown", MIDDLE + 3), ("ArrowUp", MIDDLE + 2), ("Home", 1), ("ArrowUp", 1), ("End", DEPTH)):
        page.keyboard.press(key)
        settled(page)
        assert number(page) == where
    page.fill("#slice", "3")
    settled(page)
    assert number(page) == 3
    page.click("#next")
    settled(page)
    assert number(page) == 4


def test_window_drag_presets_and_numbers(browser_page: "Page", pages: dict[str, Any]) -> None:
    page = opened(browser_page, pages["plain"])
    page.keyboard.press("Tab")
    page.focus("#stage")
    page.keyboard.press("b")
    settled(page)
    shot = grey_at(page, 20, 28)
    box = page.locator("#stage").bounding_box()
    assert box
    x, y = box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.5
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 80, steps=4)
    page.mouse.up()
    settled(page)
    low, high = window(page)
    assert high - low > 400  # to the right: wider
    assert (low + high) / 2 > 40  # down: a higher level, which is darker
    assert grey_at(page, 20, 28) != shot
    for name, limits in (("Lung", (-1350, 150)), ("Brain", (0, 80)), ("Bone", (-500, 1300))):
        page.get_by_role("button", name=name, exact=True).click()
        settled(page)
        assert window(page) == limits
        assert page.get_by_role("button", name=name, exact=True).get_attribute("aria-pressed") == "true"
    page.fill("#level", "100")
    page.fill("#width", "50")
    settled(page)
    assert window(page) == (75, 125)
    page.get_by_role("button", name="Auto").click()
    settled(page)
    low, high = window(page)
    expected_window = np.percentile(pages["ct"].pixels[MIDDLE], [1, 99.5])
    np.testing.assert_allclose([max(low, -1024), high], np.maximum(expected_window, -1024), atol=30)


def test_narrow_window_shows_steps_of_one(browser_page: "Page", pages: dict[str, Any], tmp_path: Path) -> None:
    ramp = np.tile(np.repeat(np.arange(16.0), 4), (1, 64, 1)).astype(np.float32)
    page_of([scan_of(ramp, tmp_path / "ramp.npy")], tmp_path / "ramp.html")
    page = opened(browser_page, tmp_path / "ramp.html")
    page.get_by_role("button", name="Brain", exact=True).click()
    page.focus("#stage")
    page.keyboard.press("b")
    settled(page)
    greys = [grey_at(page, 32, 4 * step + 1) for step in range(16)]
    np.testing.assert_allclose(greys, [255 * v / 80 for v in range(16)], atol=2)
    assert len(set(greys)) == 16


def test_divider_shows_both(browser_page: "Page", pages: dict[str, Any]) -> None:
    page = opened(browser_page, pages["plain"])
    settled(page)
    before, after = pages["ct"].pixels[MIDDLE], lowered(pages["ct"]).scan.pixels[MIDDLE]
    left, right = INSIDE[0], INSIDE[1]

    def check(*images: Any) -> None:
        for (y, x), image in zip((left, right), images, strict=True):
            assert grey_at(page, y, x) == pytest.approx(expected(image[y, x], -160, 240), abs=1.5)

    check(before, after)
    page.fill("#divider", "100")
    settled(page)
    check(before, before)
    page.focus("#stage")
    for _ in range(25):
        page.keyboard.press("ArrowLeft")
    settled(page)
    assert page.input_value("#divider") == "0"
    check(after, after)
    box = page.locator("#stage").bounding_box()
    assert box
    page.mouse.move(box["x"] + 2, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 100, steps=3)
    page.mouse.up()
    settled(page)
    assert page.input_value("#divider") == "50"
    check(before, after)


def test_removed_has_its_own_scale(browser_page: "Page", pages: dict[str, Any]) -> None:
    page = opened(browser_page, pages["plain"])
    page.get_by_text("Removed", exact=True).click()
    settled(page)
    # 30 HU everywhere, on a scale of three standard deviations.
    assert [grey_at(page, y, x) for y, x in INSIDE[:3]] == pytest.approx([255 * (0.5 + 30 / 180)] * 3, abs=2)
    assert "HU" in page.inner_text("#c-window")


def test_overlay_and_flags(browser_page: "Page", pages: dict[str, Any]) -> None:
    page = opened(browser_page, pages["rich"])
    assert page.locator("main > section").first.get_attribute("aria-labelledby") == "flags-title"
    page.get_by_role("button", name="Series 1, slice 7 look here").click()
    settled(page)
    assert number(page) == 7
    assert "look here" in page.inner_text("#slice-flag")
    page.wait_for_timeout(300)  # it speaks when the scrolling rests
    assert page.inner_text("#live") == "Slice 7 of 9. Flagged: look here"
    box = page.locator("#stage").bounding_box()
    assert box
    spot = [int(box["width"] * 0.45), int(box["height"] * 0.3)]
    plain = page.evaluate(PIXEL, spot)
    page.fill("#opacity", "50")
    settled(page)
    half = page.evaluate(PIXEL, spot)
    page.fill("#opacity", "100")
    settled(page)
    full = page.evaluate(PIXEL, spot)
    assert plain[0] == plain[2]
    assert half[2] - half[0] > 20  # blue: lost
    assert full[2] - full[0] > half[2] - half[0]
    assert page.inner_text("#scale").split() == ["lost", "gained"]


def test_other_series(browser_page: "Page", pages: dict[str, Any]) -> None:
    page = opened(browser_page, pages["plain"])
    page.locator(".thumb").nth(1).click()
    settled(page)
    assert page.locator(".thumb").nth(1).get_attribute("aria-pressed") == "true"
    assert page.locator("#presets button").all_inner_texts() == ["Auto"]
    assert not page.is_visible("#slicebar")
    assert "Series 2: X-ray" in (page.get_attribute("#stage", "aria-label") or "")


def test_zoom_and_reset(browser_page: "Page", pages: dict[str, Any]) -> None:
    page = opened(browser_page, pages["plain"])
    page.focus("#stage")
    page.keyboard.press("+")
    page.keyboard.press("b")
    settled(page)
    assert page.inner_text("#zoom-text") == "125 %"
    page.get_by_role("button", name="Reset view").click()
    settled(page)
    assert page.inner_text("#zoom-text") == "100 %"


def test_every_control_has_a_name(browser_page: "Page", pages: dict[str, Any]) -> None:
    page = opened(browser_page, pages["rich"])
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, [role], img")].filter((e) => {
            if (e.tagName === "IMG") return !e.hasAttribute("alt");
            return !(e.innerText || e.getAttribute("aria-label") || e.getAttribute("aria-labelledby") ||
                (e.labels && e.labels.length) || e.getAttribute("role") === "status");
        }).map((e) => e.outerHTML)"""
    )
    assert nameless == []
    assert page.get_attribute("html", "lang") == "en"
    assert page.get_attribute("#live", "aria-live") == "polite"
    assert page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((h) => h.tagName)")[0] == "H1"
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.focus("#stage")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(browser_page: "Page", pages: dict[str, Any], scheme: str) -> None:
    browser_page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page = opened(browser_page, pages["rich"])
    poor = page.evaluate(
        """() => {
        const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        const light = (c) => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
        const numbers = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
        const behind = (e) => {
            for (; e; e = e.parentElement) {
                const c = numbers(getComputedStyle(e).backgroundColor);
                if (c.length === 3 || c[3] === 1) return c;
            }
            return [255, 255, 255];
        };
        return [...document.querySelectorAll("p, li, dt, dd, th, td, h1, h2, legend, button, summary")].filter((e) => {
            if (!e.innerText.trim() || !e.offsetParent || e.closest("#stage, .hidden")) return false;
            const [a, b] = [light(numbers(getComputedStyle(e).color)), light(behind(e))];
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
        }).map((e) => e.innerText);
    }"""
    )
    assert poor == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0] < 60")
    assert dark == (scheme == "dark")


def test_on_a_phone(browser_page: "Page", pages: dict[str, Any]) -> None:
    browser_page.set_viewport_size({"width": 390, "height": 844})
    for name in ("plain", "rich"):
        page = opened(browser_page, pages[name])
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        small = page.evaluate(
            "[...document.querySelectorAll('main button')].filter((e) => e.offsetParent && e.offsetHeight < 40).length"
        )
        assert small == 0


SWIPE = """([x, y, dx, dy]) => {
    const stage = document.getElementById("stage"), box = stage.getBoundingClientRect();
    const send = (type, i) => stage.dispatchEvent(new PointerEvent(type, {
        pointerId: 7, pointerType: "touch", isPrimary: true, bubbles: true, button: type === "pointermove" ? -1 : 0,
        clientX: box.left + x + dx * i, clientY: box.top + y + dy * i,
    }));
    stage.setPointerCapture = () => {};
    send("pointerdown", 0);
    for (let i = 1; i <= 4; i++) send("pointermove", i / 4);
    send("pointerup", 1);
}"""


def test_touch(browser_page: "Page", pages: dict[str, Any]) -> None:
    page = opened(browser_page, pages["plain"])
    page.locator("#tools").get_by_text("Slices").click()
    page.evaluate(SWIPE, [100, 300, 0, 60])
    settled(page)
    assert number(page) > MIDDLE + 1
    held = window(page)
    page.locator("#tools").get_by_text("Window").click()
    page.evaluate(SWIPE, [100, 300, 80, 0])
    settled(page)
    assert window(page) != held
