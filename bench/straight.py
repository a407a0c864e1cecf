"""Gradients through what has none: a defense that rounds is no hiding place from attacks that descend."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch

from .composed import Composed
from .defense import Defense
from .nn.image_prior import GaussianPrior
from .split import SplitModel

Protect = Callable[[torch.Tensor, torch.Generator], torch.Tensor]

PROBE = 16
"""Images on whose features it is seen whether the gradient says what ``protect`` does."""

AGAIN = 200
"""Gradients after which an edge that is being trained is looked at again."""

FAR = 0.5
"""How far features are moved for that, in standard deviations: further than the steps of most roundings."""

WRONG = 0.9
"""Share of what ``protect`` does between two features that its gradient must miss to be no use."""

LOOKS = 64
"""Projections on which that is measured."""

EXPLAINED = 0.2
"""Share of the variance of what is sent that a straight line must explain to stand in for ``protect``."""


class NoStraightLineError(ValueError):
    """No straight line stands in for what a defense does."""


class StraightThrough:
    """A defense's ``protect`` with a straight line's gradient where its own says next to nothing of what it does.

    Rounding has a gradient of zero almost everywhere, and one whose step follows the largest feature has one there alone.
    Whether that is so is measured on the features of some images: they are moved half a standard deviation to either side,
    and the gradient misses more than 0.9 of what changes. The line is the best fit, channel by channel or else between all
    channels, of what is sent to the features; an element that is visibly masked passes nothing. The images are given: an
    attack's first guesses may all be the same, and no line could be fitted to them.

    Source: Bengio et al. 2013 (straight-through estimator), as adaptive attacks use it (BPDA, Athalye et al., ICML 2018).

    Args:
        part: a defense; its ``protect`` as it is now is what is wrapped.
        model: the target whose defense, or part of it, this is.
        images: varied images in [0, 1], (N, C, H, W).
        again: the edge is being trained, so that it is looked at again from time to time.
    """

    def __init__(self, part: Defense, model: SplitModel, images: torch.Tensor, *, again: bool = False) -> None:
        self._part, self._protect = part, part.protect
        self._model, self._images, self._again = model, images, again
        self._asked = 0
        self._line: torch.Tensor | None = None

    def __call__(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Returns what is sent for features z (N, ...).

        Raises:
            ValueError: if the gradient is no use and no line fits when it is looked at first; later looks at an edge that is
                being trained keep the last line then.
        """
        if not (torch.is_grad_enabled() and z.requires_grad and len(z)):
            return self._protect(z, generator)
        if self._asked == 0 or (self._again and self._asked % AGAIN == 0):
            self._look(self._features(), generator)
        self._asked += 1
        if self._line is None:
            return self._protect(z, generator)
        sent = self._protect(z.detach(), generator).detach()
        moved = _along(self._line, z - z.detach())
        shown = self._part.visible(sent)
        return sent + (moved if shown is None else moved * shown)

    def _features(self) -> torch.Tensor:
        """Returns the features of the images as this part receives them, (N, ...); modes and statistics stay as they are."""
        modes = [(m, m.training) for m in self._model.modules()]
        self._model.eval()
        try:
            with torch.no_grad():
                z = self._model.clean(self._images)
                draws = torch.Generator(device=z.device).manual_seed(0)
                for part in _parts(self._model.defense):
                    if part is self._part:
                        break
                    z = part.protect(z, draws)
        finally:
            for module, training in modes:
                module.training = training
        return z

    def _look(self, z: torch.Tensor, generator: torch.Generator) -> None:
        state, training = generator.get_state(), self._part.training
        self._part.eval()  # so that nothing is learned from a look
        try:
            sent, useless = self._judged(z, generator, state)
            self._line = self._fitted(z, sent) if useless else None
        except NoStraightLineError:
            if self._asked == 0:
                raise
            # An edge in training passes through states that no line fits: what was seen last is better than no attack.
        finally:
            generator.set_state(state)
            self._part.train(training)

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
        shown_as = sent
        z, sent = _channels_first(z), _channels_first(sent)
        if z.ndim == sent.ndim and z.shape[2:] == sent.shape[2:]:
            mask = self._part.visible(shown_as)
            mask = None if mask is None else _channels_first(mask)
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
        raise NoStraightLineError(
            f"the gradient of protect of defense '{self._part.name}' says nothing of what it does (as of rounding), and no "
            f"line between channels stands in for it (from {tuple(z.shape[1:])} to {tuple(sent.shape[1:])}): let protect "
            "return a straight-through gradient of its own, for attacks that descend"
        )


def pass_gradients(model: SplitModel, images: torch.Tensor | None = None, *, again: bool = False) -> SplitModel:
    """Lets gradients through every part of a model's defense, in place, and returns the model.

    Args:
        model: the target.
        images: images in [0, 1], (N, C, H, W), a few of which are looked at; None: drawn ones, as smooth as natural ones.
        again: the model's edge is being trained, so that it is looked at again from time to time.
    """
    first = next(itertools.chain(model.edge.buffers(), model.edge.parameters()), None)
    device = torch.device("cpu") if first is None else first.device
    shown = _drawn(model.info.image_shape) if images is None else images[:PROBE]
    for part in _parts(model.defense):
        if type(part).protect is not Defense.protect:
            part.protect = StraightThrough(part, model, shown.to(device), again=again)
    return model


def _drawn(image_shape: tuple[int, int, int]) -> torch.Tensor:
    """Returns images in [0, 1] of random cosine coefficients, (PROBE, C, H, W)."""
    w = torch.empty(PROBE, *image_shape).normal_(generator=torch.Generator().manual_seed(0))
    return GaussianPrior(image_shape)(w).clamp(0, 1)


def _along(line: torch.Tensor, moved: torch.Tensor) -> torch.Tensor:
    """Returns what a line makes of a movement of features (N, ...), channel by channel or between channels."""
    moved = _channels_first(moved)
    if line.ndim == 1:
        return _channels_first(moved * line.reshape(-1, *[1] * (moved.ndim - 2)))
    return _channels_first(torch.einsum("dc,nc...->nd...", line, moved))


def _channels_first(z: torch.Tensor) -> torch.Tensor:
    """Returns tokens (N, T, D) with their channels on axis 1, or back; maps and vectors have them there."""
    return z.transpose(1, 2) if z.ndim == 3 else z


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
