"""Draw docs/images/report.png: the page of a run over the sample data, as a browser shows it.

    python scripts/report_picture.py docs/images/report.png

Needs the development dependencies and an installed Chromium (or its path in MEDFPL_CHROMIUM).
"""

import io
import os
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from medfpl.cli.app import main as medfpl
from medfpl.sample import sample_path

SAMPLES = ("chest_ct/noisy", "abdomen_ct_noisy.nii.gz", "brain_mr_noisy.nii.gz", "chest_xray_noisy.dcm")
COLOURS = 128  # of the picture: few enough for a small file, and not seen


def main(target: Path) -> None:
    """Make the page in a temporary folder and write its picture to ``target``."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        samples = [str(sample_path() / name) for name in SAMPLES]
        code = medfpl(["denoise", *samples, "-o", str(Path(folder) / "out"), "--report", str(page), "-q"])
        if code:
            raise SystemExit(code)
        picture = Image.open(io.BytesIO(screenshot(page)))
    picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(target, optimize=True)


def screenshot(page: Path) -> bytes:
    """Return a PNG of the top of ``page``."""
    found = os.environ.get("MEDFPL_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        raise SystemExit("no Chromium is installed (or name one in MEDFPL_CHROMIUM)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1280, "height": 860}, color_scheme="light", offline=True)
        tab.goto(page.as_uri())
        tab.wait_for_selector("#stage[data-window]")
        tab.wait_for_timeout(500)
        shot = tab.screenshot()
        browser.close()
    return shot


if __name__ == "__main__":
    main(Path(sys.argv[1]))
