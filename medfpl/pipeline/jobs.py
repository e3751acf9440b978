"""From the arguments to the work: which files are images, and where each result goes."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medfpl.errors import BadInput, MedfplError, UsageError
from medfpl.io import default_target, sniff, suffix_of


@dataclass(frozen=True)
class Job:
    """One file: its path, its name below the argument it came from (for people and shards), its result's path."""

    path: Path
    relative: Path
    target: Path


@dataclass(frozen=True)
class Shard:
    """Part ``index`` (from 1) of ``count``: a file belongs to exactly one, by the hash of its relative name."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Return the shard written as ``I/N``; raise UsageError unless 1 <= I <= N."""
        index, _, count = text.partition("/")
        if not (index.isascii() and index.isdigit() and count.isascii() and count.isdigit()):
            raise UsageError(f"--shard {text} is not of the form I/N", "the second of four parts is --shard 2/4")
        if not 1 <= int(index) <= int(count):
            raise UsageError(f"--shard {text}: the part goes from 1 to the number of parts")
        return cls(int(index), int(count))

    def holds(self, relative: Path) -> bool:
        """Whether the file of that relative name belongs to this part."""
        digest = hashlib.sha256(os.fsencode(relative.as_posix())).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index - 1


@dataclass(frozen=True)
class Plan:
    """What is to be done. ``siblings`` are all input files of whatever shard; ``folder`` is the output folder.

    ``skipped`` are files met in a folder that are no images or are results of an earlier run; ``refused`` are
    folders that cannot be listed.
    """

    jobs: tuple[Job, ...]
    siblings: tuple[Path, ...]
    skipped: tuple[Path, ...]
    refused: tuple[tuple[Path, MedfplError], ...]
    folder: Path | None

    def shard(self, shard: Shard) -> "Plan":
        """Return the part of this plan that ``shard`` holds."""
        return replace(self, jobs=tuple(j for j in self.jobs if shard.holds(j.relative)))


def plan(
    inputs: Sequence[Path], output: Path | None, suffix: str, by_products: Callable[[Path], Sequence[Path]]
) -> Plan:
    """Find the files of ``inputs`` (files and folders) and give each its target.

    Without ``output`` a result lies beside its source as ``NAME_<suffix>.ext``. One file and an ``output`` with
    an image suffix: that file. Otherwise ``output`` is a folder that keeps the relative paths; several folders
    each keep their own name in it. ``by_products(target)`` are further files that belong to a target.

    Raises:
        UsageError: if two inputs would have one target, or a result would replace an input.
    """
    found, skipped, refused = _find(inputs, output)
    one_file = output is not None and suffix_of(output) != "" and not _is_folder(output)
    if one_file and (len(inputs) != 1 or _is_folder(inputs[0])):
        raise UsageError("the results of several files need a folder", "give -o a name without an image suffix")
    if not one_file and output is not None and output.exists() and not _is_folder(output):
        raise UsageError("the output is a file, and a folder is needed")
    jobs = []
    for path, relative in found:
        if output is None:
            target = default_target(path, suffix)
        else:
            target = output if one_file else output / relative.with_name(output_name(path))
        jobs.append(Job(path, relative, target))
    if output is None:
        jobs, results = _without_results(jobs, set(inputs), by_products)
        skipped += results
    _check_distinct(jobs)
    folder = None if output is None or one_file else output
    return Plan(tuple(jobs), tuple(j.path for j in jobs), tuple(skipped), tuple(refused), folder)


def output_name(path: Path) -> str:
    """Return the name of the result of ``path`` in another folder: its own, but what comes from a JPEG is a PNG."""
    stem = path.name[: len(path.name) - len(suffix_of(path))]
    return stem + default_target(path, "x").name[len(stem) + len("_x") :]


def looks_like_image(path: Path) -> bool:
    """Whether a file met in a folder is an input: by its suffix, or by its content where the suffix says nothing."""
    if path.name.startswith(".") or path.name.upper() == "DICOMDIR":
        return False
    if suffix_of(path):
        return True
    try:
        sniff(path)
    except MedfplError:
        return False
    return True


def _find(
    inputs: Sequence[Path], output: Path | None
) -> tuple[list[tuple[Path, Path]], list[Path], list[tuple[Path, MedfplError]]]:
    found: dict[Path, tuple[Path, Path]] = {}  # by absolute path: a file named twice is one job
    skipped: list[Path] = []
    refused: list[tuple[Path, MedfplError]] = []
    folders = [p for p in inputs if _is_folder(p)]
    for given in inputs:
        if not _is_folder(given):  # what is missing is refused on reading
            found.setdefault(given.absolute(), (given, Path(given.name)))
            continue
        if output is not None and _same(given, output):
            raise UsageError("the output folder is the input folder", "choose another -o")
        above = Path(given.resolve().name) if len(folders) > 1 else Path()
        for path in _walk(given, output, refused):
            if looks_like_image(path):
                found.setdefault(path.absolute(), (path, above / path.relative_to(given)))
            else:
                skipped.append(path)
    return list(found.values()), skipped, refused


def _walk(folder: Path, output: Path | None, refused: list[tuple[Path, MedfplError]]) -> Iterator[Path]:
    """Yield the files below ``folder`` in a stable order; links to folders are not followed, nor is ``output``."""

    def cannot_list(error: OSError) -> None:
        refused.append((Path(error.filename), BadInput("the folder cannot be listed")))

    for here, folders, files in os.walk(folder, onerror=cannot_list):
        place = Path(here)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and not _same(place / f, output))
        yield from (place / f for f in sorted(files))


def _without_results(
    jobs: list[Job], named: set[Path], by_products: Callable[[Path], Sequence[Path]]
) -> tuple[list[Job], list[Path]]:
    # A second run over a folder must not denoise what the first run put beside its sources.
    results = {made for job in jobs for made in (job.target, *by_products(job.target))}
    kept = [j for j in jobs if j.path in named or j.path not in results]
    return kept, [j.path for j in jobs if j.path not in named and j.path in results]


def _check_distinct(jobs: Sequence[Job]) -> None:
    targets = {job.target for job in jobs}
    if len(targets) < len(jobs):
        raise UsageError("two inputs would be written to one output", "denoise them into different folders")
    inputs = {_identity(job.path) for job in jobs}
    if any(target.exists() and _identity(target) in inputs for target in targets):
        raise UsageError("an output would replace an input", "choose another -o")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # in a folder that is closed to us
        return False


def _identity(path: Path) -> tuple[int, int] | Path:
    try:
        status = path.stat()
    except OSError:
        return path
    return status.st_dev, status.st_ino


def _same(a: Path, b: Path | None) -> bool:
    try:
        return b is not None and a.samefile(b)
    except OSError:
        return False
