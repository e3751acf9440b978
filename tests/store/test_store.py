import json
from dataclasses import replace

import numpy as np
import pytest

from medfpl.errors import BadInput, MedfplError
from medfpl.store.store import Item, create_store, finish_store, open_store, write_item, written

ITEM = Item("a1", "ct", "p1", "train", 3, 5, 7, "HU", -1000.0, 1000.0, 2.0, -1024.0, 0.7, 5.0, "00")


def test_what_goes_in_comes_out(tmp_path):
    values = np.arange(105, dtype=np.int16).reshape(3, 5, 7)
    create_store(tmp_path / "s", {"size": 0})
    write_item(tmp_path / "s", ITEM, values)
    store = finish_store(tmp_path / "s")
    assert store.items == (ITEM,)
    assert np.array_equal(store.real(ITEM), values * 2.0 - 1024)
    assert np.array_equal(store.real(ITEM, slice(1, 2)), values[1:2] * 2.0 - 1024)
    assert np.allclose(store.working(ITEM), (values * 2.0 - 24) / 2000)
    assert store.of("train", ["ct"]) == [ITEM]
    assert store.of("train", ["mr"]) == store.of("test") == []
    assert open_store(tmp_path / "s").fingerprint() == store.fingerprint()


def test_a_store_from_before_groups_still_opens(tmp_path):
    create_store(tmp_path / "s", {})
    write_item(tmp_path / "s", replace(ITEM, group="chest"), np.zeros((3, 5, 7), np.int16))
    assert finish_store(tmp_path / "s").items[0].group == "chest"
    row = tmp_path / "s" / "rows" / "a1.json"
    row.write_text(json.dumps({k: v for k, v in json.loads(row.read_text()).items() if k != "group"}))
    assert finish_store(tmp_path / "s").items == (ITEM,)


def test_the_fingerprint_tells_stores_apart(tmp_path):
    prints = set()
    for name, item in {"a": ITEM, "b": replace(ITEM, sha256="11"), "c": replace(ITEM, split="val")}.items():
        create_store(tmp_path / name, {})
        write_item(tmp_path / name, item, np.zeros((3, 5, 7), np.int16))
        prints.add(finish_store(tmp_path / name).fingerprint())
    assert len(prints) == 3


def test_an_item_counts_once_its_row_is_there(tmp_path):
    create_store(tmp_path / "s", {})
    assert written(tmp_path / "s") == set()
    write_item(tmp_path / "s", ITEM, np.zeros((3, 5, 7), np.int16))
    assert written(tmp_path / "s") == {"a1"}


def test_refusals(tmp_path):
    with pytest.raises(BadInput, match="not a medfpl store"):
        open_store(tmp_path / "absent")
    create_store(tmp_path / "s", {"size": 0})
    with pytest.raises(BadInput, match="not finished"):
        open_store(tmp_path / "s")
    with pytest.raises(MedfplError, match="no image"):
        finish_store(tmp_path / "s")
    with pytest.raises(MedfplError, match="other settings"):
        create_store(tmp_path / "s", {"size": 256})
    (tmp_path / "s" / "store.json").write_text(json.dumps({"version": 99, "settings": {}}))
    with pytest.raises(BadInput, match="version 99"):
        open_store(tmp_path / "s")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(MedfplError, match="not empty"):
        create_store(tmp_path / "full", {})
