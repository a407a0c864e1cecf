"""No defense: the undefended split, the control of every table."""

from __future__ import annotations

from typing import Any

from splitaudit.defense import Defense


class Undefended(Defense):
    """Sends the edge's features as they are."""

    source = "control"

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {}
