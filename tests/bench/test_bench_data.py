"""Which images become cases: stable names, patients in turn, clean references only, lesions where they are."""

import shutil

import numpy as np
import pytest
import torch
from bench_cases import picture, pictures, settings
from pydicom.data import get_testdata_file

from medfpl.bench.data import DataSettings, find_cases, make_case, shrink, slices_to_take
from medfpl.bench.run import run_bench
from medfpl.denoisers.sigma import estimate_noise
from medfpl.errors import MedfplError, UsageError
from medfpl.scan import Intensity
from medfpl.store.find import Settings, Source, patient_hash, read_table
from medfpl.store.ingest import fill_store, plan_store

XRAY = Intensity("xray", "1", 0.0, 255.0)


def ids(found):
    return [c.id for c in found.chosen]


def test_the_same_file_has_the_same_name_wherever_it_lies(tmp_path):
    pictures(tmp_path / "a", 2)
    (tmp_path / "b" / "deep").mkdir(parents=True)
    for path in (tmp_path / "a").iterdir():
        shutil.copy(path, tmp_path / "b" / "deep" / f"x{path.name}")
    a, b = (find_cases(tmp_path / name, DataSettings(kind="xray")) for name in "ab")
    assert sorted(ids(a)) == sorted(ids(b))
    assert len(set(ids(a))) == 2
    for chosen in a.chosen:
        assert chosen.load().id == chosen.id
        assert "0000" not in chosen.id + chosen.patient


def test_a_limit_takes_patients_in_turn(tmp_path):
    pictures(tmp_path, patients=3, each=3)
    cases = [find_cases(tmp_path, DataSettings(limit=n, kind="xray")).chosen for n in (3, 4, None)]
    assert [len({c.patient for c in chosen}) for chosen in cases] == [3, 3, 3]
    assert [len(chosen) for chosen in cases] == [3, 4, 9]
    assert [c.id for c in cases[0]] == [c.id for c in cases[1]][:3]


def test_a_file_that_is_there_twice_is_one_case(tmp_path):
    picture(tmp_path / "00000001_000.png", 1)
    shutil.copy(tmp_path / "00000001_000.png", tmp_path / "00000002_000.png")
    assert len(find_cases(tmp_path, DataSettings(kind="xray")).chosen) == 1


def test_middle_slices_of_a_volume_come_first(tmp_path):
    volume = np.stack([np.asarray(picture_array(z)) for z in range(16)])
    np.save(tmp_path / "volume.npy", volume)
    found = find_cases(tmp_path, DataSettings(limit=2, kind="mr", size=0))
    images = [c.load() for c in found.chosen]
    for case, z in zip(images, (8, 6), strict=True):
        real = case.intensity.to_real(case.image[0, 0].numpy())
        np.testing.assert_allclose(real, volume[z], atol=1e-3)
    assert slices_to_take(16) == [8, 6, 10]
    assert slices_to_take(1) == [0]
    assert slices_to_take(2) == [1, 0]


def picture_array(seed):
    rows, columns = np.mgrid[:40, :44] / 10
    return (500 + 400 * np.sin(rows + seed) * np.cos(columns - seed)).astype(np.float32)


def test_a_noisy_ct_is_left_out_and_can_be_taken(tmp_path):
    rng = np.random.default_rng(0)
    quiet = np.where(np.hypot(*(np.mgrid[:96, :96] - 48)) < 40, 40.0, -1000.0)
    np.save(tmp_path / "quiet.npy", (quiet + rng.normal(0, 4, quiet.shape)).astype(np.float32))
    np.save(tmp_path / "noisy.npy", (quiet + rng.normal(0, 60, quiet.shape)).astype(np.float32))
    found = find_cases(tmp_path, DataSettings(kind="ct"))
    assert len(found.chosen) == 1
    assert "noisier than 12 HU" in found.notes[0]
    assert float(estimate_noise(found.chosen[0].load().image)) * 2000 < 12
    assert len(find_cases(tmp_path, DataSettings(kind="ct", max_noise_hu=100)).chosen) == 2


def test_blank_and_tiny_images_are_left_out(tmp_path):
    np.save(tmp_path / "blank.npy", np.zeros((64, 64), np.float32))
    np.save(tmp_path / "tiny.npy", np.random.default_rng(0).random((20, 64)).astype(np.float32))
    with pytest.raises(MedfplError, match="no image is left"):
        find_cases(tmp_path, DataSettings(kind="mr"))


def test_a_damaged_file_is_told_and_stops_nothing(tmp_path):
    pictures(tmp_path, 1)
    raw = (tmp_path / "00000000_000.png").read_bytes()
    (tmp_path / "00000005_000.png").write_bytes(raw[: len(raw) // 2])
    found = find_cases(tmp_path, DataSettings(kind="xray"))
    assert len(found.chosen) == 1
    assert [name for name, _ in found.refused] == ["00000005_000.png"]


def test_shrinking_keeps_the_mean_and_scales_pixels_and_lesions():
    pixels = np.tile(np.linspace(0, 255, 200, dtype=np.float32), (100, 1))
    case = make_case(pixels, XRAY, sha256="x", index=0, patient="p", pixel_mm=0.5, size=50, lesions=[(49.5, 99.5, 10)])
    assert case.image.shape == (1, 1, 25, 50)
    assert case.pixel_mm == 2.0
    assert case.lesions == ((12.0, 24.5, 2.5),)
    assert float(case.image.mean()) == pytest.approx(0.5, abs=0.01)
    same, scale = shrink(case.image, 64)
    assert same is case.image
    assert scale == 1.0


def test_the_sample_data_has_all_kinds_and_its_lesions_where_they_are():
    found = find_cases(None, DataSettings(limit=3))
    cases = [c.load() for c in found.chosen]
    assert [c.intensity.kind for c in cases] == ["ct", "ct", "ct", "mr", "mr", "mr", "xray"]
    assert len({c.patient for c in cases}) == 5
    # A solid nodule or a dark liver lesion differs from the ring about it.
    for case in cases:
        x = case.image[0, 0]
        rows, columns = torch.meshgrid(*(torch.arange(n) for n in x.shape), indexing="ij")
        for row, column, _ in case.lesions:
            assert 0 < row < x.shape[0]
            assert 0 < column < x.shape[1]
        if case.intensity.kind == "mr":
            row, column, radius = max(case.lesions, key=lambda ball: ball[2])
            away = torch.hypot(rows - row, columns - column)
            inside, ring = x[away < 0.6 * radius], x[(away > radius + 1) & (away < radius + 3)]
            assert float(inside.mean()) < float(ring.median()) - 0.03


@pytest.fixture
def store(tmp_path):
    source = tmp_path / "source"
    pictures(source, patients=8)
    shutil.copy(get_testdata_file("CT_small.dcm"), source / "ct.dcm")
    wanted = Settings(size=0, kind=None)
    todo, outcome = plan_store([Source(source)], tmp_path / "store", wanted)
    return fill_store(todo, outcome, tmp_path / "store", wanted).store


def test_a_store_gives_its_split_under_the_names_of_its_files(store, tmp_path):
    found = find_cases(store.path, DataSettings(split="train"))
    train = {i.patient for i in store.of("train")}
    assert {c.patient for c in found.chosen} == train
    from_files = find_cases(tmp_path / "source", DataSettings())
    assert set(ids(found)) <= set(ids(from_files))
    by_id = {c.id: c for c in from_files.chosen}
    for chosen in found.chosen:
        torch.testing.assert_close(chosen.load().image, by_id[chosen.id].load().image, atol=2e-3, rtol=0)


def test_groups_of_a_table_get_into_the_benchmarks_tables(tmp_path):
    source = pictures(tmp_path / "source", patients=4)
    lines = [f"{p.name},{n},xray,test,{('hand', 'foot')[n % 2]}" for n, p in enumerate(sorted(source.iterdir()))]
    (tmp_path / "table.csv").write_text("\n".join(["path,patient,kind,split,group", *lines]))
    wanted = Settings(size=0)
    todo, outcome = plan_store([Source(source)], tmp_path / "store", wanted, table=read_table(tmp_path / "table.csv"))
    fill_store(todo, outcome, tmp_path / "store", wanted)
    done = run_bench(tmp_path / "bench", tmp_path / "store", settings=settings(noises=("gaussian",)), executor="serial")
    assert sorted({(r.patient, r.group) for r in done.results.rows}) == sorted(
        (patient_hash(str(n)), ("hand", "foot")[n % 2]) for n in range(4)
    )
    page = (tmp_path / "bench" / "table.md").read_text("utf-8")
    assert page.index("## X-ray, foot: PSNR, dB") < page.index("## X-ray, hand: PSNR, dB")


def test_what_is_not_there_or_not_asked_rightly_is_refused(store, tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        find_cases(tmp_path / "absent", DataSettings())
    with pytest.raises(UsageError, match="say of what kind"):
        find_cases(store.path, DataSettings(kind="ct"))


def test_real_images_become_cases_of_each_kind(real_data):
    places = sorted(p for p in real_data.iterdir() if p.is_dir())
    found = find_cases(places[0], DataSettings(limit=2))
    assert found.chosen
    case = found.chosen[0].load()
    assert max(case.image.shape[-2:]) <= 256
    assert bool(torch.isfinite(case.image).all())
