"""Tables of made-up suites, from one cell to more than fits on a page, and a look at how a figure is laid out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

PLACE = {"dataset": "photos", "backbone": "cnn4", "cut": "block2"}
LEVELS = ("white-box", "query")
DEFENSES = (
    "none",
    *(f"noise(sigma={s},distribution=gaussian,relative=True)" for s in (0.25, 0.5, 1, 2, 4)),
    "noise(sigma=0.5,distribution=laplace,relative=False)@infer",
    *(f"dropout(rate={r})" for r in (0.2, 0.5, 0.8)),
    *(f"nopeek(alpha={a})" for a in (0.5, 1, 4)),
    "adversarial",
    "siftfunnel",
    "nopeek+noise(sigma=0.5,relative=False)@infer",
    "nopeek+dropout+noise(noise.sigma=1,noise.relative=True)",
    "adversarial+dropout",
    "some-vendor/a_defense_with_a_name_of_some_length",
    "local/blur",
)
ATTACKS = (
    "prior",
    *(f"rmle(steps={s})@tune8" for s in (100, 300)),
    "rmle(steps=150)@tune8@nonadaptive",
    *(f"decoder(width={w},flips=True)" for w in (32, 64, 128)),
    "decoder(width=64,flips=False)",
)
SCALES = {"leakage": 1.0, "ssim": 1.0, "equivalent_resolution": 30.0, "mse": 0.05, "psnr": 40.0, "retrieval": 1.0}


def matrix_frame(
    defenses: tuple[str, ...] = DEFENSES, attacks: tuple[str, ...] = ATTACKS, state: str | None = None
) -> pd.DataFrame:
    """Returns a matrix as :func:`build_matrix` makes it; with ``state`` every cell is missing for that reason.

    Otherwise every seventh cell failed on a seed, and white-box attacks are skipped at the level ``query``.
    """
    draw = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for i, (level, defense, attack) in enumerate((k, d, a) for k in LEVELS for d in defenses for a in attacks):
        bad = "1 of 3\nfailed" if i % 7 == 3 else ""
        bad = "skipped" if level == "query" and attack.startswith("rmle") else bad
        row: dict[str, Any] = {**PLACE, "defense": defense, "attack": attack, "knowledge": level}
        row |= {"control": attack == "prior", "state": state if state is not None else bad, "reason": ""}
        row["seeds"] = 3
        for name, scale in SCALES.items():
            value = scale * (0.001 if attack == "prior" else draw.uniform(0.3, 0.99))
            missing = bool(row["state"])
            row |= {name: np.nan if missing else value, f"{name}_lo": np.nan if missing else value * 0.9}
            row[f"{name}_hi"] = np.nan if missing else value * 1.01
        rows.append(row)
    return pd.DataFrame(rows)


def summary_frame(
    defenses: tuple[str, ...] = DEFENSES, levels: tuple[str, ...] = LEVELS, missing: tuple[str, ...] = ()
) -> pd.DataFrame:
    """Returns a summary with the columns that figures and tables read; ``missing`` defenses have no figures."""
    draw = np.random.default_rng(1)
    rows: list[dict[str, Any]] = []
    for defense, level in ((d, k) for d in defenses for k in levels):
        gone = defense in missing
        row: dict[str, Any] = {**PLACE, "defense": defense, "knowledge": level}
        row |= {
            "worst_attack": "" if gone else ATTACKS[-1],
            "flags": "",
            "incomplete": "decoder: failed" if gone else "",
        }
        figures = {"leakage": 1.0, "ssim": 1.0, "equivalent_resolution": 30.0, "accuracy": 1.0}
        for name, scale in (figures | {"leakage_change": 0.1, "accuracy_drop": 0.1}).items():
            value = scale * draw.uniform(0.6, 0.99)
            row |= {name: value, f"{name}_lo": value * 0.9, f"{name}_hi": value * 1.02}
            if gone:
                row |= dict.fromkeys((name, f"{name}_lo", f"{name}_hi"), np.nan)
        row |= {"leakage_change_note": "", "accuracy_drop_note": "", "seeds": 3}
        row |= {"mi_text": "2.10 [1.80, 2.40]", "edge_macs": 2.9e6, "wire_bytes": 16384.0}
        row |= {"timing_edge_latency_median_ms": draw.uniform(0.2, 3), "timing_edge_latency_p95_ms": 8.4}
        rows.append(row)
    return pd.DataFrame(rows)


def texts(figure: Figure) -> list[Text]:
    """Returns the texts of a figure that are drawn: no empty ones, no labels of ticks beyond an axis' ends."""
    beyond: set[int] = set()
    for axis in (a for ax in figure.axes for a in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        room = 1e-6 * (high - low)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low - room <= tick.get_loc() <= high + room:
                beyond |= {id(tick.label1), id(tick.label2)}
    found = (t for t in figure.findobj(Text) if isinstance(t, Text) and id(t) not in beyond)
    return [t for t in found if t.get_visible() and t.get_text().strip()]


def problems(figure: Figure) -> list[str]:
    """Returns what is wrong with the texts of a figure: cut off, overlapping, too small."""
    FigureCanvasAgg(figure)
    figure.set_dpi(100)
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()  # pyright: ignore[reportAttributeAccessIssue]
    width, height = (float(s) * 100 for s in figure.get_size_inches())
    out = []
    boxes = []
    for text in texts(figure):
        if text.get_fontsize() < 8:
            out.append(f"too small: {text.get_text()!r}, {text.get_fontsize()} points")
        box = text.get_window_extent(renderer)
        if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1:
            out.append(f"cut off: {text.get_text()!r}")
        boxes.append((text.get_text(), box))
    for i, (one, a) in enumerate(boxes):
        for other, b in boxes[i + 1 :]:
            across, down = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
            if across > 1.5 and down > 1.5:
                out.append(f"overlap: {one!r} and {other!r}")
    return out
