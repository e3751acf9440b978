import gzip
import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from saliency_tools import body, disc, explainer, white

import medfpl as package
from medfpl.errors import MedfplError
from medfpl.io import read
from medfpl.pipeline import scan_of_array
from medfpl.pipeline.extras import TO_RAS, TO_XYZ, save_volume
from medfpl.saliency import scans
from medfpl.saliency.files import pictured, write_all, write_beside
from medfpl.saliency.maps import explain_pair
from medfpl.saliency.overlay import FULL, blend, colour, overlay, scale_of
from medfpl.saliency.run import Writing
from medfpl.saliency.scans import Explained, explain_scans
from medfpl.scan import Scan

SIDE = 96
LESION = (60.0, 40.0)


def pair(depth: int = 3) -> tuple[Scan, Scan]:
    """A CT volume of noisy slices, and the clean one; in its middle slice a lesion was lost."""
    clean = np.stack([body(SIDE)] * depth)
    noisy = clean + np.stack([white(SIDE, 0.02, z) for z in range(depth)])
    noisy[depth // 2] += disc(SIDE, LESION, 12, 0.1)
    before = scan_of_array((noisy * 2000 - 1000).astype(np.float32), "ct")
    return before, before.with_pixels((clean * 2000 - 1000).astype(np.float32))


@pytest.fixture(scope="module")
def found() -> tuple[Scan, Scan, Explained]:
    before, after = pair()
    return before, after, explain_scans(before, after, explainer())


def test_a_volume_is_its_slices(found: tuple[Scan, Scan, Explained]) -> None:
    import torch

    before, after, explained = found
    used = explainer()
    for z in range(3):
        noisy, denoised = (torch.from_numpy(s.intensity.to_working(s.pixels[z]))[None, None] for s in (before, after))
        alone = explain_pair(used.net, noisy, denoised, used.rules)
        np.testing.assert_array_equal(explained.maps.before[z], alone.before[0])
        np.testing.assert_array_equal(explained.maps.difference[z], alone.difference[0])
        assert explained.maps.distance[z] == alone.distance[0]
    assert explained.trust.flagged == [1]
    assert len(explained.noise) == 3
    assert all(was > now for was, now in explained.noise)


def test_long_volumes_are_kept_on_disk_with_the_same_values(
    found: tuple[Scan, Scan, Explained], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scans, "IN_MEMORY", 0)
    before, after, explained = found
    again = explain_scans(before, after, explainer())
    assert isinstance(again.maps.before, np.memmap)
    np.testing.assert_array_equal(again.maps.after, explained.maps.after)


def test_progress_is_told_slice_by_slice() -> None:
    told: list[tuple[int, int]] = []
    explain_scans(*pair(), explainer(), lambda done, total: told.append((done, total)))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_pixels_that_are_not_valid_have_no_map() -> None:
    before, after = pair(1)
    valid = np.ones(before.pixels.shape, bool)
    valid[0, :, :30] = False
    holes = [s.with_pixels(np.where(valid, s.pixels, np.nan).astype(np.float32)) for s in (before, after)]
    explained = explain_scans(*(replace(s, valid=valid) for s in holes), explainer())
    assert not explained.maps.before[~valid].any()
    assert np.isfinite(explained.maps.difference).all()
    assert explained.maps.before[valid].any()


def test_everything_is_written_and_holds_the_maps(found: tuple[Scan, Scan, Explained], tmp_path: Path) -> None:
    before, after, explained = found
    paths = write_all(before, after, explained, explainer(), "by a test", tmp_path / "out", Writing())
    names = [p.name for p in paths]
    assert names == [
        "overlay_0001.png",
        "before.nii.gz",
        "after.nii.gz",
        "difference.nii.gz",
        "maps.npz",
        "saliency.json",
    ]
    with np.load(tmp_path / "out" / "maps.npz") as stored:
        for name in ("before", "after", "difference", "distance"):
            np.testing.assert_array_equal(stored[name], getattr(explained.maps, name))
    record = json.loads((tmp_path / "out" / "saliency.json").read_text())
    assert record["flagged_slices"] == [1]
    assert [row["slice"] for row in record["slices"]] == [0, 1, 2]
    np.testing.assert_allclose([r["feature_distance"] for r in record["slices"]], explained.maps.distance, atol=1e-6)
    assert record["slices"][1]["trust"]["flags"]
    assert str(tmp_path) not in json.dumps(record)


def test_nifti_has_the_sources_affine_and_values(sample_data: Path, tmp_path: Path) -> None:
    scan = read(sample_data / "brain_mr_noisy.nii.gz")
    values = np.random.default_rng(0).normal(size=scan.pixels.shape).astype(np.float32)
    target = tmp_path / "map.nii.gz"
    with target.open("wb") as stream:
        save_volume(scan, values, stream)
    made, source = nibabel.load(target), nibabel.load(sample_data / "brain_mr_noisy.nii.gz")
    np.testing.assert_array_equal(made.affine, source.affine)
    assert made.shape == source.shape
    np.testing.assert_array_equal(np.asarray(made.dataobj), values.transpose(2, 1, 0))
    first = target.read_bytes()
    with target.open("wb") as stream:
        save_volume(scan, values, stream)
    assert target.read_bytes() == first


def test_several_volumes_and_time_points_have_their_own_axes() -> None:
    from io import BytesIO

    scan = scan_of_array(np.zeros((6, 4, 5), np.float32), "mr")
    source = replace(scan.source, format="nifti", shape=(5, 4, 3, 2))
    for used, shape in ((scan, (5, 4, 6, 2)), (replace(scan, source=source), (5, 4, 3, 2, 2))):
        volumes = [np.arange(120, dtype=np.float32).reshape(6, 4, 5) + v for v in (0, 1000)]
        stream = BytesIO()
        save_volume(used, volumes, stream)
        image = nibabel.Nifti1Image.from_bytes(gzip.decompress(stream.getvalue()))
        assert image.shape == shape
        flat = np.asarray(image.dataobj).reshape(-1, order="F")
        np.testing.assert_array_equal(flat, np.concatenate([v.ravel() for v in volumes]))


def test_what_lies_beside_a_denoised_file(sample_data: Path, tmp_path: Path) -> None:
    scan = read(sample_data / "abdomen_ct_noisy.nii.gz")
    small = replace(scan, pixels=scan.pixels[:2].copy())
    explained = explain_scans(small, small, explainer())
    write_beside(small, small, explained, explainer(), "not at all", tmp_path / "x.nii.gz", overwrite=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x_saliency.json", "x_saliency.nii.gz", "x_saliency.png"]
    image = nibabel.load(tmp_path / "x_saliency.nii.gz")
    np.testing.assert_array_equal(image.affine, TO_RAS @ scan.geometry.affine @ TO_XYZ)
    np.testing.assert_array_equal(np.asarray(image.dataobj)[..., 0].T, explained.maps.before.transpose(0, 1, 2))
    assert not np.asarray(image.dataobj)[..., 2].any()


def test_the_slices_that_get_a_picture(found: tuple[Scan, Scan, Explained]) -> None:
    explained = found[2]
    assert pictured(explained, None) == [1]
    assert pictured(explained, (2, 0, 0, 99)) == [0, 2]


def test_one_scale_before_and_after() -> None:
    before, after = pair(1)
    strength = np.zeros((SIDE, SIDE), np.float32)
    strength[10:20, 10:20] = 2.0
    assert scale_of(np.full((10, 10), -3.0, np.float32)) == 3.0
    assert scale_of(np.zeros((4, 4), np.float32)) == 1.0
    full = scale_of(strength)
    assert full == pytest.approx(np.percentile(strength, FULL), rel=0.05)
    picture = np.asarray(overlay(before, after, (strength, strength / 2), 0))
    assert picture.ndim == 3
    grey = np.full((1, 1), 80, np.uint8)
    half, whole = (blend(grey, np.full((1, 1), share, np.float32), "magma") for share in (0.5, 1.0))
    assert not np.array_equal(half, whole)
    np.testing.assert_array_equal(blend(grey, np.zeros((1, 1), np.float32), "magma"), np.full((1, 1, 3), 80))


def test_colours_are_those_of_the_map() -> None:
    from matplotlib import colormaps

    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None]
    np.testing.assert_allclose(colour(ramp, "magma")[0], colormaps["magma"](ramp[0])[:, :3] * 255, atol=1.01)


def test_flagged_tiles_are_framed(found: tuple[Scan, Scan, Explained]) -> None:
    before, after, explained = found
    maps = (explained.maps.before[1], explained.maps.after[1])
    framed = np.asarray(overlay(before, after, maps, 1, explained.trust.slices[1]))
    bare = np.asarray(overlay(before, after, maps, 1))
    different = (framed != bare).any(-1)
    assert different.any()
    assert (framed[different] == (0, 230, 255)).all()
    assert Image.fromarray(framed).size == Image.fromarray(bare).size


def test_from_python(found: tuple[Scan, Scan, Explained]) -> None:
    before, after, _ = found
    by_scan = package.explain_scan(before, after)
    by_array = package.explain_scan(before.pixels, after.pixels, kind="ct")
    np.testing.assert_array_equal(by_scan.maps.difference, by_array.maps.difference)
    assert by_scan.trust == by_array.trust
    assert by_scan.trust.flagged == [1]
    denoised = package.explain_scan(before.pixels[:1], method="mean", kind="ct")
    assert denoised.maps.before.shape == (1, SIDE, SIDE)
    with pytest.raises(MedfplError, match="denoised image is"):
        package.explain_scan(before.pixels, after.pixels[:2], kind="ct")


def test_a_result_that_lies_elsewhere_is_refused(sample_data: Path) -> None:
    source = read(sample_data / "abdomen_ct_noisy.nii.gz")
    affine = source.geometry.affine.copy()
    affine[:3, 3] += 5
    moved = replace(source, geometry=replace(source.geometry, affine=affine))
    with pytest.raises(MedfplError, match="elsewhere"):
        package.explain_scan(source, moved)
