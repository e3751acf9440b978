"""``medfpl models``: the networks on this machine and what is known of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medfpl.cli import options
from medfpl.cli.output import Output
from medfpl.errors import EXIT_OK, UsageError, escape

if TYPE_CHECKING:
    from medfpl.nets.weights import Model

models = typer.Typer(help="List, show, import and export the trained networks.", no_args_is_help=True)

Name = Annotated[str | None, typer.Argument(metavar="NAME", help="A model's name or run folder; default: the default.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.add_typer(models, name="models")


def _find(name: str | None) -> "Model":
    """Return the model of that name, run folder or card whatever its role; None means the default."""
    from medfpl.nets.architectures import ARCHITECTURES
    from medfpl.nets.weights import find_card, find_model, list_models, read_model

    named = [m for m in list_models() if m.card.name == name]
    if name and not named:
        for role in ARCHITECTURES:
            if card := find_card(Path(name), role):
                return read_model(card)
    return named[0] if named else find_model(name)


@models.command("list")
def list_(as_json: options.Json = False, quiet: options.Quiet = False) -> int:
    """List the models: those shipped, then your own."""
    from medfpl.nets.weights import list_models

    out = Output(as_json=as_json, quiet=quiet)
    found = list_models()
    out.result(
        {"command": "models list", "models": [{**m.card.to_json(), "origin": m.origin} for m in found]},
    )
    rows = [
        (
            m.card.name + (" *" if m.card.default else ""),
            m.card.role,
            _weights(m.card.parameters),
            ", ".join(m.card.kinds),
            m.card.summary,
        )
        for m in found
    ]
    out.table(("name", "role", "weights", "images", "summary"), rows, right=(2,))
    out.say("* is the default of its role" if rows else "no models are installed")
    return EXIT_OK


@models.command()
def show(name: Name = None, as_json: options.Json = False, quiet: options.Quiet = False) -> int:
    """Show a model's card: what it was trained on, what it reached, where it must not be trusted."""
    out = Output(as_json=as_json, quiet=quiet)
    model = _find(name)
    card = model.card
    out.result({"command": "models show", **card.to_json(), "origin": model.origin})
    facts = [
        ("name", card.name),
        ("role", card.role),
        ("summary", card.summary),
        ("images", ", ".join(card.kinds)),
        ("noises", ", ".join(card.noises)),
        ("architecture", ", ".join(f"{k} {v}" for k, v in card.architecture.items() if v is not None)),
        ("weights", f"{_weights(card.parameters)}, {card.bytes / 1e6:.1f} MB, {model.origin}"),
        ("sha256", card.sha256),
        ("licence", card.licence),
        *_labelled("limits", card.limits),
        *_labelled("data", [_source(source) for source in card.data]),
    ]
    out.table(("", ""), [fact for fact in facts if fact[1]])
    rows = [
        (kind, noise, *(f"{values[k]:.2f}" if k in values else "" for k in ("input_psnr", "psnr", "ssim")))
        for kind, noises in card.metrics.items()
        for noise, values in noises.items()
    ]
    out.table(("images", "noise", "PSNR before", "after", "SSIM"), rows, right=(2, 3, 4))
    return EXIT_OK


@models.command()
def where(name: Name = None, as_json: options.Json = False, quiet: options.Quiet = False) -> int:
    """Print the path of a model's weights file."""
    out = Output(as_json=as_json, quiet=quiet)
    model = _find(name)
    out.result({"command": "models where", "name": model.card.name, "path": str(model.path)})
    out.text(escape(model.path))
    return EXIT_OK


@models.command("import")
def import_(
    source: Annotated[
        Path, typer.Argument(metavar="FILE|RUN", help="A run folder, a card, a safetensors file, or drunet_gray.pth.")
    ],
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Its name here; default: its own.")] = None,
    architecture: Annotated[
        str | None,
        typer.Option(
            "--architecture",
            metavar="JSON|KEY=VALUE,...",
            help="For weights without a card, which are unknown weights: a JSON file, or such as "
            "width=16,depth=4,norm=batch,unshuffle=1.",
        ),
    ] = None,
    role: Annotated[
        str,
        typer.Option(
            "--role",
            metavar="ROLE",
            help="denoiser, restoration or prior: of a run folder, or of weights without a card.",
        ),
    ] = "denoiser",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace your model of that name.")] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Copy a model into MEDFPL_HOME/models, once it is proved that its weights and its card belong together.

    A .pth file is taken for the published weights of DPIR's prior, a DRUNet, and checked to be ones of that shape.

    \b
    Examples:
      medfpl models import run --name knees
      medfpl models import drunet_gray.pth && medfpl denoise scan.dcm --method dpir --model drunet_gray
    """
    from medfpl.nets.architectures import ARCHITECTURES
    from medfpl.nets.install import import_model
    from medfpl.nets.published import SUFFIX

    out = Output(as_json=as_json, quiet=quiet)
    if role not in ARCHITECTURES:
        raise UsageError(f"--role {role} is unknown", f"choose from {', '.join(ARCHITECTURES)}")
    model = import_model(source, name=name, architecture=architecture, role=role, overwrite=overwrite)
    card = model.card
    out.result({"command": "models import", "name": card.name, "sha256": card.sha256, "path": str(model.path)})
    out.text(f"{card.name}: {card.role}, {_weights(card.parameters)} weights, imported")
    if architecture is not None or source.suffix == SUFFIX:
        out.warn(card.limits[0])
    return EXIT_OK


@models.command()
def export(
    onnx: Annotated[Path, typer.Option("--onnx", metavar="FILE", help="Where to write it, as ONNX.")],
    name: Name = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Write a model as an ONNX file for other programs, and check that it computes the same.

    Batch, height and width are free. The file holds the card and says what goes in and what comes out.
    """
    from medfpl.nets.export import export_onnx

    out = Output(as_json=as_json, quiet=quiet)
    model = _find(name)
    made = export_onnx(model, onnx, overwrite=overwrite)
    out.result(
        {
            "command": "models export",
            "name": model.card.name,
            "sha256": model.card.sha256,
            "output": str(onnx),
            "opset": made.opset,
            "contract": made.contract,
            "difference": made.difference,
        }
    )
    out.text(made.contract)
    out.say(f"{model.card.name}: opset {made.opset}, differs from torch by {made.difference:.1g} at most")
    return EXIT_OK


def _weights(parameters: int) -> str:
    return f"{parameters / 1e6:.2f} M" if parameters >= 1e5 else f"{parameters}"


def _labelled(label: str, texts: list[str]) -> list[tuple[str, str]]:
    """Return one row a text, the first alone with the label."""
    return [("" if i else label, text) for i, text in enumerate(texts)]


def _source(source: dict[str, str]) -> str:
    count = source.get("files")
    files = [f"{count} file{'' if count == '1' else 's'}"] if count else []
    return ", ".join([value for key, value in source.items() if key != "files"] + files)
