"""What the datasets share about parts: sizes, and an order whose every prefix is balanced over the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from ..errors import DataError, did_you_mean
from .base import PARTS

T = TypeVar("T")


def resolve_sizes(
    dataset: str, asked: Mapping[str, int], own: Mapping[str, int], limits: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Returns the size of every part in images: the size asked for, else the dataset's own.

    Args:
        dataset: the dataset's name or folder, for messages.
        asked: part name to number of images.
        own: the sizes of the parts that are not asked for.
        limits: how many images each part can have; None: as many as one likes.

    Raises:
        DataError: for an unknown part, a size below 1, a part that would be empty or one that has too few images.
    """
    for part in asked:
        if part not in PARTS:
            raise DataError(
                f"{dataset}: '{part}' is not a part of a dataset.{did_you_mean(part, PARTS)} Known: {', '.join(PARTS)}."
            )
    sizes = {part: int(asked.get(part, own[part])) for part in PARTS}
    over = {p: size for p, size in sizes.items() if limits is not None and 0 < limits[p] < size}
    if limits is not None and len(over) > 1:
        parts = ", ".join(f"'{p}' {size} (it has {limits[p]})" for p, size in over.items())
        raise DataError(
            f"{dataset}: more images are asked for than parts have: {parts}. Ask for fewer or add images; without sizes the "
            f"parts are as large as they can be (where a preset gives them: -s 'dataset={{name: {dataset.split(':')[0]}}}')."
        )
    for part, size in sizes.items():
        limit = None if limits is None else limits[part]
        if limit == 0:
            raise DataError(f"{dataset}: part '{part}' would be empty. Expected at least one image; add images.")
        if size < 1:
            raise DataError(f"{dataset}: part '{part}': got size {size}, expected at least 1 image.")
        if limit is not None and size > limit:
            raise DataError(
                f"{dataset}: part '{part}': got size {size}, expected at most {limit}, "
                "which is how many images it has. Ask for fewer or add images."
            )
    return sizes


def per_class(n: int, classes: int) -> list[int]:
    """Returns how many of the first n images of a round over the classes (0, 1, ..., 0, 1, ...) belong to each."""
    return [(n - c + classes - 1) // classes for c in range(classes)]


def interleave(queues: Sequence[Sequence[T]]) -> list[T]:
    """Returns all items so that every prefix holds each queue's share to within one item.

    The k-th of n items of a queue stands at (k + 1/2) / n; items are sorted by that, ties by queue. Queues of equal
    length give a plain round: first of each, second of each, and so on.
    """
    places = [((k + 0.5) / len(q), c, k) for c, q in enumerate(queues) for k in range(len(q))]
    return [queues[c][k] for _, c, k in sorted(places)]
