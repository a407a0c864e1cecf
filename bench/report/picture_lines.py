"""The lines of the picture grid: the truth, a thumbnail, then what each attack makes of each defense."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..plan import Plan
from ..references import thumbnail
from .cells import beats_prior
from .plot_pictures import Line
from .reading import Records
from .style import wrapped

if TYPE_CHECKING:
    import torch

SHOWN = 8
"""Private images in the grid, the first ones, the same in every line."""

MOST = 24
"""Lines of one figure; a longer grid is cut into one figure per attack."""

ReadArtifact = Callable[[str, str], Mapping[str, "torch.Tensor"]]


def picture_lines(
    plan: Plan, records: Records, read: ReadArtifact, place: tuple[str, str, str], private: torch.Tensor
) -> Iterator[tuple[str, list[Line]]]:
    """Yields (title, lines) of each figure: one without a title, or one per attack where that would be too long.

    Args:
        plan: the plan.
        records: its records.
        read: kind and key to the tensors of a record.
        place: dataset, backbone, cut.
        private: the private images, uint8 (N, C, H, W).
    """
    head = _truth(private[:SHOWN])
    cells = _first_cells(plan, place)
    if len(head) + len(cells) <= MOST:
        yield "", [*head, *(_line(c, records, read, f"{wrapped(c['defense'])}\n{wrapped(c['attack'])}") for c in cells)]
        return
    for attack in dict.fromkeys(c["attack"] for c in cells):
        some = [c for c in cells if c["attack"] == attack]
        yield attack, [*head, *(_line(c, records, read, wrapped(c["defense"])) for c in some)]


def _truth(truth: torch.Tensor) -> list[Line]:
    lines: list[Line] = [("truth", _pictures(truth))]
    if min(truth.shape[-2:]) > 8:
        small = thumbnail(truth.float() / 255, 8).mul(255).round().clamp(0, 255).byte()
        lines.append(("thumbnail-8\n(from the truth)", _pictures(small)))
    return lines


def _first_cells(plan: Plan, place: tuple[str, str, str]) -> list[dict[str, Any]]:
    """Returns the first cell of each defense and attack; the constant guess, alike for all defenses, only once."""
    seen: dict[tuple[str, str], dict[str, Any]] = {}
    constant: set[str] = set()
    for cell in plan.cells:
        label = (cell["defense"], cell["attack"])
        if (cell["dataset"], cell["backbone"], cell["cut"]) != place or label in seen or not cell["key"]:
            continue
        if plan.nodes["cell", cell["key"]].infers == "label":
            continue
        if not beats_prior(plan.nodes["cell", cell["key"]].identity["attack"]["name"]):
            if cell["attack"] in constant:
                continue
            constant.add(cell["attack"])
        seen[label] = cell
    return list(seen.values())


def _line(cell: Mapping[str, Any], records: Records, read: ReadArtifact, label: str) -> Line:
    record = records.get("cell", cell["key"])
    if record is None or record["status"] != "done":
        state = records.row_state("cell", cell)
        return label, f"{state.status}: {state.reason}" if state.reason else state.status
    if not record["artifact"]:
        return label, "reconstructions were not stored (--no-images)"
    return label, _pictures(read("cell", cell["key"])["guess"][:SHOWN])


def _pictures(images: torch.Tensor) -> np.ndarray:
    return images.permute(0, 2, 3, 1).numpy()
