"""What is written of an explained scan: pictures, NIfTI, NPZ, JSON, DICOM."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np

from medfpl import __version__
from medfpl.io.atomic import atomic_target
from medfpl.io.derivation import Derivation
from medfpl.pipeline.extras import saliency_targets, save_volume
from medfpl.saliency.maps import Explainer, Maps
from medfpl.saliency.overlay import UNIT, overlay
from medfpl.saliency.scans import Explained, record_slices
from medfpl.scan import Scan

if TYPE_CHECKING:
    from medfpl.saliency.run import Writing

NAMES = ("before", "after", "difference")
MOST_PICTURES = 12


def pictured(found: Explained, chosen: "tuple[int, ...] | Literal['all'] | None") -> list[int]:
    """Return the slices to draw, in order: those chosen, else the middle one and at most 11 that are flagged."""
    depth = len(found.maps.distance)
    if chosen == "all":
        return list(range(depth))
    if chosen is not None:
        return [z for z in sorted(set(chosen)) if 0 <= z < depth]
    trust = found.trust
    flagged = sorted(trust.flagged, key=lambda z: -trust.slices[z].score)
    return sorted({depth // 2, *flagged[: MOST_PICTURES - 1]})


def write_all(
    before: Scan,
    after: Scan,
    found: Explained,
    explainer: Explainer,
    denoised: str,
    folder: Path,
    writing: "Writing",
) -> list[Path]:
    """Write everything of one scan into ``folder`` and return the paths; saliency.json comes last.

    ``denoised`` says how ``after`` was made.
    """
    made = []
    draw = pictured(found, writing.slices)
    for z in draw:
        made.append(write_picture(before, after, found, z, folder / _numbered("overlay", z, before), writing.overwrite))
    if before.source.format != "picture":
        for name in NAMES:
            made.append(write_nifti(before, getattr(found.maps, name), folder / f"{name}.nii.gz", writing.overwrite))
    made.append(write_npz(found.maps, folder / "maps.npz", writing.overwrite))
    if before.source.format == "dicom":
        made += _write_dicom(before, after, found, explained_by(explainer, denoised), folder, draw, writing)
    record = describe(before, found, explainer, denoised)
    made.append(write_json(record, folder / "saliency.json", writing.overwrite))
    return made


def write_beside(
    before: Scan,
    after: Scan,
    found: Explained,
    explainer: Explainer,
    denoised: str,
    target: Path,
    *,
    overwrite: bool,
) -> None:
    """Write the maps beside the denoised ``target``: one picture, the values, the record.

    The picture is of the slice with the highest score if one is flagged, else of the middle one. A NIfTI holds the
    maps before and after and their difference as three volumes.
    """
    picture, values, record = saliency_targets(target)
    flagged = found.trust.flagged
    z = max(flagged, key=lambda z: found.trust.slices[z].score) if flagged else len(found.maps.distance) // 2
    write_picture(before, after, found, z, picture, overwrite)
    if values.suffix == ".npz":
        write_npz(found.maps, values, overwrite)
    else:
        write_nifti(before, [getattr(found.maps, name) for name in NAMES], values, overwrite)
    write_json(describe(before, found, explainer, denoised), record, overwrite)


def write_picture(before: Scan, after: Scan, found: Explained, z: int, target: Path, overwrite: bool) -> Path:
    """Write the overlay of slice ``z`` as PNG."""
    with atomic_target(target, overwrite=overwrite) as part:
        _picture(before, after, found, z).save(part, format="PNG", optimize=True)
    return target


def write_nifti(scan: Scan, values: Any, target: Path, overwrite: bool) -> Path:
    """Write a map as float32 NIfTI with the source's affine."""
    with atomic_target(target, overwrite=overwrite) as part, part.open("wb") as stream:
        save_volume(scan, values, stream)
    return target


def write_npz(maps: Maps, target: Path, overwrite: bool) -> Path:
    """Write all maps (z, y, x) and the feature distance (z,) as compressed NumPy arrays."""
    with atomic_target(target, overwrite=overwrite) as part, part.open("wb") as stream:
        _savez(stream, maps)
    return target


def write_json(record: dict[str, Any], target: Path, overwrite: bool) -> Path:
    """Write a record."""
    with atomic_target(target, overwrite=overwrite) as part:
        part.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    return target


def explained_by(explainer: Explainer, denoised: str) -> Derivation:
    """Return what DICOM maps say of how they were made."""
    card, rules = explainer.model.card, explainer.rules
    facts = {"scalar": rules.scalar, "of": denoised}
    return Derivation("explained", "guided back-propagation", card.name, card.sha256, facts)


def describe(before: Scan, found: Explained, explainer: Explainer, denoised: str) -> dict[str, Any]:
    """Return the record of a scan: what was done, with what, and the numbers of each slice."""
    card = explainer.model.card
    return {
        "medfpl": __version__,
        "denoised": denoised,
        "explained_network": {"name": card.name, "sha256": card.sha256, "scalar": explainer.rules.scalar},
        "source_sha256": before.source.sha256,
        "kind": before.intensity.kind,
        "unit": before.intensity.unit,
        "map_unit": UNIT,
        "feature_distance": round(found.distance, 6),
        "flagged_slices": found.trust.flagged,
        "slices": record_slices(found),
    }


def _picture(before: Scan, after: Scan, found: Explained, z: int) -> Any:
    distance, trust = float(found.maps.distance[z]), found.trust.slices[z]
    title = f"slice {z}: feature distance {distance:.3f}" + (f"; {', '.join(trust.reasons)}" if trust.reasons else "")
    return overlay(before, after, (found.maps.before[z], found.maps.after[z]), z, trust, title)


def _savez(stream: IO[bytes], maps: Maps) -> None:
    np.savez_compressed(stream, **{name: getattr(maps, name) for name in (*NAMES, "distance")})


def _numbered(name: str, z: int, scan: Scan) -> str:
    return f"{name}.png" if len(scan.pixels) == 1 else f"{name}_{z:04d}.png"


def _write_dicom(
    before: Scan,
    after: Scan,
    found: Explained,
    derivation: Derivation,
    folder: Path,
    draw: Iterable[int],
    writing: "Writing",
) -> list[Path]:
    from medfpl.saliency.dicom import has_geometry, parametric_maps, secondary_capture, to_bytes

    if has_geometry(before):
        parts = (
            part
            for name in NAMES
            for part in parametric_maps(before, name, getattr(found.maps, name), derivation, writing.when)
        )
    else:
        parts = (
            secondary_capture(before, np.asarray(_picture(before, after, found, z)), z, derivation, writing.when)
            for z in draw
        )
    made = []
    for part in parts:
        target = folder / f"{part.name}.dcm"
        with atomic_target(target, overwrite=writing.overwrite) as temporary:
            temporary.write_bytes(to_bytes(part.dataset))
        made.append(target)
    return made
