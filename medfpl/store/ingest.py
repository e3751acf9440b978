"""Converting what was found into a store, in parallel and resumable."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from medfpl.errors import BadInput, MedfplError
from medfpl.scan import Scan
from medfpl.store.find import Candidate, Settings, Source, Table, assign_splits, find_candidates
from medfpl.store.planes import across, resize_slices
from medfpl.store.store import Item, Store, create_store, finish_store, write_item, written


@dataclass
class Outcome:
    """What an ingestion did: ``refused`` holds (relative path, reason), ``skipped`` counts files that are no images."""

    store: Store | None = None
    done: int = 0
    kept: int = 0
    skipped: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)


def plan_store(
    sources: Sequence[Source],
    target: Path,
    settings: Settings,
    *,
    table: Table | None = None,
    resume: bool = False,
) -> tuple[list[Candidate], Outcome]:
    """Find and split the images, begin the store, and return what is still to be converted.

    With ``resume`` a store that was begun with the same settings goes on, and images that are whole stay.

    Raises:
        MedfplError: if the target holds something else, or no image was found.
    """
    if (target / "store.json").exists() and not resume:
        raise MedfplError("the store exists", "go on with --resume, or choose another folder")
    found = find_candidates(sources, settings, table)
    if not found.candidates:
        raise MedfplError("no image was found", "medfpl reads DICOM, NIfTI, NRRD, MHA, PNG, JPEG, TIFF and NPY")
    candidates = assign_splits(found.candidates, settings)
    create_store(target, settings.to_json())
    done = written(target)
    todo = [c for c in candidates if c.id not in done]
    kept = len(candidates) - len(todo)
    return todo, Outcome(kept=kept, skipped=found.skipped, refused=list(found.odd))


def fill_store(
    todo: Sequence[Candidate],
    outcome: Outcome,
    target: Path,
    settings: Settings,
    *,
    workers: int = 1,
    report: Callable[[int], None] = lambda done: None,
) -> Outcome:
    """Convert ``todo`` and finish the store; one bad file stops nothing. ``report(done)`` follows each image."""
    for count, (candidate, error) in enumerate(_convert_all(todo, target, settings, workers), start=1):
        if error is None:
            outcome.done += 1
        else:
            outcome.refused.append((candidate.relative, error))
        report(count)
    outcome.store = finish_store(target)
    return outcome


def convert(candidate: Candidate, target: Path, settings: Settings) -> None:
    """Read one candidate, resize it if asked, and write it into the store, after the planes across it if asked."""
    scan, limit = _read(candidate), candidate.limit
    others = list(across(scan)) if settings.planes == "all" else []
    each = None if limit is None else limit // (1 + len(others))  # the planes share what the image may have
    for name, volume in others if each != 0 else []:
        _write(candidate, f"{candidate.id}-{name}", volume, each, target, settings)
    rest = None if limit is None or each is None else limit - each * len(others)
    _write(candidate, candidate.id, scan, rest, target, settings)  # last: with its row the candidate is done


def _write(candidate: Candidate, name: str, scan: Scan, most: int | None, target: Path, settings: Settings) -> None:
    values, slope, intercept, scale = _stored(scan, settings.size)
    if most is not None and len(values) > most:
        values = values[np.linspace(0, len(values) - 1, most + 2).round().astype(int)[1:-1]]
    spacing = scan.geometry.spacing
    item = Item(
        id=name,
        kind=scan.intensity.kind,
        patient=candidate.patient,
        split=candidate.split,
        slices=values.shape[0],
        height=values.shape[1],
        width=values.shape[2],
        unit=scan.intensity.unit,
        black=scan.intensity.black,
        white=scan.intensity.white,
        slope=slope,
        intercept=intercept,
        pixel_mm=(spacing[1] if spacing else 1.0) / scale,
        noise=_own_noise(scan),
        sha256=scan.source.sha256,
        group=candidate.group,
    )
    write_item(target, item, values)


def _read(candidate: Candidate) -> Scan:
    from medfpl.io import read
    from medfpl.io.series import read_files

    if len(candidate.paths) > 1:
        return read_files(candidate.paths, kind=candidate.kind)
    return read(candidate.paths[0], kind=candidate.kind)


def _stored(scan: Scan, size: int) -> tuple[np.ndarray, float, float, float]:
    """Return the values to store, their map to real units, and the scale that was applied."""
    stored = scan.source.stored
    uniform = np.unique(stored.slope).size == 1 and np.unique(stored.intercept).size == 1
    scale = size / max(scan.pixels.shape[1:]) if size else 1.0
    if scale == 1.0 and uniform and stored.values.dtype.kind in "iu" and stored.values.itemsize <= 2:
        return stored.values, float(np.ravel(stored.slope)[0]), float(np.ravel(stored.intercept)[0]), 1.0
    real = np.where(np.isfinite(scan.pixels), scan.pixels, scan.intensity.black).astype(np.float32)
    if scale != 1.0:
        real = resize_slices(real, tuple(max(1, round(side * scale)) for side in real.shape[1:]))
    if scan.intensity.unit == "HU":  # a sixteenth of a HU is finer than any scanner stores, and packs well
        return np.clip(np.rint(real * 4), -32768, 32767).astype(np.int16), 0.25, 0.0, scale
    return real, 1.0, 0.0, scale


def _own_noise(scan: Scan) -> float:
    """The noise the image already has, in real units: the finest-scale estimate, median over some slices."""
    import torch

    from medfpl.denoisers.sigma import estimate_noise

    chosen = slice(None, None, max(1, len(scan.pixels) // 8))
    working = np.nan_to_num(scan.intensity.to_working(scan.pixels[chosen]), posinf=0, neginf=0)
    valid = None if scan.valid is None else torch.from_numpy(scan.valid[chosen])[:, None]
    return float(estimate_noise(torch.from_numpy(working)[:, None], valid).median()) * scan.intensity.scale


def _try(candidate: Candidate, target: Path, settings: Settings) -> str | None:
    try:
        convert(candidate, target, settings)
    except BadInput as error:
        return error.message
    return None


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _convert_all(
    todo: Sequence[Candidate], target: Path, settings: Settings, workers: int
) -> Iterator[tuple[Candidate, str | None]]:
    if workers <= 1:
        yield from ((c, _try(c, target, settings)) for c in todo)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        waiting: dict[Future[str | None], Candidate] = {pool.submit(_try, c, target, settings): c for c in todo}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
