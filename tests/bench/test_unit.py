"""One corrupted image: scores, noise levels, replays, failures and tasks."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from medfpl.bench import unit as module
from medfpl.bench.cases import Case
from medfpl.bench.plan import Entry, Unit
from medfpl.bench.tasks.base import Measure, Task, Value
from medfpl.bench.tuning import Tuned
from medfpl.bench.unit import NOISE_LIKE, Run, UnitCorruption, Work, level_of, run_unit
from medfpl.denoisers import METHODS
from medfpl.noises import NOISES, corrupt
from medfpl.scan import Intensity


def case(kind="ct", side=48):
    rows, columns = torch.meshgrid(*(torch.linspace(-1, 1, side),) * 2, indexing="ij")
    image = 0.05 + 0.5 * (torch.hypot(rows, columns) < 0.8) + 0.1 * torch.sin(6 * rows) * (columns > 0)
    unit = Intensity("ct", "HU", -1000.0, 1000.0) if kind == "ct" else Intensity(kind, "1", 0.0, 400.0)
    return Case("c0ffee", "p", image.clamp(0)[None, None].float(), unit)


def unit_of(noise="gaussian", strength=0.5, mode=None, seed=11, kind="ct"):
    return Unit("c0ffee", noise, mode or NOISES.get(noise).mode_for(kind), strength, seed)


def work(*methods, noise="gaussian", tuned=None, **rest):
    runs = tuple(Run(f"cell/{m}", Entry(m), tuned or Tuned(), "defaults") for m in methods)
    return Work(unit_of(noise), case(), runs, **rest)


def test_scores_are_those_of_the_method_on_the_corrupted_image():
    done = run_unit(work("mean", "gaussian"))
    clean = case().image
    noisy, _ = corrupt(clean, NOISES.get("gaussian"), seeds=[11], strength=0.5, contexts=[case().context])
    level = float((noisy - clean).double().std(correction=0))
    for row in done.rows:
        told = level if METHODS.get(row.method).uses_noise_level else None
        result = METHODS.get(row.method).make().denoise(noisy, noise_level=told)
        a, b, c = (x[0, 0].double().numpy() for x in (clean, noisy, result))
        assert row.psnr_in == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1.0), abs=1e-6)
        assert row.psnr == pytest.approx(peak_signal_noise_ratio(a, c, data_range=1.0), abs=1e-4)
        assert row.rmse == pytest.approx(2000 * math.sqrt(np.mean((a - c) ** 2)), rel=1e-4)
        assert row.seconds > 0
        assert row.threads >= 1
        assert row.error == ""
    mean, gaussian = done.rows
    assert math.isnan(mean.noise_level)
    assert gaussian.noise_level == pytest.approx(level, rel=1e-6)
    assert gaussian.level_known
    assert not mean.level_known


@pytest.mark.parametrize("name", NOISES.names())
def test_every_noise_has_a_level_and_makes_itself_again(name):
    x, noise = case().image, UnitCorruption(unit_of(name), case())
    noisy = noise(x)
    assert torch.equal(noise(x), noisy)
    level, known = level_of(name, x, noisy)
    assert known == (name in NOISE_LIKE)
    assert math.isfinite(level)
    if known:
        assert level == pytest.approx(float((noisy - x).std(correction=0)), rel=1e-4)
        assert not torch.equal(noise(x, 1), noisy)
        assert torch.equal(noise(x, 1), noise(x, 1))
    pair = noise(torch.cat([x, x]))
    assert torch.equal(pair[0], pair[1])


def test_settings_and_factors_reach_the_method():
    done = run_unit(work("nlm", tuned=Tuned.of({"patch": 3}, 0.5)))
    (row,) = done.rows
    noisy = UnitCorruption(unit_of(), case())(case().image)
    level, _ = level_of("gaussian", case().image, noisy)
    assert row.noise_level == pytest.approx(level / 2)
    assert row.settings == '{"noise_level": "x0.5", "patch": 3}'
    expected = METHODS.get("nlm").make(patch=3).denoise(noisy, noise_level=level / 2)
    assert row.rmse == pytest.approx(2000 * float((expected - case().image).double().square().mean().sqrt()), rel=1e-5)


def test_a_level_of_its_own_is_not_the_true_one():
    (row,) = run_unit(work("nlm", tuned=Tuned((), 1.0, 0.03))).rows
    assert row.noise_level == 0.03
    assert not row.level_known


def test_images_are_kept_only_where_asked():
    assert run_unit(work("mean")).images == {}
    images = run_unit(work("mean", keep_images=True)).images
    assert list(images) == ["clean", "noisy", "mean"]
    assert all(x.shape == (48, 48) and x.dtype == np.float32 for x in images.values())


def test_a_method_that_fails_says_so_and_stops_nobody(monkeypatch):
    class Broken:
        def denoise(self, x, *, noise_level=None):
            return x * float("nan") if x.std() > 0 else x

    real = module._load
    monkeypatch.setattr(module, "_load", lambda e, *rest: Broken() if e.method == "median" else real(e, *rest))
    bad, good = run_unit(work("median", "mean")).rows
    assert "not finite" in bad.error
    assert math.isnan(bad.psnr)
    assert math.isfinite(bad.psnr_in)
    assert good.error == ""


def task_of(run, kinds=()):
    return Task("probe", "", "", {"m": Measure("", "HU", 0.0, "less")}, run, kinds)


@pytest.mark.parametrize("kinds", [(), ("ct",), ("mr",)])
def test_tasks_run_on_their_kinds_with_the_cells_method_and_noise(monkeypatch, kinds):
    def measure(trial):
        assert torch.equal(trial.corrupt(trial.clean), trial.noisy)
        assert torch.equal(trial.denoise(trial.noisy), trial.denoised)
        assert not trial.denoised.is_inference()
        return [Value("m", 2.0, "d")]

    monkeypatch.setattr(module.TASKS, "get", lambda name: task_of(measure, kinds))
    done = run_unit(work("mean", "nlm", tasks=("probe",)))
    expected = [] if kinds == ("mr",) else ["cell/mean", "cell/nlm"]
    assert [t.cell for t in done.tasks] == expected
    assert all((t.measure, t.unit, t.value, t.detail) == ("m", "HU", 2.0, "d") for t in done.tasks)
    assert done.notes == ()


def test_a_task_that_fails_gives_a_note(monkeypatch):
    def fail(trial):
        raise ValueError("Doe^John")

    monkeypatch.setattr(module.TASKS, "get", lambda name: task_of(fail))
    done = run_unit(work("mean", tasks=("probe",)))
    assert done.tasks == ()
    assert done.notes == ("cell/mean: probe: ValueError",)


def test_wrapped_psnr_is_named():
    (true,), (wrapped,) = (run_unit(replace(work("mean"), psnr=kind)).rows for kind in ("true", "uint8-wrapped"))
    assert (true.psnr_kind, wrapped.psnr_kind) == ("true", "uint8-wrapped")
    assert wrapped.psnr_in > true.psnr_in + 3
