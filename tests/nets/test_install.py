import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from medfpl.errors import BadInput, MedfplError, TargetExists, UsageError
from medfpl.nets.drunet import DRUNet, DRUNetConfig
from medfpl.nets.install import import_model, parse_architecture
from medfpl.nets.unet import UNetConfig, build_unet
from medfpl.nets.weights import find_model, list_models, load_net, save_net

CONFIG = UNetConfig(width=4, depth=2, norm="batch", unshuffle=2, skips=1)
ARCHITECTURE = "width=4,depth=2,norm=batch,unshuffle=2,skips=1"
CARD = {
    "name": "tiny",
    "role": "denoiser",
    "summary": "a test",
    "kinds": ["ct"],
    "limits": ["no use"],
    "data": [{"collection": "none"}],
    "licence": "CC0",
    "default": True,
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run folder with a small random denoiser, and a home without models."""
    monkeypatch.setenv("MEDFPL_HOME", str(tmp_path / "home"))
    net = build_unet(CONFIG, torch.Generator().manual_seed(0))
    torch.nn.init.normal_(net.out.weight, generator=torch.Generator().manual_seed(1))
    save_net(net, tmp_path / "run", CARD, half=True)
    return tmp_path / "run"


def imported():
    return [m.card.name for m in list_models() if m.origin == "imported"]


def change_card(run: Path, **change) -> None:
    card = json.loads((run / "card.json").read_text())
    (run / "card.json").write_text(json.dumps({**card, **change}))


def change_weights(run: Path, data: bytes) -> None:
    """Replace the weights and let the card agree."""
    (run / "weights.safetensors").write_bytes(data)
    change_card(run, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


@pytest.mark.parametrize("form", ["", "card.json", "weights.safetensors"])
def test_a_run_its_card_or_its_weights_are_imported_bit_for_bit(run, form):
    made = import_model(run / form)
    assert made.path.name == "tiny.safetensors"
    assert made.path.read_bytes() == (run / "weights.safetensors").read_bytes()
    assert sorted(p.name for p in made.path.parent.iterdir()) == ["tiny.json", "tiny.safetensors"]
    before = json.loads((run / "card.json").read_text())
    after = json.loads((made.path.parent / "tiny.json").read_text())
    assert after == {**before, "file": "tiny.safetensors", "default": False}
    x = torch.rand(1, 1, 17, 16)
    assert torch.equal(load_net(find_model("tiny"))(x), load_net(find_model(run))(x))


def test_an_imported_model_never_becomes_the_default(run):
    before = find_model().card.name
    import_model(run)
    assert find_model().card.name == before


def test_a_stage_of_a_run(run, tmp_path):
    net = build_unet(CONFIG, torch.Generator().manual_seed(2))
    whole = tmp_path / "whole"
    for role in ("denoiser", "restoration"):
        save_net(net, whole / role, {**CARD, "name": f"my-{role}", "role": role})
    assert import_model(whole).card.name == "my-denoiser"
    assert import_model(whole, role="restoration").card.role == "restoration"
    with pytest.raises(UsageError, match="restoration model"):
        find_model("my-restoration")


def test_a_name_is_taken_once(run, tmp_path):
    import_model(run)
    net = build_unet(CONFIG, torch.Generator().manual_seed(3))
    save_net(net, tmp_path / "other", {**CARD, "summary": "another"})
    with pytest.raises(TargetExists, match="a model called tiny"):
        import_model(tmp_path / "other")
    assert find_model("tiny").card.summary == "a test"
    assert import_model(tmp_path / "other", name="tiny-2").card.name == "tiny-2"
    import_model(tmp_path / "other", overwrite=True)
    assert load_net(find_model("tiny")).config == CONFIG
    assert find_model("tiny").card.summary == "another"
    assert sorted(imported()) == ["tiny", "tiny-2"]


def test_a_model_put_there_by_hand_is_not_doubled(run, tmp_path):
    net = build_unet(CONFIG, torch.Generator().manual_seed(3))
    save_net(net, tmp_path / "home" / "models", CARD, stem="by-hand")
    for overwrite in (False, True):
        with pytest.raises(TargetExists):
            import_model(run, overwrite=overwrite)
    assert imported() == ["tiny"]


def test_a_shipped_name_is_never_given(run):
    name = find_model().card.name
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="shipped"):
            import_model(run, name=name, overwrite=overwrite)
    assert imported() == []


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "x" * 65, "ü", "a\n", "-x"])
def test_names_that_are_no_file_names_of_ours(run, name):
    change_card(run, name=name)
    with pytest.raises(UsageError, match="name"):
        import_model(run)
    assert imported() == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sha256": "0" * 64}, "sha256 differs"),
        ({"bytes": 12}, "wrong about the size"),
        ({"parameters": 10**9}, "wrong about the size"),
        ({"architecture": {"type": "unet", "width": 8, "depth": 2, "unshuffle": 2, "skips": 1}}, "do not fit"),
        ({"architecture": {"type": "unet", "width": 10**9}}, "does not know"),
        ({"architecture": {"type": "unet", "depth": 10**9}}, "does not know"),
        ({"architecture": {"type": "unet", "width": True}}, "does not know"),
        ({"architecture": {"type": "unet", "norm": "layer"}}, "does not know"),
        ({"architecture": {"type": "unet", "skips": 9}}, "does not know"),
        ({"architecture": {"type": "drunk"}}, "does not know"),
        ({"architecture": [1]}, "'architecture' is not what it should be"),
        ({"role": "oracle"}, "'role'"),
        ({"kinds": "ct"}, "'kinds'"),
        ({"limits": [1]}, "'limits'"),
        ({"parameters": "many"}, "'parameters'"),
        ({"file": "../run/weights.safetensors"}, "outside"),
        ({"file": 3}, "outside"),
        ({"file": "nosuch.safetensors"}, "no weights file"),
        ({"surprise": 1}, "not a model card"),
    ],
)
def test_a_card_that_lies_is_refused(run, change, reason):
    change_card(run, **change)
    with pytest.raises(BadInput, match=reason) as refused:
        import_model(run)
    assert "\n" not in refused.value.message
    assert not (run.parent / "home").exists()


def test_a_claim_of_a_huge_network_costs_nothing(run):
    # 2 TB of weights, were they allocated.
    change_card(run, architecture={"type": "unet", "width": 1024, "depth": 8, "norm": "batch"})
    with pytest.raises(BadInput, match="do not fit"):
        import_model(run)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(run, value):
    state = load((run / "weights.safetensors").read_bytes())
    state["out.bias"][0] = value
    change_weights(run, save(state))
    with pytest.raises(BadInput, match="not finite"):
        import_model(run)


def test_pickles_are_refused(run, tmp_path):
    with (tmp_path / "a.pt").open("wb") as file:
        torch.save({"w": torch.zeros(1)}, file)
    with pytest.raises(BadInput, match="not a safetensors") as refused:
        import_model(tmp_path / "a.pt", architecture=ARCHITECTURE)
    assert "run code" in refused.value.hint
    change_weights(run, pickle.dumps({"out.weight": [1.0]}))
    with pytest.raises(BadInput, match="no safetensors"):
        import_model(run)
    (tmp_path / "a.pt").rename(tmp_path / "a.safetensors")
    with pytest.raises(BadInput, match="no safetensors"):
        import_model(tmp_path / "a.safetensors", architecture=ARCHITECTURE)
    assert imported() == []


def published(config=DRUNetConfig(), seed=0):
    """A state dict with the names and shapes of drunet_gray.pth (for the default), and random values."""
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in DRUNet(config).state_dict().items()}
    generator = torch.Generator().manual_seed(seed)
    return {k: 0.05 * torch.randn(shape, generator=generator) for k, shape in shapes.items()}


@pytest.fixture
def pth(tmp_path, monkeypatch):
    """Write an object as drunet_gray.pth and return its path."""
    monkeypatch.setenv("MEDFPL_HOME", str(tmp_path / "home"))

    def write(content, **how):
        torch.save(content, tmp_path / "drunet_gray.pth", **how)
        return tmp_path / "drunet_gray.pth"

    return write


@pytest.mark.parametrize("zipped", [True, False])
def test_the_published_prior_is_imported_bit_for_bit(pth, zipped):
    state = published()
    made = import_model(pth(state, _use_new_zipfile_serialization=zipped))
    card = find_model("drunet_gray", "prior").card
    assert card == made.card
    assert card.architecture == {"type": "drunet", "width": 64, "blocks": 4, "blind": False, "context": False}
    assert (card.role, card.parameters, card.default) == ("prior", 32_638_656, False)
    assert "MIT" in card.licence
    assert "natural images" in " ".join(card.limits)
    assert "was not checked" in card.limits[0]
    kept = load_net(made).state_dict()
    assert kept.keys() == state.keys()
    assert all(torch.equal(kept[k], v) for k, v in state.items())


def test_other_sizes_of_it_are_read_from_their_shapes(pth):
    config = DRUNetConfig(8, 3)
    model = import_model(pth(published(config)), name="small")
    assert load_net(find_model("small", "prior")).config == config
    assert "another shape" in model.card.summary


def changed(**values):
    return {k: v for k, v in {**published(DRUNetConfig(4, 1)), **values}.items() if v is not None}


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"conv.weight": torch.zeros(3)},
        changed(**{"m_tail.weight": None}),
        changed(extra=torch.zeros(1)),
        changed(**{"m_tail.weight": torch.zeros(3, 4, 3, 3)}),
        changed(**{"m_head.weight": torch.zeros(4, 4, 3, 3)}),  # the published colour network
        changed(**{"m_head.weight": torch.zeros(10**6, 2, 1, 1)}),
        {k: v for k, v in build_unet(CONFIG).state_dict().items() if v.is_floating_point()},
    ],
)
def test_weights_of_other_networks_are_refused(pth, content):
    with pytest.raises(BadInput, match="not the weights of a grey DRUNet") as refused:
        import_model(pth(content))
    assert "\n" not in refused.value.message
    assert not (pth({}).parent / "home").exists()


class Hostile:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_a_hostile_pickle_runs_nothing(pth, tmp_path):
    for content in (Hostile(tmp_path / "ran"), changed(extra=Hostile(tmp_path / "ran"))):
        with pytest.raises(BadInput, match="holds more than weights"):
            import_model(pth(content))
        (tmp_path / "drunet_gray.pth").write_bytes(pickle.dumps(content))
        with pytest.raises(BadInput, match="holds more than weights"):
            import_model(tmp_path / "drunet_gray.pth")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    "content", [[1], torch.zeros(3), {"m_head.weight": [1.0]}, {3: torch.zeros(1)}, changed(n=torch.zeros(1).long())]
)
def test_files_that_are_no_weights_are_refused(pth, content):
    with pytest.raises(BadInput, match="more than weights"):
        import_model(pth(content))


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\x03\x04" + bytes(100), bytes(1000), b"\x80\x02}q\x00."])
def test_damaged_files_are_one_line(pth, tmp_path, data):
    path = tmp_path / "drunet_gray.pth"
    path.write_bytes(data)
    with pytest.raises(BadInput) as refused:
        import_model(path)
    assert "\n" not in refused.value.message
    whole = pth(published(DRUNetConfig(4, 1))).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match="damaged"):
        import_model(path)
    assert not (tmp_path / "home").exists()


def test_a_view_that_claims_more_than_the_file_holds_costs_nothing(pth):
    config = DRUNetConfig(1024, 4)
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in DRUNet(config).state_dict().items()}
    one = torch.zeros(1)
    path = pth({k: one.expand(shape) for k, shape in shapes.items()})  # 33 GB in a small file
    assert path.stat().st_size < 10**5
    with pytest.raises(BadInput, match="larger than any model"):
        import_model(path)


def test_an_archive_that_unpacks_to_more_than_any_model_is_not_unpacked(pth, monkeypatch):
    path = pth(published(DRUNetConfig(4, 1)))
    monkeypatch.setattr("medfpl.nets.published.MAX_BYTES", path.stat().st_size // 2)
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(BadInput, match="larger than any model"):
        import_model(path)


def test_a_prior_that_is_not_finite_or_has_an_architecture_named(pth):
    state = published(DRUNetConfig(4, 1))
    with pytest.raises(UsageError, match="without a card"):
        import_model(pth(state), architecture="type=drunet,width=4,blocks=1")
    state["m_tail.weight"][0, 0, 0, 0] = float("nan")
    with pytest.raises(BadInput, match="not finite"):
        import_model(pth(state))


def test_a_prior_without_a_card(run, tmp_path):
    (tmp_path / "bare.safetensors").write_bytes(save(published(DRUNetConfig(4, 1))))
    for role, architecture, reason in (
        ("denoiser", "type=drunet,width=4,blocks=1", "a denoiser is blind"),
        ("prior", ARCHITECTURE, "a prior model cannot be a unet"),
        ("prior", "type=drunet,width=8,blocks=1", "do not fit"),
        ("prior", "type=drunet,width=four,blocks=1", "does not know"),
        ("prior", "type=drunet,depth=3", "does not know"),
        ("prior", "type=drunet,blocks=999999", "does not know"),
    ):
        with pytest.raises(BadInput, match=reason):
            import_model(tmp_path / "bare.safetensors", architecture=architecture, role=role)
    import_model(tmp_path / "bare.safetensors", architecture="type=drunet,width=4,blocks=1", role="prior")
    assert find_model("bare", "prior").card.licence == "unknown"


@pytest.fixture
def bare(run, tmp_path):
    """Weights whose card is lost."""
    return (run / "weights.safetensors").rename(tmp_path / "bare.safetensors")


def test_unknown_weights_need_their_architecture_named(bare):
    with pytest.raises(UsageError, match="unknown weights"):
        import_model(bare)
    card = import_model(bare, architecture=ARCHITECTURE).card
    assert (card.name, card.licence, card.data, card.metrics) == ("bare", "unknown", [], {})
    assert "not known" in card.limits[0]
    assert card.architecture == {"type": "unet", **CONFIG.to_json()}
    assert load_net(find_model("bare")).config == CONFIG


def test_an_architecture_from_a_json_file(bare, tmp_path):
    (tmp_path / "net.json").write_text(json.dumps(CONFIG.to_json()))
    model = import_model(bare, name="b", architecture=str(tmp_path / "net.json"), role="restoration")
    assert (model.card.name, model.card.role) == ("b", "restoration")


@pytest.mark.parametrize(
    ("architecture", "kind", "reason"),
    [
        ("width=4,depth=2", BadInput, "do not fit"),
        ("width=4,colour=2", BadInput, "does not know"),
        ("width=four", BadInput, "does not know"),
        ("=4", BadInput, "does not know"),
        ("type=transformer,width=4", BadInput, "does not know"),
        ("nosuch.json", UsageError, "neither"),
        ("{}", UsageError, "neither"),
    ],
)
def test_architectures_that_do_not_fit(bare, architecture, kind, reason):
    with pytest.raises(kind, match=reason):
        import_model(bare, architecture=architecture)
    assert imported() == []


def test_an_architecture_file_that_is_no_object(bare, tmp_path):
    (tmp_path / "net.json").write_text("[4, 2]")
    with pytest.raises(UsageError, match="JSON object"):
        import_model(bare, architecture=str(tmp_path / "net.json"))


def test_arguments_that_do_not_fit(run, tmp_path):
    with pytest.raises(UsageError, match="without a card"):
        import_model(run, architecture=ARCHITECTURE)
    with pytest.raises(BadInput, match="no such file"):
        import_model(tmp_path / "nosuch")
    with pytest.raises(BadInput, match="no model"):
        import_model(tmp_path)


def test_settings_are_read_as_numbers_or_words():
    assert parse_architecture(" width = 16, norm=none") == {"type": "unet", "width": 16, "norm": "none"}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cut=st.just(1.0) | st.floats(0, 1), noise=st.binary(max_size=12), at=st.floats(0, 1))
def test_damaged_weights_are_refused_in_one_line_and_nothing_is_left(run, cut, noise, at):
    whole = (run / "weights.safetensors").read_bytes()
    data = bytearray(whole[: int(cut * len(whole))])
    start = int(at * min(len(data), 4000))
    data[start : start + len(noise)] = noise
    path = run.parent / "damaged.safetensors"
    path.write_bytes(data)
    if damage := _damage(path):
        assert "\n" not in damage
        assert imported() == []
    else:
        # Only the values of the weights were touched, or nothing was.
        assert len(data) == len(whole)
        for made in (run.parent / "home" / "models").iterdir():
            made.unlink()


def _damage(path: Path) -> str:
    try:
        import_model(path, architecture=ARCHITECTURE)
    except MedfplError as error:
        return error.message
    return ""
