"""Targets as they look to who takes no account of what a defense does on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .composed import Composed, parts_of
from .defense import Defense
from .params import Params
from .plugins import DEFENSES
from .split import Split, SplitModel


def without_wire_defense(model: SplitModel) -> SplitModel:
    """Returns a target with the same edge and cloud that sends the edge's output as it is; nothing is copied.

    An edge that the defense has trained or rebuilt stays as it is, and so do the parts that did that: only those that act
    on the edge's output are left out.
    """
    split = Split(model.info, model.edge, model.cloud, model.feature_shape)
    kept = [part for part in parts_of(model.defense) if part.leaves_wire]
    if not kept:
        return SplitModel(split, Defense(Params()))
    return SplitModel(split, kept[0] if len(kept) == 1 else Composed(kept))


def off_the_wire(parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the parts of a defense that leave the edge's output as it is.

    Args:
        parts: of the defense, ``{"name", "params"}`` each, in order.
    """
    return [part for part in parts if _made(part).leaves_wire]


def nothing_to_ignore(parts: Sequence[dict[str, Any]]) -> str | None:
    """Returns why an attack cannot leave a defense out of account, or None where it can.

    Args:
        parts: of the defense, ``{"name", "params"}`` each, in order.
    """
    acting = [defense for defense in map(_made, parts) if not defense.leaves_wire]
    if not acting:
        return "adaptive: false leaves out what the defense does on the wire, and it does nothing there"
    if any(type(defense).wire_shape is not Defense.wire_shape for defense in acting):
        return "adaptive: false takes what is sent for the edge's output, and the defense may send another shape"
    return None


def _made(part: Mapping[str, Any]) -> Defense:
    cls = DEFENSES.get(part["name"])
    return cls(cls.Params(**part["params"]))
