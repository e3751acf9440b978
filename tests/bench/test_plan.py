"""The cells of a run: their names, seeds, parts and fingerprint."""

from dataclasses import replace

import pytest
from bench_cases import pictures, settings

from medfpl.bench.data import DataSettings, find_cases
from medfpl.bench.plan import (
    NOISES_OF_TABLE,
    BenchSettings,
    Corruption,
    Entry,
    default_corruptions,
    default_entries,
    make_plan,
)
from medfpl.bench.tuning import Tuned
from medfpl.denoisers import METHODS
from medfpl.errors import UsageError
from medfpl.noises import NOISES
from medfpl.pipeline.jobs import Shard


@pytest.fixture
def cases(tmp_path):
    return find_cases(pictures(tmp_path, patients=3), DataSettings(kind="xray")).chosen


def test_cells_are_the_product_in_order(cases):
    plan = make_plan(cases, settings(strengths=(0.25, 0.5)))
    cells = [c for members in plan.cells_by_unit().values() for c in members]
    assert len(cells) == len(set(cells)) == 3 * 2 * 2 * 2
    assert cells[:3] == [
        f"{cases[0].id}/gaussian.default/0.25/mean",
        f"{cases[0].id}/gaussian.default/0.25/gaussian",
        f"{cases[0].id}/gaussian.default/0.5/mean",
    ]


def test_a_corruption_is_the_same_whatever_else_is_run(cases):
    small = make_plan(cases[:1], settings(methods=("mean",), noises=("motion",)))
    large = make_plan(cases, settings(noises=("gaussian", "motion")))
    seeds = {u.key: u.seed for u in large.units}
    assert len(set(seeds.values())) == len(seeds)
    assert {u.key: u.seed for u in small.units}.items() <= seeds.items()
    other = make_plan(cases, settings(noises=("gaussian", "motion"), seed=1))
    assert not set(seeds.values()) & {u.seed for u in other.units}


@pytest.mark.parametrize("count", [1, 2, 5])
def test_parts_hold_every_unit_once(cases, count):
    plan = make_plan(cases, settings(noises=NOISES_OF_TABLE))
    parts = [u for index in range(1, count + 1) for u in plan.shard(Shard(index, count))]
    assert sorted(u.key for u in parts) == sorted(u.key for u in plan.units)


def test_the_fingerprint_changes_with_what_decides_a_row(cases):
    base = make_plan(cases, settings())
    assert make_plan(cases, settings()).fingerprint() == base.fingerprint()
    changed = [
        make_plan(cases[:2], settings()),
        make_plan(cases, settings(seed=1)),
        make_plan(cases, settings(strengths=(0.4,))),
        make_plan(cases, settings(psnr="uint8-wrapped")),
        make_plan(cases, settings(tuning="none")),
        make_plan(cases, settings(methods=("mean",))),
        make_plan(cases, settings(noises=("gaussian",))),
        replace(base, tuned={}),
    ]
    prints = {p.fingerprint() for p in changed}
    assert base.fingerprint() not in prints - ({changed[-1].fingerprint()} if not base.tuned else set())
    assert len({p.fingerprint() for p in changed[:-1]}) == len(changed) - 1
    assert make_plan(cases, settings(device="cuda")).fingerprint() == base.fingerprint()


def test_defaults_are_the_papers_thirteen_noises_and_every_method():
    assert len(default_corruptions()) == 13
    assert "rayleigh" not in [c.noise for c in default_corruptions()]
    assert [c.noise for c in default_corruptions(every=True)] == NOISES.names()
    names = [e.method for e in default_entries()]
    assert names[0] == "medfpl"
    assert set(METHODS.names()) - set(names) <= {"dpir"}


def test_a_mode_can_be_named_and_an_alias_resolved():
    assert Corruption.parse("poisson/ct-texture") == Corruption("poisson", "ct-texture")
    assert Corruption.parse("impulse") == Corruption("salt-pepper")
    assert Entry.parse("medfpl=some/run").label == "medfpl=run"


def test_a_setting_can_be_given_and_goes_before_the_tuned_one(cases):
    nlm = Entry.parse("nlm:search=11:h=0.5")
    assert nlm == Entry("nlm", None, (("h", 0.5), ("search", 11)))
    assert nlm.label == "nlm:h=0.5:search=11"
    assert Entry.parse("medfpl=some/run:faint=3").label == "medfpl=run:faint=3"
    tuned = nlm.tuned(Tuned.of({"h": 0.2, "patch": 3}, factor=2.0))
    assert tuned == Tuned.of({"h": 0.5, "patch": 3, "search": 11}, factor=2.0)
    prints = [make_plan(cases, settings(methods=(m,))).fingerprint() for m in ("mean", "mean:size=3", "mean:size=5")]
    assert len(set(prints)) == 3


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Corruption.parse("gausian"), "no noise"),
        (lambda: Corruption.parse("poisson/none"), "no mode"),
        (lambda: Entry.parse("nml"), "no method"),
        (lambda: Entry.parse("nlm=run"), "no models"),
        (lambda: Entry.parse("medfpl="), "names no model"),
        (lambda: Entry.parse("mean:width=3"), "mean has no setting 'width'"),
        (lambda: Entry.parse("mean:size=wide"), "needs a number"),
        (lambda: Entry.parse("mean:size=3:size=5"), "a setting twice"),
        (lambda: Entry.parse("medfpl:model=run"), "is no setting here"),
        (lambda: settings(methods=("mean", "mean")), "method is given twice"),
        (lambda: settings(noises=("impulse", "salt-pepper")), "noise is given twice"),
        (lambda: settings(strengths=(0.0,)), "above 0"),
        (lambda: BenchSettings((), (), ()), "needs a method"),
    ],
)
def test_what_cannot_be_run_is_refused(make, reason):
    with pytest.raises(UsageError, match=reason):
        make()


def test_a_noise_named_twice_by_its_default_mode_is_refused(cases):
    with pytest.raises(UsageError, match="twice"):
        make_plan(cases, settings(noises=("motion", f"motion/{NOISES.get('motion').mode_for('xray')}")))
