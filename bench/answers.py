"""Answers of the edge that are used again when the budget pays for no more."""

from __future__ import annotations

from collections.abc import Callable

import torch


class Answers:
    """Several answers to each of the same images, shown in turn and then again: the next when all images were shown once.

    One turn is held at a time, whatever the size of the features; a turn that comes again is made again.

    Args:
        turns: answers to each image that the budget pays for.
        answer: from the number of a turn to the features of all images (N, ...), the same each time; None: it cannot be
            paid any more. The first is asked for at once, the others when their turn comes.
    """

    def __init__(self, turns: int, answer: Callable[[int], torch.Tensor | None]) -> None:
        first = answer(0)
        if first is None:
            raise ValueError("the first answer is not paid")
        self._current, self._turn, self._turns = first, 0, turns
        self._answer = answer if turns > 1 else None  # and with it what answers are made from
        self._shown = 0

    def __call__(self, index: torch.Tensor) -> torch.Tensor:
        """Returns features (N, ...) of the images at given indices."""
        turn = self._shown // len(self._current) % self._turns
        if self._answer is not None and turn != self._turn:
            found = self._answer(turn)
            if found is None:
                self._turns, turn = turn, 0
                found = self._answer(0)
            if found is not None:
                self._turn, self._current = turn, found
        self._shown += len(index)
        return self._current[index]
