"""Writing what is derived from records: the only place of this package that touches files."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import StoreError
from ..plan import Plan
from ..store import Store, write_text
from ..store.atomic import write_bytes
from .claims_text import claims_markdown
from .columns import column_words
from .exported import latex, markdown
from .figures import Drawn, draw_figures
from .frames import csv
from .html import Picture, page
from .style import DPI, PHOTOGRAPH_DPI
from .tables import Results, build_tables

if TYPE_CHECKING:
    import torch

TABLES = (
    "targets", "cells", "summary", "worst_case", "matched", "pairs", "attributes", "per_image", "criterion", "claims",
    "tuned", "adaptive",
)  # fmt: skip
"""Tables that are written as CSV."""


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
    for name in TABLES:
        table = getattr(tables, name)
        if name in ("claims", "attributes", "tuned", "adaptive") and table.empty:
            # Most suites test no claims, read no attribute, tune no attack and run none both ways.
            (folder / f"{name}.csv").unlink(missing_ok=True)
            continue
        written.append(_text(folder / f"{name}.csv", csv(table)))
    written.append(_text(folder / "summary.md", markdown(tables.summary)))
    written.append(_text(folder / "summary.tex", latex(tables.summary)))
    if not tables.claims.empty:
        written.append(_text(folder / "claims.md", claims_markdown(tables.claims, column_words(plan.suite))))
    pictures: list[Picture] = []
    at = folder / "plots"
    for drawn in draw_figures(plan, tables, records, store.read_artifact, None if no_images else private):
        png, svg = _rendered(drawn)
        write_bytes(at / f"{drawn.name}.png", png)
        write_text(at / f"{drawn.name}.svg", svg)
        written += [at / f"{drawn.name}.png", at / f"{drawn.name}.svg"]
        uri = "data:image/png;base64," + base64.b64encode(png).decode()
        pictures.append(Picture(drawn.place, drawn.group, drawn.title, drawn.caption, uri, drawn.width))
    for old in at.iterdir() if at.is_dir() else []:
        if old.is_file() and old not in written:
            old.unlink()
    outdated = len(store.outdated(plan.nodes.keys()))
    html = page(plan, tables, records, pictures, no_images=no_images, outdated=outdated)
    written.append(_text(folder / "report.html", html))
    return written


def _rendered(drawn: Drawn) -> tuple[bytes, str]:
    """Returns a figure as PNG and SVG, without anything that differs between two builds."""
    import matplotlib

    png, svg = io.BytesIO(), io.StringIO()
    dpi = PHOTOGRAPH_DPI if drawn.photographs else DPI
    drawn.figure.savefig(png, format="png", dpi=dpi, metadata={"Software": None})
    with matplotlib.rc_context({"svg.hashsalt": "splitaudit", "svg.fonttype": "path"}):
        drawn.figure.savefig(svg, format="svg", metadata={"Date": None})
    return png.getvalue() if drawn.photographs else _with_palette(png), svg.getvalue()


def _with_palette(png: io.BytesIO) -> bytes:
    """Returns a picture in 256 colours: a third of the size, and all figures have to fit into one page."""
    from PIL import Image

    out = io.BytesIO()
    with Image.open(png) as picture:
        picture.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(out, "png")
    return out.getvalue()


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
