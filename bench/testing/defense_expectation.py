"""The check of what a defense says that it sends on average, which attacks take its word for."""

from __future__ import annotations

import torch

from ..defense import Defense
from ..seeds import generator
from .defense_wire import model_and_features, sent
from .outcome import Check, NotApplicable, require

DRAWS = 400
LEAST = 30
"""Fewest draws that show an element, for their mean to say anything."""

ERRORS = 6.0
"""Standard errors that a mean of draws may be off: of a hundred thousand elements none is, by chance."""


def check_expectation(cls: type[Defense]) -> None:
    """White-box attacks compare received features with it: what it gets wrong makes them weak, and the defense look strong."""
    model, z = model_and_features(cls)
    model.requires_grad_(False)
    defense = model.defense
    said = defense.expectation(z, generator("expectation", 0))
    patterns = defense.patterns()
    if said is None:
        require(
            patterns is None,
            "patterns are given, and expectation returns None",
            "what is sent on average without its pattern",
            "expectation is not overridden",
        )
        raise NotApplicable("the defense does not say what it sends on average")
    draws = torch.stack([sent(model, z, draw) for draw in range(DRAWS if defense.stochastic else 1)])
    require(
        said.shape == draws.shape[1:],
        f"expectation returned shape {tuple(said.shape)} for features that are sent as {tuple(draws.shape[1:])}",
        "the shape of what is sent",
        "it returns the clean features of a defense that changes their shape",
    )
    seen = torch.stack([_seen(defense, one) for one in draws])
    left = draws - said
    if patterns is not None:
        known = patterns.flatten(1)
        rows = left.flatten(2)
        which = (known.square().sum(1) - 2 * rows @ known.T).argmin(-1)
        left = left - patterns[which]
    _require_mean(left, seen, defense.stochastic)
    _require_ceiling(defense, draws[0], said, seen[0])


def _seen(defense: Defense, received: torch.Tensor) -> torch.Tensor:
    seen = defense.visible(received)
    return torch.ones_like(received, dtype=torch.bool) if seen is None else seen


def _require_mean(left: torch.Tensor, seen: torch.Tensor, stochastic: bool) -> None:
    """Requires that what is left of draws (K, N, ...) where they are seen has a mean of zero."""
    count = seen.sum(0)
    mean = (left * seen).sum(0) / count.clamp_min(1)
    spread = ((left - mean).square() * seen).sum(0) / count.clamp_min(1)
    size = float(left.abs().max().clamp_min(1))
    allowed = ERRORS * (spread / count.clamp_min(1)).sqrt() + 1e-5 * size
    off = (mean.abs() > allowed) & (count >= (LEAST if stochastic else 1))
    require(
        not bool(off.any()),
        f"what is sent differs on average from expectation in {float(off.double().mean()):.1%} of the elements, by up to "
        f"{float(mean[off].abs().max()) if bool(off.any()) else 0:.3g}",
        "the mean of draws, over those that show an element, without their pattern",
        "a factor is left out (as of dropout that is rescaled), or the noise has a mean",
    )


def _require_ceiling(defense: Defense, received: torch.Tensor, said: torch.Tensor, seen: torch.Tensor) -> None:
    """Requires that what a mask hides is no larger than what the defense says of it."""
    ceiling = defense.ceiling(received)
    if ceiling is None:
        return
    above = (said.abs() > ceiling * (1 + 1e-5)) & ~seen
    require(
        not bool(above.any()),
        f"{int(above.sum())} hidden elements are larger than ceiling says",
        "the greatest magnitude that a hidden element may have",
        "the mask hides by something else than the size, or rescales what it shows",
    )


EXPECTATION_CHECKS: tuple[Check, ...] = (check_expectation,)
