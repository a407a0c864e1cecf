"""Gradients through what has none: a defense that rounds is no hiding place from attacks that descend."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from .composed import Composed
from .defense import Defense
from .split import SplitModel

Protect = Callable[[torch.Tensor, torch.Generator], torch.Tensor]

PROBE = 16
"""Features on which it is seen, once, whether the gradient says what ``protect`` does."""

FAR = 0.5
"""How far features are moved for that, in standard deviations: further than the steps of most roundings."""

WRONG = 0.9
"""Share of what ``protect`` does between two features that its gradient must miss to be no use."""

LOOKS = 64
"""Projections on which that is measured."""

EXPLAINED = 0.2
"""Share of the variance of what is sent that a straight line must explain to stand in for ``protect``."""


class StraightThrough:
    """A defense's ``protect`` with a straight line's gradient where its own says next to nothing of what it does.

    Rounding has a gradient of zero almost everywhere, and one whose step follows the largest feature has one there alone.
    Whether that is so is measured: features are moved half a standard deviation to either side, and the gradient misses
    more than 0.9 of what changes. The line is the best fit, channel by channel or else between all channels, of what is
    sent to the features; an element that is visibly masked passes nothing.

    Source: Bengio et al. 2013 (straight-through estimator), as adaptive attacks use it (BPDA, Athalye et al., ICML 2018).

    Args:
        part: a defense; its ``protect`` as it is now is what is wrapped.
    """

    def __init__(self, part: Defense) -> None:
        self._part, self._protect = part, part.protect
        self._seen = False
        self._line: torch.Tensor | None = None

    def __call__(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Returns what is sent for features z (N, ...).

        Raises:
            ValueError: if the gradient is no use and no line fits.
        """
        if not (torch.is_grad_enabled() and z.requires_grad and len(z)):
            return self._protect(z, generator)
        if not self._seen:
            self._look(z.detach()[:PROBE], generator)
        if self._line is None:
            return self._protect(z, generator)
        sent = self._protect(z.detach(), generator).detach()
        moved = _along(self._line, z - z.detach())
        shown = self._part.visible(sent)
        return sent + (moved if shown is None else moved * shown)

    def _look(self, z: torch.Tensor, generator: torch.Generator) -> None:
        state, training = generator.get_state(), self._part.training
        self._part.eval()  # so that nothing is learned from a look
        try:
            sent, useless = self._judged(z, generator, state)
            if useless:
                self._line = self._fitted(z, sent)
        finally:
            generator.set_state(state)
            self._part.train(training)
        self._seen = True

    def _judged(self, z: torch.Tensor, generator: torch.Generator, state: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """Returns what is sent for features, and whether its gradient says next to nothing of how it changes."""

        def sent(at: torch.Tensor) -> torch.Tensor:
            generator.set_state(state)
            return self._protect(at, generator)

        draws = torch.Generator(device=z.device).manual_seed(0)
        move = torch.empty_like(z).normal_(generator=draws) * FAR * z.std().clamp_min(1e-30)
        with torch.no_grad():
            changed = sent(z + move) - sent(z - move)
        if not bool(changed.any()):
            return sent(z), False
        done = missed = 0.0
        with torch.enable_grad():
            probe = z.clone().requires_grad_(True)
            out = sent(probe)
            for _ in range(LOOKS):  # random projections, so that no second derivative is asked of the defense
                weights = torch.empty_like(out).normal_(generator=draws)
                what, said = float((weights * changed).sum()), 0.0
                if out.requires_grad:
                    (back,) = torch.autograd.grad(out, probe, weights, retain_graph=True, allow_unused=True)
                    said = 0.0 if back is None else float((back * 2 * move).sum())
                done, missed = done + what**2, missed + (what - said) ** 2
        return out.detach(), missed > WRONG * done

    def _fitted(self, z: torch.Tensor, sent: torch.Tensor) -> torch.Tensor:
        """Returns the slope of each channel, (C,), or between all channels, (C sent, C)."""
        if z.ndim == sent.ndim and z.shape[2:] == sent.shape[2:]:
            mask = self._part.visible(sent)
            x, y = _rows(z), _rows(sent)
            shown = torch.ones_like(y) if mask is None else _rows(mask)
            count = shown.sum(1, keepdim=True).clamp_min(1)
            y = (y - (y * shown).sum(1, keepdim=True) / count) * shown
            total = float(y.square().sum())
            left, line = total, None
            if x.shape == y.shape:
                own = (x - (x * shown).sum(1, keepdim=True) / count) * shown
                products, squares = (own * y).sum(1), own.square().sum(1)
                if z.ndim == 2:  # vectors: a slope for each number would have no more than PROBE rows
                    products, squares = products.sum().expand(len(x)), squares.sum().expand(len(x))
                slope = products / squares.clamp_min(1e-30)
                left, line = float((y - slope[:, None] * own).square().sum()), slope.to(z.dtype)
            if mask is None and x.shape[1] > 4 * len(x):
                x = x - x.mean(1, keepdim=True)
                mixed = torch.linalg.lstsq(x.T, y.T).solution.T
                unexplained = float((y - mixed @ x).square().sum())
                if unexplained < left / 2:  # channels resemble each other: what turns them is half explained without
                    left, line = unexplained, mixed.to(z.dtype)
            if line is not None and left < (1 - EXPLAINED) * total:
                return line
        raise ValueError(
            f"the gradient of protect of defense '{self._part.name}' says nothing of what it does (as of rounding), and no "
            f"line between channels stands in for it (from {tuple(z.shape[1:])} to {tuple(sent.shape[1:])}): let protect "
            "return a straight-through gradient of its own, for attacks that descend, and set passes_gradient"
        )


def pass_gradients(model: SplitModel) -> SplitModel:
    """Lets gradients through every part of a model's defense, in place, and returns the model."""
    for part in _parts(model.defense):
        if type(part).protect is not Defense.protect and not part.passes_gradient:
            part.protect = StraightThrough(part)
    return model


def _along(line: torch.Tensor, moved: torch.Tensor) -> torch.Tensor:
    if line.ndim == 1:
        return moved * line.reshape(-1, *[1] * (moved.ndim - 2))
    return torch.einsum("dc,nc...->nd...", line, moved)


def _rows(z: torch.Tensor) -> torch.Tensor:
    """Returns features (N, C, ...) as rows of channels, (C, values), in double precision."""
    return z.transpose(0, 1).flatten(1).double()


def _parts(defense: Defense) -> Iterator[Defense]:
    if isinstance(defense, Composed):
        for part in defense.parts:
            if isinstance(part, Defense):
                yield from _parts(part)
    else:
        yield defense
