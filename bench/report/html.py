"""The report: one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from .. import __version__
from ..knowledge import PRESETS
from ..plan import Plan
from .columns import TRUTH, metric_names
from .flags import explain
from .reading import Records
from .tables import Results
from .terminal import HEAD, number, present, summary_rows

_CAPTIONS = {
    "privacy-accuracy": "Accuracy against worst-case leakage, with 95 % intervals. Better is up and to the left.",
    "reconstructions": "The same private images in every row: what each attack makes of each defense (first seed).",
    "edge-cost": "What each defense costs on the device.",
    "convergence": "Each attack's own loss. A curve that still falls at its end means an attack that could do more.",
}


def page(
    plan: Plan, tables: Results, records: Records, pictures: Mapping[str, str], *, no_images: bool, outdated: int
) -> str:
    """Returns the page as HTML; every text that comes from a suite, plugin or error is escaped."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((files("splitaudit.report") / "templates" / "report.html").read_text())
    cells = tables.cells.to_dict("records")
    return template.render(
        version=__version__,
        suite=plan.suite,
        datasets=plan.datasets,
        headlines=_headlines(tables),
        summary_head=HEAD,
        summary=summary_rows(tables.summary),
        figures=[(n, uri, _caption(n)) for n, uri in pictures.items()],
        no_images=no_images,
        controls=[_cell(c) for c in cells if c["knowledge"] == TRUTH],
        cells=[_cell(c) for c in cells if c["knowledge"] != TRUTH],
        failures=_failures(plan, records),
        skips=_skips(tables),
        flags=_flags(tables),
        empty=_empty(plan, records),
        counts=_counts(tables),
        outdated=outdated,
        provenance=_provenance(plan, records),
    )


def _headlines(tables: Results) -> list[dict[str, str]]:
    """Returns, per knowledge level, the plain-language finding."""
    out = []
    rows = [r for r in tables.summary.to_dict("records") if present(r.get("leakage"))]
    for level in dict.fromkeys(r["knowledge"] for r in rows):
        here = [r for r in rows if r["knowledge"] == level]
        best = min(here, key=lambda r: r["leakage"])
        control = next((r for r in here if r["defense"] == "none"), None)
        text = (
            f"Least leakage: {best['defense']} with {number(best, 'leakage', 3, interval=True)} "
            f"({best['worst_attack']}; like a thumbnail of {number(best, 'equivalent_resolution', 1)} px a side) "
            f"at accuracy {number(best, 'accuracy', 3)}."
        )
        if control is not None and control is not best:
            text += (
                f" Undefended: {number(control, 'leakage', 3)} ({control['worst_attack']}, "
                f"{number(control, 'equivalent_resolution', 1)} px) at accuracy {number(control, 'accuracy', 3)}."
            )
        grants = PRESETS[level]
        what = ", ".join(f"{k} {v}" for k, v in grants.dump().items() if v not in (None, False, "none", 1))
        out.append({"level": level, "grants": what, "text": text})
    return out


def _caption(name: str) -> str:
    for start, text in _CAPTIONS.items():
        if name.startswith(start):
            return text
    return f"{name.removeprefix('heatmap-').replace('_', ' ')} by defense and attack."


def _cell(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "defense": str(row["defense"]),
        "seed": str(row["seed"]) if present(row["seed"]) else "-",
        "attack": str(row["attack"]),
        "knowledge": str(row["knowledge"]),
        "status": str(row["status"]),
        "leakage": number(dict(row), "leakage", 3, interval=True),
        "ssim": number(dict(row), "ssim", 3),
        "resolution": number(dict(row), "equivalent_resolution", 1, interval=True),
        "mse": number(dict(row), "mse", 5),
        "note": "; ".join(str(t) for t in (row["flags"], row["reason"] if row["status"] != "done" else "") if t),
    }


def _failures(plan: Plan, records: Records) -> list[dict[str, str]]:
    out = []
    for node in plan.nodes.values():
        record = records.get(node.kind, node.key)
        if record is not None and record["status"] == "failed":
            error = record["error"]
            out.append(
                {
                    "what": f"{node.kind}: {node.title}",
                    "message": f"{error['type']}: {error['message']}",
                    "traceback": error["traceback"],
                }
            )
        for name, found in (record or {}).get("measurements", {}).items():
            if found["status"] == "failed":
                out.append(
                    {
                        "what": f"{name} of {node.title}",
                        "message": found["reason"],
                        "traceback": (found["error"] or {}).get("traceback", ""),
                    }
                )
    return out


def _skips(tables: Results) -> list[str]:
    out: dict[str, None] = {}
    for row in tables.targets.to_dict("records"):
        if row["status"] == "skipped":
            out[f"{row['defense']} at {row['cut']}: {row['reason']}"] = None
    for row in tables.cells.to_dict("records"):
        if row["status"] == "skipped" and row["knowledge"] != TRUTH and not row["reason"].startswith("target skipped"):
            failed = "failed" in row["reason"]
            who = f"{row['attack']} on {row['defense']}" if failed else row["attack"]
            out[f"{who} at {row['knowledge']}: {row['reason']}"] = None
    return list(out)


def _flags(tables: Results) -> list[tuple[str, str, str]]:
    """Returns (flag, where, meaning), each flag once with the defenses that it concerns."""
    where: dict[str, list[str]] = {}
    for row in tables.summary.to_dict("records"):
        for flag in str(row["flags"] or "").split("; "):
            if flag and flag != "nan":
                where.setdefault(flag, []).append(f"{row['defense']} ({row['knowledge']})")
    return [(flag, ", ".join(dict.fromkeys(places)), explain(flag)) for flag, places in where.items()]


def _empty(plan: Plan, records: Records) -> list[tuple[str, str]]:
    """Returns the metrics without any value, and why."""
    out: dict[str, str] = {}
    for cell in plan.cells:
        if records.done("cell", cell["key"]):
            for name in metric_names(plan):
                found = records.scores(cell["key"], name)
                if found.values is None:
                    out.setdefault(name, found.reason)
    return list(out.items())


def _counts(tables: Results) -> dict[str, int]:
    states = list(tables.targets["status"]) + [
        s for s, k in zip(tables.cells["status"], tables.cells["knowledge"], strict=True) if k != TRUTH
    ]
    return {s: states.count(s) for s in ("done", "failed", "skipped", "not run")}


def _provenance(plan: Plan, records: Records) -> list[tuple[str, str]]:
    """Returns what the records say of where and with what they were made; differing records are all named."""
    found: dict[str, dict[str, None]] = {}
    seconds = 0.0
    for node in plan.nodes.values():
        record = records.get(node.kind, node.key)
        if record is None:
            continue
        seconds += sum(record["timing"].values())
        for name, value in record["provenance"].items():
            if isinstance(value, Mapping):
                value = ", ".join(f"{k} {v}" for k, v in value.items()) if name != "plugins" else None
            if value is not None:
                found.setdefault(name, {})[str(value)] = None
    rows = [(name, "; ".join(values)) for name, values in found.items()]
    return [*rows, ("seconds of work, all nodes together", f"{seconds:.0f}"), ("seeds", str(plan.suite["seeds"]))]
