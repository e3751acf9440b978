"""Shared fixtures. Tests that need the real development images skip with a reason where those are absent."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

REPOSITORY = Path(__file__).resolve().parent.parent


def _data_folder() -> Path | None:
    named = os.environ.get("MEDFPL_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    return folder if (folder / "manifest.csv").is_file() else None


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images, or a skip."""
    folder = _data_folder()
    if folder is None:
        pytest.skip("the real development images are not on this machine (set MEDFPL_DATA)")
    return folder


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """The sample data that ships with the project."""
    return REPOSITORY / "sample_data"


@pytest.fixture(scope="module")
def _browser() -> Iterator["Browser"]:
    """Headless Chromium, or a skip. Of a module: while it runs, nothing else in the process may use asyncio."""
    named = os.environ.get("MEDFPL_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium is installed (or name one in MEDFPL_CHROMIUM)")
    from playwright.sync_api import sync_playwright

    quiet = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync")
    quiet += ("--disable-background-networking", "--disable-component-update")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=[*quiet])
        yield browser
        browser.close()


@pytest.fixture
def browser_page(_browser: "Browser") -> Iterator["Page"]:
    """A fresh page (1280 x 800, light) of a browser without a network: ``browser_page.goto(path.as_uri())``.

    At the end of the test the page must have asked for nothing beyond its own file, and met no error.
    """
    context = _browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="light", offline=True)
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on("console", lambda said: faults.append(f"console: {said.text}") if said.type == "error" else None)
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else faults.append(r.url))
    yield page
    context.close()
    assert faults == []
