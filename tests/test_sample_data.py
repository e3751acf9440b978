"""The sample data: valid files, the noise and lesions that its README tells of, and the script that makes it."""

import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest

from medfpl import sample
from medfpl.errors import MedfplError
from medfpl.io import read

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
NIFTI = ("abdomen_ct", "brain_mr")
WHITE_MATTER = 620


@pytest.fixture(scope="module")
def script() -> ModuleType:
    sys.path.insert(0, str(SCRIPTS))
    try:
        return importlib.import_module("make_sample_data")
    finally:
        sys.path.remove(str(SCRIPTS))


def files(folder: Path, name: str, which: str) -> list[Path]:
    if name == "chest_ct":
        return sorted((folder / name / which).glob("*.dcm"))
    return [folder / f"{name}_{which}{'.nii.gz' if name in NIFTI else '.dcm'}"]


def volume(folder: Path, name: str, which: str) -> np.ndarray:
    """Read with other libraries than medfpl's own reading: (z, y, x) in real units."""
    if name in NIFTI:
        return np.asarray(nibabel.load(files(folder, name, which)[0]).dataobj, float).transpose(2, 1, 0)
    slices = [pydicom.dcmread(f) for f in files(folder, name, which)]
    return np.stack([d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in slices])


def dicoms(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.dcm"))


def test_sample_path_is_the_checkouts(sample_data: Path) -> None:
    assert sample.sample_path() == sample_data


def test_sample_path_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "medfpl"
    (package / "sample_data").mkdir(parents=True)
    monkeypatch.setattr(sample, "__file__", str(package / "sample.py"))
    with pytest.raises(MedfplError, match="not installed"):
        sample.sample_path()
    (package / "sample_data" / "lesions.json").write_text("{}")
    assert sample.sample_path() == (package / "sample_data").resolve()


def test_real_ct_is_a_ct_on_disk() -> None:
    scan = read(sample.real_ct_path())
    assert scan.pixels.shape == (1, 128, 128)
    assert scan.intensity.unit == "HU"


def test_all_of_it_is_small(sample_data: Path) -> None:
    assert sum(f.stat().st_size for f in sample_data.rglob("*") if f.is_file()) < 8e6


@pytest.mark.parametrize("name", ["chest_ct", "abdomen_ct", "chest_xray", "brain_mr"])
def test_medfpl_reads_what_others_read(sample_data: Path, name: str) -> None:
    for which in ("clean", "noisy"):
        ours = np.concatenate([read(f).pixels for f in files(sample_data, name, which)])
        assert np.array_equal(ours, volume(sample_data, name, which).astype(np.float32))


def test_kinds_are_known(sample_data: Path) -> None:
    kinds = {n: read(files(sample_data, n, "noisy")[0]).intensity.kind for n in ("chest_ct", "chest_xray")}
    assert kinds == {"chest_ct": "ct", "chest_xray": "xray"}


def test_dicom_objects_are_valid(sample_data: Path) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    for path in dicoms(sample_data):
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        assert "Error" not in done.stderr + done.stdout, done.stderr


def test_xray_says_that_dense_is_bright(sample_data: Path) -> None:
    for which in ("clean", "noisy"):
        head = pydicom.dcmread(files(sample_data, "chest_xray", which)[0], stop_before_pixels=True)
        assert head.PhotometricInterpretation == "MONOCHROME2"
        assert head.PixelIntensityRelationshipSign == -1


def test_uids_are_unique_and_shared_as_they_should_be(sample_data: Path) -> None:
    headers = [pydicom.dcmread(f, stop_before_pixels=True) for f in dicoms(sample_data)]
    assert len({d.SOPInstanceUID for d in headers}) == len(headers) == 30
    assert len({d.SeriesInstanceUID for d in headers}) == 4
    assert len({d.StudyInstanceUID for d in headers}) == 2
    assert {str(d.PatientName) for d in headers} == {"Phantom^Thorax"}
    assert {d.PatientIdentityRemoved for d in headers} == {"YES"}
    assert all(u.startswith("2.25.") and len(u) <= 64 for d in headers for u in (d.SOPInstanceUID, d.StudyInstanceUID))


def test_slices_lie_one_on_the_other(sample_data: Path) -> None:
    for which in ("clean", "noisy"):
        heads = [pydicom.dcmread(f, stop_before_pixels=True) for f in files(sample_data, "chest_ct", which)]
        z = [float(d.ImagePositionPatient[2]) for d in heads]
        assert np.diff(z) == pytest.approx(3.0)
        assert [int(d.InstanceNumber) for d in heads] == list(range(1, 15))


TISSUES: dict[str, tuple[str, float, float, str]] = {
    # image, lowest and highest clean value of the tissue, what the README calls its noise
    "chest soft tissue": ("chest_ct", 30, 70, r"(\d+) HU in soft tissue"),
    "lungs": ("chest_ct", -900, -800, r"(\d+) HU in the lungs"),
    "liver": ("abdomen_ct", 95, 120, r"(\d+) HU in the liver"),
    "beside the body": ("chest_xray", 1, 500, r"(\d+) grey levels beside"),
    "abdomen": ("chest_xray", 3600, 4000, r"to (\d+) in the abdomen"),
    "white matter": ("brain_mr", 550, 680, r"(\d+) in white matter"),
}


@pytest.mark.parametrize("tissue", TISSUES)
def test_noise_is_as_strong_as_the_readme_says(sample_data: Path, tissue: str) -> None:
    name, low, high, words = TISSUES[tissue]
    found = re.search(words, (sample_data / "README.md").read_text("utf-8"))
    assert found
    clean, noisy = volume(sample_data, name, "clean"), volume(sample_data, name, "noisy")
    inside = (clean > low) & (clean < high)
    difference = (noisy - clean)[inside]
    assert difference.size > 1000
    assert difference.std() == pytest.approx(float(found[1]), rel=0.05)
    assert abs(difference.mean()) < 0.06 * difference.std()


def test_ct_noise_is_coloured_and_streaked(sample_data: Path) -> None:
    clean, noisy = volume(sample_data, "chest_ct", "clean"), volume(sample_data, "chest_ct", "noisy")
    difference = noisy - clean
    body = np.s_[:, 80:170, 70:190]
    power = np.abs(np.fft.fft2(difference[body])) ** 2
    radius = np.hypot(np.fft.fftfreq(90)[:, None], np.fft.fftfreq(120))
    low, middle = (power[:, (radius > a) & (radius < b)].mean() for a, b in ((0.01, 0.08), (0.25, 0.4)))
    assert middle > 2 * low  # white noise has 1: the ramp filter's mark
    # More noise along the long way through both sides than above the body.
    air = (clean == -1000)[:, :20]
    assert difference[body].std() > 1.5 * difference[:, :20][air].std()


def test_mr_noise_is_rician(sample_data: Path) -> None:
    clean, noisy = volume(sample_data, "brain_mr", "clean"), volume(sample_data, "brain_mr", "noisy")
    air = noisy[clean == 0]
    assert air.mean() == pytest.approx(38 * np.sqrt(np.pi / 2), rel=0.01)
    assert air.std() == pytest.approx(38 * np.sqrt(2 - np.pi / 2), rel=0.01)
    assert np.mean(noisy**2 - clean**2) == pytest.approx(2 * 38**2, rel=0.02)


def lesions(folder: Path, name: str) -> list[dict[str, Any]]:
    return json.loads((folder / "lesions.json").read_text("utf-8"))[name]


# Spacing (z, y, x) in mm, the number of lesions, and how far texture and thick slices may change their contrast.
PLANTED = {
    "chest_ct": ((3.0, 1.45, 1.45), 6, 35),
    "abdomen_ct": ((4.0, 1.7, 1.7), 5, 6),
    "brain_mr": ((3.5, 1.1, 1.1), 4, 20),
}


@pytest.mark.parametrize(
    ("name", "number"),
    [(name, n) for name, (_, count, _) in PLANTED.items() for n in range(count)],
)
def test_lesions_have_their_contrast(sample_data: Path, name: str, number: int) -> None:
    clean = volume(sample_data, name, "clean")
    spacing, count, texture = PLANTED[name]
    listed = lesions(sample_data, name)
    assert len(listed) == count
    lesion = listed[number]
    index = np.moveaxis(np.indices(clean.shape), 0, -1)
    off = np.linalg.norm((index - np.array(lesion["centre_voxel"])) * spacing, axis=-1)
    radius = lesion["diameter_mm"] / 2
    core = off < max(0.4 * radius, np.min(off) + 0.01)
    around = (off > radius + 2) & (off < radius + 6)
    measured = np.median(clean[core]) - np.median(clean[around])
    # The shading scales a lesion as it scales what lies around it.
    shading = np.median(clean[around]) / WHITE_MATTER if name == "brain_mr" else 1.0
    assert measured == pytest.approx(lesion["contrast"] * shading, rel=0.05, abs=texture)


def test_positions_in_mm_and_in_voxels_agree(sample_data: Path) -> None:
    first = pydicom.dcmread(files(sample_data, "chest_ct", "clean")[0], stop_before_pixels=True)
    x, y, z = (float(v) for v in first.ImagePositionPatient)
    for lesion in lesions(sample_data, "chest_ct"):
        k, row, column = lesion["centre_voxel"]
        assert lesion["centre_mm"] == pytest.approx([x + 1.45 * column, y + 1.45 * row, z + 3 * k], abs=5e-3)
    for name in NIFTI:
        affine = nibabel.load(files(sample_data, name, "clean")[0]).affine
        for lesion in lesions(sample_data, name):
            right, back, up = (affine @ [*lesion["centre_voxel"][::-1], 1])[:3]
            assert lesion["centre_mm"] == pytest.approx([-right, -back, up], abs=5e-3)


def test_xray_nodules_are_inside_the_picture(sample_data: Path) -> None:
    rows, columns = volume(sample_data, "chest_xray", "clean")[0].shape
    for lesion in lesions(sample_data, "chest_xray"):
        row, column = lesion["centre_pixel"]
        assert 10 < row < rows - 10
        assert 10 < column < columns - 10


def assert_made_alike(made: Path, sample_data: Path, name: str) -> None:
    """Assert that files are the shipped ones up to how a processor and its libraries round a last bit.

    A photon count whose rate rounds otherwise may use up another number of random ones: in the rest of that slice the
    noise is then another draw, of the same size.
    """
    clean, as_shipped = volume(made, name, "clean"), volume(sample_data, name, "clean")
    assert np.abs(clean - as_shipped).max() <= 1
    assert np.mean(clean != as_shipped) < 1e-3
    ours, theirs = volume(made, name, "noisy"), volume(sample_data, name, "noisy")
    same = np.abs(ours - theirs).reshape(len(ours), -1).max(1) <= 1
    assert np.mean(ours[same] != theirs[same]) < 1e-3
    assert same.mean() >= 0.5
    for a, b, truth in zip(ours[~same], theirs[~same], clean[~same], strict=True):
        assert np.std(a - truth) == pytest.approx(np.std(b - truth), rel=0.03)


@pytest.mark.parametrize("name", NIFTI)
def test_script_makes_the_very_files(sample_data: Path, script: ModuleType, tmp_path: Path, name: str) -> None:
    made = getattr(script, name)(tmp_path)
    assert json.loads(json.dumps(made)) == lesions(sample_data, name)
    assert_made_alike(tmp_path, sample_data, name)


def test_script_writes_the_same_bytes_twice(script: ModuleType, tmp_path: Path) -> None:
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        script.brain_mr(tmp_path / run)
    a, b = (sorted((tmp_path / run).iterdir()) for run in ("a", "b"))
    assert [f.name for f in a] == ["brain_mr_clean.nii.gz", "brain_mr_noisy.nii.gz"]
    assert [f.read_bytes() for f in a] == [f.read_bytes() for f in b]


@pytest.mark.slow
def test_script_makes_the_very_dicom_files(sample_data: Path, script: ModuleType, tmp_path: Path) -> None:
    assert json.loads(json.dumps(script.chest_ct(tmp_path))) == lesions(sample_data, "chest_ct")
    assert_made_alike(tmp_path, sample_data, "chest_ct")
    for which in ("clean", "noisy"):
        for mine, other in zip(*(files(f, "chest_ct", which) for f in (tmp_path, sample_data)), strict=True):
            a, b = (pydicom.dcmread(f, stop_before_pixels=True) for f in (mine, other))
            assert a == b
