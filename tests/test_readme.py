"""The README's commands and its Python run as they stand, on small real and sample files with the names it uses."""

import re
import shlex
import shutil
from pathlib import Path

import nibabel as nib
import pytest

from medfpl.cli.app import main
from medfpl.sample import real_ct_path, sample_path

REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text("utf-8")
COMMANDS = [line.split("#")[0].strip() for line in README.splitlines() if line.startswith("    medfpl ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with scan.dcm, study/ and ct.nii.gz."""
    place = tmp_path_factory.mktemp("readme")
    shutil.copy(real_ct_path(), place / "scan.dcm")
    (place / "study").mkdir()
    for name in ("0001.dcm", "0002.dcm"):
        shutil.copy(sample_path() / "chest_ct" / "noisy" / name, place / "study")
    volume = nib.load(sample_path() / "abdomen_ct_noisy.nii.gz")
    nib.save(volume.slicer[:, :, :2], place / "ct.nii.gz")
    return place


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_readme_runs(command, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    code = main(shlex.split(command)[1:])
    assert code == 0, capsys.readouterr().err


def test_the_readmes_python_runs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (block,) = re.findall(r"```python\n(.*?)```", README, re.S)
    names: dict = {}
    exec(block, names)
    assert names["better"].pixels.shape == names["scan"].pixels.shape
    assert (names["better"].pixels != names["scan"].pixels).any()


def test_the_readme_opens_with_the_two_commands():
    lines = [line.strip() for line in README.splitlines() if line.strip()]
    assert lines[1].startswith("make demo")
    assert lines[2].startswith("make test")


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (REPOSITORY / target).exists(), target
