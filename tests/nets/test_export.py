import json

import numpy as np
import pytest
import torch

from medfpl.denoisers.methods.medfpl import HIGH, LOW
from medfpl.errors import BadInput, MedfplError, MissingDependency, TargetExists, UsageError
from medfpl.nets import export
from medfpl.nets.correctors import CorrectorConfig
from medfpl.nets.drunet import DRUNetConfig, build_drunet
from medfpl.nets.experts import build_experts, with_correctors
from medfpl.nets.export import OPSET, SEEN, contract, export_onnx
from medfpl.nets.field import FieldConfig, build_field
from medfpl.nets.shading import ShadingConfig, build_shading
from medfpl.nets.unet import UNetConfig, build_unet
from medfpl.nets.unfold import UnfoldConfig, build_unfold
from medfpl.nets.weights import find_model, load_net, save_net

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

CONFIGS = [
    UNetConfig(width=4, depth=2, norm="none"),
    UNetConfig(width=4, depth=3, norm="batch", skips=1),
    UNetConfig(width=4, depth=2, norm="batch", unshuffle=2),
]


def make(folder, config=CONFIGS[0], role="denoiser"):
    """Return a small random model whose normalisation layers are not the identity."""
    generator = torch.Generator().manual_seed(0)
    net = build_unet(config, generator)
    torch.nn.init.normal_(net.out.weight, generator=generator)
    net.train()(torch.rand(2, 1, 32, 32, generator=generator))
    return save_net(net.eval(), folder, {"name": "tiny", "role": role, "summary": "Prüfung", "limits": ["no use"]})


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_onnxruntime_gives_what_torch_gives_on_any_size(tmp_path, config):
    model = make(tmp_path / "run", config)
    told = export_onnx(model, tmp_path / "net.onnx")
    assert told.difference < 1e-4
    net = load_net(model)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    for shape in ((1, 1, 64, 48), (2, 1, 33, 47), (3, 1, 5, 64), (1, 1, 1, 1), (1, 1, 131, 2)):
        x = torch.rand(shape, generator=torch.Generator().manual_seed(1)) * (HIGH - LOW) + LOW
        (found,) = session.run(None, {"image": x.numpy()})
        assert found.shape == shape
        assert np.abs(found - net(x).numpy()).max() < 1e-4
        assert np.abs(found).max() > 1e-3


def test_of_experts_the_graph_asks_all_and_weights_them(tmp_path):
    generator = torch.Generator().manual_seed(0)
    shading = build_shading(ShadingConfig(width=4, depth=2), generator)
    torch.nn.init.normal_(shading.unet.out.weight, generator=generator)
    experts = [build_drunet(DRUNetConfig(4, 1, blind=True, context=True), generator), shading]
    net = build_experts(experts, [["gaussian"], ["motion"]], 4, generator)
    net.router.head[2].weight.data *= 20  # decided, and differently from image to image
    corrector = build_drunet(DRUNetConfig(4, 1, blind=True, context=True), generator)
    # On some of the images below it is believed in part.
    net = with_correctors(net, [(CorrectorConfig(corrector.config, "motion", size=0.5, edges=0.5), corrector)])
    model = save_net(net.eval(), tmp_path / "run", {"name": "two", "role": "denoiser", "summary": ""})
    assert export_onnx(model, tmp_path / "net.onnx").difference < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    asked = set()
    for shape in ((2, 1, 64, 48), (1, 1, 33, 47), (1, 1, 1, 1)):
        x = torch.rand(shape, generator=torch.Generator().manual_seed(1)) * torch.linspace(0, 1, shape[-1])
        (found,) = session.run(None, {"image": x.numpy()})
        assert np.abs(found - net(x).detach().numpy()).max() < 1e-4
        asked |= set(net.shares(x).argmax(1).tolist())
    assert asked == {0, 1}


def test_correctors_that_look_at_the_whole_image_are_part_of_the_graph(tmp_path):
    generator = torch.Generator().manual_seed(0)
    first = build_drunet(DRUNetConfig(4, 1, blind=True, context=True), generator)
    first.m_tail.weight.data *= 0.1
    correctors = [build_field(FieldConfig(4, 2), generator), build_unfold(UnfoldConfig(4, 2), generator)]
    for corrector in correctors:
        torch.nn.init.normal_(corrector.unet.out.weight, std=0.2, generator=generator)
    configs = [
        CorrectorConfig(c.config, n, 1e-4, 1e-4) for c, n in zip(correctors, ("wrap-around", "motion"), strict=True)
    ]
    net = with_correctors(
        build_experts([first], [["gaussian"]], 4, generator), list(zip(configs, correctors, strict=True))
    )
    model = save_net(net.eval(), tmp_path / "run", {"name": "two", "role": "denoiser", "summary": ""})
    assert export_onnx(model, tmp_path / "net.onnx").difference < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    for shape in ((2, 1, 64, 48), (1, 1, 33, 90)):
        x = torch.zeros(shape)
        x[..., 8:-8, 4:-9] = 0.5 + torch.rand(x[..., 8:-8, 4:-9].shape, generator=torch.Generator().manual_seed(1))
        for image in (x, x.mT):
            (found,) = session.run(None, {"image": image.contiguous().numpy()})
            assert np.abs(found - net(image).detach().numpy()).max() < 1e-4


def test_what_is_given_back_is_part_of_the_graph(tmp_path, recwarn):
    generator = torch.Generator().manual_seed(0)
    shipped = load_net(find_model("medfpl-experts"))
    for family, expert in zip(("gaussian", "rician"), shipped.experts, strict=False):
        net = build_experts([expert], [[family]], 4, generator).eval()
        model = save_net(net, tmp_path / family, {"name": family, "role": "denoiser", "summary": ""})
        assert export_onnx(model, tmp_path / f"{family}.onnx").difference < 1e-4
        session = onnxruntime.InferenceSession(tmp_path / f"{family}.onnx", providers=["CPUExecutionProvider"])
        for shape in ((3, 1, 64, 48), (1, 1, 33, 90)):
            x = torch.linspace(0.2, 0.9, shape[-1]) + 0.02 * torch.randn(shape, generator=generator)
            (found,) = session.run(None, {"image": x.numpy()})
            with torch.inference_mode():
                assert np.abs(found - net(x).numpy()).max() < 1e-5
                assert (net(x) - expert(x)).abs().max() > 1e-3
    assert not [w for w in recwarn if "onnx" in str(w.message).lower()]


def test_the_file_says_what_it_is(tmp_path):
    model = make(tmp_path / "run")
    export_onnx(model, tmp_path / "net.onnx")
    made = onnx.load(tmp_path / "net.onnx")
    facts = {p.key: p.value for p in made.metadata_props}
    assert facts["sha256"] == model.card.sha256
    assert json.loads(facts["card"]) == model.card.to_json()
    assert facts["contract"] == made.doc_string == contract(model)
    assert [i.version for i in made.opset_import if i.domain == ""] == [OPSET]
    (image,), (noise,) = made.graph.input, made.graph.output
    assert (image.name, noise.name) == ("image", "noise")
    for value in (image, noise):
        sides = value.type.tensor_type.shape.dim
        assert [sides[0].dim_param, sides[2].dim_param, sides[3].dim_param] == ["batch", "height", "width"]
    assert str(tmp_path).encode() not in (tmp_path / "net.onnx").read_bytes()


def test_the_contract_is_that_of_the_denoiser():
    assert SEEN == (LOW, HIGH)


def test_a_restoration_network_gives_the_image(tmp_path):
    model = make(tmp_path / "run", role="restoration")
    assert "output restored" in export_onnx(model, tmp_path / "net.onnx").contract
    assert onnx.load(tmp_path / "net.onnx").graph.output[0].name == "restored"


def test_a_prior_is_told_the_level_in_a_second_channel(tmp_path):
    net = build_drunet(DRUNetConfig(4, 1), torch.Generator().manual_seed(0))
    model = save_net(net, tmp_path / "run", {"name": "p", "role": "prior", "summary": ""})
    told = export_onnx(model, tmp_path / "net.onnx")
    assert "(batch, 2, height, width)" in told.contract
    assert "output denoised: float32 (batch, 1," in told.contract
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    x = torch.rand(2, 2, 33, 47, generator=torch.Generator().manual_seed(1))
    (found,) = session.run(["denoised"], {"image": x.numpy()})
    assert np.abs(found - load_net(model)(x).numpy()).max() < 1e-4


def test_the_same_model_gives_the_same_file(tmp_path):
    model = make(tmp_path / "run")
    for name in ("a.onnx", "b.onnx"):
        export_onnx(model, tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_nothing_is_overwritten_unasked(tmp_path):
    model = make(tmp_path / "run")
    target = tmp_path / "net.onnx"
    target.write_bytes(b"mine")
    with pytest.raises(TargetExists):
        export_onnx(model, target)
    assert target.read_bytes() == b"mine"
    export_onnx(model, target, overwrite=True)
    assert len(target.read_bytes()) > model.card.bytes
    with pytest.raises(UsageError, match="the input itself"):
        export_onnx(model, model.path, overwrite=True)


def test_a_file_that_computes_something_else_is_not_written(tmp_path, monkeypatch):
    model = make(tmp_path / "run")
    honest = export._describe

    def tampered(model, path):
        honest(model, path)
        made = onnx.load(path)
        bias = next(t for t in made.graph.initializer if t.name == "out.bias")
        bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.01), bias.name))
        onnx.save(made, path)

    monkeypatch.setattr(export, "_describe", tampered)
    with pytest.raises(MedfplError, match=r"differs from the model by 0\.01"):
        export_onnx(model, tmp_path / "out" / "net.onnx")
    assert list((tmp_path / "out").iterdir()) == []


def test_weights_of_another_model_are_refused(tmp_path):
    model = make(tmp_path / "run")
    model.path.write_bytes(model.path.read_bytes()[:-1] + b"\x55")
    with pytest.raises(BadInput, match="sha256"):
        export_onnx(model, tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_without_the_extra_the_error_names_it(tmp_path, monkeypatch, missing):
    model = make(tmp_path / "run")
    real = export.find_spec
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == missing else real(name))
    with pytest.raises(MissingDependency) as refused:
        export_onnx(model, tmp_path / "net.onnx")
    assert "medfpl[onnx]" in refused.value.hint
