"""Whether a defense sends features of another shape than the edge's, for attacks that are rebuilt as published."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from splitaudit.plugins import DEFENSES

_PROBE = (16, 8, 8)


def reshaped_by(defense_parts: Iterable[tuple[str, Mapping[str, Any]]]) -> str | None:
    """Returns the name of the first part of a defense that sends another shape than it receives, or None.

    Args:
        defense_parts: registry name and parameters of each part.
    """
    for name, params in defense_parts:
        cls = DEFENSES.get(name)
        if tuple(cls(cls.Params(**params)).wire_shape(_PROBE)) != _PROBE:
            return name
    return None
