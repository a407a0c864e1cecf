"""Answers of the edge that are used again when the budget pays for no more."""

from __future__ import annotations

from collections.abc import Callable

import torch

KEPT = 2**28
"""Values of answers that are kept for one part, at most; 1 GiB. The first answer is always kept."""


class Answers:
    """Answers to own images that were asked once, or a few times in turn, and are used again from then on.

    Args:
        most: answers of each image that the budget pays for.
        answer: from the number of a turn to the features of all images (N, ...); None: no more can be paid. Asked for
            when an image's turn comes; the first is asked at once.
    """

    def __init__(self, most: int, answer: Callable[[int], torch.Tensor | None]) -> None:
        self._answer: Callable[[int], torch.Tensor | None] | None = answer
        first = answer(0)
        if first is None:
            raise ValueError("the first answer is not paid")
        self._turns = [first]
        self._most = max(1, min(most, KEPT // max(1, first.numel())))
        self._shown = torch.zeros(len(first), dtype=torch.int64, device=first.device)

    def __call__(self, index: torch.Tensor) -> torch.Tensor:
        """Returns features (N, ...) of the images at given indices, each with its next answer."""
        index = index.to(self._shown.device)
        wanted = self._shown[index]
        self._shown[index] += 1
        while self._answer is not None and len(wanted) and len(self._turns) <= int(wanted.max()):
            more = None if len(self._turns) == self._most else self._answer(len(self._turns))
            if more is None:
                self._answer = None  # and with it what answers are made from
            else:
                self._turns.append(more)
        turn = wanted % len(self._turns)
        found = self._turns[0][index]
        for number in range(1, len(self._turns)):
            found[turn == number] = self._turns[number][index[turn == number]]
        return found
