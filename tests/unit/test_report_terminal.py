"""The summary as text: on a terminal of any width, in Markdown and in LaTeX, with intervals, marks and flags."""

from __future__ import annotations

import io
import math

import pandas as pd
import pytest
from report_frames import DEFENSES, summary_frame
from rich.console import Console

from splitaudit.report.exported import latex, markdown
from splitaudit.report.flags import collect
from splitaudit.report.page_tables import information, summary_groups
from splitaudit.report.terminal import SummaryTable
from splitaudit.report.texts import bracket, fixed, number

FLAG = "white-box weaker than black-box: rmle leaks less than decoder"


def printed(summary: pd.DataFrame, width: int) -> list[str]:
    text = io.StringIO()
    Console(file=text, width=width, highlight=False).print(SummaryTable(summary))
    return text.getvalue().splitlines()


def few() -> pd.DataFrame:
    return summary_frame(("none", "noise", "siftfunnel"))


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160, 250])
@pytest.mark.parametrize("defenses", [DEFENSES, ("none", "noise")])
def test_the_table_fits_the_terminal_and_cuts_nothing_off(width: int, defenses: tuple[str, ...]) -> None:
    lines = printed(summary_frame(defenses), width)
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)
    column = lines[lines.index(next(line for line in lines if "───" in line)) - 1].index("knowledge")
    names = "".join(line[:column].strip() for line in lines)
    assert all(names.count(d) >= 2 for d in defenses)  # once per level, broken over lines where it is long


def test_a_wide_terminal_shows_every_interval_and_a_narrow_one_says_where_they_are() -> None:
    wide, narrow = printed(few(), 250), printed(few(), 80)
    row = few().to_dict("records")[2]
    for name, digits in (("leakage", 3), ("ssim", 3), ("equivalent_resolution", 1), ("accuracy", 3)):
        assert any(bracket(row, name, digits) in line for line in wide)
    assert any(bracket(row, "leakage", 3) in line for line in narrow)
    assert not any("summary.csv" in line for line in wide)
    assert any("everything is in summary.csv" in line for line in narrow)


def test_what_is_not_distinguishable_incomplete_or_flagged_is_marked_everywhere() -> None:
    frame = few()
    frame.loc[2, ["leakage_change_note", "accuracy_drop_note"]] = "not distinguishable"
    frame.loc[3, "incomplete"] = "decoder, seed 0: failed"
    frame.loc[4, "flags"] = FLAG
    lines = printed(frame, 250)
    assert sum("n.d." in line for line in lines) == 2  # one row, and what it means
    assert sum(line.startswith(" incomplete") for line in lines) == 1
    assert any("decoder" in line and " !" in line for line in lines) or any("flips=False) !" in line for line in lines)
    assert any("white-box weaker than black-box" in line for line in lines)
    text = markdown(frame)
    assert text.count("(n.d.)") == 2
    assert text.count("(incomplete)") == 1
    assert "1. white-box weaker than black-box: An attack that needs" in text
    assert latex(frame).count("(n.d.)") == 2
    ((_, first), (_, second)) = summary_groups(frame, collect(frame))
    marks = {(level, row[0].text): row for level, rows in (("white-box", first), ("query", second)) for row in rows}
    assert [v.text.endswith("n.d.") for v in marks["white-box", "noise"]].count(True) == 2
    assert marks["query", "noise"][0].bad
    assert marks["white-box", "siftfunnel"][-1].links == (1,)


def test_markdown_gives_every_figure_its_interval() -> None:
    line = markdown(few()).splitlines()[4]
    assert line.count("[") == 6  # leakage, SSIM, resolution, accuracy, drop, mutual information


def test_flags_are_collected_by_kind_and_levels_alike_are_named_together() -> None:
    frame = few()
    frame["flags"] = "not converged: rmle; accuracy at chance (0.125)"
    frame.loc[0, "flags"] = FLAG
    found = {raised.kind: raised.where for raised in collect(frame)}
    assert list(found) == ["white-box weaker than black-box", "not converged", "accuracy at chance (0.125)"]
    assert found["white-box weaker than black-box"] == (("rmle leaks less than decoder", "white-box", "none"),)
    assert set(found["not converged"]) == {
        ("rmle", "white-box", "noise, siftfunnel"),
        ("rmle", "query", "none, noise, siftfunnel"),
    }
    frame.loc[0, "flags"] = frame.loc[1, "flags"]
    assert collect(frame)[0].where == (("rmle", "white-box and query", "none, noise, siftfunnel"),)


@pytest.mark.parametrize(
    ("text", "value", "below"),
    [
        ("2.10 [1.80, 2.40]", "2.10", "[1.80, 2.40]"),
        (">= 5.20 (at ceiling 5.77)", "≥ 5.20", "(at ceiling 5.77)"),
        ("2.10; >= 5.20 (at ceiling 5.77)", "2.10; ≥ 5.20 (at ceiling 5.77)", ""),
        ("-", "-", ""),
    ],
)
def test_a_censored_information_is_a_limit_and_never_a_value(text: str, value: str, below: str) -> None:
    shown = information(text)
    assert (shown.text, shown.interval) == (value, below)


def test_numbers_have_no_minus_before_a_zero_and_missing_ones_are_dashes() -> None:
    assert [fixed(v, 3) for v in (-0.0004, 0.0, -0.0006)] == ["0.000", "0.000", "-0.001"]
    row = {"a": -0.0001, "a_lo": -0.0002, "a_hi": 0.1, "b": math.nan, "c": 1.0, "c_lo": math.nan, "c_hi": math.nan}
    assert number(row, "a", 3, interval=True) == "0.000 [0.000, 0.100]"
    assert number(row, "b", 3, interval=True) == "-"
    assert number(row, "c", 1, interval=True) == "1.0"


def test_where_labels_were_read_the_terminal_says_where_to_look() -> None:
    text = io.StringIO()
    Console(file=text, width=250).print(SummaryTable(few(), reads=True))
    said = "What attacks read of labels is in attributes.csv and in the report."
    assert said in text.getvalue()
    assert said not in "\n".join(printed(few(), 250))
