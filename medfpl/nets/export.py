"""Export: a network as an ONNX file that says what goes in and what comes out, run before it gets its name."""

import json
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from medfpl.errors import MedfplError, MissingDependency
from medfpl.io.atomic import atomic_target, check_target
from medfpl.nets.weights import Model, load_net
from medfpl.scan import CT_BLACK, CT_WHITE

if TYPE_CHECKING:
    from medfpl.nets.architectures import Net

OPSET = 17
TOLERANCE = 1e-4
# Inputs are clamped to this range (working units) before the network sees them.
SEEN = (-1.0, 3.0)

# A prior is told the level of the noise: its second channel.
_CHANNELS = {"denoiser": 1, "restoration": 1, "prior": 2}
_OUTPUTS = {"denoiser": "noise", "restoration": "restored", "prior": "denoised"}
_MEANING = {
    "noise": "the noise in image; denoised = image - noise, with the image as it was before clamping",
    "restored": "the image as the network restores it",
    "denoised": "the image without its noise",
}


@dataclass(frozen=True)
class Exported:
    """What an export gave: the file's contract, its opset, and the largest difference to torch that was seen."""

    contract: str
    opset: int
    difference: float


def contract(model: Model) -> str:
    """Return what the exported file expects and gives, as plain lines of text."""
    low, high = SEEN
    output, channels = _OUTPUTS[model.card.role], _CHANNELS[model.card.role]
    level = "" if channels == 1 else " The second channel is the noise's standard deviation in the same units."
    return (
        f"input image: float32 (batch, {channels}, height, width), any sizes from 1 on, in working units: "
        f"CT {CT_BLACK:g} HU = 0 and {CT_WHITE:g} HU = 1; MR 0 = 0 and the series' 99.9th percentile = 1; "
        f"pictures black = 0 and white = 1. Linear beyond; clamp to {low:g}..{high:g}.{level}\n"
        f"output {output}: float32 (batch, 1, height, width), in working units: {_MEANING[output]}."
    )


def export_onnx(model: Model, target: Path, *, overwrite: bool = False) -> Exported:
    """Write ``model`` as an ONNX file with dynamic batch, height and width.

    The metadata hold the name, role, sha256 of the weights, the card (JSON) and the contract. onnxruntime must
    give what torch gives, to 1e-4 on two sizes, before the file gets its name.

    Raises:
        MissingDependency: without the extra ``onnx``.
        TargetExists: if ``target`` exists and is not to be overwritten.
        BadInput: if the weights are not those of the card.
    """
    if not (find_spec("onnx") and find_spec("onnxruntime")):
        raise MissingDependency("ONNX export needs optional packages", "pip install 'medfpl[onnx]'")
    check_target(target, model.path, overwrite)
    net = load_net(model)
    with atomic_target(target, overwrite=overwrite) as part:
        channels = _CHANNELS[model.card.role]
        _trace(net, part, channels, _OUTPUTS[model.card.role])
        _describe(model, part)
        difference = _difference(net, part, channels)
        if not difference <= TOLERANCE:
            raise MedfplError(f"the exported network differs from the model by {difference:.2g}")
    return Exported(contract(model), OPSET, difference)


def _trace(net: "Net", path: Path, channels: int, output: str) -> None:
    import torch

    axes = {0: "batch", 2: "height", 3: "width"}
    # Sides that need padding: the trace must go through it. Amounts are traced, not fixed, and may be zero.
    side = net.config.multiple + 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        # The TorchScript exporter: its successor needs one more package.
        torch.onnx.export(
            net,
            (torch.zeros(1, channels, side, side + 1),),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=[output],
            dynamic_axes={"image": axes, output: axes},
        )


def _describe(model: Model, path: Path) -> None:
    import onnx

    made = onnx.load(path)
    made.doc_string = contract(model)
    card = model.card
    facts = {
        "name": card.name,
        "role": card.role,
        "sha256": card.sha256,
        "card": json.dumps(card.to_json()),
        "contract": contract(model),
    }
    onnx.helper.set_model_props(made, facts)
    onnx.checker.check_model(made, full_check=True)
    onnx.save(made, path)


def _difference(net: "Net", path: Path, channels: int) -> float:
    """Return the largest difference to torch on a padded and on an unpadded size, in working units."""
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    side = 2 * net.config.multiple
    differences = []
    for count, height, width in ((1, side, side), (2, side + 1, side - 1)):
        x = torch.rand(count, channels, height, width, generator=generator)
        (found,) = session.run(None, {"image": x.numpy()})
        differences.append((torch.from_numpy(found) - net(x)).abs().max())
    return float(torch.stack(differences).max())
