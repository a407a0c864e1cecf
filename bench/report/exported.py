"""The summary as Markdown and as LaTeX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from .columns import PLACE
from .flags import Raised, collect, explain, kind_of, raised_in
from .promised import EXPLAINED, promises_in_words
from .texts import ONE_SEED, fixed, number, one_seed, present, said, undistinguished

HEAD = (
    "defense",
    "knowledge",
    "worst attack",
    "leakage",
    "SSIM",
    "eq. res. px",
    "accuracy",
    "drop",
    "MI nats",
    "edge MACs",
    "flags",
)
NOTE = (
    "Worst case over attacks, selected with the truth in hand. In brackets: 95 % intervals. "
    "n.d.: not distinguishable from the undefended target."
)


def markdown(summary: pd.DataFrame) -> str:
    """Returns the summary as a Markdown table, what is promised and its flags below it."""
    flags = collect(summary)
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    for row in summary_rows(summary, flags):
        lines.append("| " + " | ".join(c.replace("|", "\\|") for c in row) + " |")
    lines += ["", _note(summary)]
    made = promises_in_words(summary)
    if made:
        lines += ["", f"What is promised. {EXPLAINED}", "", *(f"- {text}" for text in made)]
    if flags:
        lines += [
            "",
            "Flags:",
            "",
            *(f"{i}. {flag.kind}: {explain(flag.kind)}" for i, flag in enumerate(flags, start=1)),
        ]
    return "\n".join(lines) + "\n"


_LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}"}
_LATEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", ">": r"$>$", "<": r"$<$", "∞": r"$\infty$"}


def latex(summary: pd.DataFrame) -> str:
    """Returns the summary as a LaTeX tabular (booktabs), its note, promises and flags as comments below it."""

    def escaped(text: str) -> str:
        return "".join(_LATEX.get(c, c) for c in text)

    flags = collect(summary)
    lines = [r"\begin{tabular}{lll" + "r" * (len(HEAD) - 3) + "}", r"\toprule"]
    lines.append(" & ".join(escaped(h) for h in HEAD) + r" \\")
    lines.append(r"\midrule")
    lines += [" & ".join(escaped(c) for c in row) + r" \\" for row in summary_rows(summary, flags)]
    lines += [r"\bottomrule", r"\end{tabular}", f"% {_note(summary)}"]
    lines += [f"% promised: {text}" for text in promises_in_words(summary)]
    lines += [f"% flag {i}: {flag.kind}" for i, flag in enumerate(flags, start=1)]
    return "\n".join(lines) + "\n"


def summary_rows(summary: pd.DataFrame, flags: Sequence[Raised]) -> list[tuple[str, ...]]:
    """Returns the summary's main columns as texts, value and interval in one, flags as their numbers from 1."""
    many = len(summary[list(PLACE)].drop_duplicates()) > 1
    numbers = {flag.kind: i for i, flag in enumerate(flags, start=1)}
    return [_row(row, numbers, many) for row in summary.to_dict("records")]


def _note(summary: pd.DataFrame) -> str:
    alone = one_seed(summary.to_dict("records"))
    return f"{NOTE} {ONE_SEED[:1].upper()}{ONE_SEED[1:]}: intervals are over images." if alone else NOTE


def _row(row: Mapping[Any, Any], numbers: Mapping[str, int], many: bool) -> tuple[str, ...]:
    place = f" ({row['dataset']}, {row['backbone']}, {row['cut']})" if many else ""
    unfinished = " (incomplete)" if said(row, "incomplete") != "-" else ""
    raised = sorted({numbers[kind_of(f)] for f in raised_in(row)})

    def marked(figure: str, difference: str) -> str:
        mark = undistinguished(row, difference)
        return f"{number(row, figure, 3, interval=True)}{f' ({mark})' if mark else ''}"

    return (
        f"{row['defense']}{place}{unfinished}",
        str(row["knowledge"]),
        said(row, "worst_attack"),
        marked("leakage", "leakage_change"),
        number(row, "ssim", 3, interval=True),
        number(row, "equivalent_resolution", 1, interval=True),
        number(row, "accuracy", 3, interval=True),
        "-" if row["defense"] == "none" else marked("accuracy_drop", "accuracy_drop"),
        said(row, "mi_text"),
        f"{fixed(row['edge_macs'] / 1e6, 2)} M" if present(row.get("edge_macs")) else "-",
        ", ".join(map(str, raised)) or "-",
    )
