"""Every figure at every scale: nothing cut off, overlapping or too small, colours that everybody can tell apart."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from report_frames import ATTACKS, DEFENSES, SCALES, matrix_frame, problems, summary_frame, texts

from splitaudit.plan import Plan
from splitaudit.plugins import METRICS
from splitaudit.report.canvas import fitted, fitted_words, text_width
from splitaudit.report.columns import is_measure, measure_columns
from splitaudit.report.criterion import Point, main_quantities
from splitaudit.report.curves import Panel
from splitaudit.report.figures import _criterion_caption, quantity_axes
from splitaudit.report.plot_convergence import convergence, log_ticks
from splitaudit.report.plot_cost import edge_cost
from splitaudit.report.plot_criterion import ARROW, criterion
from splitaudit.report.plot_draws import leakage_by_draws, levels_with_draws
from splitaudit.report.plot_heatmap import MAP, colour_scale, decimals, heatmap, ink_on, short
from splitaudit.report.plot_pictures import reconstructions
from splitaudit.report.plot_trade_off import front_of, trade_off
from splitaudit.report.style import COLOURS, MUTED, PAGE_WIDTH, shared_styles, styles, wrapped

CONTROLS = {"mean_colour": 0.769, "thumbnail-4": 0.923, "thumbnail-8": 0.963, "thumbnail-16": 0.987}
CURVE = [[float(i), 0.1 / i] for i in range(1, 40)]
PICTURES = np.full((8, 32, 32, 3), 128, np.uint8)
TARGETS = [
    Point(d, (d,), 0.001 * (i + 1), "rmle", {"nats": 9.0 - i, "bits": 10.0**i, "large": 800.0 * i + 900}, {})
    if i % 3
    else Point(d, (d,), 0.001 * (i + 1), "rmle", {"bits": 10.0**i, "large": 800.0 * i + 900}, {"nats": 9.0})
    for i, d in enumerate(DEFENSES)
]
CRITERION = pd.DataFrame(
    {
        "quantity": ["nats", "bits", "large"],
        "targets": [13, 20, 20],
        "censored": [7, 0, 0],
        "spearman": [-0.9, np.nan, 0.1],
        "spearman_lo": [-0.99, np.nan, -0.4],
        "spearman_hi": [-0.8, np.nan, 0.5],
        "spearman_within": [-0.7, np.nan, np.nan],
        "spearman_within_lo": [-0.9, np.nan, np.nan],
        "spearman_within_hi": [-0.2, np.nan, np.nan],
        "verdict": ["predicts", "too few targets for a correlation", "not shown to predict"],
    }
)
QUANTITIES = tuple(f"quantity_of_some_length_{i}" for i in range(13))
CUTS = ("block1", "block2", "a block whose name is long enough to need a place of its own")
MANY = [
    Point(d, ("photos", "cnn4", c, d), 0.001 * (i + 8 * k + 1), "rmle", dict.fromkeys(QUANTITIES, i * 1.7 + k), {})
    for k, c in enumerate(CUTS)
    for i, d in enumerate(DEFENSES[:8])
]
MANY_ROWS = pd.DataFrame([CRITERION.iloc[0].to_dict() | {"quantity": q, "censored": 0} for q in QUANTITIES])
WORDS = "code length of the wire, with neighbours as context (bits)"
FEW = DEFENSES[:1], ATTACKS[:1]


def curves(defenses: tuple[str, ...], attacks: tuple[str, ...], *, share: bool = False) -> list[Panel]:
    lines = {d: [[s, v * (k + 1)] for s, v in CURVE] for k, d in enumerate(defenses)}
    return [Panel(a, "accuracy of the stand-in on own images", share, lines) for a in attacks]


FIGURES: dict[str, Callable[[], Figure]] = {
    **{f"heat map of {n}": (lambda n=n: heatmap(matrix_frame(), n)) for n in ("leakage", "mse", "psnr")},
    "heat map of few": lambda: heatmap(matrix_frame(DEFENSES[:6], ("prior", "rmle", "decoder")), "leakage"),
    "heat map of one cell": lambda: heatmap(matrix_frame(*FEW), "leakage"),
    "heat map without a value": lambda: heatmap(matrix_frame(state="target failed"), "leakage"),
    "heat map without a cell": lambda: heatmap(matrix_frame(*FEW).iloc[:0], "leakage"),
    "heat map of 20 attacks": lambda: heatmap(
        matrix_frame(DEFENSES[:3], tuple(f"attack {i}" for i in range(20))), "ssim"
    ),
    "trade-off": lambda: trade_off(summary_frame(), CONTROLS),
    "trade-off of one": lambda: trade_off(summary_frame(DEFENSES[:1], ("query",)), CONTROLS),
    "trade-off at five levels": lambda: trade_off(summary_frame(DEFENSES[:6], tuple("abcde")), CONTROLS),
    "trade-off with failures": lambda: trade_off(summary_frame(missing=DEFENSES[3:6])),
    "trade-off of nothing": lambda: trade_off(summary_frame(missing=DEFENSES)),
    "draws": lambda: leakage_by_draws(summary_frame(DEFENSES, ("query", "query:4", "query:16", "white-box"))),
    "draws at three levels": lambda: leakage_by_draws(
        summary_frame(DEFENSES[:6], tuple(f"{n}:{k}" for n in "abc" for k in (1, 64)))
    ),
    "draws with failures": lambda: leakage_by_draws(
        summary_frame(DEFENSES, ("query", "query:4"), missing=DEFENSES[2:])
    ),
    "cost": lambda: edge_cost(summary_frame()),
    "cost of one": lambda: edge_cost(summary_frame(DEFENSES[:1])),
    "cost of nothing": lambda: edge_cost(summary_frame().drop(columns=["edge_macs", "wire_bytes"]).iloc[:, :20]),
    "convergence": lambda: convergence(curves(DEFENSES, ATTACKS[1:]), DEFENSES),
    "convergence of one": lambda: convergence(curves(*FEW), DEFENSES),
    "convergence of nothing": lambda: convergence([Panel("prior", "", False, {})], DEFENSES),
    "convergence of shares": lambda: convergence(curves(DEFENSES[:2], ATTACKS[:5], share=True), DEFENSES),
    "criterion": lambda: criterion(TARGETS, CRITERION, {"bits": WORDS}, DEFENSES),
    "criterion at several cuts": lambda: criterion(MANY, MANY_ROWS, {}, DEFENSES),
    "pictures": lambda: reconstructions([(wrapped(d), PICTURES) for d in DEFENSES]),
    "pictures beside failures": lambda: reconstructions([("truth", PICTURES), ("a\nb", "failed: " + "because " * 40)]),
    "grey pictures that are no squares": lambda: reconstructions([("truth", PICTURES[:3, :20, :, :1])]),
    "pictures of nothing": lambda: reconstructions([("a", "failed")]),
}


SLOW = ("heat map of mse", "heat map of psnr", "heat map without a value")
NAMES = [pytest.param(n, marks=pytest.mark.full) if n in SLOW else n for n in FIGURES]


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_fits_the_page_and_its_texts_are_whole_apart_and_large_enough(name: str) -> None:
    figure = FIGURES[name]()
    assert float(figure.get_size_inches()[0]) <= PAGE_WIDTH + 1e-9
    assert problems(figure) == []
    assert texts(figure)


def test_the_check_of_layouts_finds_what_is_cut_off_too_small_or_overlapping() -> None:
    figure = Figure(figsize=(2, 1))
    figure.text(0.9, 0.5, "a long text that leaves the figure", fontsize=9)
    figure.text(0.1, 0.5, "one", fontsize=9)
    figure.text(0.1, 0.5, "two", fontsize=6)
    found = "\n".join(problems(figure))
    assert "cut off: 'a long text" in found
    assert "too small: 'two'" in found
    assert "overlap: 'one' and 'two'" in found


# -- what figures say -------------------------------------------------------------------------------------------------


def test_every_cell_of_a_heat_map_has_a_value_with_its_interval_or_says_why_not() -> None:
    frame = matrix_frame(DEFENSES[:3], ATTACKS[:3])
    said = [t.get_text() for t in texts(heatmap(frame, "leakage"))]
    missing = frame[frame["state"] != ""]
    assert sum("failed" in s for s in said) == sum("failed" in s for s in missing["state"])
    assert said.count("skipped") == (frame["state"] == "skipped").sum() > 0
    for row in frame[frame["state"] == ""].to_dict("records"):
        assert f"{row['leakage']:.3f}" in said
        assert f"[{short(row['leakage_lo'], 3)}, {short(row['leakage_hi'], 3)}]" in said


def test_controls_do_not_stretch_the_colours_but_the_scale_says_that_they_lie_beyond() -> None:
    frame = matrix_frame(DEFENSES[:3], ATTACKS[:3])
    attacks = frame[~frame["control"]]
    assert colour_scale(frame, "leakage") == ((attacks["leakage"].min(), attacks["leakage"].max()), "min")
    assert colour_scale(frame[frame["control"]], "leakage")[1] == "neither"
    assert colour_scale(matrix_frame(state="failed"), "leakage") == ((0.0, 0.0), "neither")


@pytest.mark.parametrize(
    ("values", "digits"),
    [([0.987], 3), ([23.4, 1.0], 1), ([0.0123], 4), ([3e-6], 4), ([250.0], 0), ([], 2), ([0.0], 2)],
)
def test_as_many_decimals_are_shown_as_the_greatest_value_needs(values: list[float], digits: int) -> None:
    assert decimals(values) == digits


def test_intervals_are_short_enough_for_a_cell_and_have_no_minus_zero() -> None:
    assert [short(v, 3) for v in (0.987, -0.0001, -0.25, 1.0, 12.3456)] == [".987", ".000", "-.250", "1.000", "12.346"]
    assert short(0.04, 1) == "0.0"


@pytest.mark.parametrize("step", range(0, 256, 5))
def test_numbers_stand_out_from_every_colour_of_a_heat_map(step: int) -> None:
    """Contrast of 4.5 and more: what accessibility guidelines ask for."""
    colour = matplotlib.colormaps[MAP](step)[:3]
    dark, light = sorted((_luminance(colour), {"white": 1.0, "black": 0.0}[ink_on(colour)]))
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_a_defense_without_a_figure_keeps_the_colours_of_the_others() -> None:
    """Colours go by the suite, so that a figure without some defense can be compared with one that has it."""
    look = styles(DEFENSES)
    drawn = convergence([Panel("rmle", "loss", False, {DEFENSES[5]: CURVE})], DEFENSES).axes[0].lines[0]
    assert (drawn.get_color(), drawn.get_marker()) == look[DEFENSES[5]]
    points = trade_off(summary_frame(DEFENSES[:7], ("query",), missing=DEFENSES[1:5])).axes[0].lines
    assert {p.get_color() for p in points if p.get_marker() in "os^DvPX*<>h"} == {
        shared_styles(DEFENSES[:7])[d][0] for d in (DEFENSES[0], *DEFENSES[5:7])
    }


def test_arrows_of_censored_quantities_lie_within_their_panel_and_colours_are_the_suites() -> None:
    figure = criterion(TARGETS, CRITERION, {}, ("a defense without a target", *DEFENSES))
    look = styles(("a defense without a target", *DEFENSES))
    panel = figure.axes[0]
    assert {line.get_color() for line in panel.lines} == {look[d][0] for d in DEFENSES}
    figure.set_dpi(72)  # a pixel is a point
    ends = [panel.transData.transform((9.0, 0.001))[0] + ARROW, panel.get_window_extent().x1]
    assert ends == sorted(ends)


def test_the_fill_of_a_marker_tells_cuts_apart_and_the_key_names_them() -> None:
    figure = criterion(MANY, MANY_ROWS, {}, DEFENSES)
    cuts: dict[str, set[str]] = {}
    for point, line in zip(MANY, figure.axes[0].lines, strict=True):
        cuts.setdefault(point.place[-1], set()).add(str(line.get_fillstyle()))
    fills = [next(iter(f)) for f in cuts.values()]
    assert all(len(f) == 1 for f in cuts.values())
    assert len(set(fills)) == len(CUTS)
    keys = [a for a in figure.artists if isinstance(a, Line2D) and a.get_color() == MUTED]
    assert [str(k.get_fillstyle()) for k in keys] == fills
    assert set(CUTS) <= {t.get_text() for t in figure.texts}


def test_the_axes_of_a_criterion_say_what_is_measured_and_in_what_unit() -> None:
    """They once bore the columns' names."""
    metrics = ("mse", "accuracy", "mutual_information", "entropy", "effective_information_volume", "fisher_information")
    plan = Plan({"metrics": [{"name": n, "params": {}} for n in metrics]})
    axes = quantity_axes(plan)
    for name in main_quantities(plan):
        words = axes[name].rsplit(" (", 1)[0]
        assert name not in words
        assert "_" not in words
        assert " " in words
    assert axes["mi_mine_nats"].endswith(" (nats)")
    assert axes["mi_upper_nats"] == "upper bound on the mutual information (nats)"
    ax = criterion(
        TARGETS, CRITERION, {"nats": "what a wire of many elements tells of an image (nats)"}, DEFENSES
    ).axes[0]
    assert ax.get_xlabel().replace("\n", " ") == "what a wire of many elements tells of an image (nats)"


@pytest.mark.parametrize("text", ["a sentence of some words", "one", "", "x" * 70 + " and more"])
def test_sentences_are_broken_between_words_and_fit(text: str) -> None:
    found = fitted_words(text, 1.1, 8)
    assert "".join(found.split()) == "".join(text.split())
    assert text_width(found, 8) <= 1.1
    assert "of some" in fitted_words("a sentence of some words", 1.1, 8)


def test_a_criterion_says_the_correlation_within_cuts_only_where_it_is_another_one() -> None:
    same = CRITERION.assign(spearman_within=CRITERION["spearman"])
    same["spearman_within_lo"], same["spearman_within_hi"] = same["spearman_lo"], same["spearman_hi"]
    one, several = (
        criterion(TARGETS, rows, {}, DEFENSES).axes[0].get_title(loc="left").replace("\n", " ")
        for rows in (same, CRITERION)
    )
    assert "within" not in one
    assert "within cuts -0.70 [-0.90, -0.20]" in several


def test_the_caption_of_a_criterion_counts_what_is_judged_and_names_censoring_only_where_there_is_some() -> None:
    rows = CRITERION.assign(dataset="d")
    assert "2 quantities are judged one by one, without correction" in _criterion_caption(rows, "d")
    assert "Censored targets" in _criterion_caption(rows, "d")
    assert "Censored targets" not in _criterion_caption(rows.assign(censored=0), "d")


def test_the_front_is_drawn_in_steps_and_named() -> None:
    frame = summary_frame(("a", "b", "c"), ("query",))
    frame["leakage"], frame["accuracy"] = [0.5, 0.9, 0.7], [0.8, 0.9, 0.7]
    assert front_of(frame, "query") == ["a", "b"]
    (front,) = [line for line in trade_off(frame).axes[0].lines if line.get_linestyle() == "--"]
    assert front.get_drawstyle() == "steps-post"
    assert front.get_xydata().tolist() == [[0.5, 0.8], [0.9, 0.9]]


def test_the_axes_of_a_trade_off_hold_every_interval() -> None:
    frame = summary_frame()
    for ax in trade_off(frame).axes:
        assert ax.get_xlim()[0] < frame["leakage_lo"].min() < frame["leakage_hi"].max() < ax.get_xlim()[1]
        assert ax.get_ylim()[0] < frame["accuracy_lo"].min() < frame["accuracy_hi"].max() < ax.get_ylim()[1]


def test_a_disturbed_percentile_does_not_hide_the_medians() -> None:
    frame = summary_frame(DEFENSES[:2])
    frame["timing_edge_latency_median_ms"], frame["timing_edge_latency_p95_ms"] = 0.2, 80.0
    latency = edge_cost(frame).axes[-1]
    assert latency.get_xlim()[1] < 1
    assert any("0.2 (p95 80)" in t.get_text() for t in latency.texts)


def test_what_was_not_measured_says_so() -> None:
    frame = summary_frame(DEFENSES[:3])
    frame.loc[frame["defense"] == DEFENSES[1], "edge_macs"] = np.nan
    assert [t.get_text() for t in edge_cost(frame).axes[0].texts] == ["2.9", "not measured", "2.9"]


# -- colours, labels, ticks -------------------------------------------------------------------------------------------

# Machado, Oliveira and Fernandes 2009, severity 1, for linear light.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


@pytest.mark.parametrize("kind", BLINDNESS)
def test_the_colours_are_told_apart_with_every_common_form_of_colour_blindness(kind: str) -> None:
    seen = [_lab(np.clip(np.asarray(BLINDNESS[kind]) @ _linear(to_rgb(c)), 0, 1)) for c in (*COLOURS, "white")]
    nearest = min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2))
    assert nearest > 15  # a difference of 2 is just visible side by side


@pytest.mark.parametrize("name", [*DEFENSES, *ATTACKS, "x" * 70, "a_b-c/d" * 9])
@pytest.mark.parametrize("width", [8, 14, 22])
def test_labels_are_broken_without_losing_a_letter(name: str, width: int) -> None:
    lines = wrapped(name, width).split("\n")
    assert "".join(lines) == name
    assert max(map(len, lines)) <= width


def test_labels_are_broken_at_their_joints_if_they_can_be() -> None:
    assert wrapped(DEFENSES[15]).split("\n") == ["nopeek+noise", "(sigma=0.5,", "relative=False)@infer"]
    assert wrapped("rmle(steps=100,restarts=30)", 16).split("\n") == ["rmle(steps=100,", "restarts=30)"]


@pytest.mark.parametrize("name", ATTACKS)
def test_a_fitted_label_fits(name: str) -> None:
    assert text_width(fitted(name, 0.86, 9), 9) <= 0.86


@pytest.mark.parametrize(("low", "high"), [(0.01, 0.012), (0.5, 3.0), (1e-5, 1.0), (0.2, 0.9), (3e-8, 2e3)])
def test_a_logarithmic_axis_has_a_few_ticks_within_its_range(low: float, high: float) -> None:
    ticks = log_ticks(low, high)
    assert 2 <= len(ticks) <= 7 or high / low < 1.5
    assert all(low * 0.999 <= t <= high * 1.001 for t in ticks)


def test_every_figure_of_a_cell_has_a_heat_map_title_with_its_direction() -> None:
    for name in SCALES:
        first = texts(heatmap(matrix_frame(*FEW), name))
        assert any("higher means" in t.get_text() for t in first), name


def _linear(colour: tuple[float, ...]) -> np.ndarray:
    c = np.asarray(colour)
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def _luminance(colour: tuple[float, ...]) -> float:
    return float(np.array([0.2126, 0.7152, 0.0722]) @ _linear(colour))


def _lab(linear: np.ndarray) -> np.ndarray:
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    f = np.cbrt(xyz / np.array([0.9505, 1.0, 1.089]))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_a_line_of_draws_runs_from_the_fewest_on_and_levels_with_one_count_have_none() -> None:
    frame = summary_frame(DEFENSES[:1], ("query:16", "white-box", "query", "query:4"))
    assert levels_with_draws(frame) == {"query": ["query", "query:4", "query:16"]}
    (ax,) = leakage_by_draws(frame).axes
    line = next(artist for artist in ax.lines if len(artist.get_xdata()) == 3)
    assert list(line.get_xdata()) == [1, 4, 16]
    known = frame.set_index("knowledge")["leakage"]
    assert list(line.get_ydata()) == [known[n] for n in ("query", "query:4", "query:16")]


def test_every_column_is_called_something_that_can_stand_alone() -> None:
    """What stands in a sentence or on an axis must not begin with 'the same': there is nothing before it."""
    main = {n: c for m in METRICS.names() if is_measure(m) for n, c in measure_columns(m).items() if not c.detail}
    quantity = {
        n: c.words for n, c in main.items() if c.higher_means not in ("neither",) and not n.endswith(("_lo", "_hi"))
    }
    assert not [n for n, words in quantity.items() if words.startswith(("the same", "that ", "lower end", "upper end"))]
    assert not [n for n, words in quantity.items() if n != "dfil_unbiased_mse" and "_" in words]
