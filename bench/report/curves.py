"""The curves that attacks recorded, sorted into what may share an axis: each kind of loss, and shares such as accuracies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..plan import Plan
from .fits import chosen_fit
from .reading import Records

Points = list[list[float]]
"""Steps or epochs, each with a value."""

LOSSES = {
    "aux_val_mse": "mean squared error on own images",
    "aux_val_cross_entropy": "cross-entropy on own images",
    "prior_aux_val_mse": "error of the prior on own images",
    "stand_in_loss": "loss of the stand-in's training",
    "stand_in_aux_val_mse": "error of the stand-in's decoder on own images",
    "stand_in_accuracy": "accuracy of the stand-in on own images",
    "denoiser_loss": "loss of the denoiser's training",
    "calibration_loss": "loss on own images",
}
"""Name of a curve, or its beginning, to what an axis says of it."""


@dataclass(frozen=True)
class Panel:
    """The curves of one attack that share an axis.

    Attributes:
        attack: its label.
        quantity: what the curves show, in words.
        share: they are shares of images in [0, 1], higher for a better attack; losses otherwise.
        lines: defense to its points.
    """

    attack: str
    quantity: str
    share: bool
    lines: dict[str, Points]


def is_share(name: str) -> bool:
    """Says whether a curve holds shares of images rather than losses."""
    return name.endswith("accuracy")


def in_words(name: str) -> str:
    """Returns what an axis says of a curve; one that nobody has described is the attack's own loss."""
    known = next((words for start, words in LOSSES.items() if name.startswith(start)), "")
    return known or ("accuracy on own images" if is_share(name) else "the attack's own loss")


def panels(plan: Plan, records: Records, place: tuple[str, str, str]) -> list[Panel]:
    """Returns a panel per attack and kind of curve at a dataset, backbone and cut, in the order of the plan.

    Of several seeds and levels of knowledge the first that has a curve is drawn. Shown is the loss that the attack logged
    first, or that of its fit where it has none, and in a panel of its own the first accuracy.
    Of a tuned attack the fit is that of the setting that it chose: what the others did has no say in its result.
    """
    found: dict[tuple[str, str], Panel] = {}
    for cell in plan.cells:
        record = records.done("cell", cell["key"])
        if (cell["dataset"], cell["backbone"], cell["cut"]) != place or record is None:
            continue
        fit = chosen_fit(records, record)
        parts = [_logged(facts) for facts in (record["attack"], fit["info"] if fit else {})]
        for share in (False, True):
            name = next(
                (n for curves in parts for n in curves if is_share(n) == share and _shown(curves[n], share)), None
            )
            if name is None:
                continue
            curve = next(curves[name] for curves in parts if _shown(curves.get(name, []), share))
            key = (str(cell["attack"]), in_words(name))
            panel = found.setdefault(key, Panel(key[0], key[1], share, {}))
            panel.lines.setdefault(str(cell["defense"]), _shown(curve, share))
    return list(found.values())


def _logged(facts: Mapping[str, Any]) -> dict[str, Points]:
    """Returns the curves in the order in which they were begun, as far as that is stored."""
    curves = facts.get("curves") or {}
    return {name: curves[name] for name in [*facts.get("logged", []), *curves] if name in curves}


def _shown(points: Points, share: bool) -> Points:
    """Returns the points that an axis can hold: that of losses is logarithmic."""
    return [p for p in points if share or p[1] > 0]
