"""The check of what a defense says about its own mask."""

from __future__ import annotations

import torch

from ..defense import Defense
from ..seeds import generator
from ..split import SplitModel
from .defense_wire import model_and_features, sent
from .outcome import Check, require

DRAWS = 4


def check_visible(cls: type[Defense]) -> None:
    """An attack leaves out what a mask visibly hides: a mask that hides too much or too little makes every attack weak.

    Features are moved far, each by its own amount. What is sent and does not move carries nothing about them; what moves
    is evidence.
    """
    model, z = model_and_features(cls)
    _require_form(model, sent(model, z))
    # Far to both sides, so that what a defense rounds or cuts off moves too.
    size = 100 * float(z.abs().max().clamp_min(1))
    step = size * (1 + torch.rand(z.shape, generator=generator("steps of features", 0)))
    low, high = (torch.stack([sent(model, z + side * step, draw) for draw in range(DRAWS)]) for side in (-1, 1))
    still = low == high
    seen_low, seen = (torch.stack([_seen(model, one) for one in each]) for each in (low, high))
    lost = ~(seen_low | seen) & ~still
    require(
        not bool(lost.any()),
        f"visible leaves out {float(lost.double().mean()):.0%} of the elements although they change with the features",
        "False only where nothing about the features is sent",
        "the mask is the wrong way round, or marks whole channels",
    )
    masked = still & still.any(0) & ~still.all(0)
    values = high[masked].unique()
    recognised = len(values) == 1 and not bool((high[~still] == values).any())
    shown = recognised and bool((masked & seen).any())
    require(
        not shown,
        f"some draws replace {float(masked.double().mean()):.0%} of the elements by "
        f"{float(values[0]) if len(values) else 0:g}, and visible shows these as the edge's output",
        "False where a draw of the mask hides the edge's output",
        "visible is not overridden: return received != the value that the mask puts in place",
    )


MASK_CHECKS: tuple[Check, ...] = (check_visible,)


def _seen(model: SplitModel, received: torch.Tensor) -> torch.Tensor:
    seen = model.defense.visible(received)
    return torch.ones_like(received, dtype=torch.bool) if seen is None else seen


def _require_form(model: SplitModel, received: torch.Tensor) -> None:
    seen = model.defense.visible(received)
    require(
        seen is None or (isinstance(seen, torch.Tensor) and seen.dtype == torch.bool and seen.shape == received.shape),
        f"visible returned {_kind(seen)} for features of shape {tuple(received.shape)}",
        "None, or a tensor of bool of the received features' shape",
        "it returns a mask per image or per channel, or a float mask",
    )


def _kind(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of {value.dtype} of shape {tuple(value.shape)}"
    return type(value).__name__
