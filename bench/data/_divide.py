"""Division of files or images over the parts: fixed shares of each class, copies of one image together."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ._parts import interleave
from .base import PARTS, PartName

TRAIN_SHARES: dict[PartName, float] = {"client_train": 0.50, "client_val": 0.05, "aux_train": 0.40, "aux_val": 0.05}
"""Division of a training split; those of CIFAR-10 are 25,000 / 2,500 / 20,000 / 2,500."""


@dataclass(frozen=True)
class Item:
    """What is divided: one image.

    Attributes:
        name: unique; its hash decides the order.
        label: index of its class.
        content: equal for copies of one image.
        side: which shares apply (for instance ``"train"``).
    """

    name: str
    label: int
    content: str
    side: str


def counts(n: int, shares: Mapping[PartName, float]) -> dict[PartName, int]:
    """Returns how many of n things each part gets: largest remainders, and at least one each where n allows."""
    total = sum(shares.values())
    exact: dict[PartName, float] = {part: n * share / total for part, share in shares.items()}
    got: dict[PartName, int] = {part: int(x + 1e-9) for part, x in exact.items()}
    for part in sorted(exact, key=lambda p: got[p] - exact[p])[: n - sum(got.values())]:
        got[part] += 1
    for part in shares:
        largest = max(got, key=lambda p: got[p])
        if got[part] == 0 and got[largest] > 1:
            got[part], got[largest] = 1, got[largest] - 1
    return got


def divide(items: Sequence[Item], shares: Mapping[str, Mapping[PartName, float]]) -> dict[PartName, list[int]]:
    """Divides items over the parts and orders each part so that every prefix holds each class's share.

    Within a class and a side, images stand in the order of a hash of their names. Copies (equal ``content``) stay
    together: with the first of their names, and on the *last* side of ``shares`` that holds one of them, so that a
    training file that equals a test file moves to the test side and nothing private is trained on.

    Returns:
        Part to indices into ``items``.
    """
    rank = {item.name: hashlib.sha256(item.name.encode(errors="surrogateescape")).digest() for item in items}
    sides = list(shares)
    copies: dict[str, list[int]] = defaultdict(list)
    for i, item in enumerate(items):
        copies[item.content].append(i)
    stacks: dict[tuple[str, int], list[list[int]]] = defaultdict(list)
    for same in copies.values():
        same.sort(key=lambda i: (-sides.index(items[i].side), rank[items[i].name]))
        leader = items[same[0]]
        stacks[leader.side, leader.label].append(same)
    part_of: dict[int, PartName] = {}
    for (side, _), stack in stacks.items():
        stack.sort(key=lambda same: rank[items[same[0]].name])
        deck: list[PartName] = [part for part, n in counts(len(stack), shares[side]).items() for _ in range(n)]
        for same, part in zip(stack, deck, strict=True):
            for i in same:
                part_of[i] = part
    classes = sorted({item.label for item in items})
    queues: dict[PartName, dict[int, list[int]]] = {part: {c: [] for c in classes} for part in PARTS}
    for i in sorted(part_of, key=lambda i: rank[items[i].name]):
        queues[part_of[i]][items[i].label].append(i)
    return {part: interleave(list(queues[part].values())) for part in PARTS}
