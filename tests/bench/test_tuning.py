"""Tuned settings: the committed table, the choice of the best, and what a method is told."""

import json

import pytest
import torch

from medfpl.bench.cases import Case
from medfpl.bench.plan import NOISES_OF_TABLE, Unit
from medfpl.bench.tune import Tried, best_rows, grid, try_settings
from medfpl.bench.tuning import ANY, COLUMNS, Tuned, about_tuning, read_tuned, tuned_for
from medfpl.denoisers import METHODS
from medfpl.noises import NOISES
from medfpl.scan import Intensity

CLASSICAL = ("bilateral", "combined", "gaussian", "mean", "median", "nlm", "wavelet", "wiener")


def test_the_committed_table_has_every_filter_on_every_noise_and_kind():
    table = read_tuned()
    for method in CLASSICAL:
        for noise in NOISES_OF_TABLE:
            for kind in ("ct", "mr", "xray", ANY):
                assert (method, noise, kind) in table
    assert {m for m, _, _ in table} == set(about_tuning())
    for about in about_tuning().values():
        assert about["split"] == "val"
        assert len(about["store"]) == 64
        assert "tune_bench.py" in about["command"]


def test_every_committed_setting_builds_its_method():
    for (method, noise, _), tuned in read_tuned().items():
        assert noise in NOISES.names()
        assert tuned.factor > 0
        if METHODS.get(method).settings.keys() & {"model"}:
            continue
        METHODS.get(method).make(**dict(tuned.settings))


@pytest.mark.parametrize("method", METHODS.names())
@pytest.mark.parametrize("known", [True, False])
def test_a_grid_begins_with_the_defaults_and_tries_nothing_twice(method, known):
    tried = grid(method, level_known=known)
    assert tried[0] == Tuned()
    assert len(set(tried)) == len(tried)
    known_settings = METHODS.get(method).settings
    for tuned in tried:
        for name, value in tuned.settings:
            known_settings[name].check(name, value)
    assert len(tried) == 1 or method != "medfpl"
    if known:
        assert all(t.level is None for t in tried)


def test_the_best_of_each_kind_and_of_all_is_chosen():
    a, b = Tuned(), Tuned.of({"size": 5})
    trials = [
        *(Tried("mean", "gaussian", "ct", t, p) for t, p in ((a, 30.0), (b, 31.0), (a, 30.0), (b, 31.0))),
        *(Tried("mean", "gaussian", "mr", t, p) for t, p in ((a, 28.0), (b, 20.0))),
    ]
    rows = {r["kind"]: r for r in best_rows(trials)}
    assert all(tuple(r) == COLUMNS for r in rows.values())
    assert json.loads(rows["ct"]["settings"]) == {"size": 5}
    assert (rows["ct"]["default_psnr"], rows["ct"]["psnr"], rows["ct"]["cases"]) == ("30.00", "31.00", "2")
    # Kinds weigh alike, however many cases they have: 29 dB against 25.5.
    assert [json.loads(rows[k]["settings"]) for k in ("mr", ANY)] == [{}, {}]


def test_a_kind_without_a_row_takes_that_of_all_kinds():
    table = {("nlm", "motion", ANY): Tuned((), 2.0), ("nlm", "motion", "ct"): Tuned((), 0.5)}
    assert tuned_for(table, "nlm", "motion", "ct").factor == 0.5
    assert tuned_for(table, "nlm", "motion", "other").factor == 2.0
    assert tuned_for(table, "mean", "motion", "ct") == Tuned()


def test_what_a_method_is_told_and_what_a_row_says():
    assert Tuned((), 0.5).told(0.2) == 0.1
    assert Tuned((), 1.0, 0.03).told(0.2) == 0.03
    assert Tuned().to_json() == "{}"
    assert json.loads(Tuned.of({"size": 5}, 0.5).to_json()) == {"noise_level": "x0.5", "size": 5}
    assert json.loads(Tuned((), 1.0, 0.03).to_json()) == {"noise_level": 0.03}


def test_trying_settings_finds_that_impulses_want_a_median():
    rows, columns = torch.meshgrid(*(torch.linspace(0, 1, 40),) * 2, indexing="ij")
    case = Case("c", "p", (0.3 + 0.4 * rows * columns)[None, None], Intensity("xray", "1", 0.0, 255.0))
    unit = Unit("c", "salt-pepper", "default", 0.5, 3)
    tried = try_settings(case, unit, ["mean", "median"])
    best = {m: max(t.psnr for t in tried if t.method == m) for m in ("mean", "median")}
    assert best["median"] > best["mean"] + 5
    assert len(tried) == len(grid("mean", level_known=True)) + len(grid("median", level_known=True))
