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

if TYPE_CHECKING:
    from medfpl.nets.unet import UNet

Role = Literal["denoiser", "restoration", "prior"]
SHIPPED = Path(__file__).resolve().parent.parent / "models"
CARD_NAME = "card.json"
MAX_BYTES = 1 << 30


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
    card = path / CARD_NAME if path.is_dir() else path
    if path.is_dir() and not card.is_file() and (path / role / CARD_NAME).is_file():
        card = path / role / CARD_NAME
    if card.is_file() and card.suffix == ".json":
        return _with_role(_model(card, "run"), role)
    if card.suffix == ".safetensors" and card.is_file():
        raise UsageError("a weights file without its card", "give the run folder, or 'medfpl models import' it")
    names = ", ".join(m.card.name for m in models if m.card.role == role) or "none"
    raise UsageError(f"no {role} model is called {wanted!r}", f"installed: {names}; or give a run folder")


def load_unet(model: Model, device: str = "cpu") -> "UNet":
    """Return the model's U-Net in eval mode on ``device``, its weights checked against the card and made float32.

    Raises:
        BadInput: if the file is missing, its sha256 is not the card's, or names or shapes do not fit.
    """
    import torch
    from safetensors.torch import load

    from medfpl.nets.unet import UNetConfig, build_unet

    data = _checked_bytes(model)
    try:
        config = UNetConfig(**{k: v for k, v in model.card.architecture.items() if k != "type"})
        if model.card.architecture.get("type") != "unet":
            raise TypeError
    except TypeError:
        raise BadInput("the card names an architecture that this version does not know") from None
    try:
        state = {k: v.float() if v.is_floating_point() else v for k, v in load(data).items()}
        net = build_unet(config)
        net.load_state_dict(state)
    except (RuntimeError, ValueError, OSError) as error:
        raise BadInput("the weights do not fit the architecture on their card") from error
    except Exception as error:  # safetensors raises its own SafetensorError, not importable on all versions
        raise BadInput("the weights file is damaged") from error
    net = net.to(torch.device(device)).eval()
    return net.requires_grad_(False)


def save_unet(net: "UNet", folder: Path, card: dict[str, Any], *, half: bool = False, stem: str = "weights") -> Model:
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
        "architecture": {"type": "unet", **net.config.to_json()},
        "file": f"{stem}.safetensors",
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "parameters": sum(p.numel() for p in net.parameters()),
    }
    made = ModelCard(**{**card, **computed})
    folder.mkdir(parents=True, exist_ok=True)
    card_path = folder / (CARD_NAME if stem == "weights" else f"{stem}.json")
    # Weights first: a card never names weights that are not there yet.
    _replace(folder / made.file, data)
    _replace(card_path, (json.dumps(made.to_json(), indent=2) + "\n").encode())
    return Model(made, folder / made.file, "run")


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(data)
    temporary.replace(path)


def _with_role(model: Model, role: Role) -> Model:
    if model.card.role != role:
        raise UsageError(f"{model.card.name} is a {model.card.role} model, and a {role} is needed")
    return model


def _model(card_path: Path, origin: Literal["shipped", "imported", "run"]) -> Model:
    try:
        card = ModelCard(**json.loads(card_path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{card_path.name} is not a model card") from error
    if Path(card.file).name != card.file:
        raise BadInput(f"{card_path.name} names weights outside its own folder")
    return Model(card, card_path.parent / card.file, origin)


def _checked_bytes(model: Model) -> bytes:
    try:
        if model.path.stat().st_size > MAX_BYTES:
            raise BadInput("the weights file is larger than any model of medfpl")
        data = model.path.read_bytes()
    except OSError as error:
        raise BadInput(f"the weights of {model.card.name} cannot be read") from error
    if hashlib.sha256(data).hexdigest() != model.card.sha256:
        raise BadInput(f"the weights of {model.card.name} are not those of its card (sha256 differs)")
    return data
