"""Targets as they look to who takes no account of what a defense does on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .defense import Defense
from .params import Params
from .plugins import DEFENSES
from .split import Split, SplitModel


def without_wire_defense(model: SplitModel) -> SplitModel:
    """Returns a target with the same edge and cloud that sends the edge's output as it is; nothing is copied.

    An edge that the defense has trained or rebuilt stays as it is: only what happens to its output is left out.
    """
    split = Split(model.info, model.edge, model.cloud, model.feature_shape)
    return SplitModel(split, Defense(Params()))


def nothing_to_ignore(parts: Sequence[Mapping[str, Any]]) -> str | None:
    """Returns why an attack cannot leave a defense out of account, or None where it can.

    Args:
        parts: of the defense, ``{"name", "params"}`` each, in order.
    """
    made = [DEFENSES.get(part["name"])(DEFENSES.get(part["name"]).Params(**part["params"])) for part in parts]
    if all(defense.leaves_wire for defense in made):
        return "adaptive: false leaves out what the defense does on the wire, and it does nothing there"
    if any(type(defense).wire_shape is not Defense.wire_shape for defense in made):
        return "adaptive: false takes what is sent for the edge's output, and the defense sends another shape"
    return None
