"""Weights: safetensors files with a card that holds their sha256, architecture, data and limits.

The shipped cards stand in ``medfpl/models/*.json``; a user's own in ``MEDFPL_HOME/models``. A training run is a
folder with ``card.json``. The architecture comes from the card, never from the weights file.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medfpl.errors import BadInput, MedfplError, UsageError
from medfpl.nets.architectures import Role, described

if TYPE_CHECKING:
    from medfpl.nets.architectures import Net

SHIPPED = Path(__file__).resolve().parent.parent / "models"
CARD_NAME = "card.json"
MAX_BYTES = 1 << 30
MAX_CARD_BYTES = 1 << 20


@dataclass(frozen=True)
class ModelCard:
    """What a weights file is. ``metrics`` maps kind -> noise -> {"psnr", "ssim", "input_psnr"} on unseen patients."""

    name: str
    role: Role
    summary: str
    architecture: dict[str, Any]
    file: str
    sha256: str
    bytes: int
    parameters: int
    kinds: list[str] = field(default_factory=list)
    noises: list[str] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    data: list[dict[str, str]] = field(default_factory=list)
    licence: str = "Apache-2.0"
    limits: list[str] = field(default_factory=list)
    default: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the card as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Model:
    """A card and where its weights lie; ``origin`` is "shipped", "imported" or "run"."""

    card: ModelCard
    path: Path
    origin: Literal["shipped", "imported", "run"]


def home() -> Path:
    """Return the user's medfpl folder: MEDFPL_HOME, or the platform's data folder."""
    from platformdirs import user_data_path

    named = os.environ.get("MEDFPL_HOME")
    return Path(named) if named else user_data_path("medfpl", appauthor=False)


def list_models() -> list[Model]:
    """Return the shipped models, then the imported ones, each group by name."""
    found: list[Model] = []
    places: list[tuple[Path, Literal["shipped", "imported"]]] = [(SHIPPED, "shipped"), (home() / "models", "imported")]
    for folder, origin in places:
        for card in sorted(folder.glob("*.json")) if folder.is_dir() else []:
            found.append(_model(card, origin))
    return found


def find_model(name_or_path: str | Path | None = None, role: Role = "denoiser") -> Model:
    """Return the model of that name, run folder or card file; None means the default of ``role``.

    Raises:
        UsageError: if there is no such model, or it has another role.
        BadInput: if what the path names is not a model card.
    """
    models = list_models()
    if name_or_path is None:
        fitting = [m for m in models if m.card.role == role and m.card.default]
        if not fitting:
            raise MedfplError(f"no {role} model is installed", "see 'medfpl models list'")
        return fitting[0]
    wanted = str(name_or_path)
    for model in models:
        if model.card.name == wanted:
            return _with_role(model, role)
    path = Path(wanted)
    if path.suffix == ".safetensors" and path.is_file():
        raise UsageError("a weights file without its card", "give the run folder, or 'medfpl models import' it")
    card = find_card(path, role)
    if card is not None:
        return _with_role(read_model(card), role)
    names = ", ".join(m.card.name for m in models if m.card.role == role) or "none"
    raise UsageError(f"no {role} model is called {wanted!r}", f"installed: {names}; or give a run folder")


def find_card(path: Path, role: Role = "denoiser") -> Path | None:
    """Return the card that ``path`` is or, a run folder, holds (else that of its stage ``role``); None without one."""
    candidates = (path / CARD_NAME, path / role / CARD_NAME) if path.is_dir() else (path,)
    return next((card for card in candidates if card.suffix == ".json" and card.is_file()), None)


def read_model(card_path: Path) -> Model:
    """Return the model of a card from outside, whose fields are checked; BadInput if one is not what it should be."""
    from pydantic import TypeAdapter, ValidationError

    model = _model(card_path, "run")
    try:
        TypeAdapter(ModelCard).validate_json(json.dumps(model.card.to_json()), strict=True)
    except ValidationError as error:
        field = error.errors()[0]["loc"][0]
        raise BadInput(f"{card_path.name} is not a model card: its {field!r} is not what it should be") from error
    return model


def load_net(model: Model, device: str = "cpu") -> "Net":
    """Return the model's network in eval mode on ``device``, its weights checked against the card and made float32.

    Raises:
        BadInput: if the file is missing, its sha256 is not the card's, or names or shapes do not fit.
    """
    return net_of(model.card.role, model.card.architecture, read_weights(model)).to(device)


def read_weights(model: Model) -> bytes:
    """Return the bytes of the model's weights file; BadInput if it is missing or its sha256 is not the card's."""
    data = read_bounded(model.path)
    if hashlib.sha256(data).hexdigest() != model.card.sha256:
        raise BadInput(f"the weights of {model.card.name} are not those of its card (sha256 differs)")
    return data


def read_bounded(path: Path) -> bytes:
    """Return the bytes of a weights file; BadInput if it cannot be read or is larger than any model."""
    try:
        if not path.is_file():
            raise BadInput("there is no weights file of that name")
        if path.stat().st_size > MAX_BYTES:
            raise BadInput("the weights file is larger than any model of medfpl")
        return path.read_bytes()
    except OSError as error:
        raise BadInput("the weights file cannot be read") from error


def net_of(role: Role, architecture: dict[str, Any], data: bytes) -> "Net":
    """Return the network of ``architecture`` with the weights ``data`` (a safetensors file), float32, eval, frozen.

    Nothing is allocated for the architecture itself, so that one that claims too much costs nothing.

    Raises:
        BadInput: if the architecture is unknown or not one for ``role``, ``data`` is damaged, or names or shapes do
            not fit.
    """
    import torch
    from safetensors.torch import load

    empty = described(role, architecture)
    try:
        state = {k: v.float() if v.is_floating_point() else v for k, v in load(data).items()}
    except Exception as error:  # safetensors raises its own SafetensorError, not importable on all versions
        raise BadInput("the weights file is damaged, or no safetensors file") from error
    with torch.device("meta"):
        net = empty()
    try:
        net.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise BadInput("the weights do not fit the architecture on their card") from error
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net.eval().requires_grad_(False)


def save_net(net: "Net", folder: Path, card: dict[str, Any], *, half: bool = False, stem: str = "weights") -> Model:
    """Write ``net``'s weights and card into ``folder`` and return them as a model.

    ``card`` holds the fields of ModelCard that are not computed here; ``half`` stores float16.
    """
    import torch
    from safetensors.torch import save

    state = {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
    if half:
        state = {k: v.half() if v.dtype == torch.float32 else v for k, v in state.items()}
    data = save(state)
    computed = {
        "architecture": architecture_of(net),
        "file": f"{stem}.safetensors",
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "parameters": sum(p.numel() for p in net.parameters()),
    }
    made = ModelCard(**{**card, **computed})
    card_path = folder / (CARD_NAME if stem == "weights" else f"{stem}.json")
    write_model(made, data, card_path, overwrite=True)
    return Model(made, folder / made.file, "run")


def architecture_of(net: "Net") -> dict[str, Any]:
    """Return what a card says of ``net``'s architecture."""
    return {"type": type(net).__name__.lower(), **net.config.to_json()}


def write_model(card: ModelCard, data: bytes, card_path: Path, *, overwrite: bool) -> None:
    """Write ``card`` to ``card_path`` and the weights ``data`` beside it, each whole or not at all.

    TargetExists if either is there and not to be overwritten.
    """
    from medfpl.io.atomic import atomic_target

    # Weights first: a card never names weights that are not there yet.
    with atomic_target(card_path, overwrite=overwrite) as card_part:
        card_part.write_text(json.dumps(card.to_json(), indent=2) + "\n", "utf-8")
        with atomic_target(card_path.with_name(card.file), overwrite=overwrite) as weights_part:
            weights_part.write_bytes(data)


def _with_role(model: Model, role: Role) -> Model:
    if model.card.role != role:
        raise UsageError(f"{model.card.name} is a {model.card.role} model, and a {role} is needed")
    return model


def _model(card_path: Path, origin: Literal["shipped", "imported", "run"]) -> Model:
    try:
        if card_path.stat().st_size > MAX_CARD_BYTES:
            raise ValueError
        card = ModelCard(**json.loads(card_path.read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise BadInput(f"{card_path.name} is not a model card") from error
    if not isinstance(card.file, str) or Path(card.file).name != card.file:
        raise BadInput(f"{card_path.name} names weights outside its own folder")
    return Model(card, card_path.parent / card.file, origin)
