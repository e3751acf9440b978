"""Who may import whom, and what a light command must not load."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "medfpl"

# A room imports from its own row and the rows above.
ROWS = (
    ("errors", "scan", "seeds", "registry", "manifest", "sample"),
    ("io", "tiles", "noises", "nets", "phantoms"),
    ("inverse",),
    ("explain", "denoisers"),
    ("training", "store", "bench", "views", "pipeline", "saliency", "report"),
    ("cli", "__main__"),
)
ROW_OF = {room: row for row, rooms in enumerate(ROWS) for room in rooms}
HEAVY = {"torch", "scipy", "matplotlib", "skimage", "SimpleITK", "sklearn", "lightning_fabric", "zarr", "pyarrow"}
LIGHT_ROOMS = {"__init__", "errors", "scan", "seeds", "registry", "manifest", "sample", "io", "cli", "pipeline"}
ONLY_IN = {
    "typer": {"cli"},
    "rich": {"cli"},
    "matplotlib": {"views", "report", "bench", "training", "saliency"},
    "click": set(),
}

FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(tree: ast.AST, *, at_module_level: bool = False) -> Iterator[str]:
    """Yield the dotted names imported, without those under TYPE_CHECKING (and in functions, if so asked)."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from (name for child in node.orelse for name in imports(child, at_module_level=at_module_level))
        elif at_module_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        else:
            yield from imports(node, at_module_level=at_module_level)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    here = room(path)
    if here == "__init__":
        return
    assert here in ROW_OF, f"give {here} its place in ROWS"
    for name in imports(ast.parse(path.read_text("utf-8"))):
        parts = name.split(".")
        if parts[0] == "medfpl" and len(parts) > 1 and parts[1] in ROW_OF:
            assert ROW_OF[parts[1]] <= ROW_OF[here], f"{here} must not import {name}"
        if parts[0] in ONLY_IN:
            assert here in ONLY_IN[parts[0]], f"{parts[0]} does not belong in {here}"


@pytest.mark.parametrize(
    "path", [p for p in FILES if room(p) in LIGHT_ROOMS], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_light_rooms_load_nothing_heavy(path: Path) -> None:
    names = {name.split(".")[0] for name in imports(ast.parse(path.read_text("utf-8")), at_module_level=True)}
    assert not names & HEAVY


def test_checker_sees_what_it_should() -> None:
    lines = (
        "import torch",
        "from typing import TYPE_CHECKING",
        "if TYPE_CHECKING: import scipy",
        "def f(): import rich",
    )
    tree = ast.parse("\n".join(lines))
    assert set(imports(tree)) == {"torch", "typing.TYPE_CHECKING", "rich"}
    assert set(imports(tree, at_module_level=True)) == {"torch", "typing.TYPE_CHECKING"}


RUN = """
import json, sys
from medfpl.cli.app import main
code = main(json.loads(sys.argv[1]))
print("LOADED " + json.dumps([code, sorted(m for m in json.loads(sys.argv[2]) if m in sys.modules)]))
"""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["denoise", "--help"], 0),
        (["info"], 0),
        (["models", "list"], 0),
        (["denoise", "TEXT"], 1),
        (["denoise", "TEXT", "--method", "mean"], 1),
        (["denoise", "missing.dcm"], 1),
        (["denoise", "TEXT", "--method", "nosuch"], 2),
        (["info", "TEXT"], 1),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else str(v),
)
def test_light_commands_load_nothing_heavy(tmp_path: Path, arguments: list[str], code: int) -> None:
    text = tmp_path / "text.dcm"
    text.write_text("not an image\n" * 100)
    arguments = [str(text) if a == "TEXT" else a for a in arguments]
    command = [sys.executable, "-c", RUN, json.dumps(arguments), json.dumps(sorted(HEAVY))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    loaded = [line for line in done.stdout.splitlines() if line.startswith("LOADED ")]
    assert loaded, done.stderr
    assert json.loads(loaded[0].removeprefix("LOADED ")) == [code, []], done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["text.dcm"]
