"""The published values, and how they stand beside ours."""

import pytest
from bench_rows import rows

from medfpl.bench.paper import comparison_tables, published
from medfpl.bench.stats import ORDER
from medfpl.noises import NOISES


def test_the_published_tables_are_whole() -> None:
    found = published()
    assert len(found) == 790
    assert {m for *_, m in found} == set(ORDER)
    assert {NOISES.resolve(n) for _, _, n, _ in found} <= set(NOISES.names())
    assert found["lidc", "psnr", "chemical-shift", "medfpl"] == 49.39
    assert all(25 < v < 60 if score == "psnr" else 0 <= v <= 1 for (_, score, _, _), v in found.items())


def test_the_psnr_floor_that_shows_the_wrapping_is_in_them() -> None:
    # Where SSIM says that a method failed, PSNR reads as for random errors modulo 256.
    found = published()
    failed = [v for (d, s, n, m), v in found.items() if s == "psnr" and found[d, "ssim", n, m] < 0.3]
    assert len(failed) > 20
    assert min(failed) > 27


def test_kinds_stand_beside_the_nearest_data_sets() -> None:
    made = comparison_tables(rows(patients=1))
    assert [(t.name, t.kind) for t in made] == [
        *(("paper-lidc-psnr", "ct"), ("paper-lidc-ssim", "ct"), ("paper-lits-psnr", "ct"), ("paper-lits-ssim", "ct")),
        *(("paper-rsna-psnr", "xray"), ("paper-rsna-ssim", "xray")),
    ]
    assert comparison_tables(rows(kinds=("mr",), patients=1)) == []


def test_a_cell_holds_both_values_and_the_notes_say_what_differs() -> None:
    found = rows(kinds=("ct",), noises=("gaussian",), methods=("medfpl",), patients=1, slices=1)
    psnr, ssim, *_ = comparison_tables(found)
    assert psnr.head == ("noise", "medfpl")
    assert psnr.body[0][1].text == f"{found[0].psnr:.2f} (35.20)"
    notes = " ".join(psnr.notes)
    assert "arXiv:2310.20101" in notes
    assert "Not like for like" in notes
    assert "Not like for like" not in " ".join(ssim.notes)


@pytest.mark.parametrize("kind", ["true", "uint8-wrapped"])
def test_only_true_psnr_is_called_not_comparable(kind: str) -> None:
    psnr = comparison_tables(rows(kinds=("xray",), patients=1, psnr_kind=kind))[0]
    assert ("Not like for like" in " ".join(psnr.notes)) == (kind == "true")
