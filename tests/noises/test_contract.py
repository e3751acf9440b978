"""What every noise keeps, in every mode: the contract of medfpl/noises/base.py."""

import json
from itertools import pairwise

import pytest
import torch
from noise_checks import CT, MR, phantom, psnr
from torch import Tensor

from medfpl.errors import MedfplError
from medfpl.noises import NOISES, Context, Record, corrupt, replay
from medfpl.noises.base import Noise

CASES = [(noise, mode) for noise in NOISES for mode in noise.modes]
EVERY = pytest.mark.parametrize(("noise", "mode"), CASES, ids=[f"{n.name}-{m}" for n, m in CASES])
# More strength is more error, whatever the image: true of noise and shading, not of what moves the anatomy.
STATISTICAL = {
    "gaussian",
    "thermal",
    "rician",
    "rayleigh",
    "noncentral-chi",
    "poisson",
    "speckle",
    "salt-pepper",
    "structured",
}
SHADING = {("field-inhomogeneity", "b1")}
# By default these draw nothing that shows: the same shift or fold for every seed.
DETERMINISTIC = {("chemical-shift", m) for m in NOISES.get("chemical-shift").modes} | {
    ("wrap-around", m) for m in NOISES.get("wrap-around").modes
}


def run(
    noise: Noise, mode: str, x: Tensor, seed: int = 3, strength: float = 0.5, context: Context = MR
) -> tuple[Tensor, list[Record]]:
    seeds = [seed + i for i in range(len(x))]
    given = {"mode": mode}
    return corrupt(x, noise, seeds=seeds, strength=strength, given=given, contexts=[context] * len(x))


@EVERY
def test_declares_itself(noise: Noise, mode: str) -> None:
    assert NOISES.get(noise.name) is noise
    assert noise.summary
    assert noise.formula
    assert noise.source
    assert set(noise.modalities) <= {"ct", "xray", "mr", "other"}
    assert noise.modalities
    assert {noise.mode_for(k) for k in ("ct", "xray", "mr", "other")} <= set(noise.modes)
    assert set(noise.mode_modalities) <= set(noise.modes)
    assert all(parameter.meaning for parameter in noise.parameters.values())
    for s in (1e-6, 0.01, 0.5, 1.0):
        values = noise.at_strength(s, mode, CT)
        assert set(values) <= set(noise.parameters)
        for name, value in values.items():
            assert noise.parameters[name].check(name, value) == value


@EVERY
def test_strength_zero_returns_the_image_bit_for_bit(noise: Noise, mode: str) -> None:
    x = phantom(33, 40, items=2) - 0.1
    y, records = run(noise, mode, x, strength=0.0)
    assert torch.equal(y, x)
    assert torch.equal(replay(x, noise, records), x)


@EVERY
def test_strength_zero_of_one_item_leaves_the_others_corrupted(noise: Noise, mode: str) -> None:
    x = phantom(33, 40, items=2)
    y, _ = corrupt(x, noise, seeds=[1, 2], strength=[0.0, 0.7], given={"mode": mode})
    assert torch.equal(y[0], x[0])
    assert not torch.equal(y[1], x[1])


@EVERY
def test_a_seed_replays_and_another_differs(noise: Noise, mode: str) -> None:
    x = phantom(48, 40)
    y, _ = run(noise, mode, x)
    assert torch.equal(y, run(noise, mode, x)[0])
    another, _ = run(noise, mode, x, seed=99)
    assert torch.equal(y, another) == ((noise.name, mode) in DETERMINISTIC)


@EVERY
def test_an_item_does_not_depend_on_its_batch(noise: Noise, mode: str) -> None:
    x = phantom(40, 48, items=3)
    contexts = [CT, MR, Context("xray", 0, 255, 0.5)]
    strengths, given = [0.2, 0.5, 0.9], {"mode": mode}
    together, _ = corrupt(x, noise, seeds=[5, 6, 7], strength=strengths, given=given, contexts=contexts)
    for i in range(3):
        alone, _ = corrupt(
            x[i : i + 1], noise, seeds=[5 + i], strength=strengths[i], given=given, contexts=contexts[i : i + 1]
        )
        torch.testing.assert_close(together[i], alone[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("noise", [n for n in NOISES if len(n.modes) > 1], ids=lambda n: n.name)
def test_a_batch_may_mix_modes(noise: Noise) -> None:
    x = phantom(40, 48, items=len(noise.modes))
    alone = [run(noise, mode, x[i : i + 1], seed=i) for i, mode in enumerate(noise.modes)]
    together = replay(x, noise, [records[0] for _, records in alone])
    for i, (y, _) in enumerate(alone):
        torch.testing.assert_close(together[i], y[0], rtol=0, atol=1e-5)


@EVERY
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_keeps_the_dtype(noise: Noise, mode: str, dtype: torch.dtype) -> None:
    x = phantom(32, 32).to(dtype)
    y, _ = run(noise, mode, x)
    assert y.dtype == dtype
    assert y.device == x.device
    assert bool(torch.isfinite(y).all())


@EVERY
@pytest.mark.parametrize("size", [(16, 16), (17, 33), (255, 192), (64, 300)], ids=str)
def test_any_size_stays_finite_and_its_shape(noise: Noise, mode: str, size: tuple[int, int]) -> None:
    x = phantom(*size)
    y, _ = run(noise, mode, x, context=CT)
    assert y.shape == x.shape
    assert bool(torch.isfinite(y).all())


@EVERY
def test_a_large_image(noise: Noise, mode: str) -> None:
    x = phantom(1024, 1024)
    y, _ = run(noise, mode, x)
    assert y.shape == x.shape
    assert bool(torch.isfinite(y).all())


@EVERY
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, 3.0, -0.5])
def test_constant_images_stay_finite(noise: Noise, mode: str, value: float) -> None:
    for strength in (0.02, 1.0):
        y, _ = run(noise, mode, torch.full((1, 1, 32, 40), value), strength=strength, context=CT)
        assert bool(torch.isfinite(y).all())


@EVERY
def test_the_input_is_not_modified_and_its_memory_layout_does_not_matter(noise: Noise, mode: str) -> None:
    wide = phantom(40, 96, items=2)
    x = wide[..., ::2]
    before = wide.clone()
    y, _ = run(noise, mode, x)
    assert torch.equal(wide, before)
    assert torch.equal(y, run(noise, mode, x.contiguous())[0])
    transposed = x.mT.contiguous().mT
    torch.testing.assert_close(run(noise, mode, transposed)[0], y, rtol=0, atol=1e-6)


@EVERY
def test_a_record_replays_after_json(noise: Noise, mode: str) -> None:
    x = phantom(40, 48, items=2)
    y, records = run(noise, mode, x, context=CT)
    copies = [Record.from_json(json.loads(json.dumps(r.to_json()))) for r in records]
    assert copies == records
    assert torch.equal(replay(x, noise, copies), y)


@EVERY
def test_a_record_with_explicit_parameters_replays(noise: Noise, mode: str) -> None:
    x = phantom(40, 48)
    chosen = noise.at_strength(0.3, mode, MR)
    y, records = corrupt(x, noise, seeds=[3], given={"mode": mode, **chosen}, contexts=[MR])
    assert records[0].strength is None
    assert torch.equal(replay(x, noise, records), y)
    assert torch.equal(run(noise, mode, x, strength=0.3)[0], y)


@EVERY
def test_slices_may_share_their_scalars(noise: Noise, mode: str) -> None:
    x = phantom(40, 48).expand(2, -1, -1, -1)
    _, (first, second) = corrupt(x, noise, seeds=[1, 2], scalar_seeds=[9, 9], given={"mode": mode})
    assert first.values == second.values


@EVERY
def test_nothing_is_clipped(noise: Noise, mode: str) -> None:
    x = phantom(64, 64)
    y, _ = run(noise, mode, 4 * x)
    assert float(y.max()) > 1.5


@EVERY
def test_refuses_what_is_no_image(noise: Noise, mode: str) -> None:
    for bad in (float("nan"), float("inf"), -float("inf")):
        x = phantom(16, 16)
        x[0, 0, 3, 4] = bad
        with pytest.raises(MedfplError, match="NaN or Inf"):
            run(noise, mode, x)
    for shape in ((0, 1, 8, 8), (1, 1, 0, 8), (1, 3, 8, 8), (8, 8)):
        with pytest.raises(MedfplError, match="a batch is"):
            run(noise, mode, torch.zeros(shape))
    with pytest.raises(MedfplError, match="floats"):
        run(noise, mode, torch.zeros(1, 1, 8, 8, dtype=torch.int32))


@EVERY
def test_more_strength_is_more_corruption(noise: Noise, mode: str) -> None:
    strengths = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
    if noise.name in STATISTICAL or (noise.name, mode) in SHADING:
        x = phantom(64, 64).expand(8, -1, -1, -1)
        levels = [psnr(x, run(noise, mode, x, strength=s, context=CT)[0]) for s in strengths]
        assert all(a > b for a, b in pairwise(levels))
        return
    chosen = [noise.at_strength(s, mode, MR) for s in strengths]
    moving = 0
    for name in chosen[0]:
        series = [values[name] for values in chosen]
        if len(set(series)) > 1:
            moving += 1
            assert series in (sorted(series), sorted(series, reverse=True))
    assert moving


@EVERY
def test_gradient_where_one_is_declared(noise: Noise, mode: str) -> None:
    if not noise.differentiable:
        pytest.skip("counts have no gradient")
    # Away from the borders of bands and thresholds, where a model may jump.
    torch.manual_seed(0)
    x = 0.3 + 0.4 * torch.rand(1, 1, 16, 18, dtype=torch.float64)
    direction = torch.randn_like(x)
    weights = torch.randn_like(x)
    _, records = run(noise, mode, x)

    def value(at: Tensor) -> Tensor:
        return (replay(at, noise, records) * weights).sum()

    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(leaf), leaf)
    step = 1e-6
    numeric = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), numeric, rtol=1e-4, atol=1e-6)
