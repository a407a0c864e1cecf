"""Which figures a run has, each with its place in the page and what it shows in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import pandas as pd

from ..attack import Infers
from ..plan import Plan
from .columns import PLACE, TRUTH, USABLE, column_words, describe, figure, judges, metric_names
from .criterion import main_quantities, points
from .curves import panels
from .frames import select
from .matrix import build_matrix
from .picture_lines import ReadArtifact, picture_lines
from .plot_convergence import convergence
from .plot_cost import edge_cost
from .plot_criterion import criterion
from .plot_draws import leakage_by_draws, levels_with_draws
from .plot_heatmap import heatmap
from .plot_pictures import reconstructions
from .plot_trade_off import front_of, trade_off
from .reading import Records
from .style import CSS_PER_INCH
from .tables import Results
from .texts import one_seed
from .usefulness import at_chance

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

MAIN = ("leakage", "ssim", "equivalent_resolution")
"""The headline figures, in the order of the page; the others come after them."""


@dataclass(frozen=True)
class Drawn:
    """A figure of the report.

    Attributes:
        name: of its files.
        place: dataset, backbone and cut; empty where the suite has only one place.
        group: ``main``, or what the page may fold away: ``metrics`` or ``pictures``.
        title: a few words.
        caption: what it shows and how to read it.
        figure: the drawing.
        photographs: it shows images, whose colours are data.
    """

    name: str
    place: str
    group: Literal["main", "metrics", "pictures"]
    title: str
    caption: str
    figure: Figure
    photographs: bool = False

    @property
    def width(self) -> int:
        """The width at which a page shows it, in its pixels."""
        return round(float(self.figure.get_size_inches()[0]) * CSS_PER_INCH)


def draw_figures(
    plan: Plan, tables: Results, records: Records, read: ReadArtifact, private: Mapping[str, torch.Tensor] | None
) -> Iterator[Drawn]:
    """Yields every figure of a run in the order of the page.

    Args:
        plan: the plan.
        tables: its tables.
        records: its records.
        read: kind and key to the tensors of a record.
        private: dataset label to private images, uint8 (N, C, H, W); None: no pictures.
    """
    matrix = build_matrix(plan, records)
    places = list(dict.fromkeys((r["dataset"], r["backbone"], r["cut"]) for r in plan.targets))
    for place in places:
        label = "" if len(places) == 1 else ", ".join(place)
        suffix = "" if len(places) == 1 else "-" + _file("-".join(place))
        cells, summary, here = (_at(frame, place) for frame in (tables.cells, tables.summary, matrix))
        yield Drawn(
            f"privacy-accuracy{suffix}", label, "main", "Privacy against accuracy", _trade_off_caption(summary),
            trade_off(summary, _controls(tables.cells, place[0])),
        )  # fmt: skip
        if levels_with_draws(summary):
            yield Drawn(
                f"draws{suffix}", label, "main", "Several draws of the same image",
                "The worst attack's leakage when it receives several draws of the defense's randomness for each private image, "
                "as when the same picture is sent again (selected with the truth in hand). A defense without randomness stays "
                "where it is.",
                leakage_by_draws(summary),
            )  # fmt: skip
        shown = [m for m in metric_names(plan) if cells[m].notna().any()]
        for name in [*(m for m in MAIN if m != "ssim" or m in shown), *(m for m in shown if m not in MAIN)]:
            yield Drawn(
                f"heatmap-{_file(name)}{suffix}", label, "main" if name in MAIN else "metrics",
                f"{_capital(figure(name).label)} by defense and attack", _heatmap_caption(name),
                heatmap(_of_kind(here, judges(name)), name),
            )  # fmt: skip
        if private is not None and place[0] in private:
            for title, lines in picture_lines(plan, records, read, place, private[place[0]]):
                yield Drawn(
                    f"reconstructions{suffix}{'-' + _file(title) if title else ''}", label,
                    "pictures" if title else "main", f"Reconstructions{': ' if title else ''}{title}",
                    "The same private images in every line: what each attack makes of each defense (first seed).",
                    reconstructions(lines), photographs=True,
                )  # fmt: skip
        yield Drawn(
            f"edge-cost{suffix}", label, "main", "Cost on the edge",
            "What each defense costs on the device, one image at a time; shorter is cheaper. Mean over seeds.",
            edge_cost(summary),
        )  # fmt: skip
        yield Drawn(
            f"convergence{suffix}", label, "metrics", "Convergence of the attacks",
            "Each attack's own loss, or that of its training (first seed), of a tuned attack with the setting that it chose. A "
            "loss that still falls at its end, or an accuracy that still rises, means an attack that could do more. Losses of "
            "different attacks have different units.",
            convergence(panels(plan, records, place), list(dict.fromkeys(summary["defense"]))),
        )  # fmt: skip
    yield from _criteria(plan, tables)


def _criteria(plan: Plan, tables: Results) -> Iterator[Drawn]:
    """Yields the criterion of each dataset that has enough targets for a correlation."""
    axes = quantity_axes(plan)
    defenses = list(dict.fromkeys(row["defense"] for row in plan.targets))
    for dataset in dict.fromkeys(tables.criterion["dataset"]):
        rows = tables.criterion[tables.criterion["dataset"] == dataset]
        rows = rows[rows["quantity"].isin(main_quantities(plan))]
        if rows["spearman"].isna().all():
            continue
        several = len(plan.references) > 1
        yield Drawn(
            f"criterion{'-' + _file(dataset) if several else ''}", "", "main",
            f"What predicts the strongest attack{' on ' + dataset if several else ''}",
            _criterion_caption(tables.criterion, dataset),
            criterion(points(plan, tables.targets, tables.cells, dataset, tables.spared), rows, axes, defenses),
        )  # fmt: skip


def quantity_axes(plan: Plan) -> dict[str, str]:
    """Returns what the axis of each quantity of the criterion says: words, and the unit."""
    known = describe(plan)
    units = {name: unit for name, (unit, _) in (known["cells"] | known["targets"]).items()}
    words = column_words(plan.suite) | {USABLE: "usable information of the strongest other attack"}
    return {name: f"{text} ({units[name]})" if units.get(name) else text for name, text in words.items()}


def _criterion_caption(table: pd.DataFrame, dataset: str) -> str:
    judged = table[(table["dataset"] == dataset) & table["spearman"].notna()]
    count = len(judged)
    text = (
        "Each measured quantity that claims to say how much leaks, against the error of the strongest attack on each "
        "target. A quantity that predicts falls from left to right (Spearman's rank correlation near -1), over all targets "
        "and within each cut: cuts differ in leakage whatever is measured. The usable information is that of the strongest "
        "other attack, since that of the strongest one is a function of its error. "
    )
    if any(c > 0 for c in judged["censored"]):
        text += (
            "Censored targets, mostly the leakiest, are not ranked; where they are more than a quarter, there is no "
            "verdict. "
        )
    return text + (
        f"{count} {'quantity is' if count == 1 else 'quantities are'} judged one by one, without correction for their "
        "number: about one in twenty that have nothing to do with the error would still get a verdict. criterion.csv has all "
        "of them, those at other reference noises included."
    )


def _trade_off_caption(summary: pd.DataFrame) -> str:
    text = (
        "Accuracy against the leakage of the worst attack. Better is up and to the left. "
        "Above the panels: what a thumbnail of the truth would leak."
    )
    for level in dict.fromkeys(summary["knowledge"]):
        front = front_of(summary, level)
        if front:
            text += f" On the Pareto front at {level}: {', '.join(front)}."
    text += (
        " The front is by the means, the attacks selected with the truth in hand; pairs.csv says which two are level."
    )
    if one_seed(summary.to_dict("records")):
        text += " One seed: what another training would change is in no interval."
    chance = dict.fromkeys(str(r["defense"]) for r in summary.to_dict("records") if at_chance(r))
    if chance:
        text += f" On no front, since its accuracy is at chance: {', '.join(chance)}."
    return text


def _heatmap_caption(name: str) -> str:
    return f"{_capital(figure(name).axis)}. Controls such as the prior may lie beyond the colours' scale."


def _controls(cells: pd.DataFrame, dataset: str) -> dict[str, float]:
    rows = cells[(cells["knowledge"] == TRUTH) & (cells["dataset"] == dataset) & cells["leakage"].notna()]
    return {str(n): float(v) for n, v in zip(rows["attack"], rows["leakage"], strict=True)}


INFERS = get_args(Infers)


def _of_kind(matrix: pd.DataFrame, infers: Infers) -> pd.DataFrame:
    """Returns the rows of the attacks that find images, or labels; an attack of which nothing was run finds either."""
    kinds = {a: {k for k in matrix.loc[matrix["attack"] == a, "infers"] if k in INFERS} for a in set(matrix["attack"])}
    return select(matrix, matrix["attack"].map(lambda a: not kinds[a] or infers in kinds[a]))


def _at(frame: Any, place: tuple[str, str, str]) -> Any:
    found = frame
    for name, value in zip(PLACE, place, strict=True):
        found = found[found[name] == value]
    return found


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _file(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text)
