"""A whole run: the same rows with any workers, parts and interruptions, and files that can be read."""

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from bench_cases import pictures, settings, timeless

from medfpl.bench import run as module
from medfpl.bench.data import DataSettings
from medfpl.bench.journal import Journal, journals_of, read_results
from medfpl.bench.rows import Row, columns
from medfpl.bench.run import run_bench
from medfpl.errors import MedfplError, TargetExists, UsageError
from medfpl.io import read
from medfpl.noises import NOISES, corrupt
from medfpl.pipeline.jobs import Shard

CHOICE = DataSettings(kind="xray")


@pytest.fixture
def data(tmp_path):
    return pictures(tmp_path / "data", patients=2)


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """Drawing is tested where it is made, and is what takes the time here."""
    from medfpl.bench import outputs

    for name in ("save_figures", "write_page"):
        monkeypatch.setattr(outputs, name, lambda *arguments, **options: [])


def run(data, folder, **options):
    options = {"settings": settings(), "choice": CHOICE, "executor": "serial", **options}
    return run_bench(folder, data, **options)


@pytest.fixture
def whole(data, tmp_path):
    return run(data, tmp_path / "whole")


def test_rows_are_in_order_and_in_all_files(whole, tmp_path):
    rows = whole.results.rows
    cells = [c for members in whole.plan.cells_by_unit().values() for c in members]
    assert [r.cell for r in rows] == cells
    table = pq.read_table(tmp_path / "whole" / "results.parquet")
    assert table.column_names == list(columns(Row))
    assert table.column("psnr").to_pylist() == [r.psnr for r in rows]
    with (tmp_path / "whole" / "results.csv").open(newline="") as file:
        read_back = list(csv.DictReader(file))
    assert [float(r["psnr"]) for r in read_back] == [r.psnr for r in rows]
    assert read_back[0]["noise_level"] == ""
    lines = (tmp_path / "whole" / "rows.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["cell"] for line in lines) == sorted(cells)
    assert all(r.seconds > 0 and r.threads == 1 for r in rows)
    (record,) = json.loads((tmp_path / "whole" / "run.json").read_text())["runs"]
    assert record["finished"]
    assert record["seed"] == 0
    assert "results.csv" in [f["path"] for f in record["files"]]
    assert str(tmp_path) not in json.dumps(record)


def test_a_method_with_two_settings_has_two_columns_in_all_tables(data, tmp_path):
    swept = settings(methods=("mean:size=3", "mean:size=5"), noises=("gaussian",), tasks=("lesions",))
    done = run(data, tmp_path / "run", settings=swept)
    assert {r.settings for r in done.results.rows} == {'{"size": 3}', '{"size": 5}'}
    heads = [line for line in (tmp_path / "run" / "table.md").read_text().splitlines() if "mean (size=3)" in line]
    lesions = [line for line in heads if line.startswith("| measure")]
    assert lesions
    assert all("mean (size=5)" in line for line in lesions)


def test_processes_give_the_rows_of_one_process(data, whole, tmp_path):
    two = run(data, tmp_path / "two", executor="processes", workers=2)
    assert timeless(two.results.rows) == timeless(whole.results.rows)


def test_dask_gives_the_rows_of_one_process(data, whole, tmp_path):
    pytest.importorskip("distributed")
    two = run(data, tmp_path / "two", executor="dask", workers=1)
    assert timeless(two.results.rows) == timeless(whole.results.rows)


def test_parts_are_joined_to_the_rows_of_a_whole_run(data, whole, tmp_path):
    folder = tmp_path / "parts"
    for index in (1, 2):
        part = run(data, folder, shard=Shard(index, 2))
        assert part.printed is None
        assert not (folder / "results.csv").exists()
    joined = run(data, folder, resume=True)
    assert joined.done == 0
    assert timeless(joined.results.rows) == timeless(whole.results.rows)
    assert (folder / "run-1-of-2.json").exists()


def test_a_part_that_is_missing_is_done_when_joining(data, whole, tmp_path):
    part = run(data, tmp_path / "parts", shard=Shard(1, 2))
    joined = run(data, tmp_path / "parts", resume=True)
    assert joined.kept == part.done
    assert timeless(joined.results.rows) == timeless(whole.results.rows)


def test_a_killed_run_goes_on_after_its_torn_line(data, whole, tmp_path):
    folder = tmp_path / "whole"
    path = folder / "rows.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 8
    # Killed within the third unit: one whole row of two, and half of the other.
    path.write_bytes(b"".join(lines[:5]) + lines[5][:100])
    again = run(data, folder, resume=True)
    assert (again.kept, again.done) == (2, 2)
    assert timeless(again.results.rows) == timeless(whole.results.rows)
    assert len(path.read_text().splitlines()) == 8


def test_an_interrupt_keeps_what_is_done(data, whole, tmp_path, monkeypatch):
    real = module.run_unit
    seen = []

    def interrupted(work):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(work)
        return real(work)

    monkeypatch.setattr(module, "run_unit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "stopped")
    assert len((tmp_path / "stopped" / "rows.jsonl").read_text().splitlines()) == 4
    monkeypatch.setattr(module, "run_unit", real)
    again = run(data, tmp_path / "stopped", resume=True)
    assert (again.kept, again.done) == (2, 2)
    assert timeless(again.results.rows) == timeless(whole.results.rows)


def test_a_row_replays_from_what_it_says(data, whole):
    row = next(r for r in whole.results.rows if r.noise == "motion")
    case = whole.plan.cases[row.case].load()
    noise = NOISES.get(row.noise)
    noisy, _ = corrupt(
        case.image,
        noise,
        seeds=[row.seed],
        strength=row.strength,
        given={"mode": row.mode},
        contexts=[case.context],
        standing=case.image,
    )
    error = float((noisy - case.image).double().square().mean().sqrt()) * case.intensity.scale
    assert row.rmse_in == pytest.approx(error, rel=1e-6)


def test_examples_are_the_first_case_of_each_kind(whole, tmp_path):
    folder = tmp_path / "whole" / "examples"
    first = next(iter(whole.plan.cases))
    assert sorted(p.name for p in folder.iterdir()) == [f"{first}-gaussian.npz", f"{first}-motion.npz", "meta.json"]
    assert json.loads((folder / "meta.json").read_text())[first]["kind"] == "xray"
    with np.load(folder / f"{first}-gaussian.npz") as images:
        assert images.files == ["clean", "noisy", "mean", "gaussian"]
        assert images["noisy"].dtype == np.float32
        expected = whole.plan.cases[first].load().image[0, 0].numpy()
        np.testing.assert_array_equal(images["clean"], expected)


def test_nothing_is_overwritten_and_nothing_else_continued(data, whole, tmp_path):
    folder = tmp_path / "whole"
    before = (folder / "rows.jsonl").read_bytes()
    with pytest.raises(TargetExists):
        run(data, folder)
    with pytest.raises(MedfplError, match="other data or settings"):
        run(data, folder, settings=settings(seed=1), resume=True)
    with pytest.raises(MedfplError, match="other data or settings"):
        run(data, folder, settings=settings(seed=1), shard=Shard(1, 2))
    with pytest.raises(UsageError, match="--resume keeps"):
        run(data, folder, resume=True, overwrite=True)
    assert (folder / "rows.jsonl").read_bytes() == before
    new = run(data, folder, settings=settings(seed=1), overwrite=True)
    assert {r.seed for r in new.results.rows}.isdisjoint({r.seed for r in whole.results.rows})


def test_a_source_that_changed_under_way_is_noticed(data, tmp_path, monkeypatch):
    real = module._works

    def swapped(plan, units, device):
        for path in data.iterdir():
            path.write_bytes(pictures(tmp_path / "other", 1).joinpath("00000000_000.png").read_bytes()[:-1] + b"x")
        yield from real(plan, units, device)

    monkeypatch.setattr(module, "_works", swapped)
    with pytest.raises(MedfplError):
        run(data, tmp_path / "out")


def test_a_journal_reads_infinite_and_missing_numbers_back(whole, tmp_path):
    from dataclasses import replace

    from medfpl.bench.unit import Done

    row = replace(whole.results.rows[0], psnr=float("inf"), ssim=float("nan"))
    journal = Journal(tmp_path / "j")
    journal.folder.mkdir()
    journal.add(Done(whole.plan.units[0], (row,), (), (f"{row.cell}: t: x",)))
    found = read_results(journals_of(journal.folder), {"u": [row.cell]})
    assert found.rows[0].psnr == float("inf")
    assert found.rows[0].ssim != found.rows[0].ssim
    assert found.notes == (f"{row.cell}: t: x",)


def test_a_real_slice_is_benched(real_data, tmp_path):
    source = next(p for p in sorted((real_data / "chest_ct").rglob("*.dcm")))
    result = run(source, tmp_path / "real", choice=DataSettings(size=96, max_noise_hu=1000))
    assert {r.unit for r in result.results.rows} == {"HU"}
    assert read(source).intensity.kind == "ct"
    gaussian = [r for r in result.results.rows if r.noise == "gaussian"]
    assert all(r.psnr > r.psnr_in + 3 and not r.error for r in gaussian)
