import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from saliency_tools import body, disc, white
from scipy.ndimage import gaussian_filter

from medfpl.saliency.trust import TILE, Assessment, SliceTrust, assess, thresholds, to_plain

SIDE, SIGMA = 192, 0.02
LESION = (112.0, 70.0)


def judge(before: np.ndarray, after: np.ndarray) -> SliceTrust:
    (one,) = assess(before[None].astype(np.float32), after[None].astype(np.float32)).slices
    return one


def holds(tile: tuple[int, int, int, int], at: tuple[float, float]) -> bool:
    return tile[0] - 8 <= at[0] < tile[1] + 8 and tile[2] - 8 <= at[1] < tile[3] + 8


def test_nothing_changed() -> None:
    clean = body()
    for image in (clean, clean + white(SIDE, SIGMA, 0)):
        one = judge(image, image)
        assert (one.score, one.feature_like, one.flags) == (0, 0, ())


@given(seed=st.integers(0, 10_000), sigma=st.sampled_from([0.005, 0.02, 0.06]))
@settings(max_examples=12, deadline=None)
def test_removing_the_noise_and_nothing_else_is_fine(seed: int, sigma: float) -> None:
    clean = body()
    noisy = clean + white(SIDE, sigma, seed)
    assert judge(noisy, clean).flags == ()
    assert judge(noisy, 0.5 * (noisy + clean)).flags == ()


@pytest.mark.parametrize("seed", range(4))
def test_noise_that_varies_or_is_correlated_is_fine(seed: int) -> None:
    clean = body()
    varying = white(SIDE, SIGMA, seed) * (0.2 + 4 * clean)
    correlated = gaussian_filter(white(SIDE, 4 * SIGMA, seed), 1.0)
    for noise in (varying, correlated):
        assert judge(clean + noise, clean).flags == ()


@pytest.mark.parametrize("seed", range(3))
def test_removing_impulses_is_fine(seed: int) -> None:
    clean = body()
    generator = np.random.default_rng(seed)
    noisy = np.where(generator.random(clean.shape) < 0.03, generator.choice((0.0, 1.0), clean.shape), clean)
    assert judge(noisy, clean).flags == ()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("diameter", "contrast"), [(16, 1.5), (10, 2.5), (10, -2.5), (6, 4)])
def test_an_erased_lesion_is_found_where_it_was(diameter: float, contrast: float, seed: int) -> None:
    clean = body()
    lesion = disc(SIDE, LESION, diameter, contrast * SIGMA)
    one = judge(clean + lesion + white(SIDE, SIGMA, seed), clean)
    assert one.score > 1
    assert all(reason.startswith("structure") for reason in one.reasons)
    assert all(holds(flag.tile, LESION) for flag in one.flags)


@pytest.mark.parametrize("seed", range(3))
def test_far_from_other_structure_it_is_told_what_was_removed_and_what_added(seed: int) -> None:
    flat = np.full((SIDE, SIDE), 0.5, np.float32)
    lesion, noise = disc(SIDE, LESION, 12, 3 * SIGMA), white(SIDE, SIGMA, seed)
    assert judge(flat + lesion + noise, flat).reasons == ("structure removed",)
    assert judge(flat + noise, flat + lesion).reasons == ("structure added",)
    assert judge(flat - lesion + noise, flat).reasons == ("structure removed",)


def test_beside_stronger_structure_it_is_not_told() -> None:
    ground = 0.5 + disc(SIDE, LESION, 12, 0.5)
    part = disc(SIDE, LESION, 12, 0.1)
    assert "structure changed" in judge(ground, ground - part).reasons


@pytest.mark.parametrize("seed", range(4))
def test_an_added_lesion_is_found_where_it_is(seed: int) -> None:
    clean = body()
    lesion = disc(SIDE, LESION, 12, 2.5 * SIGMA)
    one = judge(clean + white(SIDE, SIGMA, seed), clean + lesion)
    assert one.score > 1
    assert all(holds(flag.tile, LESION) for flag in one.flags)


@pytest.mark.parametrize("sigma", [1.5, 2.5])
@pytest.mark.parametrize("seed", range(3))
def test_blur_is_found(sigma: float, seed: int) -> None:
    noisy = body() + white(SIDE, SIGMA, seed)
    one = judge(noisy, gaussian_filter(noisy, sigma))
    assert "edges blurred" in one.reasons
    assert one.edges_lost > judge(noisy, body()).edges_lost + 0.1


def test_edge_contrast_lost_is_measured_as_a_share() -> None:
    """Where an image's band is halved and no noise was there, B - A = A: a share of 1; sharpened edges lose nothing."""
    clean = body()
    assert judge(clean, 0.5 * clean).edges_lost == pytest.approx(1, rel=1e-2)
    assert judge(clean, clean / 1.1).edges_lost == pytest.approx(0.1, rel=1e-2)
    assert judge(clean, 1.5 * clean).edges_lost == 0


def test_a_fainter_lesion_scores_less_and_the_faintest_is_missed() -> None:
    clean, noise = body(), white(SIDE, SIGMA, 5)
    scores = [judge(clean + disc(SIDE, LESION, 12, c * SIGMA) + noise, clean).structure for c in (0.2, 1, 2, 4)]
    assert scores == sorted(scores)
    assert scores[0] < thresholds().structure < scores[-1]


def test_what_is_like_features_and_what_like_noise() -> None:
    clean = body()
    noise = judge(clean + white(SIDE, SIGMA, 1), clean)
    lesion = judge(clean + disc(SIDE, LESION, 14, 6 * SIGMA) + white(SIDE, SIGMA, 1), clean)
    assert noise.feature_like < 0.05
    here = max(t.feature_like for t in lesion.tiles)
    elsewhere = [t.feature_like for t in lesion.tiles if not holds(t.box, LESION)]
    assert here > 0.4 > max(elsewhere)


def test_pixels_that_are_not_valid_are_not_judged() -> None:
    clean = body()
    changed = clean + disc(SIDE, LESION, 16, 0.3)
    valid = np.ones((1, SIDE, SIDE), bool)
    assert assess(changed[None], clean[None], valid).flagged == [0]
    valid[0, 80:150, 30:110] = False
    assert assess(changed[None], clean[None], valid).flagged == []


@pytest.mark.parametrize("shape", [(1, 1), (5, 40), (33, 65)])
def test_any_size(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    one = judge(image, np.zeros_like(image))
    covered = np.zeros(shape, int)
    for tile in one.tiles:
        covered[tile.box[0] : tile.box[1], tile.box[2] : tile.box[3]] += 1
        assert max(tile.box[1] - tile.box[0], tile.box[3] - tile.box[2]) <= TILE
    assert (covered == 1).all()
    assert np.isfinite(one.score)


def test_slices_are_judged_one_by_one() -> None:
    clean = body()
    before = np.stack([clean + white(SIDE, SIGMA, z) for z in range(3)])
    before[1] += disc(SIDE, LESION, 14, 5 * SIGMA)
    found: Assessment = assess(before, np.stack([clean] * 3))
    assert found.flagged == [1]
    assert found.slices[0] == judge(before[0], clean)


def test_the_record_is_plain() -> None:
    import json

    clean = body()
    one = judge(clean + disc(SIDE, LESION, 14, 5 * SIGMA), clean)
    plain = json.loads(json.dumps(to_plain(one)))
    assert plain["reasons"] == list(one.reasons) != []
    assert plain["flags"][0]["score"] == pytest.approx(one.flags[0].score, abs=1e-4)
    assert plain["flags"][0]["tile"] == list(one.flags[0].tile)
