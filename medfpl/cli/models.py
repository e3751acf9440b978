"""``medfpl models``: the networks on this machine and what is known of them."""

from typing import TYPE_CHECKING, Annotated

import typer

from medfpl.cli import options
from medfpl.cli.output import Output
from medfpl.errors import EXIT_OK, escape

if TYPE_CHECKING:
    from medfpl.nets.weights import Model

models = typer.Typer(help="List, show and find the trained networks.", no_args_is_help=True)

Name = Annotated[str | None, typer.Argument(metavar="NAME", help="A model's name or run folder; default: the default.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.add_typer(models, name="models")


def _find(name: str | None) -> "Model":
    """Return the model of that name whatever its role, or what ``find_model`` makes of it."""
    from medfpl.nets.weights import find_model, list_models

    named = [m for m in list_models() if m.card.name == name]
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
            f"{m.card.parameters / 1e6:.2f} M",
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
        ("architecture", ", ".join(f"{k} {v}" for k, v in card.architecture.items())),
        ("weights", f"{card.parameters / 1e6:.2f} M, {card.bytes / 1e6:.1f} MB, {model.origin}"),
        ("sha256", card.sha256),
        ("licence", card.licence),
        *(("limits", limit) for limit in card.limits),
        *(("data", ", ".join(source.values())) for source in card.data),
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
