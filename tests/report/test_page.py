import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_making import make_dicom, save
from page_making import ABOUT, block_of, chest, data_of, halved, page_of, pair_of, predicted, scan_of, unpack
from pydicom.uid import generate_uid

import medfpl as package
from medfpl.errors import TargetExists, UsageError
from medfpl.report import Collector, write_page
from medfpl.report.collector import Flag
from medfpl.report.display import shrink
from medfpl.report.layout import BUDGET, SMALLEST, Place, arrange, fit

LIMIT = 30_000_000


def test_pixels_come_back_within_half_a_step(tmp_path: Path) -> None:
    scan = scan_of(chest(3, 64), tmp_path / "a.npy")
    page = page_of([scan], tmp_path / "page.html")
    (series,) = data_of(page)["series"]
    assert [item["number"] for item in series["slices"]] == [1, 2, 3]
    for z, item in enumerate(series["slices"]):
        assert item["grid"] == [0, 1]
        for shown, truth in zip(pair_of(page, item), (scan.pixels[z], halved(scan).scan.pixels[z]), strict=True):
            assert np.abs(shown - np.clip(truth, -1024, 3071)).max() <= 0.5001


@pytest.mark.slow
def test_long_series_fits_and_keeps_its_steps(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.npy" for i in range(4)]
    volumes = [chest(50, 512, noise=20, seed=i) for i in range(4)]
    scans = [scan_of(pixels, path) for pixels, path in zip(volumes, paths, strict=True)]
    page = page_of(scans, tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < LIMIT
    assert "of 512 × 512 pixels, averaged" in page
    for number, series in enumerate(data_of(page)["series"]):
        assert len(series["slices"]) == 50
        item = series["slices"][7]
        assert max(item["size"]) >= 256
        assert item["grid"][1] <= 4
        truth = shrink(np.clip(volumes[number][7], -1024, 3071), tuple(item["size"]))
        assert np.abs(pair_of(page, item)[0] - truth).max() <= item["grid"][1] / 2 + 1e-3


@pytest.mark.parametrize(("depth", "size"), [(1, 512), (20, 512), (200, 512), (2000, 512), (5, 3000), (300, 40)])
def test_a_file_keeps_to_its_budget(depth: int, size: int) -> None:
    found = fit(Place(0, 0, 1, BUDGET), depth, size, size)
    shown = -(-depth // found.stride)
    assert shown * found.bytes <= BUDGET * 1.01 + found.bytes
    assert found.side >= min(SMALLEST, size)
    assert (found.stride > 1) == (depth == 2000)


def test_flagged_slices_are_shown_whatever_the_budget(tmp_path: Path) -> None:
    scan = scan_of(chest(12, 256), tmp_path / "a.npy")
    with Collector([scan.source.path], budget=100_000) as collector:
        collector.add(scan.source.path, scan, halved(scan), flags=[Flag("look", 7, (10, 20, 30, 40), 1.5)])
        write_page(collector, ABOUT, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    (series,) = data_of(page)["series"]
    shown = {item["number"]: item for item in series["slices"]}
    assert 8 in shown
    assert len(shown) < 12
    assert shown[8]["flags"] == ["look"]
    np.testing.assert_allclose(shown[8]["boxes"], [[10 / 256, 20 / 256, 30 / 256, 40 / 256]])
    assert "Series 1, slice 8" in page
    assert f"{len(shown)} of 12 slices" in page


def test_worst_flags_come_first_and_text_is_escaped(tmp_path: Path) -> None:
    scan = scan_of(chest(3, 32), tmp_path / "a.npy")
    flags = [Flag("mild", 0, score=1.1), Flag("<b>bad</b>", 2, score=3), Flag("<b>bad</b>", 2, score=2)]
    page = page_of([scan], tmp_path / "page.html", flags=flags)
    assert page.index("slice 3</b> &lt;b&gt;bad&lt;/b&gt; (2 places)") < page.index("slice 1</b> mild")
    assert "<b>bad" not in page


def test_maps_keep_their_sign(tmp_path: Path) -> None:
    scan = scan_of(chest(1, 32), tmp_path / "a.npy")
    values = np.linspace(-1.2, 1.2, 32 * 32, dtype=np.float32).reshape(1, 32, 32)
    page = page_of([scan], tmp_path / "page.html", maps={"change": values})
    size, name = data_of(page)["series"][0]["slices"][0]["maps"]["change"]
    levels = np.array(predicted(unpack(block_of(page, name), *size, 1)[0]))
    np.testing.assert_array_equal(levels, np.rint(63 * np.clip(values[0], -1, 1)))


def test_slices_of_a_series_are_one_and_in_order(tmp_path: Path) -> None:
    uid, other = generate_uid(), generate_uid()
    paths = []
    for i, place in enumerate((30.0, 10.0, 20.0, 5.0)):
        ds = make_dicom(
            np.full((16, 16), 100 * i, np.int16),
            SeriesInstanceUID=other if i == 3 else uid,
            ImagePositionPatient=[0, 0, place],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=[1, 1],
        )
        paths.append(save(ds, tmp_path / f"{i}.dcm"))
    places = arrange(paths)
    assert [(places[p].group, places[p].position, places[p].of) for p in paths] == [
        (0, 2, 3),
        (0, 0, 3),
        (0, 1, 3),
        (1, 0, 1),
    ]
    with Collector(paths) as collector:
        for path in reversed(paths):
            scan = package.read(path)
            collector.add(path, scan, halved(scan))
        assert collector.numbers() == {
            paths[0]: {"series": 1, "image": 3},
            paths[1]: {"series": 1, "image": 1},
            paths[2]: {"series": 1, "image": 2},
            paths[3]: {"series": 2},
        }


def test_same_bytes_in_any_order(tmp_path: Path) -> None:
    scans = [scan_of(chest(2, 48, seed=i), tmp_path / f"{i}.npy") for i in range(3)]
    pages = []
    for order in ((0, 1, 2), (2, 0, 1)):
        with Collector([scan.source.path for scan in scans]) as collector:
            for i in order:
                collector.add(scans[i].source.path, scans[i], halved(scans[i]))
            write_page(collector, ABOUT, tmp_path / "page.html", overwrite=True)
        pages.append(re.sub(r"b\d+", "b", (tmp_path / "page.html").read_text("utf-8")))
    assert pages[0] == pages[1]


PLANTED = {
    "PatientName": "Zebedee^Quux",
    "PatientID": "ID-8675309",
    "PatientBirthDate": "19710417",
    "StudyDate": "20170823",
    "AccessionNumber": "ACC-55512",
    "InstitutionName": "Saint Nowhere",
    "ReferringPhysicianName": "Doctor^Whom",
    "StudyDescription": "THORAX SECRETUM",
    "SeriesDescription": "serial words",
    "StationName": "GANTRY9",
    "DerivationDescription": "filtered for Quux",
    "ImageType": ["DERIVED", "SECONDARY"],
}


def test_no_identity_in_the_page(tmp_path: Path) -> None:
    folder = tmp_path / "Quux_Zebedee"
    folder.mkdir()
    ds = make_dicom(chest(1, 64)[0].astype(np.int16), **PLANTED)
    source = save(ds, folder / "Zebedee_Thorax_1971.dcm")
    page = tmp_path / "page.html"
    package.denoise(source, method="mean", report=page)
    seen = page.read_bytes().lower()
    words = [w for value in PLANTED.values() if isinstance(value, str) for w in re.split(r"[\^ ]", value)]
    words += [str(ds.SOPInstanceUID), str(ds.SeriesInstanceUID), str(ds.StudyInstanceUID)]
    words += ["zebedee", "quux", "1971", str(tmp_path), tmp_path.name, source.name]
    plain = re.sub(rb'<script type="application/octet-stream".*?</script>', b"", seen, flags=re.S)
    plain = re.sub(rb"data:image/png;base64,[a-z0-9+/=]*", b"", plain)
    assert b"a filter was applied to it before" in plain  # the note is there, and the tags are not
    for word in words:
        where = plain if len(word) < 8 else seen  # short words turn up in base64
        if word not in ("for", "filtered", "words"):
            assert word.lower().encode() not in where, word


def test_page_asks_for_nothing_else(tmp_path: Path) -> None:
    page = page_of([scan_of(chest(1, 32), tmp_path / "a.npy")], tmp_path / "page.html")
    assert "default-src 'none'" in page
    code = re.sub(r"data:image/png;base64,[^\"]*", "", page)
    assert not re.search(
        r"https?://|//[a-z]|@import|url\(|fetch\(|XMLHttp|localStorage|eval\(", code.split("</style>")[0]
    )
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    assert len(scripts) == 1
    assert not re.search(
        r"https?:|fetch\(|XMLHttpRequest|WebSocket|localStorage|sendBeacon|eval\(|innerHTML", scripts[0]
    )
    assert not re.search(r'\s(style|on\w+)="', page)


def test_python_api_refuses_before_it_computes(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", chest(1, 32))
    (tmp_path / "there.html").write_text("mine")
    with pytest.raises(TargetExists):
        package.denoise(tmp_path / "a.npy", method="mean", report=tmp_path / "there.html")
    with pytest.raises(UsageError):
        package.denoise(tmp_path / "a.npy", method="mean", report=tmp_path / "page.pdf")
    assert (tmp_path / "there.html").read_text() == "mine"
    package.denoise(np.load(tmp_path / "a.npy"), method="mean", kind="ct", report=tmp_path / "array.html")
    assert len(data_of((tmp_path / "array.html").read_text("utf-8"))["series"]) == 1


def test_about_is_told(tmp_path: Path) -> None:
    about = replace(ABOUT, weights_sha256="ab" * 32, model="net-1", refused=("it is empty", "it is empty"), kept=2)
    page = page_of([scan_of(chest(1, 32), tmp_path / "a.npy")], tmp_path / "page.html", about=about)
    for text in ("ab" * 8 + "</code>", "net-1", "2 files refused: it is empty", "2 files kept", "Only for tests."):
        assert text in page
    assert "ab" * 9 not in page
    assert "not a medical device" in page
    assert json.dumps("mediastinum") in page
