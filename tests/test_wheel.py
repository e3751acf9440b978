"""The wheel holds what medfpl needs and nothing else, and works where it is installed."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import medfpl

REPOSITORY = Path(__file__).resolve().parent.parent
ROOMS = {"medfpl", f"medfpl-{medfpl.__version__}.dist-info"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(REPOSITORY)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", str(place), str(wheel)], check=True, capture_output=True, timeout=300)
    return place


def run(installed: Path, cwd: Path, *arguments: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MEDFPL")}
    environment |= {"PYTHONPATH": str(installed), "MEDFPL_HOME": str(cwd / "home")}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        contents = {name: file.read(name) for name in names}
    assert {name.split("/")[0] for name in names} == ROOMS
    assert not any(part in {"tests", "runs", "__pycache__", ".."} for name in names for part in name.split("/"))
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    models = {p.name for p in (REPOSITORY / "medfpl" / "models").iterdir() if p.suffix in (".json", ".safetensors")}
    assert models
    assert {f"medfpl/models/{name}" for name in models} <= names
    assert "medfpl/sample_data/lesions.json" in names
    here = str(REPOSITORY).encode()
    assert [name for name, content in contents.items() if here in content] == []


def test_every_module_of_the_package_is_in_it(wheel: Path) -> None:
    modules = {p.relative_to(REPOSITORY).as_posix() for p in (REPOSITORY / "medfpl").rglob("*.py")}
    assert modules <= set(zipfile.ZipFile(wheel).namelist())


def test_the_installed_copy_works(installed: Path, tmp_path: Path) -> None:
    assert run(installed, tmp_path, "-m", "medfpl", "--version") == f"medfpl {medfpl.__version__}\n"
    models = json.loads(run(installed, tmp_path, "-m", "medfpl", "models", "list", "--json"))["models"]
    cards = [json.loads(p.read_text()) for p in (REPOSITORY / "medfpl" / "models").glob("*.json")]
    assert {(m["name"], m["sha256"], m["origin"]) for m in models} == {
        (c["name"], c["sha256"], "shipped") for c in cards
    }
    assert medfpl.__version__ in run(installed, tmp_path, "-m", "medfpl", "info")


def test_its_models_load_and_its_samples_are_its_own(installed: Path, tmp_path: Path) -> None:
    script = """
import medfpl
from medfpl.nets.weights import list_models, load_net
from medfpl.sample import sample_path
for model in list_models():
    load_net(model)
    print(model.path)
print(medfpl.__file__)
print(sample_path())
print(medfpl.read(sample_path() / "brain_mr_noisy.nii.gz").source.path)
"""
    lines = run(installed, tmp_path, "-c", script).splitlines()
    assert len(lines) >= 3
    assert all(Path(line).is_relative_to(installed) for line in lines)
    samples = {p.name for p in (REPOSITORY / "sample_data").rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert samples == {p.name for p in (installed / "medfpl" / "sample_data").rglob("*") if p.is_file()}
