"""The training store: a zarr group of images in their own dtype and a Parquet manifest with one row an image.

STORE/store.json         version and how it was made
STORE/images.zarr/<id>   (z, y, x), chunk of one slice, compressed; stored values as the file held them
STORE/rows/<id>.json     one row, written after its image: what exists is whole, so a run can be resumed
STORE/manifest.parquet   all rows; written last
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medfpl.errors import BadInput, MedfplError
from medfpl.scan import FloatArray, Intensity, Kind

VERSION = 1
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Item:
    """One image or volume of the store. ``patient`` is a salted hash; ``noise`` is its own noise in real units.

    ``group`` is the subgroup that a table gave, "" for none.
    """

    id: str
    kind: Kind
    patient: str
    split: Split
    slices: int
    height: int
    width: int
    unit: str
    black: float
    white: float
    slope: float
    intercept: float
    pixel_mm: float
    noise: float
    sha256: str
    group: str = ""

    @property
    def intensity(self) -> Intensity:
        """What the item's numbers are."""
        return Intensity(self.kind, self.unit, self.black, self.white)


@dataclass(frozen=True)
class Store:
    """An opened store: read-only."""

    path: Path
    items: tuple[Item, ...]
    settings: dict[str, Any]

    def of(self, split: Split, kinds: Iterable[Kind] | None = None) -> list[Item]:
        """Return the items of a split, of some kinds or all."""
        wanted = None if kinds is None else set(kinds)
        return [i for i in self.items if i.split == split and (wanted is None or i.kind in wanted)]

    def real(self, item: Item, slices: slice = slice(None)) -> FloatArray:
        """Return the item's pixels in real units, float32 (z, y, x)."""
        import zarr

        values = np.asarray(zarr.open_group(self.path / "images.zarr", mode="r")[item.id][slices])  # type: ignore[index]
        return (values * np.float64(item.slope) + item.intercept).astype(np.float32)

    def working(self, item: Item, slices: slice = slice(None)) -> FloatArray:
        """Return the item's pixels in working units, float32 (z, y, x)."""
        return item.intensity.to_working(self.real(item, slices))

    def fingerprint(self) -> str:
        """Return a hash of what the store holds: the same images, split and settings give the same."""
        rows = sorted((i.sha256, i.id, i.split) for i in self.items)
        return hashlib.sha256(json.dumps([rows, self.settings], sort_keys=True).encode()).hexdigest()


def create_store(path: Path, settings: dict[str, Any]) -> None:
    """Make an empty store, or check that the one at ``path`` was begun with the same ``settings``.

    Raises:
        MedfplError: if ``path`` holds something else, or a store begun with other settings.
    """
    header = path / "store.json"
    if header.is_file():
        found = _header(path)
        if found["settings"] != settings:
            raise MedfplError("this store was begun with other settings", "choose another folder")
        return
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise MedfplError("the store's folder exists and is not empty", "choose another folder")
    import zarr

    (path / "rows").mkdir(parents=True, exist_ok=True)
    zarr.open_group(path / "images.zarr", mode="a")
    header.write_text(json.dumps({"version": VERSION, "settings": settings}, indent=2) + "\n", "utf-8")


def write_item(path: Path, item: Item, values: npt.NDArray[Any]) -> None:
    """Add one image: ``values`` (z, y, x) as stored. Safe with many writers; the row is written last."""
    import zarr

    group = zarr.open_group(path / "images.zarr", mode="a")
    group.create_array(item.id, data=np.ascontiguousarray(values), chunks=(1, *values.shape[1:]), overwrite=True)
    temporary = path / "rows" / f".{item.id}.part"
    temporary.write_text(json.dumps(asdict(item)), "utf-8")
    temporary.replace(path / "rows" / f"{item.id}.json")


def written(path: Path) -> set[str]:
    """Return the ids of the images that are already whole."""
    return {p.stem for p in (path / "rows").glob("*.json")}


def finish_store(path: Path) -> Store:
    """Write the manifest from the rows and return the opened store."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [json.loads(p.read_text("utf-8")) for p in sorted((path / "rows").glob("*.json"))]
    if not rows:
        raise MedfplError("no image went into the store", "are there DICOM, NIfTI or picture files in the sources?")
    temporary = path / ".manifest.parquet.part"
    pq.write_table(pa.Table.from_pylist(rows), temporary)
    temporary.replace(path / "manifest.parquet")
    return open_store(path)


def open_store(path: Path) -> Store:
    """Open a finished store.

    Raises:
        BadInput: if it is none, is unfinished, empty, or of another version.
    """
    import pyarrow.parquet as pq

    header = _header(path)
    manifest = path / "manifest.parquet"
    if not manifest.is_file():
        raise BadInput("this store is not finished", "run the same 'medfpl prepare' with --resume")
    rows = [{"group": "", **row} for row in pq.read_table(manifest).to_pylist()]  # which older stores lack
    names = {f.name for f in fields(Item)}
    if not rows or set(rows[0]) != names:
        raise BadInput("this store is empty" if not rows else "this store's manifest has other columns")
    return Store(path, tuple(Item(**row) for row in rows), header["settings"])


def _header(path: Path) -> dict[str, Any]:
    try:
        header = json.loads((path / "store.json").read_text("utf-8"))
    except FileNotFoundError:
        raise BadInput("this is not a medfpl store", "make one with 'medfpl prepare SRC... -o STORE'") from None
    except (OSError, ValueError) as error:
        raise BadInput("the store's store.json cannot be read") from error
    if header.get("version") != VERSION:
        raise BadInput(f"this store has version {header.get('version')}, and {VERSION} is needed", "prepare it again")
    return header
