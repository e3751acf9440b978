"""``medfpl info``: what this installation can do, or what a file is and what would be done with it."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from medfpl import __version__
from medfpl.cli import options
from medfpl.cli.output import Output
from medfpl.errors import EXIT_OK, escape

Files = Annotated[list[Path] | None, typer.Argument(metavar="FILE", help="Images or folders to look at.")]
Devices = Annotated[bool, typer.Option("--devices", help="Ask torch for the devices, which takes seconds.")]
MethodName = Annotated[
    str | None,
    typer.Option(
        "--method", "-m", metavar="NAME", help="Show a method's settings.", autocompletion=options.complete_method
    ),
]
NoiseName = Annotated[
    str | None,
    typer.Option("--noise", metavar="NAME", help="Show a noise's parameters.", autocompletion=options.complete_noise),
]

# What DICOM pixels may be compressed with, the module that decodes it, and how to get that.
DECODERS = (
    ("RLE", "pydicom", "pydicom"),
    ("JPEG", "PIL", "pillow"),
    ("lossless JPEG", "gdcm", "python-gdcm"),
    ("JPEG-LS", "jpeg_ls", "pyjpegls"),
    ("JPEG 2000", "openjpeg", "pylibjpeg-openjpeg"),
    ("12-bit JPEG", "libjpeg", "'medfpl[jpeg12]'"),
)


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("info")(info)


def info(
    files: Files = None,
    devices: Devices = False,
    method: MethodName = None,
    noise: NoiseName = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Show what is installed, or what a file is.

    Without FILE: versions, devices, decoders, methods, noises and models. With FILE: format, kind, size, series,
    and what denoise would do with it.

    \b
    Examples:
      medfpl info
      medfpl info study/
      medfpl info --method nlm
    """
    out = Output(as_json=as_json, quiet=quiet)
    if method or noise:
        return _show_plugin(out, method, noise)
    if files:
        from medfpl.cli._info_files import show_files

        return show_files(out, files)
    return _show_installation(out, devices)


def _show_plugin(out: Output, method: str | None, noise: str | None) -> int:
    found: Any
    if method:
        from medfpl.denoisers import METHODS

        found = METHODS.get(method)
        rows = [(k, _value(s.default), _range(s), s.meaning) for k, s in found.settings.items()]
    else:
        from medfpl.noises import NOISES

        found = NOISES.get(str(noise))
        rows = [(k, p.unit, _range(p), p.meaning) for k, p in found.parameters.items()]
    second = "default" if method else "unit"
    named = [dict(zip(("name", second, "range", "meaning"), row, strict=True)) for row in rows]
    out.result(
        {"command": "info", "name": found.name, "summary": found.summary, "source": found.source, "settings": named}
    )
    out.text(f"{found.name}: {found.summary}\n{found.source}")
    out.table(("setting", second, "range", "meaning"), rows)
    return EXIT_OK


def _value(default: Any) -> str:
    return "none" if default is None else str(default)


def _range(setting: Any) -> str:
    if setting.choices:
        return ", ".join(setting.choices)
    low, high = setting.low, setting.high
    if low == -float("inf") and high == float("inf"):
        return ""
    if high == float("inf"):
        return f"from {low:g}"
    return f"to {high:g}" if low == -float("inf") else f"{low:g} to {high:g}"


def _show_installation(out: Output, ask_torch: bool) -> int:
    from medfpl.denoisers import METHODS
    from medfpl.manifest import versions
    from medfpl.nets.weights import home, list_models
    from medfpl.noises import NOISES

    libraries = versions()
    found = _devices(ask_torch)
    decoders = _decoders()
    models = [m.card.name for m in list_models()]
    out.result(
        {
            "command": "info",
            "version": __version__,
            "versions": libraries,
            "devices": found,
            "decoders": decoders,
            "methods": METHODS.names(),
            "noises": NOISES.names(),
            "models": models,
            "home": str(home()),
        }
    )
    missing = {d["format"]: d["install"] for d in decoders if not d["available"]}
    rows = [
        ("medfpl", __version__),
        ("libraries", ", ".join(f"{k} {v}" for k, v in libraries.items() if k != "medfpl")),
        ("devices", ", ".join(found) + ("" if ask_torch else " (--devices asks torch)")),
        ("decoders", ", ".join(d["format"] for d in decoders if d["available"])),
        *(("missing", f"{name}: {install}") for name, install in missing.items()),
        ("methods", ", ".join(METHODS.names())),
        ("noises", ", ".join(NOISES.names())),
        ("models", ", ".join(models) or "none"),
        ("your models", escape(home() / "models")),
    ]
    out.table(("", ""), rows)
    return EXIT_OK


def _devices(ask_torch: bool) -> list[str]:
    if ask_torch:
        from medfpl.pipeline.devices import list_devices

        return list_devices()
    found = [f"cpu ({os.cpu_count()} cores)"]
    if Path("/proc/driver/nvidia/version").exists():
        found.append("an NVIDIA GPU")
    return found


def _decoders() -> list[dict[str, Any]]:
    return [
        {"format": name, "available": find_spec(module) is not None, "install": f"pip install {package}"}
        for name, module, package in DECODERS
    ]
