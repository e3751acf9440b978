"""What must hold on real anatomy, whatever the image: an ideal method scores ideally, a blur does not."""

import csv

import pytest
import torch
from task_trials import identity, measured, trial, white

from medfpl.bench.cases import Case
from medfpl.bench.data import case_of_scan
from medfpl.bench.tasks import TASKS
from medfpl.denoisers import METHODS
from medfpl.io import read

IDEAL = {
    "lesions": {"recovery": 1, "kept": 1, "width": 1, "leakage": 0},
    "detectability": {"cho_efficiency": 1, "npw_efficiency": 1},
    "noise-texture": {"noise": 1, "frequency": 1},
    "identity": {"psnr": 100, "largest": 0, "shift": 0},
}


@pytest.fixture(scope="module", params=["chest_ct", "chest_xray", "brain_mr"])
def real_case(request, real_data) -> Case:
    with (real_data / "manifest.csv").open(encoding="utf-8") as f:
        row = next(r for r in csv.DictReader(f) if r["kind"] == request.param and int(r["slices"]) == 1)
    kind = {"chest_ct": "ct", "chest_xray": "xray", "brain_mr": "mr"}[request.param]
    return case_of_scan(read(real_data / row["path"], kind=kind), 0, "p", 192)


@pytest.mark.real
def test_identity_and_mean_on_real_anatomy(real_case):
    mean = METHODS.get("mean").make().denoise
    names = [n for n in TASKS.names() if n != "features"]
    same, smooth = (
        {n: measured(n, trial(method, white(0.02), of=real_case)) for n in names} for method in (identity, mean)
    )
    for task, measures in IDEAL.items():
        for measure, ideal in measures.items():
            assert list(same[task][measure].values()) == pytest.approx([ideal] * len(same[task][measure]), abs=2e-3)
    assert same["bias"] != {}
    for task in ("bias", "edges", "invention"):
        for measure, details in same[task].items():
            if f"{measure}_noisy" in same[task]:
                assert details == same[task][f"{measure}_noisy"]
    assert smooth["edges"]["width"]["strong"] > 1.1 > 1.05 > same["edges"]["width"]["strong"] > 0.9
    assert all(0.8 < v < 0.99 for v in smooth["lesions"]["recovery"].values())
    assert all(v > 1.005 for v in smooth["lesions"]["width"].values())
    assert smooth["noise-texture"]["noise"][""] == pytest.approx(1 / 3, rel=0.1)
    assert smooth["noise-texture"]["frequency"][""] < 0.6
    assert smooth["identity"]["psnr"][""] < 50


@pytest.mark.real
def test_a_perfect_method_on_real_anatomy(real_case):
    """It knows the clean image, and gives the planted lesions back too."""
    noise = white(0.02)

    def oracle(x: torch.Tensor) -> torch.Tensor:
        drawn = torch.cat([noise(torch.zeros_like(real_case.image), k) for k in range(12)])
        rest = x[:, None] - drawn[None]  # the right realisation leaves a smooth image
        rough = (rest[..., 1:] - rest[..., :-1]).square().mean((2, 3, 4))
        return rest[torch.arange(len(x)), rough.argmin(1)]

    made = trial(oracle, noise, of=real_case)
    assert float((made.denoised - made.clean).abs().max()) < 1e-5
    found = {n: measured(n, made) for n in ("lesions", "edges", "bias", "invention", "noise-texture")}
    for measure in ("recovery", "kept", "width"):
        assert list(found["lesions"][measure].values()) == pytest.approx([1] * 9, abs=0.01)
    assert list(found["edges"]["width"].values()) == pytest.approx([1] * len(found["edges"]["width"]), abs=0.01)
    assert found["noise-texture"]["noise"][""] == pytest.approx(0, abs=1e-3)
    assert list(found["invention"]["false_lesions"].values()) == [0]
    assert found["bias"].get("error", found["bias"].get("error_hu"))[""] == pytest.approx(0, abs=0.01)
