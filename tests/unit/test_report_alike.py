"""A difference inside its interval is marked in figures by the same paired intervals as in tables."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from audited_records import GROUPS, Errors, audited
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from report_frames import ATTACKS, DEFENSES, matrix_frame, problems, summary_frame, texts

from splitaudit.report.captions import MARKER, caption_points
from splitaudit.report.flags import CHANCE
from splitaudit.report.headline import holds_zero
from splitaudit.report.matrix import build_matrix, is_alike
from splitaudit.report.plot_draws import leakage_by_draws
from splitaudit.report.plot_heatmap import heatmap
from splitaudit.report.plot_trade_off import BETWEEN, trade_off
from splitaudit.report.style import MUTED, PAGE_WIDTH, shared_styles
from splitaudit.report.summary import build_summary
from splitaudit.stats import Interval

ERRORS: Errors = {}
for _seed in range(3):
    ERRORS |= {
        ("none", "a", _seed): 0.2 + _seed / 100,
        ("far", "a", _seed): 0.9,
        ("near", "a", _seed): 0.23 - _seed / 100,
    }


def rings(ax: Axes) -> list[tuple[float, float]]:
    return [
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))  # type: ignore[index,arg-type]
        for line in ax.lines
        if line.get_markerfacecolor() == "none" and line.get_markeredgecolor() == MUTED
    ]


def test_a_trade_off_rings_a_difference_that_holds_zero_and_no_other() -> None:
    summary = build_summary(*audited(ERRORS))
    rows = summary.set_index("defense")
    assert rows.loc["near", "leakage_change_lo"] <= 0 <= rows.loc["near", "leakage_change_hi"]
    assert rows.loc["far", "leakage_change_hi"] < 0
    figure = trade_off(summary)
    (found,) = rings(figure.axes[0])
    assert found == pytest.approx((rows.loc["near", "leakage"], rows.loc["near", "accuracy"]))
    assert any("ring: its leakage is not distinguishable" in t.get_text() for t in figure.texts)


def test_without_such_a_difference_there_is_no_ring_and_no_entry_for_it() -> None:
    figure = trade_off(build_summary(*audited({k: v for k, v in ERRORS.items() if k[0] != "near"})))
    assert rings(figure.axes[0]) == []
    assert not any("ring" in t.get_text() for t in figure.texts)


@pytest.mark.parametrize("broken", ["none", "near"])
def test_where_either_worst_case_is_not_known_there_is_no_ring(broken: str) -> None:
    errors = ERRORS | {(d, "strong", s): 0.9 for d in ("none", "near", "far") for s in range(3)}
    assert len(rings(trade_off(build_summary(*audited(errors))).axes[0])) == 1
    summary = build_summary(*audited(errors | {(broken, "strong", 0): None}))
    assert rings(trade_off(summary).axes[0]) == []
    twice = pd.concat([summary, summary.assign(knowledge="query:4")], ignore_index=True)
    assert rings(leakage_by_draws(twice).axes[0]) == []


@pytest.mark.parametrize(
    ("low", "high", "alike"),
    [(0.0, 0.1, True), (-0.1, 0.0, True), (-0.1, 0.1, True), (0.001, 0.1, False), (-0.1, -0.001, False)],
)
def test_an_interval_holds_zero_or_it_does_not(low: float, high: float, alike: bool) -> None:
    assert holds_zero(Interval((low + high) / 2, low, high)) == alike
    assert not holds_zero(None)


def test_corners_resample_dependent_images_together() -> None:
    """One group of four is far off and the rest nearly alike: twelve single images would make that a difference."""
    errors = 0.5 + np.where(np.array(GROUPS) == 0, 0.2, -0.005)
    for groups, alike in ((GROUPS, True), (None, False)):
        plan, records = audited({("none", "a", 0): 0.5, ("x", "a", 0): errors})
        record = records.get("reference", "r")
        assert record is not None
        record["private"]["groups"] = groups
        row = build_matrix(plan, records).to_dict("records")[1]
        assert [is_alike(row, name) for name in ("mse", "leakage")] == [alike, alike]


def test_the_matrix_compares_an_attack_with_the_same_one_on_none() -> None:
    errors = ERRORS | {("none", "weak", s): 0.9 for s in range(3)} | {("far", "weak", s): 0.2 for s in range(3)}
    rows = {(r["defense"], r["attack"]): r for r in build_matrix(*audited(errors)).to_dict("records")}
    for name in ("leakage", "mse", "equivalent_resolution"):
        assert is_alike(rows["near", "a"], name)
        assert not any(is_alike(rows[at], name) for at in (("far", "a"), ("none", "a"), ("far", "weak")))


def test_what_is_missing_on_either_side_is_not_called_alike() -> None:
    for gone in ("none", "near"):
        rows = build_matrix(*audited(ERRORS | {(gone, "a", 1): None})).to_dict("records")
        assert not any(is_alike(r, "leakage") for r in rows if r["defense"] == "near")


def corners(figure: Figure) -> list[tuple[float, float]]:
    """Returns (panel, column) of the marked cells."""
    return [(i, p.get_xy()[1][0] - 1) for i, ax in enumerate(figure.axes) for p in ax.patches if p.get_gid() == "alike"]  # type: ignore[attr-defined]


def test_a_heat_map_marks_the_cells_that_are_not_distinguishable_and_says_what_the_mark_means() -> None:
    matrix = build_matrix(*audited(ERRORS))
    figure = heatmap(matrix, "leakage")
    assert len(corners(figure)) == 1
    assert any("corner: not distinguishable from none" in t.get_text() for t in figure.texts)
    far = heatmap(matrix[matrix["defense"] != "near"], "leakage")
    assert corners(far) == []
    assert not any("corner" in t.get_text() for t in far.texts)


def test_a_corner_of_one_training_says_that_its_noise_is_not_in_it() -> None:
    for seeds, said in ((1, True), (3, False)):
        errors: Errors = {(d, "a", s): 0.2 for d in ("none", "same") for s in range(seeds)}
        figure = heatmap(build_matrix(*audited(errors)), "leakage")
        assert len(corners(figure)) == 1
        assert any("for corners one seed: training noise not included" in t.get_text() for t in figure.texts) == said


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize(
    ("defenses", "attacks"), [(DEFENSES, ATTACKS), (DEFENSES[:1], ATTACKS[:1]), (DEFENSES[:2], ATTACKS[1:2])]
)
def test_a_marked_heat_map_of_any_size_fits_the_page(
    defenses: tuple[str, ...], attacks: tuple[str, ...], seeds: int
) -> None:
    figure = heatmap(matrix_frame(defenses, attacks).assign(leakage_alike=True, seeds=seeds), "leakage")
    assert float(figure.get_size_inches()[0]) <= PAGE_WIDTH + 1e-9
    assert problems(figure) == []


def alike(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(leakage_change_note="not distinguishable; one seed: training noise not included")


def test_the_figure_of_draws_rings_them_too() -> None:
    frame = alike(summary_frame(("none", "x"), ("query", "query:4")))
    assert len(rings(leakage_by_draws(frame).axes[0])) == 4
    assert rings(leakage_by_draws(frame.assign(leakage_change_note="")).axes[0]) == []


@pytest.mark.parametrize("count", [1, 27, 60])
def test_the_legend_of_many_defenses_stays_readable_with_its_marks(count: int) -> None:
    names = ("none", *(f"some_defense_{i}" for i in range(count - 1)))
    figure = trade_off(alike(summary_frame(names)))
    assert problems(figure) == []
    said = [t.get_text().replace("\n", "") for t in texts(figure)]
    assert all(said.count(n) == 1 for n in names)


# -- sweeps -----------------------------------------------------------------------------------------------------------

SWEEP = [f"noise(sigma={s})" for s in (2, 0.5, 1)]


def swept(**columns: Any) -> pd.DataFrame:
    frame = summary_frame(("none", *SWEEP, "siftfunnel"), ("query",))
    return frame.assign(leakage=[0.9, 0.3, 0.8, 0.5, 0.6], accuracy=[0.9, 0.6, 0.85, 0.88, 0.7], **columns)


def joined(ax: Any) -> list[tuple[float, float]]:
    """Returns the leakages of each two settings between which a line runs."""
    return [tuple(line.get_xdata()) for line in ax.lines if line.get_label() == BETWEEN]


def test_a_sweep_is_one_look_one_entry_and_a_line_in_the_order_of_its_number() -> None:
    figure = trade_off(swept())
    ax = figure.axes[0]
    assert joined(ax) == [(0.8, 0.5), (0.5, 0.3)], "by sigma: 0.5, 1, 2; accuracy would have given another order"
    colour, marker = shared_styles(["none", *SWEEP, "siftfunnel"])[SWEEP[0]]
    assert sum(a.get_marker() == marker and a.get_color() == colour for a in ax.lines) == 3
    said = [t.get_text().replace("\n", " ") for t in figure.texts]
    assert "noise: sigma 0.5, 1, 2" in said
    assert not any(s in said for s in SWEEP)
    assert sorted(t.get_text() for t in ax.texts) == ["0.5", "1", "2"]


def test_a_sweep_of_which_one_setting_is_left_is_a_point() -> None:
    frame = swept()
    frame.loc[frame["defense"].isin(SWEEP[1:]), "leakage"] = float("nan")
    figure = trade_off(frame)
    assert joined(figure.axes[0]) == []
    assert SWEEP[0] in [t.get_text() for t in figure.texts]


@pytest.mark.parametrize("broken", ["failed", "incomplete", "at chance"])
def test_no_line_runs_across_a_setting_that_stands_for_nothing(broken: str) -> None:
    """As in the table of defenses at equal accuracy, which does not interpolate across it."""
    frame = swept()
    if broken == "failed":
        frame.loc[frame["defense"] == SWEEP[2], "leakage"] = float("nan")
    elif broken == "incomplete":
        frame.loc[frame["defense"] == SWEEP[2], "incomplete"] = "rmle, seed 0: failed"
    else:
        frame.loc[frame["defense"] == SWEEP[2], "flags"] = CHANCE
    assert joined(trade_off(frame).axes[0]) == []


def test_no_line_runs_across_zero_where_a_strength_does_nothing() -> None:
    names = [f"label_smoothing(alpha={a})" for a in (-0.05, 0.1, 0.3)]
    frame = summary_frame(("none", *names), ("query",)).assign(leakage=[0.9, 0.5, 0.6, 0.7], accuracy=0.8)
    assert joined(trade_off(frame).axes[0]) == [(0.6, 0.7)]


def test_captions_of_points_in_one_place_are_left_out_rather_than_overlap() -> None:
    figure = Figure(figsize=(4, 4))
    ax = figure.add_axes((0.125, 0.125, 0.75, 0.75))
    ax.set_xlim(0, 3)
    ax.set_ylim(0, 3)
    near = [(1.5 + i * MARKER / 20, 1.5, f"name {i}") for i in range(9)]
    caption_points(ax, (3, 3), [*near, (0.5, 0.02, "corner")], [(2.5, 2.5)])
    names = [t.get_text() for t in ax.texts]
    assert "corner" in names
    assert 1 <= len(names) < 10
    figure.draw_without_rendering()
    boxes = [t.get_window_extent() for t in ax.texts]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
