"""The report: one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from .. import __version__
from ..plan import Plan
from . import adaptive_gap, gaps
from .claims_text import HEAD as CLAIM_HEADS
from .claims_text import Line, claim_lines, general_notes
from .columns import TRUTH, column_words, metric_names
from .findings import find, verdicts
from .flags import collect, explain
from .page_adaptive import ADAPTIVE, adaptive_rows
from .page_matched import MATCHED, matched_groups, matched_notes
from .page_promised import PROMISED, promised_rows
from .page_tables import (
    CELLS,
    READ,
    SUMMARY,
    WORST,
    cell_row,
    control_row,
    heads,
    read_cell_row,
    read_row,
    summary_groups,
    worst_row,
)
from .page_tuned import TUNED, tuned_rows
from .page_value import Value
from .promised import EXPLAINED
from .reading import Records
from .style import joints
from .tables import Results
from .tuning import in_words


@dataclass(frozen=True)
class Picture:
    """A figure as the page shows it.

    Attributes:
        place: dataset, backbone and cut; empty where the suite has only one place.
        group: ``main``, or what the page may fold away: ``metrics`` or ``pictures``.
        title: a few words.
        caption: what it shows.
        uri: the picture itself.
        width: in pixels of the page.
    """

    place: str
    group: str
    title: str
    caption: str
    uri: str
    width: int


FOLDED = {"metrics": "Further metrics, and convergence of the attacks", "pictures": "Reconstructions, attack by attack"}
"""Groups of figures that are folded away where there are many places or lines."""


def page(
    plan: Plan, tables: Results, records: Records, pictures: Sequence[Picture], *, no_images: bool, outdated: int
) -> str:
    """Returns the page as HTML; every text that comes from a suite, plugin or error is escaped."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["joints"] = joints
    template = environment.from_string((files("splitaudit.report") / "templates" / "report.html").read_text())
    cells = tables.cells.to_dict("records")
    flags = collect(tables.summary, tables.cells)
    skips = gaps.skips(plan, records)
    # Only where something was read are there columns for it.
    reads = bool(metric_names(plan, "label"))
    cell_heads = [*CELLS[:-1], READ[3], READ[5], CELLS[-1]] if reads else CELLS
    row_of = read_cell_row if reads else cell_row
    return template.render(
        version=__version__,
        suite=plan.suite,
        datasets=plan.datasets,
        attacked={str(t["dataset"]) for t in plan.targets},
        counts=gaps.counts(plan, records),
        findings=find(tables),
        verdicts=verdicts(tables.claims),
        summary_heads=heads(SUMMARY, plan),
        summary=summary_groups(tables.summary, flags),
        read_heads=heads(READ, plan),
        read=[read_row(r) for r in tables.attributes.to_dict("records")],
        matched_heads=heads(MATCHED, plan),
        matched=matched_groups(tables.matched) if tables.matched["defense"].nunique() > 1 else [],
        matched_notes=matched_notes(tables.matched),
        adaptive_heads=heads(ADAPTIVE, plan, "adaptive"),
        adaptive=adaptive_rows(tables.adaptive),
        hidden=adaptive_gap.in_words(tables.adaptive),
        promised_heads=heads(PROMISED, plan),
        promised=promised_rows(tables.summary),
        promised_meaning=EXPLAINED,
        worst_heads=heads(WORST, plan),
        worst=[worst_row(r) for r in tables.worst_case.to_dict("records")],
        tuned_heads=heads(TUNED, plan, "tuned"),
        tuned=tuned_rows(tables.tuned),
        tuning=in_words(tables.tuned),
        claim_heads=CLAIM_HEADS,
        claims=[_claim_row(line) for line in claim_lines(tables.claims, column_words(plan.suite))],
        claim_notes=general_notes(tables.claims),
        cell_heads=heads(cell_heads, plan),
        cells=[row_of(c) for c in cells if c["knowledge"] != TRUTH],
        controls=[control_row(c, many=len(plan.datasets) > 1) for c in cells if c["knowledge"] == TRUTH],
        places=_by_place(pictures),
        folded=FOLDED,
        many=len({p.place for p in pictures}) > 1,
        no_images=no_images,
        pictured=any(p.title.startswith("Reconstructions") for p in pictures),
        failures=gaps.failures(plan, records),
        lost=[s for s in skips if s.owed],
        skips=[s for s in skips if not s.owed],
        flags=[(i, flag, explain(flag.kind)) for i, flag in enumerate(flags, start=1)],
        empty=gaps.empty(plan, records),
        lacking=gaps.incomplete(tables.summary),
        outdated=outdated,
        provenance=_provenance(plan, records),
    )


def _by_place(pictures: Sequence[Picture]) -> list[tuple[str, dict[str, list[Picture]]]]:
    """Returns the figures by place, then by group, in their order."""
    out: dict[str, dict[str, list[Picture]]] = {}
    for picture in pictures:
        out.setdefault(picture.place, {}).setdefault(picture.group, []).append(picture)
    return list(out.items())


def _claim_row(line: Line) -> list[Value]:
    """Returns a row of the table of claims, notes under what they are about."""
    return [
        Value(line.claim, lines=line.common),
        Value(line.measured, lines=line.notes, kind="wide"),
        Value(line.verdict, lines=(line.why,) if line.why else ()),
        Value(line.overall, kind="verdict"),
    ]


def _provenance(plan: Plan, records: Records) -> list[tuple[str, str]]:
    """Returns what the records say of where and with what they were made; differing records are all named."""
    found: dict[str, dict[str, None]] = {}
    seconds = 0.0
    for node in plan.nodes.values():
        record: Mapping[str, Any] | None = records.get(node.kind, node.key)
        if record is None:
            continue
        seconds += sum(record["timing"].values())
        for name, value in record["provenance"].items():
            if isinstance(value, Mapping):
                value = ", ".join(f"{k} {v}" for k, v in value.items()) if name != "plugins" else None
            if value is not None:
                found.setdefault(name, {})[str(value)] = None
    rows = [(name.replace("_", " "), "; ".join(values)) for name, values in found.items()]
    seeds = ", ".join(str(s) for s in plan.suite["seeds"])
    return [*rows, ("work of all nodes together", f"{seconds:.0f} s"), ("seeds", seeds)]
