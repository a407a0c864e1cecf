"""The check of what a defense says that it sends on average, which attacks take its word for."""

from __future__ import annotations

from typing import Any

import torch

from ..defense import Defense
from ..nn.scale import channel_axes
from ..seeds import generator
from ..straight import FAR
from .defense_wire import model_and_features, sent
from .outcome import Check, NotApplicable, require
from .randomness import global_generators_watched
from .targets import parameter_sets

DRAWS, FEWER = 400, 100
"""Draws with the parameters of ``cheap()``, and with each other set."""

LEAST = 30
"""Fewest draws that show an element, or a channel, for their mean to say anything."""

ERRORS, POOLED = 6.0, 5.0
"""Standard errors that a mean of draws may be off: of an element, of which there are a hundred thousand, and of a channel."""

LOST, SLOPES = 0.05, (0.5, 2.0)
"""Greatest share of what ``expectation`` changes by that lies in channels whose gradient is wrong: by a factor outside these,
which leave room for what is rounded and passes a straight line's gradient."""

GROUPS = 64
"""Most groups of channels whose gradients are looked at by themselves."""


def check_expectation(cls: type[Defense]) -> None:
    """White-box attacks compare received features with it: what it gets wrong makes them weak, and the defense look strong."""
    silent = cls.expectation is Defense.expectation and cls.patterns is Defense.patterns
    sets = [] if silent else parameter_sets(cls)
    said = [_keeps_its_word(cls, which, FEWER if number else DRAWS) for number, which in enumerate(sets)]
    if not any(said):
        raise NotApplicable("the defense does not say what it sends on average")


def _keeps_its_word(cls: type[Defense], params: dict[str, Any], most: int) -> bool:
    """Requires that expectation is the mean of what is sent, with gradient; returns whether there is one."""
    when = f"with parameters {params!r}"
    model, z = model_and_features(cls, params)
    model.requires_grad_(False)
    defense = model.defense
    with global_generators_watched(
        "expectation", "torch.randn_like or F.dropout, which draw from the global generator"
    ):
        given = _said(defense, z)
    patterns = defense.patterns()
    if given is None:
        require(
            patterns is None,
            f"{when} patterns are given, and expectation returns None",
            "what is sent on average without its pattern",
            "expectation is not overridden",
        )
        return False
    shape = (len(z), *defense.wire_shape(tuple(z.shape[1:])))
    require(
        isinstance(given, torch.Tensor) and given.shape == shape,
        f"{when} expectation returned {_kind(given)} for features that are sent as {shape}",
        "None, or a tensor of the shape of what is sent",
        "it returns the clean features of a defense that changes their shape",
    )
    said = given.detach()
    require(
        bool(torch.isfinite(said).all()),
        f"{when} expectation gives values that are not finite",
        "finite values for finite features",
        "it divides by a rate or a deviation that can be zero",
    )
    _require_no_chance(defense, z, said, when)
    _require_gradient(defense, z, when)
    draws = torch.stack([sent(model, z, draw) for draw in range(most if defense.stochastic else 1)])
    seen = torch.stack([_seen(defense, one) for one in draws])
    left = draws - said
    if patterns is not None:
        known = patterns.flatten(1)
        rows = left.flatten(2)
        nearest = (known.square().sum(1) - 2 * rows @ known.T).argmin(-1)
        left = left - patterns[nearest]
    _require_mean(left, seen, defense.stochastic, when)
    if defense.stochastic:
        _require_pooled(left, seen, said, when)
    _require_ceiling(defense, draws[0], said, seen[0], when)
    return True


def _said(defense: Defense, z: torch.Tensor, seed: int = 0) -> torch.Tensor | None:
    """Returns what expectation makes of a copy of features z that a gradient is asked for, as attacks call it."""
    with torch.enable_grad():
        return defense.expectation(z.clone().requires_grad_(True), generator("expectation", seed))


def _seen(defense: Defense, received: torch.Tensor) -> torch.Tensor:
    seen = defense.visible(received)
    return torch.ones_like(received, dtype=torch.bool) if seen is None else seen


def _require_no_chance(defense: Defense, z: torch.Tensor, said: torch.Tensor, when: str) -> None:
    """Requires the same values whatever the generator is: a loss with chance in it is another one at every step."""
    for seed, what in ((0, "equal"), (1, "different")):
        again = _said(defense, z, seed)
        gap = float("inf") if again is None else float((again.detach() - said).abs().max())
        require(
            gap == 0,
            f"{when} two calls of expectation with {what} generators differ by up to {gap:.3g}",
            "no randomness is left in what is sent on average",
            "noise is drawn in it as in protect (return the features without it), or a state changes at inference",
        )


def _require_gradient(defense: Defense, z: torch.Tensor, when: str) -> None:
    """Requires a gradient that says how expectation changes when features are moved.

    They are moved as far as for :class:`splitaudit.straight.StraightThrough`, so that what is rounded moves too, from a place
    where rectified features are not zero.
    """
    draws = generator("moved features", 0)
    size = FAR * z.std().clamp_min(1e-30)
    base = z + size * torch.empty_like(z).normal_(generator=draws).abs()
    move = size * torch.empty_like(z).normal_(generator=draws)
    probe = base.requires_grad_(True)
    low, high = (_said(defense, (base + side * move).detach()) for side in (-1, 1))
    with torch.enable_grad():
        here = defense.expectation(probe, generator("expectation", 0))
    if low is None or high is None or here is None:  # for the type checker: it was a tensor for other features
        return
    changed = (high - low).detach()
    total = wrong = 0.0
    for channel in _channels(changed).unbind(-1):
        weights = channel * changed
        done, promised = float(weights.square().sum()), 0.0
        if done == 0:
            continue
        if here.requires_grad:
            (back,) = torch.autograd.grad(here, probe, weights, retain_graph=True, allow_unused=True)
            promised = 0.0 if back is None else float((back * 2 * move).sum())
        total += done
        wrong += done if not SLOPES[0] <= promised / done <= SLOPES[1] else 0.0
    require(
        wrong <= LOST * total,
        f"{when} the gradient of expectation misses {wrong / max(total, 1e-30):.0%} of how it changes with the features",
        "a gradient with respect to z, by which white-box attacks descend",
        "z is detached, or computed under torch.no_grad or from plain numbers; where protect rounds, let a straight-through "
        "gradient pass or return None",
    )


def _channels(z: torch.Tensor) -> torch.Tensor:
    """Returns masks of groups of channels of features (N, ...), broadcastable to them, the groups on a last axis."""
    _, shape = channel_axes(z)
    groups = torch.arange(max(shape)) % GROUPS
    return (groups[:, None] == groups.unique()).to(z).reshape(*shape, -1)


def _require_mean(left: torch.Tensor, seen: torch.Tensor, stochastic: bool, when: str) -> None:
    """Requires that what is left of draws (K, N, ...) where they are seen has a mean of zero in each element."""
    count = seen.sum(0)
    mean = (left * seen).sum(0) / count.clamp_min(1)
    spread = ((left - mean).square() * seen).sum(0) / count.clamp_min(1)
    size = float(left.abs().max().clamp_min(1))
    if stochastic:
        # One draw more, as far off as any: where noise is rounded, an element may seldom move, and never here.
        spread = spread + (left * seen).square().max() / count.clamp_min(1)
    allowed = ERRORS * (spread / count.clamp_min(1)).sqrt() + 1e-5 * size
    off = (mean.abs() > allowed) & (count >= (LEAST if stochastic else 1))
    require(
        not bool(off.any()),
        f"{when} what is sent differs on average from expectation in {float(off.double().mean()):.1%} of the elements, by up "
        f"to {float(mean[off].abs().max()) if bool(off.any()) else 0:.3g}",
        "the mean of draws, over those that show an element, without their pattern",
        "a factor is left out (as of dropout that is rescaled), or the noise has a mean",
    )


def _require_pooled(left: torch.Tensor, seen: torch.Tensor, said: torch.Tensor, when: str) -> None:
    """Requires the same of whole channels and of all of them, whose means are known far better than an element's.

    First that what is left does not grow with what is said, then that it has no mean. Elements of one draw may depend on each
    other; draws do not, so errors are those of sums over a draw.
    """
    shown = seen.to(left.dtype)
    axes = [a + 1 for a in channel_axes(said)[0]]
    often = shown.sum([0, *axes], keepdim=True).clamp_min(1)
    centred = said - (said * shown).sum([0, *axes], keepdim=True) / often
    rise, error = _ratio((left * centred * shown).sum(axes), (centred.square() * shown).sum(axes))
    steep = rise.abs() > POOLED * error + 1e-4
    require(
        not bool(steep.any()),
        f"{when} what is sent less expectation grows with expectation, by {_worst(rise, steep):.3g} of it",
        "the mean of draws, so that what is left is noise alone",
        "a factor is left out or doubled (as of dropout that is rescaled, or of features that are shrunk)",
    )
    mean, error = _ratio((left * shown).sum(axes), shown.sum(axes))
    off = mean.abs() > POOLED * error + 1e-5 * float(left.abs().max().clamp_min(1))
    require(
        not bool(off.any()),
        f"{when} what is sent differs from expectation by {_worst(mean, off):.3g} on average over a channel or all of them",
        "the mean of draws, over what they show, without their pattern",
        "the noise has a mean, which belongs into expectation",
    )


def _ratio(sums: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns sums over weights (K, C) of each channel and, last, of all, and standard errors; 0 ± 0 where draws are few."""
    sums, weights = (torch.cat([t, t.sum(1, keepdim=True)], 1).double() for t in (sums, weights))
    total, draws = weights.sum(0).clamp_min(1e-30), len(sums)
    ratio = sums.sum(0) / total
    error = ((sums - ratio * weights).square().sum(0) * draws / (draws - 1)).sqrt() / total
    known = (weights > 0).sum(0) >= LEAST
    return ratio * known, error * known


def _worst(values: torch.Tensor, which: torch.Tensor) -> float:
    return float(values[which][values[which].abs().argmax()]) if bool(which.any()) else 0.0


def _require_ceiling(
    defense: Defense, received: torch.Tensor, said: torch.Tensor, seen: torch.Tensor, when: str
) -> None:
    """Requires that what a mask hides is no larger than what the defense says of it."""
    ceiling = defense.ceiling(received)
    if ceiling is None:
        return
    shape = (len(received), *[1] * (received.ndim - 1))
    require(
        isinstance(ceiling, torch.Tensor) and ceiling.shape == shape,
        f"{when} ceiling returned {_kind(ceiling)} for received features of shape {tuple(received.shape)}",
        f"None, or a tensor of shape {shape}, a number for each image",
        "it returns a vector, or a number for each channel: keepdim=True, or reshape it",
    )
    above = (said.abs() > ceiling * (1 + 1e-5)) & ~seen
    require(
        not bool(above.any()),
        f"{when} {int(above.sum())} hidden elements are larger than ceiling says",
        "the greatest magnitude that a hidden element may have",
        "the mask hides by something else than the size, or rescales what it shows",
    )


def _kind(value: object) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__


EXPECTATION_CHECKS: tuple[Check, ...] = (check_expectation,)
