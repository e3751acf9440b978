"""Ingestion on a small tree of real and made files."""

import csv
import shutil

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from medfpl.errors import MedfplError, UsageError
from medfpl.store.find import (
    Settings,
    Source,
    assign_splits,
    find_candidates,
    parse_source,
    patient_from_path,
    patient_hash,
    read_table,
)
from medfpl.store.ingest import fill_store, plan_store
from medfpl.store.store import open_store


@pytest.fixture
def tree(tmp_path):
    """A DICOM CT, a NIfTI volume, two X-ray pictures of one patient, a note and a broken file."""
    root = tmp_path / "tree"
    (root / "xray").mkdir(parents=True)
    shutil.copy(get_testdata_file("CT_small.dcm"), root / "ct.dcm")
    rng = np.random.default_rng(0)
    volume = rng.integers(0, 400, (20, 24, 5)).astype(np.int16)
    nib.save(nib.Nifti1Image(volume, np.diag([2.0, 2.0, 3.0, 1.0])), root / "sub-01_T1w.nii.gz")
    for name in ("00000013_001", "00000013_002"):
        Image.fromarray(rng.integers(0, 255, (30, 40)).astype(np.uint8)).save(root / "xray" / f"{name}.png")
    (root / "notes.txt").write_text("nothing")
    (root / "broken.dcm").write_bytes((root / "ct.dcm").read_bytes()[:2000])
    return root


def fill(tree, target, settings=Settings(size=0), resume=False, workers=1, table=None):
    todo, outcome = plan_store([Source(tree)], target, settings, table=table, resume=resume)
    return fill_store(todo, outcome, target, settings, workers=workers)


def test_every_format_goes_in_and_what_is_bad_is_told(tree, tmp_path):
    outcome = fill(tree, tmp_path / "s")
    assert outcome.done == 4
    assert [name for name, _ in outcome.refused] == ["broken.dcm"]
    assert outcome.skipped == 1
    by_kind = {i.kind: i for i in outcome.store.items}
    assert set(by_kind) == {"ct", "mr", "other"}
    assert (by_kind["ct"].height, by_kind["ct"].width, by_kind["ct"].unit) == (128, 128, "HU")
    assert (by_kind["mr"].slices, by_kind["mr"].height, by_kind["mr"].width) == (5, 24, 20)
    assert by_kind["mr"].pixel_mm == pytest.approx(2.0)


def test_values_are_those_of_the_file(tree, tmp_path):
    from medfpl.io import read

    store = fill(tree, tmp_path / "s").store
    item = next(i for i in store.items if i.kind == "ct")
    assert np.array_equal(store.real(item), read(tree / "ct.dcm").pixels)


def test_resizing_keeps_hu_and_tells_the_new_pixel_size(tree, tmp_path):
    from medfpl.io import read

    store = fill(tree, tmp_path / "s", Settings(size=64)).store
    item = next(i for i in store.items if i.kind == "ct")
    before = read(tree / "ct.dcm")
    assert (item.height, item.width) == (64, 64)
    assert item.pixel_mm == pytest.approx(2 * before.geometry.spacing[1])
    assert store.real(item).mean() == pytest.approx(before.pixels.mean(), abs=2)


def test_pictures_of_one_patient_are_in_one_split(tree):
    found = find_candidates([Source(tree)], Settings())
    pictures = [c for c in found.candidates if c.relative.endswith(".png")]
    assert len({c.patient for c in pictures}) == 1
    assert len({c.split for c in assign_splits(pictures, Settings())}) == 1


@pytest.mark.parametrize(
    ("path", "patient"),
    [
        ("a/sub-07/anat/sub-07_T1w.nii.gz", "sub-07"),
        ("images/00000013_005.png", "00000013"),
        ("volume-12.nii", "volume-12"),
        ("knee.png", "knee"),
        ("12_3.png", "12_3"),
    ],
)
def test_patients_are_read_from_names(path, patient):
    assert patient_from_path(path) == patient


def test_no_identity_is_stored(tree, tmp_path):
    from pydicom import dcmread

    fill(tree, tmp_path / "s")
    identity = str(dcmread(tree / "ct.dcm").PatientID).encode()
    for path in (tmp_path / "s").rglob("*"):
        if path.is_file():
            assert identity not in path.read_bytes()


def test_resume_after_an_interruption_gives_the_same_store(tree, tmp_path):
    whole = fill(tree, tmp_path / "a").store
    todo, outcome = plan_store([Source(tree)], tmp_path / "b", Settings(size=0))

    def interrupt(done):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill_store(todo, outcome, tmp_path / "b", Settings(size=0), report=interrupt)
    with pytest.raises(MedfplError, match="exists"):
        fill(tree, tmp_path / "b")
    resumed = fill(tree, tmp_path / "b", resume=True)
    assert (resumed.done, resumed.kept) == (2, 2)
    assert resumed.store.fingerprint() == whole.fingerprint()
    assert all(np.array_equal(whole.real(i), resumed.store.real(i)) for i in whole.items)


@pytest.mark.slow
def test_workers_give_the_same_store(tree, tmp_path):
    alone, many = fill(tree, tmp_path / "a").store, fill(tree, tmp_path / "b", workers=2).store
    assert alone.items == many.items


def test_a_table_that_names_no_file_is_refused(tree, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("path,patient\nother/place.dcm,A\n")
    with pytest.raises(UsageError, match="names none of these files"):
        fill(tree, tmp_path / "s", table=read_table(path))
    assert not (tmp_path / "s").exists()


def test_a_table_counts_more_than_names(tree, tmp_path):
    path = tmp_path / "t.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows(
            [["path", "patient", "kind", "split", "group"], ["xray/00000013_001.png", "Ann", "xray", "test", "hand"]]
        )
    store = fill(tree, tmp_path / "s", table=read_table(path)).store
    item = next(i for i in store.items if i.kind == "xray")
    assert (item.patient, item.split, item.group) == (patient_hash("Ann"), "test", "hand")
    assert {i.group for i in store.items if i.kind != "xray"} == {""}
    path.write_text("path,kind\na,ct\n")
    with pytest.raises(UsageError, match="columns"):
        read_table(path)
    path.write_text("path,patient,kind\na,b,shoe\n")
    with pytest.raises(UsageError, match="unknown"):
        read_table(path)


@pytest.mark.parametrize(("most", "slices"), [(1, 1), (2, 2), (6, 5), (100, 8)])
def test_a_cap_counts_slices_and_is_spread_over_images(tree, tmp_path, most, slices):
    settings = Settings(size=0, split_by="image", train=most, val_share=0, test_share=0)
    store = fill(tree, tmp_path / "s", settings).store  # three images of one slice and a volume of five
    assert sum(i.slices for i in store.of("train")) == slices


def test_nothing_to_read_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MedfplError, match="no image"):
        plan_store([Source(tmp_path / "empty")], tmp_path / "s", Settings())
    with pytest.raises(UsageError, match="no such"):
        plan_store([Source(tmp_path / "absent")], tmp_path / "s", Settings())


def test_a_real_tree_keeps_patients_apart(real_data, tmp_path):
    found = find_candidates([Source(real_data / "chest_ct" / "TCGA-LUSC")], Settings())
    assert len(found.candidates) >= 5
    splits = {}
    for candidate in assign_splits(found.candidates, Settings()):
        assert splits.setdefault(candidate.patient, candidate.split) == candidate.split
    assert set(splits.values()) == {"train", "val", "test"}


def test_opening_again_gives_the_same(tree, tmp_path):
    store = fill(tree, tmp_path / "s").store
    assert open_store(tmp_path / "s").items == store.items


def test_several_sources_keep_files_of_the_same_name_apart(tree, tmp_path):
    found = find_candidates(
        [parse_source(f"xray={tree / 'xray'}"), Source(tree / "xray"), Source(tree / "ct.dcm")], Settings()
    )
    names = [c.relative for c in found.candidates]
    assert names == [
        "ct.dcm",
        "xray-1/00000013_001.png",
        "xray-1/00000013_002.png",
        "xray-2/00000013_001.png",
        "xray-2/00000013_002.png",
    ]
    assert [c.kind for c in found.candidates] == [None, "xray", "xray", None, None]
    assert len({c.id for c in found.candidates}) == 5
