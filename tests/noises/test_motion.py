"""Motion against rolls, Parseval, the closed form of ghosts and the shape of a straight blur."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from noise_checks import CT, MR, noisy, phantom
from torch import Tensor

from medfpl.noises import NOISES, Context, corrupt
from medfpl.noises.kinds.motion import MAX_SEGMENTS, line_poses, line_psf, rotate

MOTION = NOISES.get("motion")


def kspace(x: Tensor, moves: list[tuple[float, float, float]], **other: Any) -> Tensor:
    """Apply the (phase shift, readout shift, rotation) of each segment to every item of ``x``."""
    values = {
        "mode": "kspace",
        "segments": len(moves),
        "centre": 0.0,
        "phase": 0.0,
        "phase_axis": "rows",
        "shifts_phase": [m[0] for m in moves],
        "shifts_readout": [m[1] for m in moves],
        "rotations": [m[2] for m in moves],
        **other,
    }
    return MOTION.apply(x, [values] * len(x), [torch.Generator()] * len(x), [MR] * len(x))


def ghost(x: Tensor, modulation: float, period: int) -> Tensor:
    return noisy("motion", x, mode="ghost", modulation=modulation, period=period)


@given(v=st.integers(-9, 9), u=st.integers(-9, 9), segments=st.integers(1, 6), odd=st.booleans())
@settings(max_examples=30, deadline=None)
def test_one_translation_in_all_segments_is_a_roll(v: int, u: int, segments: int, odd: bool) -> None:
    x = phantom(33 if odd else 32, 40, dtype=torch.float64)
    torch.testing.assert_close(kspace(x, [(v, u, 0.0)] * segments), x.roll((v, u), (-2, -1)), atol=1e-6, rtol=0)


def test_no_motion_is_the_image() -> None:
    x = phantom(31, 40, items=2)
    torch.testing.assert_close(kspace(x, [(0, 0, 0)] * 4), x, atol=1e-6, rtol=0)
    torch.testing.assert_close(kspace(x, [(0, 0, 0)] * 4, centre=0.06), x, atol=1e-6, rtol=0)


@given(seed=st.integers(0, 99), shift=st.floats(0, 20), phase=st.floats(0, 3))
@settings(max_examples=30, deadline=None)
def test_translations_keep_the_energy(seed: int, shift: float, phase: float) -> None:
    x = phantom(48, 40, dtype=torch.float64)
    y = noisy("motion", x, seed=seed, shift=shift, rotation=0, phase=phase)
    assert float(y.square().sum() / x.square().sum()) == pytest.approx(1, abs=1e-6)


def test_segments_cover_the_lines_in_the_order_of_acquisition() -> None:
    values = [{"segments": 4, "centre": 0.06}, {"segments": 3, "centre": 0.0}]
    poses = torch.fft.fftshift(line_poses(values, 200, torch.zeros(1)), dim=-1)
    centre = (poses[0] == 0).nonzero().flatten()
    assert (int(centre.min()), int(centre.max())) == (95, 105)  # DC is line 100; 6 % of 200 about it
    outside = poses[0][poses[0] > 0]
    assert torch.equal(outside, outside.sort().values)
    assert [int((poses[0] == k).sum()) for k in range(1, 5)] == [50, 45, 44, 50]
    assert sorted(set(poses[1].tolist())) == [1, 2, 3]


def test_the_centre_keeps_the_image_where_it_was() -> None:
    x = phantom(64, 64, dtype=torch.float64)
    y = kspace(x, [(3.0, -2.0, 0.0)] * 4, centre=0.3)
    correlation = torch.fft.ifft2(torch.fft.fft2(x) * torch.fft.fft2(y).conj()).real
    assert int(correlation.flatten().argmax()) == 0
    jumped = kspace(x, [(3.0, -2.0, 0.0)] * 4)
    assert float((y - x).square().mean()) < 0.3 * float((jumped - x).square().mean())


def test_each_segment_shows_its_own_pose() -> None:
    # Against a k-space put together line by line with NumPy from rotated and shifted copies.
    x = phantom(32, 40, dtype=torch.float64)
    moves = [(1.5, 0.0, 3.0), (0.0, -2.25, -4.0)]
    lines = line_poses([{"segments": 2, "centre": 0.0}], 32, x)[0].numpy()
    assembled = np.zeros((32, 40), complex)
    fy, fx = np.fft.fftfreq(32)[:, None], np.fft.fftfreq(40)
    for k, (v, u, degrees) in enumerate(moves, start=1):
        moved = rotate(x, torch.tensor([degrees], dtype=x.dtype))[0, 0].numpy()
        spectrum = np.fft.fft2(moved) * np.exp(-2j * np.pi * (fy * v + fx * u))
        assembled[lines == k] = spectrum[lines == k]
    np.testing.assert_allclose(kspace(x, moves)[0, 0].numpy(), np.abs(np.fft.ifft2(assembled)), atol=1e-12)


def test_rotation_by_a_right_angle_is_a_transposition() -> None:
    x = phantom(40, 40, dtype=torch.float64)
    turned = rotate(x, torch.tensor([90.0], dtype=x.dtype))
    torch.testing.assert_close(turned, torch.rot90(x, 1, (-2, -1)), atol=1e-9, rtol=0)
    torch.testing.assert_close(rotate(x, torch.zeros(1, dtype=x.dtype)), x)


def test_a_full_turn_of_an_oblong_image_keeps_its_proportions() -> None:
    rows = torch.arange(60.0, dtype=torch.float64)[:, None] - 29.5
    columns = torch.arange(90.0, dtype=torch.float64) - 44.5
    disc = torch.exp(-((rows - 10) ** 2 + columns**2) / 40)[None, None]
    expected = torch.exp(-(rows**2 + (columns - 10) ** 2) / 40)[None, None]
    turned = rotate(disc, torch.tensor([90.0], dtype=torch.float64))
    assert min(float((turned - e).abs().max()) for e in (expected, expected.flip(-1))) < 1e-3


@pytest.mark.parametrize("amplitude", [0.2, 0.9])
def test_half_field_ghost_in_closed_form(amplitude: float) -> None:
    x = phantom(64, 48, items=2, dtype=torch.float64)
    expected = (1 - amplitude / 2) * x + amplitude / 2 * x.roll(32, -2)
    torch.testing.assert_close(ghost(x, amplitude, 2), expected.abs(), atol=1e-12, rtol=0)


@given(period=st.integers(2, 6), amplitude=st.floats(0.05, 1))
@settings(max_examples=25, deadline=None)
def test_ghosts_lie_at_m_ths_of_the_field_with_amplitude_a_over_m(period: int, amplitude: float) -> None:
    x = torch.zeros(1, 1, 60, 8, dtype=torch.float64)
    x[..., 7, 3] = 1
    y = ghost(x, amplitude, period)[0, 0, :, 3]
    expected = torch.zeros(60, dtype=torch.float64)
    expected[[(7 + j * 60 // period) % 60 for j in range(period)]] = amplitude / period
    expected[7] = 1 - amplitude / period
    torch.testing.assert_close(y, expected, atol=1e-12, rtol=0)


def test_ghosts_of_a_flat_image_leave_it_alone_for_dc_is_kept() -> None:
    for height in (33, 64):
        x = torch.full((1, 1, height, 20), 0.7, dtype=torch.float64)
        torch.testing.assert_close(ghost(x, 1.0, 4), x, atol=1e-12, rtol=0)


@given(length=st.floats(0, 30), degrees=st.floats(0, 180))
@settings(max_examples=40, deadline=None)
def test_blur_turns_a_point_into_a_straight_line_of_its_length(length: float, degrees: float) -> None:
    side, centre = 64, 32
    psf = line_psf(torch.tensor([length]).double(), torch.tensor([degrees]).double(), side, side)[0, 0]
    assert float(psf.sum()) == pytest.approx(1)
    assert float(psf.min()) >= 0
    at = torch.arange(side).double() - centre
    v, u = torch.meshgrid(at, at, indexing="ij")
    weight = psf.roll((centre, centre), (0, 1))
    angle = np.deg2rad(degrees)
    along = u * np.cos(angle) - v * np.sin(angle)
    across = u * np.sin(angle) + v * np.cos(angle)
    assert float((weight * along).sum()) == pytest.approx(0, abs=1e-9)
    # A uniform segment has variance L^2/12; sharing points with their neighbours adds at most 1/4 px^2 an axis.
    assert -0.05 <= float((weight * along**2).sum()) - length**2 / 12 <= 0.5
    assert float((weight * across**2).sum()) <= 0.5


def test_level_blur_is_the_box_of_its_length() -> None:
    x = torch.zeros(1, 1, 9, 64, dtype=torch.float64)
    x[..., 4, 30] = 1
    values = {"mode": "blur", "length": 21.0, "angle": 0.0}
    line = MOTION.apply(x, [values], [torch.Generator()], [CT])[0, 0, 4]
    inside = line[21:40]
    torch.testing.assert_close(inside, torch.full_like(inside, 1 / 21), atol=2e-4, rtol=0)
    assert float(line[:19].abs().max() + line[42:].abs().max()) < 1e-12


@pytest.mark.parametrize("seed", range(4))
def test_blur_keeps_the_sum_of_what_lies_inside(seed: int) -> None:
    x = torch.nn.functional.pad(phantom(50, 40, dtype=torch.float64), (30, 30, 30, 30))
    y = noisy("motion", x, seed=seed, context=CT, mode="blur", length=42)
    assert float(y.sum()) == pytest.approx(float(x.sum()), rel=1e-9)
    assert float(y.min()) > -1e-12
    flat = torch.full((1, 1, 20, 30), 0.4)
    torch.testing.assert_close(noisy("motion", flat, seed=seed, context=CT, mode="blur", length=60), flat)


def test_swapping_the_axes_transposes_the_artifact() -> None:
    x = phantom(40, 56)
    for mode in ("kspace", "ghost"):
        swapped = noisy("motion", x.mT, seed=4, mode=mode, phase_axis="columns")
        torch.testing.assert_close(swapped.mT, noisy("motion", x, seed=4, mode=mode))


def test_items_with_different_segments_and_axes_share_a_batch() -> None:
    x = phantom(40, 48, items=2)
    records = [
        corrupt(x[i : i + 1], MOTION, seeds=[i], given={"segments": 3 + 4 * i, "phase_axis": axis}, contexts=[MR])
        for i, axis in enumerate(("columns", "rows"))
    ]
    values = [r[0].values for _, r in records]
    together = MOTION.apply(x, values, [torch.Generator()] * 2, [MR] * 2)
    for i, (alone, _) in enumerate(records):
        torch.testing.assert_close(together[i], alone[0])


def test_strength_and_number_of_segments_share_their_draws() -> None:
    def drawn(**given: Any) -> dict[str, Any]:
        return corrupt(phantom(), MOTION, seeds=[7], given=given, contexts=[MR])[1][0].values

    weak, strong, many = drawn(shift=1), drawn(shift=2), drawn(segments=MAX_SEGMENTS)
    assert strong["shifts_phase"] == pytest.approx([2 * t for t in weak["shifts_phase"]])
    assert many["rotations"][:4] == drawn()["rotations"]
    assert {drawn(mode="ghost")["period"] for _ in range(2)} <= set(range(2, 7))


def test_blur_is_the_model_of_x_ray_and_ct_and_the_k_space_modes_of_mr() -> None:
    surrogate = {m: [k for k in ("ct", "xray", "mr") if MOTION.surrogate(m, k)] for m in MOTION.modes}
    assert surrogate == {"kspace": ["ct", "xray"], "ghost": ["ct", "xray"], "blur": ["mr"]}


def test_negative_input_of_a_magnitude_model_is_clamped_and_recorded() -> None:
    x = phantom(32, 32) - 0.2
    y, records = corrupt(x, MOTION, seeds=[1], contexts=[Context("mr")])
    assert records[0].clamped
    assert float(y.min()) >= 0
