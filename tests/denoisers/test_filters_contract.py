"""What every classical filter keeps: shape, dtype, batch independence, constants, the mean, and a gain on noise."""

import pytest
import torch

from medfpl.denoisers import METHODS
from medfpl.errors import UsageError

NAMES = ("bilateral", "combined", "gaussian", "mean", "median", "nlm", "wavelet", "wiener")
FOLLOW_THE_NOISE = ("bilateral", "gaussian", "nlm", "wavelet", "wiener")


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def phantom(h: int = 96, w: int = 80) -> torch.Tensor:
    """Air, a body and three inserts with soft edges."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
    image = torch.zeros(h, w)
    for cy, cx, r, value in ((0, 0, 0.85, 0.5), (0.3, 0.2, 0.2, 0.1), (-0.3, -0.3, 0.15, 0.08), (0.1, -0.4, 0.1, 0.3)):
        image += value * torch.sigmoid((r - torch.hypot(y - cy, x - cx)) * 60)
    return image[None, None]


def noise_like(x: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)


def test_the_declaration_is_complete(name):
    method = METHODS.get(name)
    assert method.name == name
    assert method.summary
    assert method.source
    assert all(setting.meaning for setting in method.settings.values())
    assert method.uses_noise_level == (name in FOLLOW_THE_NOISE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 1, 64, 64), (2, 1, 33, 50), (1, 1, 8, 8), (1, 1, 9, 31), (1, 1, 2, 3)])
def test_shape_dtype_and_input_are_kept(name, dtype, shape):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
    before = x.clone()
    for level in (None, 0.1):
        y = METHODS.get(name).make().denoise(x, noise_level=level)
        assert y.shape == x.shape
        assert y.dtype == dtype
        assert torch.isfinite(y).all()
        assert y.data_ptr() != x.data_ptr()
    assert torch.equal(x, before)


@pytest.mark.parametrize("value", [0.0, 0.3, -1.7, 25.0])
def test_a_constant_stays(name, value):
    x = torch.full((1, 1, 20, 23), value)
    for level in (None, 0.1):
        y = METHODS.get(name).make().denoise(x, noise_level=level)
        torch.testing.assert_close(y, x, rtol=2e-6, atol=0)


def test_the_mean_is_kept(name):
    x = phantom() + 0.05 * noise_like(phantom())
    y = METHODS.get(name).make().denoise(x, noise_level=0.05)
    assert abs(float((y - x).mean())) < 1e-3


def test_an_item_does_not_feel_its_batch(name):
    clean = phantom(40, 45)
    x = torch.cat([clean + s * noise_like(clean, i) for i, s in enumerate((0.0, 0.02, 0.2))])
    method = METHODS.get(name).make()
    for levels in (None, torch.tensor([0.0, 0.02, 0.2])):
        together = method.denoise(x, noise_level=levels)
        for i in range(3):
            alone = method.denoise(x[i : i + 1], noise_level=None if levels is None else float(levels[i]))
            assert torch.equal(together[i : i + 1], alone)


def test_values_outside_the_range_are_not_clipped(name):
    x = phantom() * 8 - 3
    y = METHODS.get(name).make().denoise(x, noise_level=0.01)
    assert float(y.min()) < -2.9
    assert float(y.max()) > 1.5


@pytest.mark.parametrize("sigma", [0.05, 0.1, 0.2])
def test_white_noise_gets_weaker(name, sigma):
    clean = phantom()
    noisy = clean + sigma * noise_like(clean)
    method = METHODS.get(name).make()
    for level in (sigma, None):
        y = method.denoise(noisy, noise_level=level)
        assert ((y - clean) ** 2).mean() < 0.5 * ((noisy - clean) ** 2).mean()


@pytest.mark.parametrize("adaptive", FOLLOW_THE_NOISE)
def test_a_clean_image_stays_clean(adaptive):
    clean = phantom()
    method = METHODS.get(adaptive).make()
    torch.testing.assert_close(method.denoise(clean, noise_level=0.0), clean, rtol=0, atol=1e-6)
    # Estimated: a phantom without noise; at least 50 dB.
    assert ((method.denoise(clean) - clean) ** 2).mean() < 1e-5


def test_a_shifted_image_gives_a_shifted_result(name):
    wide = torch.zeros(1, 1, 160, 160)
    wide[..., 48:112, 48:112] = phantom(64, 64) + 0.05 * noise_like(torch.empty(1, 1, 64, 64))
    # The wavelet's grid has a period of 2**levels pixels.
    method = METHODS.get(name).make(**({"levels": 3} if name == "wavelet" else {}))
    first = method.denoise(wide[..., :144, :144], noise_level=0.05)
    second = method.denoise(wide[..., 16:, 8:152], noise_level=0.05)
    torch.testing.assert_close(first[..., 16:, 8:], second[..., :-16, :-8], rtol=0, atol=1e-6)


def test_flips_and_scale_commute(name):
    x = phantom(40, 48) + 0.1 * noise_like(torch.empty(1, 1, 40, 48))
    method = METHODS.get(name).make()
    y = method.denoise(x, noise_level=0.1)
    # The wavelet's grid starts at one corner.
    if name != "wavelet":
        torch.testing.assert_close(method.denoise(x.flip(-1), noise_level=0.1).flip(-1), y, rtol=0, atol=1e-6)
        torch.testing.assert_close(method.denoise(x.mT.contiguous(), noise_level=0.1).mT, y, rtol=0, atol=1e-6)
    # The Gaussian's width follows the level in working units, which are fixed: it is not free of scale.
    if name != "gaussian":
        torch.testing.assert_close(method.denoise(4 * x, noise_level=0.4) / 4, y, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("mean", {"size": 4}),
        ("mean", {"size": 33}),
        ("median", {"size": 2}),
        ("median", {"size": 11}),
        ("combined", {"size": 0}),
        ("combined", {"sigma": -1}),
        ("gaussian", {"sigma": 21}),
        ("wiener", {"size": 1}),
        ("wiener", {"noise": -0.1}),
        ("bilateral", {"sigma_spatial": 0}),
        ("bilateral", {"sigma_range": float("nan")}),
        ("nlm", {"patch": 4}),
        ("nlm", {"search": 20}),
        ("nlm", {"h": "much"}),
        ("wavelet", {"wavelet": "bior2.2"}),
        ("wavelet", {"shifts": 0}),
        ("mean", {"width": 3}),
    ],
)
def test_settings_outside_their_range_are_refused(method, given):
    with pytest.raises(UsageError):
        METHODS.get(method).make(**given)


@pytest.mark.parametrize("adaptive", FOLLOW_THE_NOISE)
@pytest.mark.parametrize("level", [-0.1, float("nan"), float("inf"), torch.tensor([0.1, 0.1, 0.1])])
def test_noise_levels_that_make_no_sense_are_refused(adaptive, level):
    with pytest.raises(UsageError):
        METHODS.get(adaptive).make().denoise(torch.rand(2, 1, 16, 16), noise_level=level)
