"""Import: weights from anywhere become a model of the user's own, proved to fit before anything is written."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfpl.errors import BadInput, TargetExists, UsageError
from medfpl.nets import published
from medfpl.nets.weights import (
    CARD_NAME,
    Model,
    ModelCard,
    Role,
    architecture_of,
    find_card,
    home,
    list_models,
    net_of,
    read_bounded,
    read_model,
    read_weights,
    write_model,
)

if TYPE_CHECKING:
    from medfpl.nets.architectures import Net

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_WEIGHTS = ".safetensors"
_RESEARCH = "Research use only; not a medical device."
_UNKNOWN = "Unknown weights: what they were trained on, what they reach and their licence are not known."


def import_model(
    source: Path,
    *,
    name: str | None = None,
    architecture: str | None = None,
    role: Role = "denoiser",
    overwrite: bool = False,
) -> Model:
    """Copy a model into ``MEDFPL_HOME/models`` as NAME.safetensors and NAME.json, and return it.

    ``source`` is a run folder, a card, or weights that lie beside their card: all that the card claims of its
    weights must hold. Weights without a card need ``architecture`` (see ``parse_architecture``); their card then
    says that they are unknown. ``role`` chooses the stage of a run folder, and is that of weights without a card.
    A ``.pth`` file holds the published weights of DPIR's prior, whose architecture and role are known.

    Raises:
        BadInput: if the card lies, or the weights are damaged, of no known format, not finite or of other shapes.
        UsageError: if the name is that of a shipped model, or the arguments do not fit together.
        TargetExists: if the user has a model of that name and ``overwrite`` is False.
    """
    if not source.exists():
        raise BadInput("no such file or folder")
    if source.is_file() and source.suffix not in (_WEIGHTS, ".json", published.SUFFIX):
        raise BadInput("not a safetensors file", "other weights are pickles, which run code when they are opened")
    if source.is_file() and source.suffix == published.SUFFIX:
        if architecture is not None:
            raise UsageError("--architecture is for weights without a card", "leave it out, it is read from the shapes")
        found, data = published.read_drunet(source)
        net = net_of("prior", found, data)
        card = _published_card(name or source.stem, net, data)
        return _install(card, net, data, name, overwrite)
    card_path = _card_beside(source) if source.suffix == _WEIGHTS else find_card(source, role)
    if card_path is not None:
        if architecture is not None:
            raise UsageError("--architecture is for weights without a card", "leave it out, the card names it")
        model = read_model(card_path)
        data = read_weights(model)
        card, net = model.card, net_of(model.card.role, model.card.architecture, data)
        if (card.bytes, card.parameters) != (len(data), _parameters(net)):
            raise BadInput("the card is wrong about the size of its weights")
    elif source.suffix != _WEIGHTS:
        raise BadInput("no model: neither a run folder nor a card nor weights", "give a folder with card.json")
    elif architecture is None:
        raise UsageError("weights without a card are unknown weights", "name their --architecture to import them")
    else:
        data = read_bounded(source)
        net = net_of(role, parse_architecture(architecture), data)
        card = _unknown_card(name or source.stem, role, net, data)
    return _install(card, net, data, name, overwrite)


def _install(card: ModelCard, net: "Net", data: bytes, name: str | None, overwrite: bool) -> Model:
    if not all(bool(values.isfinite().all()) for values in net.state_dict().values()):
        raise BadInput("the weights hold values that are not finite")
    card = _named(card, name or card.name, overwrite)
    target = home() / "models" / f"{card.name}.json"
    write_model(card, data, target, overwrite=overwrite)
    return Model(card, target.with_name(card.file), "imported")


_SWITCH = {"true": True, "false": False}


def parse_architecture(text: str) -> dict[str, Any]:
    """Return what ``--architecture`` says: a JSON file, or "width=16,depth=4,norm=batch" (a U-Net, if not said)."""
    if "=" in text:
        fields: dict[str, Any] = {}
        for pair in text.split(","):
            key, _, value = (part.strip() for part in pair.partition("="))
            fields[key] = int(value) if re.fullmatch(r"[0-9]{1,6}", value) else _SWITCH.get(value, value)
    else:
        try:
            fields = json.loads(Path(text).read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError("--architecture is neither a JSON file nor KEY=VALUE,...") from error
    if not isinstance(fields, dict):
        raise UsageError("--architecture is not a JSON object")
    return {"type": "unet", **fields}


def _card_beside(weights: Path) -> Path | None:
    """Return the card that names ``weights`` as its file: NAME.json or card.json in the same folder."""
    for card_path in (weights.with_suffix(".json"), weights.with_name(CARD_NAME)):
        if card_path.is_file() and read_model(card_path).card.file == weights.name:
            return card_path
    return None


def _unknown_card(name: str, role: Role, net: "Net", data: bytes) -> ModelCard:
    return ModelCard(
        name=name,
        role=role,
        summary="Imported weights that came without a card",
        licence="unknown",
        limits=[_UNKNOWN, _RESEARCH],
        **_facts(name, net, data),
    )


def _published_card(name: str, net: "Net", data: bytes) -> ModelCard:
    shape = net.config.to_json()
    original = (shape["width"], shape["blocks"]) == published.PUBLISHED
    return ModelCard(
        name=name,
        role="prior",
        summary=f"DRUNet from a PyTorch file, {'of the published shape' if original else 'of another shape'}",
        noises=["gaussian"],
        data=[{"name": "natural images, if these are the published weights", "source": "Zhang et al. 2021, DPIR"}],
        licence="MIT (KAIR), if these are the published weights",
        limits=[
            "Whether these are the published weights was not checked, only that their names and shapes are.",
            "The published weights were trained on natural images, not on medical ones.",
            "Knows white noise alone.",
            _RESEARCH,
        ],
        **_facts(name, net, data),
    )


def _facts(name: str, net: "Net", data: bytes) -> dict[str, Any]:
    return {
        "architecture": architecture_of(net),
        "file": f"{name}{_WEIGHTS}",
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "parameters": _parameters(net),
    }


def _parameters(net: "Net") -> int:
    return sum(p.numel() for p in net.parameters())


def _named(card: ModelCard, name: str, overwrite: bool) -> ModelCard:
    """Return ``card`` under ``name``, no default any more, if that name can be had."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            "a model's name is up to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit",
            "give one with --name",
        )
    file = f"{name}{_WEIGHTS}"
    for model in list_models():
        if model.card.name != name:
            continue
        if model.origin == "shipped":
            raise UsageError(f"{name} is the name of a shipped model", "give another with --name")
        # One that was put there by hand may lie under another file name: it would stay beside the new one.
        if not overwrite or model.path.name != file:
            raise TargetExists(f"there is a model called {name}", "--name gives another name, --overwrite replaces it")
    return replace(card, name=name, file=file, default=False)
