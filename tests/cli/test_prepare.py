import json
import shutil

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from medfpl.cli.app import main
from medfpl.store.store import open_store


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    root.mkdir()
    shutil.copy(get_testdata_file("CT_small.dcm"), root / "ct.dcm")
    rng = np.random.default_rng(0)
    for n in range(6):
        Image.fromarray(rng.integers(0, 255, (30, 40)).astype(np.uint8)).save(root / f"{n:08}_001.png")
    return root


def test_a_tree_becomes_a_store(tree, tmp_path, capsys):
    assert main(["prepare", str(tree), "-o", str(tmp_path / "s"), "--kind", "xray", "--size", "32", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    store = open_store(tmp_path / "s")
    assert said["added"] == len(store.items) == 7
    assert said["fingerprint"] == store.fingerprint()
    assert {i.kind for i in store.items} == {"xray"}
    assert max(max(i.height, i.width) for i in store.items) == 32


def test_one_bad_file_is_told_and_the_rest_goes_in(tree, tmp_path, capsys):
    (tree / "bad.dcm").write_bytes((tree / "ct.dcm").read_bytes()[:3000])
    assert main(["prepare", str(tree), "-o", str(tmp_path / "s")]) == 3
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert errors[0].startswith("error: bad.dcm: ")
    assert "7 images added" in captured.err


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["--preset", "mnist"], 2, "unknown"),
        (["--split", "slice"], 2, "unknown"),
        (["--kind", "shoe"], 2, "unknown"),
        (["--table", "absent.csv"], 2, "table"),
    ],
)
def test_wrong_arguments_are_one_line(tree, tmp_path, capsys, arguments, code, reason):
    assert main(["prepare", str(tree), "-o", str(tmp_path / "s"), *arguments]) == code
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_a_store_is_not_made_twice_but_goes_on(tree, tmp_path, capsys):
    arguments = ["prepare", str(tree), "-o", str(tmp_path / "s")]
    assert main(arguments) == 0
    assert main(arguments) == 1
    assert "--resume" in capsys.readouterr().err
    assert main([*arguments, "--resume"]) == 0
    assert "7 kept" in capsys.readouterr().err
    assert main([*arguments, "--resume", "--size", "64"]) == 1
    assert "other settings" in capsys.readouterr().err


def test_nothing_found(tmp_path, capsys):
    (tmp_path / "e").mkdir()
    assert main(["prepare", str(tmp_path / "e"), "-o", str(tmp_path / "s")]) == 1
    assert "no image" in capsys.readouterr().err
