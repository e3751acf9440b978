from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import medfpl
from medfpl.denoisers.base import Restored
from medfpl.denoisers.methods import mean as mean_module
from medfpl.errors import BadInput, UsageError
from medfpl.nets.drunet import DRUNetConfig, build_drunet
from medfpl.nets.experts import build_experts
from medfpl.nets.weights import save_net
from medfpl.pipeline import NoiseLevel, Recipe, load, scan_of_array
from medfpl.pipeline import engine as engine_module
from medfpl.pipeline.devices import choose_device, list_devices
from medfpl.pipeline.engine import fill_invalid, measure_noise
from medfpl.scan import Intensity, Kind


class Recorder:
    """A denoiser that halves what it is given and remembers what that was."""

    def __init__(self) -> None:
        self.batches: list[torch.Tensor] = []
        self.levels: list[Any] = []

    def denoise(self, x: torch.Tensor, *, noise_level: Any = None) -> torch.Tensor:
        self.batches.append(x.clone())
        self.levels.append(noise_level)
        return x * 0.5


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Stands in for the method ``mean``, which then says that it uses the noise level."""
    made = Recorder()
    method = replace(mean_module.METHOD, build=lambda **settings: made, uses_noise_level=True)
    monkeypatch.setattr(mean_module, "METHOD", method)
    return made


@pytest.mark.parametrize(
    ("text", "level"),
    [("auto", None), ("20", NoiseLevel(20.0)), ("2.5%", NoiseLevel(2.5, percent=True)), ("0", NoiseLevel(0.0))],
)
def test_noise_levels(text: str, level: NoiseLevel | None) -> None:
    assert NoiseLevel.parse(text) == level


@pytest.mark.parametrize("text", ["", "%", "-1", "nan", "inf", "1e999", "2.5%%", "loud"])
def test_bad_noise_levels(text: str) -> None:
    with pytest.raises(UsageError):
        NoiseLevel.parse(text)


def test_a_level_in_real_units_and_in_percent_of_the_range() -> None:
    hu = Intensity("ct", "HU", -1000, 1000)
    assert NoiseLevel(20.0).working(hu) == pytest.approx(0.01)
    assert NoiseLevel(2.0, percent=True).working(hu) == pytest.approx(0.02)


def test_invalid_pixels_take_the_nearest_valid_value() -> None:
    image = np.array([[[1, 2, 3, 4], [5, 6, 7, 8]]] * 3, np.float32)
    valid = np.ones(image.shape, bool)
    valid[0, :, 2:] = False
    valid[1] = False
    filled = fill_invalid(image, valid)
    np.testing.assert_array_equal(filled[0], [[1, 2, 2, 2], [5, 6, 6, 6]])
    np.testing.assert_array_equal(filled[1], np.zeros((2, 4)))
    np.testing.assert_array_equal(filled[2], image[2])
    assert fill_invalid(image, None) is image
    image[0, 0, 3] = np.nan
    assert np.isfinite(fill_invalid(image, valid)).all()


def test_the_working_range_goes_in_and_real_units_come_out(recorder: Recorder) -> None:
    hu = np.array([[-1000, 0], [1000, 3000]], np.float32)
    after = medfpl.denoise(hu, method="mean", kind="ct")
    np.testing.assert_allclose(recorder.batches[0][0, 0], [[0, 0.5], [1, 2]])
    np.testing.assert_allclose(after, [[-1000, -500], [0, 1000]])


def test_strength_mixes(recorder: Recorder) -> None:
    hu = np.linspace(-1000, 1000, 64, dtype=np.float32).reshape(8, 8)
    whole, half, none = (medfpl.denoise(hu, method="mean", kind="ct", strength=s) for s in (1, 0.5, 0))
    np.testing.assert_allclose(half, (whole + hu) / 2, atol=1e-3)
    np.testing.assert_array_equal(none, hu)


def test_what_a_filter_leaves_alone_stays_bit_for_bit() -> None:
    generator = np.random.default_rng(0)
    values = (generator.normal(size=(2, 16, 16)) * 10.0 ** generator.integers(-3, 6, (2, 16, 16))).astype(np.float32)
    np.testing.assert_array_equal(medfpl.denoise(values, method="mean", size=1), values)


def test_volumes_go_through_in_batches(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "CPU_BATCH", 8 * 8 * 3)
    seen: list[tuple[int, int]] = []
    scan = scan_of_array(np.random.default_rng(0).normal(size=(7, 8, 8)).astype(np.float32), "mr")
    load(Recipe("mean")).run(scan, lambda done, total: seen.append((done, total)))
    assert [len(b) for b in recorder.batches] == [3, 3, 1]
    assert seen == [(0, 7), (3, 7), (6, 7), (7, 7)]
    together = torch.cat(recorder.batches)[:, 0].numpy()
    np.testing.assert_array_equal(together, scan.intensity.to_working(scan.pixels))


def test_levels_are_one_an_item_or_the_given_one(recorder: Recorder) -> None:
    generator = np.random.default_rng(0)
    sigmas = np.array([10, 40], np.float32)[:, None, None]
    hu = (50 + sigmas * generator.normal(size=(2, 64, 64))).astype(np.float32)
    medfpl.denoise(hu, method="mean", kind="ct")
    np.testing.assert_allclose(recorder.levels[0], [10 / 2000, 40 / 2000], rtol=0.15)
    medfpl.denoise(hu, method="mean", kind="ct", noise_level=20)
    assert recorder.levels[1] == pytest.approx(0.01)


def test_measured_noise_is_that_of_the_soft_tissue_of_a_ct() -> None:
    generator = np.random.default_rng(0)
    hu = np.full((3, 96, 96), -1000, np.float32)
    hu[:, 16:80, 16:80] = 40
    noisy = hu + 25 * generator.normal(size=hu.shape).astype(np.float32)
    before, after = measure_noise(scan_of_array(noisy, "ct"), scan_of_array(hu + (noisy - hu) / 5, "ct"))
    assert before == pytest.approx(25, rel=0.1)
    assert after == pytest.approx(5, rel=0.1)


def test_arrays_keep_shape_and_invalid_pixels() -> None:
    image = np.random.default_rng(0).normal(100, 10, (24, 20))
    image[3, 4], image[5, 6] = np.nan, np.inf
    after = medfpl.denoise(image, method="gaussian")
    assert (after.shape, after.dtype) == ((24, 20), np.float32)
    assert np.isnan(after[3, 4])
    assert np.isinf(after[5, 6])
    assert np.isfinite(after).sum() == image.size - 2
    # The neighbours of a NaN are as smooth as the rest.
    assert after[2:5, 3:6][np.isfinite(after[2:5, 3:6])].std() < 10


def test_scans_come_back_as_scans() -> None:
    scan = scan_of_array(np.random.default_rng(0).normal(size=(2, 16, 16)).astype(np.float32), "mr")
    after = medfpl.denoise(scan, method="gaussian")
    assert after.intensity == scan.intensity
    assert after.source is scan.source
    assert after.pixels.std() < scan.pixels.std()


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 2, 2, 2)), np.zeros(5), np.zeros((0, 3)), np.zeros((3, 3), complex), np.full((3, 3), np.nan)],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_arrays_that_are_no_images(array: np.ndarray) -> None:
    with pytest.raises(BadInput):
        medfpl.denoise(array, method="mean")


def test_folders_are_for_the_command(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="folder"):
        medfpl.denoise(tmp_path, method="mean")


def test_devices() -> None:
    assert choose_device("cpu") == "cpu"
    assert choose_device("auto") in ("cpu", "cuda:0")
    assert list_devices()[0].startswith("cpu (")
    with pytest.raises(UsageError):
        choose_device("nosuch")


def test_a_filter_says_that_it_runs_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "choose_device", lambda asked: "cuda:0")
    with pytest.raises(UsageError, match="runs on the CPU only"):
        load(Recipe("mean", device="cuda"))
    assert load(Recipe("mean", device="auto")).device == "cpu"


def test_a_recipe_in_a_record_names_no_path() -> None:
    told = Recipe(model="/home/someone/runs/best", settings={"tile": 5}).arguments()
    assert told["model"] == "best"
    assert "someone" not in str(told)


@pytest.mark.parametrize(("kind", "drifts", "kept"), [("ct", True, True), ("ct", False, False), ("mr", True, False)])
def test_the_mean_that_a_network_moved_is_put_back_on_a_ct_alone(
    kind: Any, drifts: bool, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Drifting:
        """Takes the noise away, and 20 HU (0.01) with it."""

        def denoise(self, x: torch.Tensor, *, noise_level: Any = None) -> torch.Tensor:
            return torch.full_like(x, 0.49)

    method = replace(mean_module.METHOD, build=lambda **settings: Drifting(), mean_drifts=drifts)
    monkeypatch.setattr(mean_module, "METHOD", method)
    intensity = Intensity(kind, "HU" if kind == "ct" else "1", -1000.0, 1000.0)
    noisy = np.random.default_rng(0).normal(0, 40, (1, 64, 64)).astype(np.float32)
    working = torch.from_numpy(intensity.to_working(noisy))[:, None]
    left = float(load(Recipe(method="mean", device="cpu")).denoise(working, intensity).mean() - working.mean())
    assert left == pytest.approx(0 if kept else -0.01, abs=1e-3)


def test_what_was_undone_and_corrected_is_counted_noted_and_no_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lowering:
        """Undoes the brightness of bright slices, and then does nothing but say that it corrected the brightest."""

        def restore(self, x: torch.Tensor, kind: str | None = None) -> Restored:
            bright = [float(image.mean()) > 0.5 for image in x]
            lowered = torch.stack([image - 0.01 * b for image, b in zip(x, bright, strict=True)])
            shaded = [{"shade"} if float(image.mean()) > 0.67 else set() for image in lowered]
            return Restored(lowered, lowered, [{"light": {}} if b else {} for b in bright], shaded)

        def denoise(self, x: torch.Tensor, *, noise_level: Any = None) -> torch.Tensor:
            raise AssertionError("what was found would be lost")

    method = replace(mean_module.METHOD, build=lambda **settings: Lowering(), mean_drifts=True)
    monkeypatch.setattr(mean_module, "METHOD", method)
    pixels = np.stack([np.full((64, 64), v, np.float32) for v in (-500.0, 300.0, 400.0)])
    scan = replace(scan_of_array(pixels, "ct"), intensity=Intensity("ct", "HU", -1000.0, 1000.0))
    result = load(Recipe(method="mean", device="cpu")).run(scan)
    assert (result.undone, result.corrected) == ({"light": 2}, {"shade": 1})
    assert result.notes == ("light found and undone in 2 of 3 slices", "shade corrected in 1 of 3 slices")
    assert np.allclose(result.scan.pixels - pixels, [[[0.0]], [[-20.0]], [[-20.0]]], atol=1e-3)
    single = load(Recipe(method="mean", device="cpu")).run(replace(scan, pixels=pixels[2:]))
    assert single.notes == ("light found and undone", "shade corrected")
    nothing = load(Recipe(method="mean", device="cpu", strength=0)).run(scan)
    assert nothing.notes == ()
    np.testing.assert_array_equal(nothing.scan.pixels, pixels)


@pytest.mark.parametrize(("kind", "asked"), [("ct", False), ("xray", False), ("other", False), ("mr", True)])
def test_an_expert_for_artifacts_is_asked_of_mr_alone(tmp_path: Path, kind: Kind, asked: bool) -> None:
    shape = DRUNetConfig(width=4, blocks=1, blind=True, context=True)
    experts = [build_drunet(shape, torch.Generator().manual_seed(k)) for k in range(2)]
    net = build_experts(experts, [("gaussian",), ("wrap-around",)], 4, torch.Generator().manual_seed(9))
    torch.nn.init.zeros_(net.router.head[2].weight)
    net.router.head[2].bias.data = torch.tensor([0.0, 9.0])  # sure of an artifact, whatever it sees
    save_net(net, tmp_path / "run", {"name": "tiny", "role": "denoiser", "summary": "a test"})
    engine = load(Recipe(model=str(tmp_path / "run"), device="cpu", settings={"undo": "none"}))
    x = torch.rand(1, 1, 40, 40, generator=torch.Generator().manual_seed(1))
    found = replace(engine, mean_drifts=False).denoise(x, Intensity(kind, "1", 0.0, 1.0))
    with torch.inference_mode():
        wanted = x - experts[int(asked)](x)
    assert torch.allclose(found, wanted, atol=1e-5)
    assert torch.allclose(engine.denoiser.denoise(x), x - experts[1](x), atol=1e-5)  # nothing is known of its kind
