"""Correctors: when a finding is believed, that one is asked about the denoised image, and who is not asked."""

import json
from dataclasses import replace

import pytest
import torch

from medfpl.errors import BadInput
from medfpl.nets.correctors import AGAIN, SURE, CorrectorConfig, belief, gone, smooth_step, strength
from medfpl.nets.drunet import DRUNetConfig, build_drunet
from medfpl.nets.experts import Experts, build_experts, with_correctors
from medfpl.nets.shading import ShadingConfig, build_shading
from medfpl.nets.weights import find_model, load_net, save_net

SHAPE = DRUNetConfig(width=4, blocks=1, blind=True, context=True)
CORRECTOR = CorrectorConfig(SHAPE, "chemical-shift", size=0.05, edges=0.3)
SHADING = CorrectorConfig(
    ShadingConfig(width=4, depth=2), "field-inhomogeneity", size=0.2, edges=0.01, again=(0.3, 0.4)
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def waves(count: int = 1) -> torch.Tensor:
    """Images of root mean square 0.5 and mean 0.3, with a gradient of 0.04 a pixel along the rows."""
    wave = 0.3 + 0.4 * 2**0.5 * torch.sin(torch.arange(200) * 0.1)
    return wave.expand(count, 1, 64, 200).clone()


@pytest.fixture
def net() -> Experts:
    made = build_experts([build_drunet(SHAPE, seeded(0))], [("gaussian",)], 4, seeded(9))
    shading = build_shading(SHADING.net, seeded(2))
    torch.nn.init.normal_(shading.unet.out.weight, std=0.1, generator=seeded(3))
    return with_correctors(made, [(CORRECTOR, build_drunet(SHAPE, seeded(1))), (SHADING, shading)]).eval()


def test_a_finding_is_measured_by_the_image_and_by_its_edges():
    x = waves()
    size, edges = strength(0.01 * torch.ones_like(x), x)
    assert size.item() == pytest.approx(0.02, rel=0.02)
    assert edges.item() == pytest.approx(0.01 / (0.04 / 2**0.5), rel=0.03)  # no gradient down the columns
    for scaled in strength(0.01 * 7 * torch.ones_like(x), 7 * x), strength(0.01 * torch.ones_like(x), x):
        assert torch.allclose(scaled[0], size)
        assert torch.allclose(scaled[1], edges)


def test_only_what_is_more_than_may_be_a_mistake_is_believed():
    x = waves(4)
    share = torch.tensor([0.99, (1 + SURE) / 2, SURE, 9.0]).view(-1, 1, 1, 1)
    found = share * CORRECTOR.size * 0.5 * torch.ones_like(x)
    config = CorrectorConfig(SHAPE, "motion", size=0.05, edges=0.01)
    assert belief(found, x, config).tolist() == pytest.approx([0, 0.5, 1, 1], abs=0.08)
    assert belief(found, x, CorrectorConfig(SHAPE, "motion", size=0.05, edges=99.0)).abs().max() == 0


def test_where_there_is_next_to_no_anatomy_nothing_is_believed():
    x = torch.zeros(2, 1, 64, 64)
    x[0, :, 30:36, 30:36] = 1  # a hundredth of the image
    x[1, :, 20:50, 20:50] = 1
    assert belief(0.5 * x, x, CORRECTOR).tolist() == [0, 1]
    x[0, :, 29:37, 29:37] = 1  # less will do where an image says by itself what it suffers from
    assert belief(0.5 * x, x, replace(CORRECTOR, enough=0.012)).tolist() == [1, 1]
    assert belief(0.5 * x, x, CORRECTOR).tolist() == [0, 1]


@pytest.mark.parametrize(("config", "limits"), [(CORRECTOR, AGAIN), (SHADING, (0.3, 0.4))])
def test_what_is_found_again_when_it_was_undone_was_no_artifact(config, limits):
    found = torch.randn(5, 1, 8, 8, generator=seeded(0))
    share = torch.tensor([0.0, limits[0], sum(limits) / 2, limits[1], 1.0]).view(-1, 1, 1, 1)
    assert gone(found, -share * found, config).tolist() == pytest.approx([1, 1, 0.5, 0, 0], abs=1e-4)
    assert torch.isfinite(gone(torch.zeros_like(found), found, config)).all()


def test_a_smooth_step_rises_from_0_to_1():
    values = smooth_step(torch.tensor([-1.0, 2.0, 2.5, 3.0, 4.0, 9.0]), 2.0, 4.0)
    assert values.tolist() == pytest.approx([0, 0, 0.15625, 0.5, 1, 1])


@pytest.mark.parametrize("shape", [(1, 1, 1, 40), (2, 1, 40, 1), (1, 1, 8, 8)])
def test_nothing_is_believed_of_black_or_narrow_images_that_are_not_finite(shape):
    assert torch.isfinite(belief(torch.rand(shape), torch.rand(shape), CORRECTOR)).all()
    assert belief(torch.zeros(shape), torch.zeros(shape), CORRECTOR).abs().max() == 0


def test_a_corrector_is_asked_about_the_denoised_image_and_not_without_artifacts(net):
    x = torch.rand(2, 1, 24, 32, generator=seeded(3))
    asked = []
    limits = dict(zip(net.correctors, (AGAIN, SHADING.again), strict=True))

    def run(expert, part):
        first = all(e is not expert for e, _ in asked)
        asked.append((expert, part))
        if first:
            return 0.25 * part
        # Without what it found, it finds of it a tenth in the first item, and in the second too much by half.
        again = torch.tensor([0.1, sum(limits[expert]) / 2]).view(-1, 1, 1, 1)
        return again * 0.25 / 0.75 * part

    noise, beliefs = net.blend(x, run)
    correctors = [corrector for corrector in net.correctors for _ in range(2)]
    assert [expert for expert, _ in asked] == [net.experts[0], *correctors]
    image = 0.75 * x
    assert [name for name, _ in beliefs] == ["chemical-shift", "field-inhomogeneity"]
    # The second is asked about the first's result.
    for (_, part), (_, without), config, (_, told) in zip(
        asked[1::2], asked[2::2], (CORRECTOR, SHADING), beliefs, strict=True
    ):
        assert torch.allclose(part, image)
        assert torch.allclose(without, 0.75 * image)
        trusted = belief(0.25 * image, image, config) * torch.tensor([1.0, 0.5])
        assert trusted.min() > 0
        assert trusted.min() < 1
        assert torch.allclose(trusted, told, atol=1e-4)
        image = image - trusted.view(-1, 1, 1, 1) * 0.25 * image
    assert torch.allclose(x - noise, image)
    asked.clear()
    noise, beliefs = net.blend(x, run, artifacts=False)
    assert torch.allclose(noise, 0.25 * x)
    assert (len(asked), beliefs) == (1, [])


def test_a_model_with_correctors_is_saved_and_read(net, tmp_path):
    assert net.config.noises == ["gaussian", "chemical-shift", "field-inhomogeneity"]
    save_net(net, tmp_path / "run", {"name": "tiny", "role": "denoiser", "summary": "a test"})
    read = load_net(find_model(tmp_path / "run"))
    assert read.config == net.config
    x = torch.rand(1, 1, 24, 32, generator=seeded(4))
    with torch.inference_mode():
        assert torch.equal(read(x), net(x))
    assert not any(p.requires_grad for p in net.correctors.parameters())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"size": "much"}, "does not know"),
        ({"size": float("inf")}, "does not know"),
        ({"edges": -1.0}, "does not know"),
        ({"enough": 0.0}, "does not know"),
        ({"again": 0.5}, "does not know"),
        ({"again": [0.5, 0.4]}, "does not know"),
        ({"again": [0.5, float("inf")]}, "does not know"),
        ({"again": [0.3, 0.4, 0.5]}, "does not know"),
        ({"noise": None}, "does not know"),
        ({"more": 1}, "does not know"),
        ({"net": None}, "does not know"),
        ({"net": {"type": "unet"}}, "does not know"),
        ({"net": {"type": "drunet", "width": 1 << 20, "blind": True}}, "does not know"),
        ({"net": {"type": "drunet", "width": 4, "blocks": 1}}, "an expert is blind"),
    ],
)
def test_a_card_with_a_wrong_corrector_is_refused(net, tmp_path, change, reason):
    save_net(net, tmp_path / "run", {"name": "tiny", "role": "denoiser", "summary": "a test"})
    path = next(tmp_path.rglob("card.json"))
    card = json.loads(path.read_text("utf-8"))
    card["architecture"]["correctors"][0].update(change)
    path.write_text(json.dumps(card), "utf-8")
    with pytest.raises(BadInput, match=reason):
        load_net(find_model(tmp_path / "run"))
