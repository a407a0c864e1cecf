"""The summary for a terminal, for Markdown and for LaTeX."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich.table import Table

from .columns import HIGH, LOW, PLACE
from .tables import Results

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
)


def summary_rows(summary: pd.DataFrame) -> list[tuple[str, ...]]:
    """Returns the summary's main columns as texts, value and interval in one."""
    many = len(summary[list(PLACE)].drop_duplicates()) > 1
    out = []
    for row in summary.to_dict("records"):
        place = f" ({row['dataset']}, {row['backbone']}, {row['cut']})" if many else ""
        drop = number(row, "accuracy_drop", 3)
        if said(row, "accuracy_drop_note") != "-" and drop != "-":
            drop += " (n.d.)"
        unfinished = " (incomplete)" if said(row, "incomplete") != "-" else ""
        out.append(
            (
                f"{row['defense']}{place}{unfinished}",
                str(row["knowledge"]),
                said(row, "worst_attack"),
                number(row, "leakage", 3, interval=True),
                number(row, "ssim", 3),
                number(row, "equivalent_resolution", 1),
                number(row, "accuracy", 3),
                "-" if row["defense"] == "none" else drop,
                said(row, "mi_text"),
                f"{row['edge_macs'] / 1e6:.2f} M" if present(row.get("edge_macs")) else "-",
            )
        )
    return out


def present(value: Any) -> bool:
    """Says whether a table's value is there."""
    return value is not None and not (isinstance(value, float) and value != value) and value is not pd.NA


def said(row: dict[str, Any], name: str) -> str:
    """Returns a text of a table; '-' where there is none."""
    value = row.get(name)
    return str(value) if present(value) and value else "-"


def number(row: dict[str, Any], name: str, digits: int, *, interval: bool = False) -> str:
    """Returns a figure as text, with its interval if asked for; '-' where there is none."""
    value = row.get(name)
    if not present(value):
        return "-"
    text = fixed(value, digits)
    bounds = bracket(row, name, digits) if interval else ""
    return f"{text} {bounds}" if bounds else text


def bracket(row: dict[str, Any], name: str, digits: int) -> str:
    """Returns the interval of a figure as text; empty where there is none."""
    low, high = row.get(name + LOW), row.get(name + HIGH)
    return f"[{fixed(low, digits)}, {fixed(high, digits)}]" if present(low) and present(high) else ""


def fixed(value: Any, digits: int) -> str:
    """Returns a number with a fixed count of decimals, and no minus before a zero."""
    text = f"{value:.{digits}f}"
    return text if float(text) else text.lstrip("-")


def summary_table(results: Results) -> Table:
    """Returns the summary as a table for the terminal."""
    table = Table(
        title="worst case over attacks, per defense and knowledge level (attack selected with the truth in hand)",
        title_justify="left",
        caption="n.d.: not distinguishable from the undefended target",
        caption_justify="left",
    )
    for i, name in enumerate(HEAD):
        table.add_column(name, overflow="fold", no_wrap=i == 0, justify="left" if i < 3 else "right")
    for row in summary_rows(results.summary):
        table.add_row(*row)
    return table


def markdown(summary: pd.DataFrame) -> str:
    """Returns the summary as a Markdown table."""
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    for row in summary_rows(summary):
        lines.append("| " + " | ".join(c.replace("|", "\\|") for c in row) + " |")
    return (
        "\n".join(lines) + "\n\nWorst case over attacks, selected with the truth in hand. n.d.: not distinguishable.\n"
    )


_LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}"}
_LATEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", ">": r"$>$", "<": r"$<$"}


def latex(summary: pd.DataFrame) -> str:
    """Returns the summary as a LaTeX tabular (booktabs)."""

    def escaped(text: str) -> str:
        return "".join(_LATEX.get(c, c) for c in text)

    lines = [r"\begin{tabular}{lll" + "r" * (len(HEAD) - 3) + "}", r"\toprule"]
    lines.append(" & ".join(escaped(h) for h in HEAD) + r" \\")
    lines.append(r"\midrule")
    lines += [" & ".join(escaped(c) for c in row) + r" \\" for row in summary_rows(summary)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"
