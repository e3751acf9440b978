"""Figures: what is drawn, in which colours, and that names do not hide one another."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from bench_rows import row, rows, save_examples, tasks
from PIL import Image

from medfpl.bench import figures, plotting, stats
from medfpl.bench.examples import find_examples
from medfpl.bench.figures import save_figures


@pytest.fixture(scope="module")
def few() -> list:
    return rows(kinds=("ct",), noises=("gaussian", "motion"), methods=("medfpl", "mean", "nlm"), patients=1, slices=1)


def test_every_figure_of_a_run_is_written(few: list, tmp_path: Path) -> None:
    pictures = save_figures(few, tasks(few), [], tmp_path / "figures")
    names = ["psnr-ct", "ssim-ct", "speed-ct", "task-lesions-recovery-ct"]
    assert [p.path.stem for p in pictures] == names
    assert sorted(p.stem for p in (tmp_path / "figures").iterdir()) == sorted(names)
    for picture in pictures:
        assert picture.kind == "ct"
        assert picture.alt
        with Image.open(picture.path) as image:
            assert image.width == pytest.approx(plotting.WIDTH * plotting.DPI, abs=2)
            assert np.ptp(np.asarray(image.convert("L"))) > 200


def test_strengths_have_curves_only_where_there_are_several(tmp_path: Path) -> None:
    found = rows(kinds=("mr",), noises=("gaussian",), methods=("medfpl",), patients=1, slices=1, strengths=(0.3, 0.6))
    names = [p.path.stem for p in save_figures(found, [], [], tmp_path)]
    assert names == ["psnr-mr", "ssim-mr", "speed-mr", "strength-psnr-mr", "strength-ssim-mr"]


def test_pyplot_has_no_part_in_it(few: list, tmp_path: Path) -> None:
    before = "matplotlib.pyplot" in sys.modules
    save_figures(few, [], [], tmp_path)
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_a_heat_map_shows_the_scores_and_colours_the_gains() -> None:
    found = stats.cells([row(psnr=30.0), row(method="mean", psnr=10.0), row(method="nlm", psnr=float("nan"))])
    figure = figures.heat_map(found, "ct", "psnr", "title")
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.texts] == ["30.00", "10.00", "\N{EN DASH}"]
    image = axes.images[0]
    assert image.get_array().filled(np.nan).tolist()[0][:2] == [10.0, -10.0]
    colours = image.cmap(image.norm(image.get_array()))[0]
    assert colours[0][2] > colours[0][0]  # blue: better than the noisy image
    assert colours[1][0] > colours[1][2]  # red: worse


def test_names_of_points_do_not_hide_each_other() -> None:
    close = [
        row(method=m, psnr=30 + 0.01 * i, seconds=0.1 * (1 + 0.02 * i)) for i, m in enumerate(("medfpl", "mean", "nlm"))
    ]
    figure = figures.trade_off(stats.cells(close), "ct", "PSNR")
    figure.canvas.draw()
    names = [t for t in figure.axes[0].texts if t.get_text() in ("medfpl", "mean", "nlm")]
    boxes = [t.get_window_extent() for t in names]
    assert len(boxes) == 3
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_task_curves_are_over_the_number_that_varies() -> None:
    assert plotting.varying_place(["20 HU, 4 px", "20 HU, 8 px"]) == 1
    assert plotting.varying_place(["20 HU, 4 px", "40 HU, 8 px"]) == 0
    assert plotting.varying_place(["air", "bone"]) is None
    assert plotting.varying_place(["20 HU"]) is None
    assert plotting.split_detail("20 HU, 4 px", 1) == (4.0, "px", "20 HU")
    assert plotting.numbers("\N{MINUS SIGN}20.5 HU") == [(-20.5, "HU")]


def test_a_task_figure_has_a_panel_a_size_and_the_means_as_lines(few: list) -> None:
    part = [t for t in tasks(few) if t.measure == "recovery"]
    figure = figures.task_curves(part, "title")
    assert [a.get_title() for a in figure.axes] == ["3 px", "6 px"]
    (line,) = [x for x in figure.axes[0].lines if x.get_label() == "medfpl"]
    assert line.get_xdata().tolist() == [20, 50, 100, 200]
    at_20 = [t.value for t in part if t.method == "medfpl" and t.detail == "20 HU, 3 px"]
    assert line.get_ydata()[0] == pytest.approx(np.mean(at_20))
    assert figure.get_supxlabel() == "contrast, HU"


def test_a_method_looks_the_same_everywhere_and_like_no_other() -> None:
    looks = [(plotting.style(m)["color"], plotting.style(m)["marker"]) for m in stats.ORDER]
    assert len(set(looks)) == len(stats.ORDER)
    assert plotting.style("medfpl")["linewidth"] > plotting.style("mean")["linewidth"]


def test_examples_come_back_in_real_units_with_their_names(few: list, tmp_path: Path) -> None:
    save_examples(tmp_path, few)
    found = find_examples(tmp_path)
    assert [(e.case, e.noise) for e in found] == [("ct0-0", "gaussian"), ("ct0-0", "motion")]
    assert set(found[0].results) == {"medfpl", "mean", "nlm"}
    assert 0 < found[0].clean.mean() < 100  # HU of a working value near 0.5
    assert found[0].window.label == "abdomen"
    assert len(find_examples(tmp_path / "none")) == 0
    assert [e.noise for e in found[1:]] == ["motion"]


def test_names_with_hyphens_are_told_apart(few: list, tmp_path: Path) -> None:
    save_examples(tmp_path, few)
    meta = json.loads((tmp_path / "meta.json").read_text())
    (tmp_path / "meta.json").write_text(json.dumps({**meta, "ct0": meta["ct0-0"]}))
    assert {(e.case, e.noise) for e in find_examples(tmp_path)} == {("ct0-0", "gaussian"), ("ct0-0", "motion")}


def test_a_strip_shows_errors_on_one_scale(few: list, tmp_path: Path) -> None:
    save_examples(tmp_path, few)
    example = find_examples(tmp_path)[0]
    picture = np.asarray(figures.strip(example).convert("L"))
    side = 96 * 3  # enlarged by a whole factor
    assert picture.shape[1] == 5 * (side + 8) + 8  # clean, noisy and three methods
    left, top = 8, 8 + side + 15 + 16 + 15 + 4
    errors = [picture[top : top + side, left + i * (side + 8) :][:, :side].astype(float) for i in range(5)]
    assert np.ptp(errors[0]) == 0  # the clean image has none
    assert errors[1].std() > errors[2].std() > 1
