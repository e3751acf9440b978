import numpy as np
import pytest

from medfpl.store.store import Item, create_store, finish_store, write_item


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory):
    """Nine patients with smooth random images: three kinds, three splits."""
    path = tmp_path_factory.mktemp("data") / "store"
    create_store(path, {"size": 0})
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:48, 0:40] / 40
    for n, (kind, split) in enumerate((k, s) for k in ("ct", "xray", "mr") for s in ("train", "val", "test")):
        waves = [np.sin(rng.uniform(3, 12) * (y * np.cos(a) + x * np.sin(a))) for a in rng.uniform(0, 6, 2)]
        values = (500 + 200 * np.stack(waves)).astype(np.int16)
        black, white = (-1000.0, 1000.0) if kind == "ct" else (0.0, 1000.0)
        unit = "HU" if kind == "ct" else "1"
        item = Item(f"i{n}", kind, f"p{n}", split, 2, 48, 40, unit, black, white, 1.0, 0.0, 1.0, 1.0, f"{n:02}")
        write_item(path, item, values)
    return finish_store(path)
