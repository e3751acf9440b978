"""The planes across a volume: the same voxels seen from the side, square pixels, and only where voxels allow."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from medfpl.errors import UsageError
from medfpl.io import read
from medfpl.scan import Geometry
from medfpl.store.find import Settings, Source
from medfpl.store.ingest import fill_store, plan_store
from medfpl.store.planes import CUBIC, LEAST, across


def volume(folder, sides=(40, 36, 34), spacing=(1.0, 1.0, 1.0), name="sub-01_T1w.nii.gz"):
    """Write a NIfTI of ``sides`` voxels (x, y, z) whose number grows along x, y and z, and return it as read."""
    x, y, z = np.meshgrid(*(np.arange(side) for side in sides), indexing="ij")
    image = nib.Nifti1Image((100 * z + 10 * y + x).astype(np.int16), np.diag([*spacing, 1.0]))
    nib.save(image, folder / name)
    return read(folder / name)


def test_cubic_voxels_are_turned_and_not_touched(tmp_path):
    scan = volume(tmp_path)
    planes = dict(across(scan))
    assert np.array_equal(planes["y"].pixels, scan.pixels.transpose(1, 0, 2))
    assert np.array_equal(planes["x"].pixels, scan.pixels.transpose(2, 0, 1))


def test_slices_that_lie_further_apart_are_resampled_to_square_pixels(tmp_path):
    scan = volume(tmp_path, spacing=(1.0, 1.0, 1.25))
    turned = dict(across(scan))["y"]
    assert turned.pixels.shape == (36, round(34 * 1.25), 40)
    assert turned.geometry.spacing == (1.0, 1.0, 1.0)
    step = 100 / 1.25  # a row of the new picture, in the numbers of the volume
    rises = np.diff(turned.pixels[5, 3:-3, 7])
    assert np.allclose(np.abs(rises), step, rtol=0.02)


def test_what_is_no_pixel_is_black(tmp_path):
    scan = volume(tmp_path)
    valid = np.ones(scan.pixels.shape, dtype=bool)
    valid[3, 4, 5] = False
    holed = replace(scan, pixels=np.where(valid, scan.pixels, np.float32(np.nan)), valid=valid)
    assert dict(across(holed))["y"].pixels[4, 3, 5] == np.float32(scan.intensity.black)


@pytest.mark.parametrize("sides", [(40, 36, LEAST - 1), (20, 40, 40)])
def test_a_thin_volume_has_no_other_planes(tmp_path, sides):
    assert not dict(across(volume(tmp_path, sides)))


def test_nor_has_one_of_long_voxels_nor_one_of_unknown_size_nor_one_with_time(tmp_path):
    assert not dict(across(volume(tmp_path, spacing=(1.0, 1.0, CUBIC + 0.1))))
    scan = volume(tmp_path)
    assert not dict(across(replace(scan, geometry=Geometry(None))))
    assert not dict(across(replace(scan, source=replace(scan.source, shape=(40, 36, 17, 2)))))


def test_a_store_of_all_planes(tmp_path):
    (tmp_path / "in").mkdir()
    scan = volume(tmp_path / "in", spacing=(1.0, 1.0, 1.25))
    volume(tmp_path / "in", (40, 36, 5), name="sub-02_T1w.nii.gz")

    def store(target, **settings):
        todo, outcome = plan_store([Source(tmp_path / "in")], tmp_path / target, Settings(size=0, **settings))
        return fill_store(todo, outcome, tmp_path / target, Settings(size=0, **settings)).store

    acquired, both = store("acquired"), store("all", planes="all")
    assert len(acquired.items) == 2
    assert sorted((i.slices, i.height, i.width) for i in both.items) == [
        (5, 36, 40), (34, 36, 40), (36, 42, 40), (40, 42, 36),
    ]  # fmt: skip
    of_first = [i for i in both.items if i.slices > 5]
    assert len({(i.patient, i.split, i.kind) for i in of_first}) == 1
    turned = next(i for i in of_first if i.slices == 36)
    assert np.allclose(both.real(turned), dict(across(scan))["y"].pixels)
    todo, outcome = plan_store([Source(tmp_path / "in")], tmp_path / "all", Settings(size=0, planes="all"), resume=True)
    assert not todo
    assert outcome.kept == 2


@pytest.mark.parametrize(("most", "slices"), [(10, [3, 3, 4]), (2, [2])])
def test_the_planes_share_what_an_image_may_have(tmp_path, most, slices):
    (tmp_path / "in").mkdir()
    volume(tmp_path / "in")
    settings = Settings(size=0, planes="all", train=most, val_share=0, test_share=0)
    todo, outcome = plan_store([Source(tmp_path / "in")], tmp_path / "out", settings)
    store = fill_store(todo, outcome, tmp_path / "out", settings).store
    assert sorted(i.slices for i in store.of("train")) == slices


def test_an_unknown_choice_is_refused(tmp_path):
    from medfpl.cli.prepare import prepare

    with pytest.raises(UsageError, match="--planes some is unknown"):
        prepare([str(tmp_path)], tmp_path / "out", planes="some")
