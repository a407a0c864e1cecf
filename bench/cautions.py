"""What a suite, or a part of it, cannot say however well it runs: told before the work, not after it."""

from __future__ import annotations

from collections.abc import Collection

from .plan import Plan
from .store.layout import Name

FEW = 30
"""Private images below which intervals are so wide that little can be told apart."""


def cautions(plan: Plan, chosen: Collection[Name], stored: Collection[Name] = ()) -> list[str]:
    """Returns in sentences what the figures of a run will lack, and what to write instead.

    Args:
        plan: of the suite.
        chosen: the nodes that filters leave.
        stored: the nodes that are done already: tables are of those too.
    """
    cells = [c for c in plan.cells if ("cell", c["key"]) in chosen]
    if not cells:
        return []
    out = []
    images = any(plan.nodes["cell", c["key"]].infers == "image" for c in cells)
    if images and "mse" not in plan.metrics:
        out.append("No leakage score will be given: it needs the metric mse (-s 'metrics=[mse, …]').")
    defended = any(c["defense"] != "none" for c in cells)
    there = {row["key"] for row in plan.targets if row["defense"] == "none"}
    known = {c["target"] for c in plan.cells if ("cell", c["key"]) in chosen or ("cell", c["key"]) in stored}
    if defended and not there & known:
        how = "-d none beside the others" if there else "the defense none in the suite"
        out.append(f"Nothing will be compared with the undefended network, and no drop of accuracy known: add {how}.")
    elif defended and "accuracy" not in plan.metrics:
        out.append("What a defense costs will not be known: it needs the metric accuracy.")
    for label in dict.fromkeys(str(c["dataset"]) for c in cells):
        private = int(plan.datasets[label]["sizes"]["private"])
        if private < FEW:
            out.append(
                f"{label}: only {private} private image{'s' if private > 1 else ''} will be attacked, so that intervals are "
                "wide and little can be told apart. sizes.private says how many; in a folder private_share and test_share do."
            )
    return out
