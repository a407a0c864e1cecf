"""The truth of the attack under test, so that controls can cheat where an attack must not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

_TRUTH: list[torch.Tensor] = []


@contextlib.contextmanager
def hidden(truth: torch.Tensor) -> Iterator[None]:
    """Keeps the private images (N, C, H, W) of the attack that runs in the block where only a cheat looks."""
    _TRUTH.append(truth)
    try:
        yield
    finally:
        _TRUTH.pop()


def peek() -> torch.Tensor:
    """Returns the private images of the attack that is running. An honest attack has no business here."""
    return _TRUTH[-1]


def under_attack() -> bool:
    """Says whether an attack is running."""
    return bool(_TRUTH)
