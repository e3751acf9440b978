"""DPIR as a denoiser: the contract of the denoisers, tiles, values outside its range, both modes."""

import pytest
import torch

from medfpl.denoisers import METHODS
from medfpl.denoisers.hqs import LEAST, Identity, restore
from medfpl.denoisers.methods.dpir import PriorDenoiser, _below_black
from medfpl.errors import UsageError
from medfpl.nets.drunet import DRUNetConfig, build_drunet
from medfpl.nets.unet import UNetConfig, build_unet
from medfpl.nets.weights import save_net

METHOD = METHODS.get("dpir")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with a small random prior."""
    folder = tmp_path_factory.mktemp("run")
    net = build_drunet(DRUNetConfig(4, 1), torch.Generator().manual_seed(0))
    save_net(net, folder / "prior", {"name": "tiny", "role": "prior", "summary": "a test"})
    return folder


@pytest.fixture(params=["direct", "hqs"])
def random_prior(request, run):
    return METHOD.make(model=str(run), mode=request.param, iterations=3)


@pytest.fixture(params=["direct", "hqs"])
def shipped(request):
    return METHOD.make(mode=request.param)


def image(*shape, seed=0, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def phantom(h=96, w=80):
    """Air, a body and three inserts with soft edges."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
    result = torch.zeros(h, w)
    for cy, cx, r, value in ((0, 0, 0.85, 0.5), (0.3, 0.2, 0.2, 0.1), (-0.3, -0.3, 0.15, 0.08), (0.1, -0.4, 0.1, 0.3)):
        result += value * torch.sigmoid((r - torch.hypot(y - cy, x - cx)) * 60)
    return result[None, None]


def noisy(clean, sigma, seed=0):
    return clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))


def test_the_declaration_is_complete():
    assert (METHOD.name, METHOD.uses_noise_level) == ("dpir", True)
    assert "2008.13751" in METHOD.source
    assert all(setting.meaning for setting in METHOD.settings.values())


def test_direct_is_one_pass_over_the_image_and_the_map_of_its_level(run):
    denoiser = METHOD.make(model=str(run))
    x, levels = image(2, 1, 33, 40), torch.tensor([0.05, 0.2])
    seen = torch.cat([x, levels.view(2, 1, 1, 1).expand_as(x)], 1)
    torch.testing.assert_close(denoiser.denoise(x, noise_level=levels), denoiser.net(seen), rtol=0, atol=1e-5)


def test_hqs_is_the_restoration_with_the_identity(run):
    denoiser = METHOD.make(model=str(run), mode="hqs", iterations=3, weight=0.5)
    x = image(1, 1, 24, 24)
    wanted = restore(x, Identity(), denoiser.prior, 0.1, iterations=3, weight=0.5)
    torch.testing.assert_close(denoiser.denoise(x, noise_level=0.1), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 1, 64, 64), (2, 1, 33, 50), (1, 1, 2, 3)])
def test_shape_dtype_and_input_are_kept(random_prior, dtype, shape):
    x = image(*shape, dtype=dtype)
    before = x.clone()
    for level in (None, 0.1):
        y = random_prior.denoise(x, noise_level=level)
        assert (y.shape, y.dtype) == (x.shape, dtype)
        assert torch.isfinite(y).all()
        assert y.data_ptr() != x.data_ptr()
    assert torch.equal(x, before)


def test_an_item_does_not_feel_its_batch(random_prior):
    x = torch.cat([noisy(phantom(40, 45), s, i) for i, s in enumerate((0.0, 0.02, 0.2))])
    for levels in (None, torch.tensor([0.0, 0.02, 0.2])):
        together = random_prior.denoise(x, noise_level=levels)
        for i in range(3):
            alone = random_prior.denoise(x[i : i + 1], noise_level=None if levels is None else float(levels[i]))
            torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-5)


def test_without_noise_the_image_stays_to_the_bit(random_prior):
    x = image(2, 1, 20, 20) * 8 - 3
    y = random_prior.denoise(x, noise_level=torch.tensor([0.0, 0.1]))
    assert torch.equal(y[0], x[0])
    assert not torch.equal(y[1], x[1])


def test_a_level_below_the_least_takes_its_share(random_prior):
    x = image(1, 1, 20, 20)
    at_least, half = (random_prior.denoise(x, noise_level=s) - x for s in (LEAST, LEAST / 2))
    torch.testing.assert_close(half, at_least / 2, rtol=1e-3, atol=1e-6)


def test_large_images_are_tiled_with_the_same_result(run):
    whole = METHOD.make(model=str(run))
    tiled = PriorDenoiser(whole.net, whole.model, whole_pixels=1, tile=32)
    x, levels = image(2, 1, 150, 171), torch.tensor([0.03, 0.2])
    wanted = whole.denoise(x, noise_level=levels)
    assert (tiled.denoise(x, noise_level=levels) - wanted).abs().max() < 1e-5


def test_values_beyond_its_range_keep_their_excess(run):
    denoiser = METHOD.make(model=str(run))
    metal = image(1, 1, 32, 32)
    metal[..., 10:14, 10:14] = 9.0
    limit = metal.clamp(max=3.0)
    changes = [denoiser.denoise(x, noise_level=0.1) - x for x in (metal, limit)]
    torch.testing.assert_close(changes[0], changes[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("value", [-0.9, -0.5, -0.012, 0.0, 0.5, 2.0])
@pytest.mark.parametrize("sigma", [0.001, 0.0075, 0.05])
def test_a_constant_stays_what_it_is_also_below_black(shipped, value, sigma):
    x = torch.full((1, 1, 64, 64), value)
    change = (shipped.denoise(x, noise_level=sigma) - x)[..., 16:-16, 16:-16]
    assert float(change.abs().max()) < 0.002 * max(1.0, value) + 0.2 * sigma


def test_an_image_that_is_not_below_black_is_shown_as_it_is():
    clean = phantom()
    for sigma in (0.01, 0.05, 0.2):
        x, level = noisy(clean, sigma), torch.full((1, 1, 1, 1), sigma)
        assert float(_below_black(x, level)) == 0
        # Padding with no noise of its own, below its surroundings.
        x[..., :16, :16] = -0.4
        assert float(_below_black(x, level)) == pytest.approx(0.4 - 6 * sigma / 8, abs=1e-6)


@pytest.mark.parametrize("sigma", [0.02, 0.05, 0.1, 0.2])
def test_the_shipped_prior_takes_white_noise_away(shipped, sigma):
    clean = phantom()
    x = noisy(clean, sigma)
    for level in (sigma, None):
        y = shipped.denoise(x, noise_level=level)
        assert ((y - clean) ** 2).mean() < 0.25 * ((x - clean) ** 2).mean()
        assert abs(float((y - x).mean())) < 0.1 * sigma


def test_the_shipped_prior_leaves_a_clean_image_nearly_alone(shipped):
    clean = phantom()
    assert ((shipped.denoise(clean) - clean) ** 2).mean() < 1e-5  # at least 50 dB


def test_the_level_says_how_much_is_taken_away(shipped):
    x = noisy(phantom(), 0.1)
    changes = [float((shipped.denoise(x, noise_level=s) - x).std()) for s in (0.02, 0.05, 0.1)]
    assert changes == sorted(changes)
    assert changes[0] < 0.9 * changes[2]


def test_a_level_beyond_those_it_learned_from_is_that_of_less_contrast(run):
    denoiser = METHOD.make(model=str(run))
    x = image(1, 1, 24, 24)
    loud = denoiser.denoise(x, noise_level=0.8)
    torch.testing.assert_close(loud, 4 * denoiser.denoise(x / 4, noise_level=0.2), rtol=0, atol=1e-4)


@pytest.mark.parametrize("level", [-0.1, float("nan"), float("inf"), torch.tensor([0.1, 0.1, 0.1])])
def test_noise_levels_that_make_no_sense_are_refused(random_prior, level):
    with pytest.raises(UsageError):
        random_prior.denoise(image(2, 1, 16, 16), noise_level=level)


@pytest.mark.parametrize(
    "given", [{"mode": "plain"}, {"iterations": 0}, {"weight": 0}, {"weight": "much"}, {"width": 3}]
)
def test_settings_outside_their_range_are_refused(given):
    with pytest.raises(UsageError):
        METHOD.make(**given)


def test_models_of_another_role_are_refused(tmp_path):
    net = build_unet(UNetConfig(width=4, depth=2, norm="none"), torch.Generator().manual_seed(0))
    save_net(net, tmp_path / "run", {"name": "tiny", "role": "denoiser", "summary": "a test"})
    with pytest.raises(UsageError, match="is a denoiser model, and a prior is needed"):
        METHOD.make(model=str(tmp_path / "run"))
    with pytest.raises(UsageError, match="is a prior model, and a denoiser is needed"):
        METHODS.get("medfpl").make(model="medfpl-prior")
