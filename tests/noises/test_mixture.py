from collections import Counter

import numpy as np
import pytest
import torch

from medfpl.errors import UsageError
from medfpl.noises import NOISES, Context
from medfpl.noises.mixture import BY_KIND, SECOND_BY_KIND, SLOW_MODES, Mixture, apply_plans, plan_item

KINDS = ("ct", "xray", "mr", "other")


def plans(mixture: Mixture, kind: str, count: int = 4000) -> list:
    return [plan_item(mixture, seed, Context(kind)) for seed in range(count)]


def check_share(found: int, count: int, share: float) -> None:
    """Within 5 standard deviations of a binomial."""
    assert abs(found - count * share) < 5 * np.sqrt(count * share * (1 - share))


@pytest.mark.parametrize("kind", KINDS)
def test_every_noise_comes_equally_often_by_default(kind: str) -> None:
    mixture = Mixture(clean=0, pair=0)
    firsts = Counter(p.label for p in plans(mixture, kind))
    assert set(firsts) == set(NOISES.names())
    for count in firsts.values():
        check_share(count, 4000, 1 / len(NOISES.names()))


def test_weights_are_kept_for_each_kind() -> None:
    mixture = Mixture(
        names=("gaussian", "poisson"),
        clean=0,
        pair=0,
        by_kind={"ct": {"poisson/ct-texture": 2.0, "poisson": 0.0, "rician": 9.0}},
        weights={"gaussian": 3.0},
    )
    assert mixture.cases("ct") == {"gaussian": 3.0, "poisson": 0.0, "poisson/ct-texture": 2.0}
    assert mixture.cases("mr") == {"gaussian": 3.0, "poisson": 1.0}
    drawn = plans(mixture, "ct")
    quanta = [p.steps[0] for p in drawn if p.label == "poisson"]
    check_share(len(quanta), 4000, 2 / 5)
    assert {given["mode"] for _, _, given in quanta} == {"ct-texture"}
    kernels = [given["cutoff"] for _, _, given in quanta if "cutoff" in given]
    check_share(len(kernels), len(quanta), 0.6)
    assert 0.3 <= min(kernels) < 0.4
    assert 0.9 < max(kernels) <= 1.0
    check_share(sum(p.label == "poisson" for p in plans(mixture, "mr")), 4000, 1 / 4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_physical_mixture_favours_what_belongs(kind: str) -> None:
    drawn = plans(Mixture.physical(), kind)
    belongs, named = 0, 0
    for name, _, given in (p.steps[0] for p in drawn if p.steps):
        named += 1
        belongs += not NOISES.get(name).surrogate(given.get("mode") or NOISES.get(name).mode_for(kind), kind)
    flat = [p.steps[0] for p in plans(Mixture(), kind) if p.steps]
    usual = sum(not NOISES.get(n).surrogate(g.get("mode") or NOISES.get(n).mode_for(kind), kind) for n, _, g in flat)
    assert belongs / named > usual / len(flat) or kind == "other"
    assert not any((n, g.get("mode")) in SLOW_MODES for p in drawn for n, _, g in p.steps)
    assert {p.label for p in drawn} == {*NOISES.names(), "clean"}, "all noises still come"


@pytest.mark.parametrize("kind", KINDS)
def test_every_case_of_the_physical_mixture_can_be_applied(kind: str) -> None:
    cases = [*BY_KIND.get(kind, {}), *SECOND_BY_KIND.get(kind, ())]
    for case in cases:
        name, _, mode = case.partition("/")
        noise = NOISES.get(name)
        assert noise.name == name
        assert not mode or mode in noise.modes
        if kind != "mr":
            assert not noise.surrogate(mode or noise.mode_for(kind), kind), case


def test_a_second_noise_is_one_of_its_kind_and_of_the_names() -> None:
    mixture = Mixture.physical(names=("motion", "poisson", "speckle"), clean=0, pair=1)
    for kind, expected in (("ct", {"ct-texture"}), ("xray", {None}), ("mr", set())):
        seconds = [p.steps[1] for p in plans(mixture, kind, 500) if len(p.steps) > 1]
        assert {given.get("mode") for name, _, given in seconds if name == "poisson"} >= expected
        assert {name for name, *_ in seconds} <= {"poisson"}
        assert all(strength <= mixture.pair_strength for _, strength, _ in seconds)


def test_the_same_seed_is_the_same_plan_and_noise() -> None:
    contexts = [Context(k, -1000 if k == "ct" else 0, 1000, 1.4) for k in KINDS] * 4
    x = torch.rand(16, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    mixture = Mixture.physical(pair=0.6)
    first, second = ([plan_item(mixture, s, c) for s, c in enumerate(contexts)] for _ in range(2))
    assert first == second
    y = apply_plans(x, first, range(16), contexts)
    assert torch.equal(y, apply_plans(x, second, range(16), contexts))
    for i in (0, 5, 9):
        alone = apply_plans(x[i : i + 1], first[i : i + 1], [i], contexts[i : i + 1])
        torch.testing.assert_close(alone[0], y[i], rtol=0, atol=1e-5)


def test_what_a_strength_leaves_fixed_is_varied() -> None:
    drawn = plans(Mixture(names=("structured",), clean=0, pair=0), "xray", 1500)
    patterns = [given for p in drawn for _, _, given in p.steps if given.get("mode", "pattern") == "pattern"]
    assert all(16 <= g["period"] <= 256 and -90 <= g["angle"] <= 90 for g in patterns)
    assert len({g["period"] for g in patterns}) == len(patterns) > 1000
    given = [p.steps[0][2] for p in plans(Mixture(names=("gaussian",), clean=0, pair=0), "mr")]
    check_share(sum("correlation" in g for g in given), 4000, 0.3)
    assert all(0.3 <= g["correlation"] <= 1.8 for g in given if g)


def test_no_weights_draw_the_same_as_none() -> None:
    """The stream of a seed does not depend on features that are not used: earlier runs can be made again."""
    for seed in range(300):
        context = Context("mr")
        assert plan_item(Mixture(), seed, context) == plan_item(
            Mixture(by_kind={"ct": {"poisson": 9.0}}), seed, context
        )


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UsageError, match="no noise is called"):
        plan_item(Mixture(names=("gausian",)), 0, Context())


@pytest.mark.parametrize("even", [0.0, 0.5, 1.0])
def test_strengths_are_log_uniform_but_for_the_even_share(even: float) -> None:
    strengths = [p.steps[0][1] for p in plans(Mixture(clean=0, pair=0, weakest=0.01, even=even), "ct")]
    assert 0.01 <= min(strengths) < max(strengths) <= 1
    # Below a tenth: half of what is log-uniform, and a little of what is uniform.
    check_share(sum(s < 0.1 for s in strengths), 4000, 0.5 * (1 - even) + even * 0.09 / 0.99)
