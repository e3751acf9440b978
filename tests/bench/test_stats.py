"""Means, ranks and intervals against sums done by hand, an own BCa, and simulated patients of known mean."""

import math
from dataclasses import replace

import numpy as np
import pytest
from bench_rows import row, rows
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from medfpl.bench import stats


def test_a_patient_counts_once_however_many_slices_it_has() -> None:
    values = [("a", 10.0), ("a", 20.0), ("a", 30.0), ("b", 40.0)]
    assert stats.over_patients(values) == (30.0, 2)
    assert stats.over_patients([*values, ("b", math.nan), ("c", math.nan)]) == (30.0, 2)
    mean, patients = stats.over_patients([("a", math.nan)])
    assert math.isnan(mean)
    assert patients == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(-1e6, 1e6)), min_size=1), st.randoms())
def test_order_does_not_matter(values: list[tuple[str, float]], random) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)
    assert stats.over_patients(values) == stats.over_patients(shuffled)


def test_cells_hold_means_counts_and_failures() -> None:
    given_rows = [
        row(patient="a", case="a0", psnr=30.0),
        row(patient="a", case="a1", psnr=34.0),
        row(patient="b", case="b0", psnr=40.0),
        row(patient="b", case="b1", psnr=math.nan, error="out of memory"),
    ]
    (cell,) = stats.cells(given_rows)
    assert (cell.psnr, cell.patients, cell.cases, cell.failed) == (36.0, 2, 4, 1)


def test_perfect_results_stay_infinite() -> None:
    (cell,) = stats.cells([row(case="a", psnr=math.inf), row(case="b", psnr=30.0)])
    assert cell.psnr == math.inf
    same = [row(method="medfpl", psnr=math.inf), row(method="mean", psnr=math.inf)]
    (lead,) = stats.differences(same, "psnr")
    assert lead.mean == 0


def test_labels_tell_apart_only_what_needs_it() -> None:
    plain = [row(noise="poisson", mode="ct"), row(noise="gaussian"), row(method="dpir", prior="p")]
    labels = stats.Labels(plain)
    assert [labels.noise(r) for r in plain] == ["poisson", "gaussian", "gaussian"]
    assert labels.method(plain[2]) == "dpir"
    variants = [row(method="dpir", prior="p"), row(method="dpir", prior="q"), row(noise="poisson", mode="ct")]
    variants += [row(noise="poisson", mode="detector")]
    labels = stats.Labels(variants)
    assert [labels.method(r) for r in variants[:2]] == ["dpir (p)", "dpir (q)"]
    assert [labels.noise(r) for r in variants[2:]] == ["poisson (ct)", "poisson (detector)"]


def test_one_model_a_noise_is_one_method() -> None:
    specialists = [row(noise="gaussian", prior="for-gaussian"), row(noise="motion", prior="for-motion")]
    assert stats.methods_of(stats.cells(specialists)) == ["medfpl"]


def test_settings_are_named_where_they_alone_differ() -> None:
    swept = [row(method="mean", settings='{"size": 3}'), row(method="mean", settings='{"size": 5}')]
    assert [stats.Labels(swept).method(r) for r in swept] == ["mean (size=3)", "mean (size=5)"]
    beside = [row(settings="{}"), row(settings='{"faint": 3.0}')]
    assert stats.methods_of(stats.cells(beside)) == ["medfpl", "medfpl (faint=3)"]
    assert stats.reference_of(stats.cells(beside)) == "medfpl"


def test_standings_rank_within_each_noise_and_share_ties() -> None:
    scores = {"gaussian": {"medfpl": 30.0, "mean": 20.0, "median": 20.0}, "motion": {"medfpl": 20.0, "mean": 30.0}}
    given_rows = [row(noise=n, method=m, psnr=v) for n, found in scores.items() for m, v in found.items()]
    found = {s.method: s for s in stats.standings(stats.cells(given_rows), "psnr")}
    # gaussian: 1, 2.5, 2.5; motion: 2, 1, and 3 for the method that did not run.
    assert {m: s.rank for m, s in found.items()} == {"medfpl": 1.5, "mean": 1.75, "median": 2.75}
    assert {m: s.wins for m, s in found.items()} == {"medfpl": 1, "mean": 1, "median": 0}
    assert found["medfpl"].mean == 25.0


def test_a_noise_on_which_all_failed_has_no_winner() -> None:
    failed = [row(method=m, psnr=math.nan, error="no") for m in ("medfpl", "mean")]
    assert [s.wins for s in stats.standings(stats.cells(failed), "psnr")] == [0, 0]


def test_a_difference_is_of_pairs_and_weighs_noises_and_patients_alike() -> None:
    def pair(patient: str, case: str, noise: str, ours: float, theirs: float) -> list:
        return [
            row(patient=patient, case=case, noise=noise, psnr=ours),
            row(patient=patient, case=case, noise=noise, method="mean", psnr=theirs),
        ]

    given_rows = [
        *pair("a", "a0", "gaussian", 30, 20),  # +10
        *pair("a", "a1", "gaussian", 34, 20),  # +14: the noise of patient a is +12
        *pair("a", "a0", "motion", 20, 20),  # 0: patient a is +6
        *pair("b", "b0", "gaussian", 32, 30),  # +2
        *pair("b", "b0", "motion", 34, 30),  # +4: patient b is +3
        *pair("c", "c0", "motion", 50, math.nan),  # no pair
        row(patient="d", case="d0", psnr=90.0),  # no rival
    ]
    (lead,) = stats.differences(given_rows, "psnr")
    assert (lead.rival, lead.mean, lead.patients, lead.pairs) == ("mean", 4.5, 2, 5)
    assert math.isnan(lead.low)


def test_differences_are_the_same_in_any_order_and_for_a_seed() -> None:
    given_rows = rows(kinds=("ct",), noises=("gaussian", "motion"), methods=("medfpl", "mean", "nlm"), patients=5)
    found = stats.differences(given_rows, "psnr")
    assert found == stats.differences(given_rows[::-1], "psnr")
    other = stats.differences(given_rows, "psnr", seed=1)
    assert [d.mean for d in other] == [d.mean for d in found]
    assert [d.low for d in other] != [d.low for d in found]


def test_the_reference_may_be_any_method() -> None:
    given_rows = [row(psnr=30.0), row(method="mean", psnr=20.0)]
    (lead,) = stats.differences(given_rows, "psnr", reference="mean")
    assert (lead.rival, lead.mean) == ("medfpl", -10.0)
    assert stats.differences(given_rows, "psnr", reference="nlm") == []


def bca(data: np.ndarray, generator: np.random.Generator, resamples: int = 100_000) -> tuple[float, float]:
    """Efron's interval of the mean, written out."""
    means = generator.choice(data, (resamples, len(data))).mean(1)
    below = (np.count_nonzero(means < data.mean()) + np.count_nonzero(means <= data.mean())) / (2 * resamples)
    bias = norm.ppf(below)
    left_out = (data.sum() - data) / (len(data) - 1)
    gap = left_out.mean() - left_out
    bend = (gap**3).sum() / (6 * (gap**2).sum() ** 1.5)
    ends = [bias + norm.ppf(p) for p in (0.025, 0.975)]
    low, high = np.quantile(means, [norm.cdf(bias + e / (1 - bend * e)) for e in ends])
    return float(low), float(high)


@pytest.mark.parametrize("n", [6, 15])
def test_intervals_are_efrons(n: int) -> None:
    data = np.random.default_rng(n).exponential(1.0, n)
    ours, theirs = stats.interval(data, np.random.default_rng(1)), bca(data, np.random.default_rng(2))
    assert ours == pytest.approx(theirs, abs=0.05 * data.std())


def test_intervals_of_nothing_uncertain_or_too_little() -> None:
    generator = np.random.default_rng(0)
    assert stats.interval([2.5] * 6, generator) == (2.5, 2.5)
    for few in ([], [1.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0, math.inf]):
        assert all(map(math.isnan, stats.interval(few, generator)))


def coverage(n: int, trials: int) -> float:
    """Return how often the interval holds the true mean of ``n`` normal patients."""
    generator = np.random.default_rng(n)
    limits = [stats.interval(generator.normal(1, 1, n), generator) for _ in range(trials)]
    return sum(low <= 1 <= high for low, high in limits) / trials


def test_intervals_hold_the_truth_as_often_as_they_say_from_twenty_patients_on() -> None:
    assert 0.89 <= coverage(20, 150) <= 0.99


def test_and_less_often_with_few_patients_as_the_tables_say() -> None:
    assert 0.70 <= coverage(stats.LEAST, 150) <= 0.88


def test_variants_of_the_reference_are_compared_with_its_first() -> None:
    given_rows = [replace(row(prior=p), psnr=v) for p, v in (("a", 30.0), ("b", 28.0))]
    assert stats.reference_of(stats.cells(given_rows)) == "medfpl (a)"
    (lead,) = stats.differences(given_rows, "psnr", reference="medfpl (a)")
    assert (lead.rival, lead.mean) == ("medfpl (b)", 2.0)
