"""What the benchmark writes: one flat row a result, the same in JSON lines, Parquet and CSV."""

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Row:
    """One method on one corrupted image.

    Images are compared in working units with ``data_range`` 1 (CT: 2000 HU). ``cell`` names case, noise, strength and
    method, and is the same in every run with the same data. ``patient`` is a salted hash and ``group`` a subgroup of
    the kind ("": none), both as in a store.
    ``rmse_in`` and ``rmse`` are in ``unit`` (HU for CT). ``noise_level`` is what a method that takes one was told, in
    working units, and ``level_known`` whether that was the truth or an estimate; NaN for methods that take none.
    ``prior`` is the model of methods that have one. ``settings`` is the JSON of what differs from the method's
    defaults. ``seconds`` are the method's own, on ``threads`` threads. A method that failed has NaN scores and says
    why in ``error``.
    """

    cell: str
    case: str
    patient: str
    kind: str
    group: str
    unit: str
    height: int
    width: int
    noise: str
    mode: str
    strength: float
    seed: int
    method: str
    prior: str
    tuning: str
    settings: str
    noise_level: float
    level_known: bool
    psnr_kind: str
    data_range: float
    psnr_in: float
    psnr: float
    ssim_in: float
    ssim: float
    rmse_in: float
    rmse: float
    gmsd_in: float
    gmsd: float
    seconds: float
    threads: int
    error: str


@dataclass(frozen=True)
class TaskRow:
    """One measured value of one task (medfpl.bench.tasks) for one method on one corrupted image.

    ``measure`` is one of the task's; ``detail`` says of what: a lesion's contrast and size, a tissue, or "".
    """

    cell: str
    case: str
    patient: str
    kind: str
    noise: str
    mode: str
    strength: float
    seed: int
    method: str
    prior: str
    task: str
    measure: str
    detail: str
    unit: str
    value: float


def columns(kind: type[Row] | type[TaskRow]) -> dict[str, type]:
    """Return the columns of a table in order, with the type of their values."""
    types: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool}
    return {f.name: types[f.type] if isinstance(f.type, str) else f.type for f in fields(kind)}


def from_json(kind: type[Any], data: dict[str, Any]) -> Any:
    """Return the row of ``kind`` that ``asdict`` made plain; a float that JSON wrote as null is NaN again."""
    wanted = columns(kind)
    missing = set(wanted) - set(data)
    if missing:
        raise ValueError(f"a row lacks {', '.join(sorted(missing))}")
    values = {k: float("nan") if t is float and data[k] is None else t(data[k]) for k, t in wanted.items()}
    return kind(**values)
