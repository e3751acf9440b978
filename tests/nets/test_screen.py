"""The screen: which correctors are asked about an image, item by item, and again once one was believed."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from medfpl.errors import BadInput
from medfpl.nets.correctors import CorrectorConfig
from medfpl.nets.drunet import DRUNetConfig, build_drunet
from medfpl.nets.experts import Experts, Router, build_experts, with_correctors, with_screen
from medfpl.nets.export import export_onnx
from medfpl.nets.weights import find_model, load_net, save_net

SHAPE = DRUNetConfig(width=4, blocks=1, blind=True, context=True)
NOISES = ("chemical-shift", "motion")
CARD = {"name": "tiny", "role": "denoiser", "summary": "a test"}


def plain() -> Experts:
    """An expert and two correctors, both of which are believed in nearly everything."""
    generator = torch.Generator().manual_seed(0)
    net = build_experts([build_drunet(SHAPE, generator)], [("gaussian",)], 4, generator)
    correctors = [(CorrectorConfig(SHAPE, name, 1e-3, 1e-3), build_drunet(SHAPE, generator)) for name in NOISES]
    return with_correctors(net, correctors).eval()


def screened(net: Experts, brighter: Sequence[float], darker: Sequence[float] = (1e9, 1e9)) -> Experts:
    """Ask a corrector of images whose mean is above ``brighter`` and not above ``darker`` alone."""
    made = with_screen(net, Router(4, 2))

    def screen(image: torch.Tensor) -> torch.Tensor:
        mean = image.mean((1, 2, 3))[:, None]
        above, below = torch.tensor(brighter), torch.tensor(darker)
        return torch.minimum(mean - above, below - mean)

    made.screen.forward = screen
    return made.eval()


def blended(net: Experts, x: torch.Tensor) -> tuple[torch.Tensor, list[list[float]], list[int]]:
    """What is found, how much of each item is believed, and how many items each corrector was asked of."""
    asked = []

    def run(part, image):
        if part in [*net.experts]:
            return 0.05 * image
        asked.append(len(image))
        return 0.2 * part(image)

    with torch.inference_mode():
        noise, beliefs = net.blend(x, run)
    assert [name for name, _ in beliefs] == list(NOISES)
    return noise, [believed.tolist() for _, believed in beliefs], asked


@pytest.fixture
def images() -> torch.Tensor:
    """A dark and a bright image."""
    return torch.tensor([0.2, 0.8]).view(2, 1, 1, 1) * (
        1 + 0.3 * torch.rand(2, 1, 24, 32, generator=torch.Generator().manual_seed(1))
    )


def test_a_screen_that_finds_all_worth_asking_changes_nothing(images):
    net = plain()
    for wanted, found in zip(blended(net, images), blended(screened(net, (-9, -9)), images), strict=True):
        assert torch.equal(wanted, found) if isinstance(wanted, torch.Tensor) else wanted == found


def test_what_is_not_worth_asking_is_not_asked_and_not_believed(images):
    net = plain()
    noise, beliefs, asked = blended(screened(net, (9, 9)), images)
    assert (beliefs, asked) == ([[0, 0], [0, 0]], [])
    with torch.inference_mode():
        assert torch.equal(noise, net.blend(images, lambda part, x: 0.05 * x, artifacts=False)[0])


def test_each_item_of_a_batch_is_asked_of_as_it_would_be_alone(images):
    net = screened(plain(), (0.5, -9))
    noise, beliefs, asked = blended(net, images)
    assert asked == [1, 2]
    assert beliefs[0][0] == 0
    assert min(beliefs[0][1], *beliefs[1]) > 0
    for i, image in enumerate(images.split(1)):
        alone = blended(net, image)
        torch.testing.assert_close(alone[0], noise[i : i + 1])
        assert [b[0] for b in alone[1]] == pytest.approx([b[i] for b in beliefs])


def test_what_one_corrector_uncovers_is_looked_at_again(images):
    net, bright = plain(), images[1:]
    noise, beliefs, _ = blended(screened(net, (-9, 9)), bright)
    assert beliefs[0][0] > 0
    before, after = 0.95 * bright.mean().item(), (bright - noise).mean().item()
    # A screen that wants the second one for the mean which the first one leaves, and not for that of the image.
    limits = ((-9, after - 1e-4), (9, after + 1e-4))
    assert abs(before - after) > 1e-3
    assert blended(screened(net, *limits), bright)[2] == [1, 1]


def test_a_model_with_a_screen_is_saved_read_and_exported(images, tmp_path):
    net = with_screen(plain(), Router(4, 2)).eval()
    net.screen.head[2].weight.data *= 30  # decided, and differently from image to image
    save_net(net, tmp_path / "run", CARD)
    read = load_net(find_model(tmp_path / "run"))
    assert read.config == net.config
    assert read.config.screen == 4
    assert not any(p.requires_grad for p in read.parameters())
    with torch.inference_mode():
        assert torch.equal(read(images), net(images))
    pytest.importorskip("onnx")
    session = pytest.importorskip("onnxruntime")
    assert export_onnx(find_model(tmp_path / "run"), tmp_path / "net.onnx").difference < 1e-4
    (found,) = session.InferenceSession(tmp_path / "net.onnx").run(None, {"image": images.numpy()})
    assert np.abs(found - net(images).detach().numpy()).max() < 1e-4


def test_other_correctors_lose_the_screen():
    net = with_screen(plain(), Router(4, 2))
    pairs = list(zip(net.config.correctors, net.correctors, strict=True))
    made = with_correctors(net, pairs[:1])
    assert (made.config.screen, made.screen) == (0, None)


@pytest.mark.parametrize("screen", [-1, 2048, 4.0, True, None, "wide"])
def test_a_card_with_a_wrong_screen_is_refused(tmp_path, screen):
    save_net(with_screen(plain(), Router(4, 2)), tmp_path / "run", CARD)
    path = tmp_path / "run" / "card.json"
    card = json.loads(path.read_text("utf-8"))
    card["architecture"]["screen"] = screen
    path.write_text(json.dumps(card), "utf-8")
    with pytest.raises(BadInput, match="does not know"):
        load_net(find_model(tmp_path / "run"))


def test_a_card_made_before_there_were_screens_is_read(tmp_path):
    save_net(plain(), tmp_path / "run", CARD)
    path = tmp_path / "run" / "card.json"
    card = json.loads(path.read_text("utf-8"))
    del card["architecture"]["screen"]
    path.write_text(json.dumps(card), "utf-8")
    assert load_net(find_model(tmp_path / "run")).config.screen == 0
