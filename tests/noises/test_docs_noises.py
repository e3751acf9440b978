"""docs/noises.md is what the noises declare, and shows all of them."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from noise_checks import phantom
from PIL import Image

from medfpl.noises import NOISES, corrupt, replay

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current() -> None:
    assert (DOCS / "noises.md").read_text("utf-8") == script("noise_docs").page(), "run 'make docs'"


def test_the_page_shows_every_noise_mode_and_parameter() -> None:
    text = (DOCS / "noises.md").read_text("utf-8")
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert list(sections) == NOISES.names()
    for noise in NOISES:
        section = sections[noise.name]
        assert noise.source in section
        for name in (*noise.parameters, *(noise.modes if len(noise.modes) > 1 else ())):
            assert f"| `{name}` |" in section
        widths = {line.replace("\\|", "").count("|") for line in section.splitlines() if line.startswith("| `")}
        assert len(widths) <= 2, "the rows of a table have as many cells"


def test_its_links_and_pictures_exist() -> None:
    text = (DOCS / "noises.md").read_text("utf-8")
    targets = re.findall(r"\]\(([^)#]+)\)", text)
    assert "images/noises.png" in targets
    for target in targets:
        assert (DOCS / target).is_file(), target
    for picture in (t for t in targets if t.endswith(".png")):
        with Image.open(DOCS / picture) as image:
            assert image.mode == "L"
            assert min(image.size) > 100


def test_the_published_figures_are_complete() -> None:
    calibrate = script("calibrate_noises")
    found = calibrate.published()
    assert len(found) == 3 * 13 * 3
    noises = {noise for _, noise, _ in found}
    assert noises == set(NOISES.names()) - {"rayleigh"}
    assert {level.noise for level in calibrate.LEVELS} == noises
    assert found["lidc", "chemical-shift", "mean"] == (35.74, 0.83)


def test_the_wrapped_psnr() -> None:
    wrapped, true = script("calibrate_noises").wrapped_psnr, script("calibrate_noises").true_psnr
    black, white = np.zeros((8, 8), np.uint8), np.full((8, 8), 255, np.uint8)
    assert abs(wrapped(black, white) - 48.13) < 0.01, "255 squared is 1 modulo 256"
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 256, (1000, 1000), np.uint8) for _ in range(2))
    assert abs(wrapped(a, b) - 27.898) < 0.01, "a uniform error"
    assert wrapped(a, b) == wrapped(b, a)
    near = (a // 2 + 40 + rng.integers(-15, 16, a.shape)).astype(np.uint8)
    assert abs(wrapped(a // 2 + 40, near) - true(a // 2 + 40, near)) < 1e-9
    assert true(black, white) == 0


def test_the_example_of_contributing_is_a_noise() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8"), re.DOTALL)
    made: dict[str, Any] = {}
    exec(compile(code, "CONTRIBUTING.md", "exec"), made)
    x = phantom(40, 48, items=2)
    y, records = corrupt(x, made["NOISE"], seeds=[1, 2], strength=0.5)
    assert torch.equal(replay(x, made["NOISE"], records), y)
    assert torch.equal(corrupt(x, made["NOISE"], seeds=[1, 2], strength=0.0)[0], x)
    error = y - x
    assert float(error.abs().max()) <= 0.1 + 1e-6
    assert abs(float(error.var()) / (0.2**2 / 12) - 1) < 0.1
