"""Writing what is derived from records: the only place of this package that touches files."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import StoreError
from ..plan import Plan
from ..references import thumbnail
from ..store import Store, write_text
from ..store.atomic import write_bytes
from . import plots
from .cells import beats_prior
from .columns import metric_names
from .frames import csv
from .html import page
from .reading import Records
from .tables import Results, build_tables
from .terminal import latex, markdown

if TYPE_CHECKING:
    import torch

SHOWN = 8
"""Private images in the grid of reconstructions, the first ones, the same in every row."""


def load_results(folder: Path) -> Results:
    """Returns the tables of a run folder; the dataset need not be there.

    Raises:
        StoreError: the folder holds no results.
    """
    store = Store.open(folder)
    return build_tables(_plan(folder), store.read)[0]


def write_derived(
    folder: Path, plan: Plan, store: Store, private: Mapping[str, torch.Tensor] | None, *, no_images: bool
) -> list[Path]:
    """Writes tables, plots and report of a run and returns their paths.

    Args:
        folder: the run folder.
        plan: its plan.
        store: its store.
        private: dataset label to private images, uint8 (N, C, H, W); None: no pictures.
        no_images: leave all pictures of private images out.
    """
    tables, records = build_tables(plan, store.read)
    written = []
    for name in ("targets", "cells", "summary", "per_image"):
        written.append(_text(folder / f"{name}.csv", csv(getattr(tables, name))))
    written.append(_text(folder / "summary.md", markdown(tables.summary)))
    written.append(_text(folder / "summary.tex", latex(tables.summary)))
    figures = _figures(plan, tables, records, store, None if no_images else private)
    pictures: dict[str, str] = {}
    at = folder / "plots"
    for name, figure in figures.items():
        png = io.BytesIO()
        figure.savefig(png, format="png", metadata={"Software": None})
        write_bytes(at / f"{name}.png", png.getvalue())
        svg = io.StringIO()
        import matplotlib

        with matplotlib.rc_context({"svg.hashsalt": "splitaudit", "svg.fonttype": "path"}):
            figure.savefig(svg, format="svg", metadata={"Date": None})
        write_text(at / f"{name}.svg", svg.getvalue())
        written += [at / f"{name}.png", at / f"{name}.svg"]
        pictures[name] = "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
    for old in at.iterdir() if at.is_dir() else []:
        if old not in written:
            old.unlink()
    outdated = len(store.outdated(plan.nodes.keys()))
    html = page(plan, tables, records, pictures, no_images=no_images, outdated=outdated)
    written.append(_text(folder / "report.html", html))
    return written


def _figures(
    plan: Plan, tables: Results, records: Records, store: Store, private: Mapping[str, torch.Tensor] | None
) -> dict[str, Any]:
    out: dict[str, Any] = {}
    places = list(dict.fromkeys((r["dataset"], r["backbone"], r["cut"]) for r in plan.targets))
    for place in places:
        suffix = "" if len(places) == 1 else "-" + _file("-".join(place))
        cells, summary = (_at(frame, place) for frame in (tables.cells, tables.summary))
        out[f"privacy-accuracy{suffix}"] = plots.trade_off(summary)
        figures = ["leakage", "equivalent_resolution", *(m for m in metric_names(plan) if cells[m].notna().any())]
        for name in figures:
            out[f"heatmap-{name}{suffix}"] = plots.heatmap(cells, name)
        if private is not None and place[0] in private:
            out[f"reconstructions{suffix}"] = plots.reconstructions(
                _grid(plan, records, store, place, private[place[0]])
            )
        out[f"edge-cost{suffix}"] = plots.edge_cost(summary)
        out[f"convergence{suffix}"] = plots.convergence(_curves(plan, records, place))
    return out


def _grid(
    plan: Plan, records: Records, store: Store, place: tuple[str, str, str], private: torch.Tensor
) -> list[tuple[str, np.ndarray | str]]:
    """Returns the rows of the picture grid: truth, a thumbnail, then each attack on each defense (first seed)."""
    truth = private[:SHOWN]
    rows: list[tuple[str, np.ndarray | str]] = [("truth", _pictures(truth))]
    if min(truth.shape[-2:]) > 8:
        small = thumbnail(truth.float() / 255, 8).mul(255).round().clamp(0, 255).byte()
        rows.append(("thumbnail-8\n(from the truth)", _pictures(small)))
    seen = set()
    for cell in plan.cells:
        here = (cell["dataset"], cell["backbone"], cell["cut"]) == place
        label = (cell["defense"], cell["attack"])
        if not here or label in seen or not cell["key"]:
            continue
        seen.add(label)
        shown = any(cell["attack"] == attack for defense, attack in seen if defense != cell["defense"])
        if shown and not beats_prior(plan.nodes["cell", cell["key"]].identity["attack"]["name"]):
            continue  # the constant guess is the same for every defense: once is enough
        name = f"{plots.wrapped(cell['defense'])}\n{cell['attack']}"
        record = records.get("cell", cell["key"])
        if record is None or record["status"] != "done":
            rows.append((name, records.row_state("cell", cell).status))
        elif not record["artifact"]:
            rows.append((name, "reconstructions were not stored (--no-images)"))
        else:
            rows.append((name, _pictures(store.read_artifact("cell", cell["key"])["guess"][:SHOWN])))
    return rows


def _pictures(images: torch.Tensor) -> np.ndarray:
    return images.permute(0, 2, 3, 1).numpy()


def _curves(plan: Plan, records: Records, place: tuple[str, str, str]) -> dict[str, dict[str, list[list[float]]]]:
    """Returns attack to defense to the curve of the attack itself, or of its fit where it has none (first seed)."""
    out: dict[str, dict[str, list[list[float]]]] = {}
    for cell in plan.cells:
        record = records.done("cell", cell["key"])
        if (cell["dataset"], cell["backbone"], cell["cut"]) != place or record is None:
            continue
        fit = records.done("fit", record["identity"].get("fit"))
        curves = record["attack"].get("curves") or (fit["info"].get("curves") if fit else None) or {}
        points = [p for p in next(iter(curves.values()), []) if p[1] > 0]
        if points:
            out.setdefault(cell["attack"], {}).setdefault(cell["defense"], points)
    return out


def _at(frame: Any, place: tuple[str, str, str]) -> Any:
    dataset, backbone, cut = place
    return frame[(frame["dataset"] == dataset) & (frame["backbone"] == backbone) & (frame["cut"] == cut)]


def _file(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text)


def _text(path: Path, text: str) -> Path:
    write_text(path, text)
    return path


def _plan(folder: Path) -> Plan:
    try:
        return Plan.load(json.loads((folder / "plan.json").read_text()))
    except FileNotFoundError:
        raise StoreError(f"{folder}: has no plan.json, so no run was started here. Run the suite with --out.") from None
    except (ValueError, KeyError, TypeError) as exc:
        raise StoreError(f"{folder / 'plan.json'}: cannot be read ({exc}). Run the suite again.") from exc
