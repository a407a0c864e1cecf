"""The objective of white-box inversion and its descent, each image on its own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch

from splitaudit.nn.fold import folded
from splitaudit.nn.image_prior import GaussianPrior
from splitaudit.nn.ridge import most_images
from splitaudit.nn.scale import channel_axes
from splitaudit.view import View, to_float

from ._covered import Covered, covered
from ._laplace import by_magnitude, laplace_error
from ._lbfgs import minimise
from ._patterns import without_patterns
from ._whitening import MODEL, Whitening, covers

CHECKPOINTS = 15
"""How often the iterates under a random defense are compared, on draws that are always the same."""

JUDGE = 32
"""Draws of a random defense by which iterates are compared."""

SHARE = 0.05
"""Share of the newest iterate in the running mean of iterates under a random defense: the draws of single steps cancel."""

AT_ONCE = 3 * 10**7
"""Greatest number of values that are optimised in one batch."""

HELD = 40
"""Values that a descent holds for each number of an image: the history of L-BFGS, gradients, copies."""

PROBES = 512
"""Own images on which a covering or heavy-tailed noise is looked at."""

FIRST = 0.2
"""Greatest change of a coefficient in the first step of L-BFGS, in standard deviations; a tenth of it changes nothing."""


@dataclass(frozen=True)
class Objective:
    """The loss of images given by their standardised coefficients; see :class:`splitaudit.attacks.rmle.Rmle`.

    Received features are compared with what is sent on average: by the defense's own word where it says it, else by fresh
    draws. Of what a mask hides only that counts which it gives away: that an element is no larger than the least one shown
    (behind ``topk``). Where later noise covers a mask, an element is a mixture of what it would show and of nothing
    (:class:`._covered.Covered`). A pattern that was added, of a number that the defense has, is taken off where it leaves
    least. Behind Laplace noise errors count by their magnitude (:mod:`._laplace`), of a single draw.

    Attributes:
        view: the attack's view.
        prior: from coefficients to images.
        unit: in which the feature error is counted.
        tv: weight of the total variation relative to the prior's.
        draws: draws of a random defense to average.
        adaptive: whether the defense is taken into account.
    """

    view: View
    prior: GaussianPrior
    unit: Whitening
    tv: float
    draws: int
    adaptive: bool

    def __call__(
        self,
        w: torch.Tensor,
        z: torch.Tensor,
        weight: torch.Tensor,
        visible: torch.Tensor | None,
        g: torch.Generator,
        draws: int | None = None,
    ) -> torch.Tensor:
        """Returns the losses (N,) of coefficients w (N, C, H, W) for received features z (N, ...)."""
        x = self.prior(w)
        penalty = w.square().flatten(1).mean(1) + self.tv * total_variation(x)
        outside = (x - x.clamp(0, 1)).square().flatten(1).mean(1)
        return self.feature_error(x, z, visible, g, draws) + weight * penalty + outside

    @cached_property
    def _edge(self) -> torch.nn.Module:
        return folded(self.view.edge)

    @cached_property
    def noisy(self) -> bool:
        """Whether two evaluations differ."""
        return self.adaptive and noisy(self.view)

    def visible(self, z: torch.Tensor) -> torch.Tensor | None:
        """Returns which received elements count (None: all)."""
        return self.view.visible(z) if self.adaptive else None

    def feature_error(
        self,
        x: torch.Tensor,
        z: torch.Tensor,
        visible: torch.Tensor | None,
        g: torch.Generator,
        draws: int | None = None,
    ) -> torch.Tensor:
        """Returns the normalised feature error (N,) of images x (N, C, H, W) for received features z (N, ...)."""
        clean = self._edge(x)
        if not self.adaptive:
            return self.unit(clean - z).square().flatten(1).mean(1)
        count = (draws or self.draws) if self.noisy else 1
        sent = averaged_expectation(self.view.expectation, clean, g, count)
        known = sent is not None
        if sent is None:
            seen = None if visible is None else self.view.visible
            sent = expected_wire(self.view.protect, seen, clean, g, count)
        if visible is None:
            return self._of_all(z, sent, known).flatten(1).mean(1)
        error = self.unit(sent - z).square() * visible
        ceiling = self.view.ceiling(z) if known else None
        if ceiling is not None:
            error = error + self.unit((sent.abs() - ceiling).clamp_min(0)).square() * ~visible
        return error.flatten(1).sum(1) / visible.flatten(1).sum(1).clamp_min(1)

    def _of_all(self, z: torch.Tensor, sent: torch.Tensor, known: bool) -> torch.Tensor:
        """Returns the error (N, ...) of each element where no mask is seen; known: the defense has said what is sent."""
        if known and self._covered is not None:
            return self._covered.error(self.unit(z), self.unit(sent), self._model.square())
        left = self.unit(z - sent)
        if known and self._patterns is not None:
            left = without_patterns(left, self.unit(self._patterns), self.view.knowledge.draws)
        return left.square() if not known or self._noise is None else laplace_error(left, self._noise, self._model)

    @cached_property
    def _own(self) -> torch.Tensor:
        """Clean features (N, ...) of images of the attacker's own, without gradient."""
        with torch.no_grad():
            return torch.cat([self._edge(x) for x in probes(self.view).split(64)])

    @cached_property
    def _model(self) -> torch.Tensor:
        """Deviation of the error that is assumed beside the noise, by channel, which broadcasts; in the attack's unit."""
        with torch.no_grad():
            sent = self.view.expectation(self._own, self.view.generator("model error"))
            features = self.unit(self._own if sent is None else sent)
        axes, shape = channel_axes(features)
        return MODEL * features.var(axes, unbiased=False).sqrt().reshape(shape).clamp_min(1e-6)

    @cached_property
    def _covered(self) -> Covered | None:
        if not covers(self.view):
            return None
        return covered(self.view, self._own, self.unit, "covered draws")

    @cached_property
    def _noise(self) -> torch.Tensor | None:
        """Deviation of the Laplace noise in each channel, in the attack's unit; None: errors count by their square."""
        if not by_magnitude(self.view):
            return None
        draws = self.view.generator("laplace draws")
        with torch.no_grad():
            sent = self.view.protect(self._own, draws)
            mean = self.view.expectation(self._own, draws)
            if mean is None:
                return None
            error = self.unit(sent - mean)
            axes, shape = channel_axes(error)
            return error.square().mean(axes).sqrt().reshape(shape)

    @cached_property
    def _patterns(self) -> torch.Tensor | None:
        return self.view.patterns if self.adaptive else None


def averaged_expectation(
    expectation: Callable[[torch.Tensor, torch.Generator], torch.Tensor | None],
    clean: torch.Tensor,
    g: torch.Generator,
    draws: int,
) -> torch.Tensor | None:
    """Returns what is sent on average for clean features (N, ...), over draws of what is random in it; None: not known.

    Args:
        expectation: of the defense.
        clean: the edge's output, (N, ...).
        g: gives the draws.
        draws: how many.
    """
    total = expectation(clean, g)
    for _ in range(draws - 1):
        again = expectation(clean, g)
        if total is None or again is None:
            return None
        total = total + again
    return None if total is None else total / draws


def expected_wire(
    protect: Callable[[torch.Tensor, torch.Generator], torch.Tensor],
    visible: Callable[[torch.Tensor], torch.Tensor | None] | None,
    clean: torch.Tensor,
    g: torch.Generator,
    draws: int,
) -> torch.Tensor:
    """Returns the mean of fresh draws of defended features (N, ...), element by element over those that show it.

    An attack's own draw hides other elements than the received one did: what it hides is no evidence.

    Args:
        protect: applies the defense.
        visible: says which elements of what is sent carry the edge's output; None: all do.
        clean: the edge's output, (N, ...).
        g: gives the draws.
        draws: how many.
    """

    def once() -> tuple[torch.Tensor, torch.Tensor]:
        sent = protect(clean, g)
        seen = None if visible is None else visible(sent.detach())
        return sent, sent.new_ones(()) if seen is None else seen.to(sent.dtype)

    total, count = once()
    for _ in range(draws - 1):  # one at a time: at 224 px the features of 32 draws do not fit in memory together
        sent, shown = once()
        total, count = total + sent, count + shown
    # An element that no draw shows counts as zero, so an edge output of zero is no way out of the loss.
    return total / count.clamp_min(1)


def noisy(view: View) -> bool:
    """Says whether the feature error is random: the defense is, and does not say what it sends on average."""
    if not view.stochastic:
        return False
    # Several: two draws of one image agree by chance where a few patterns are drawn from.
    image = torch.empty(16, *view.image_shape, device=view.device).uniform_(generator=view.generator("probe image"))
    with torch.no_grad():
        clean = view.edge(image)
        one, other = (view.expectation(clean, view.generator(f"probe {number}")) for number in range(2))
    return one is None or other is None or not torch.equal(one, other)


Optimiser = Literal["auto", "adam", "lbfgs"]
"""What an attack may be told to descend by; ``auto``: what does best on its own images."""


@dataclass(frozen=True)
class Budget:
    """How far a descent goes, and by what.

    Attributes:
        steps: losses with gradient for each image.
        lr: Adam's first step size, which falls to zero along a cosine; of L-BFGS the greatest change of a coefficient in its
            first step.
        lbfgs: by L-BFGS instead of Adam; the loss must not be random.
    """

    steps: int
    lr: float
    lbfgs: bool = False

    @property
    def half(self) -> Budget:
        """Half as many steps: what it reaches says whether the whole was enough."""
        return replace(self, steps=max(1, self.steps // 2))

    @property
    def name(self) -> str:
        """The optimiser in a word or two."""
        return "lbfgs" if self.lbfgs else f"adam {self.lr:g}"

    def packed(self) -> torch.Tensor:
        """Returns the figures as a tensor, to be stored with a fit."""
        return torch.tensor([self.steps, self.lr, self.lbfgs], dtype=torch.float64)

    @classmethod
    def unpacked(cls, figures: torch.Tensor) -> Budget:
        """Returns what was packed."""
        steps, lr, lbfgs = figures.tolist()
        return cls(round(steps), lr, bool(lbfgs))


def budgets(steps: int, optimiser: Optimiser, lr: float | None, rates: Sequence[float], noisy: bool) -> list[Budget]:
    """Returns the ways to descend among which an attack chooses on its own images.

    Which one is best depends on the edge: large steps of Adam get over the kinks of a good edge and lose their way behind a
    narrow one, where L-BFGS goes further (docs/measurements.md).

    Args:
        steps: of each.
        optimiser: what was asked for.
        lr: Adam's step size, if it was asked for.
        rates: its step sizes else, the smallest first: the only one where the loss is random.
        noisy: the loss is random, which misleads a line search.
    """
    adam = [Budget(steps, r) for r in (rates[: 1 if noisy else None] if lr is None else (lr,))]
    if noisy or optimiser == "adam":
        return adam
    lbfgs = Budget(steps, FIRST, lbfgs=True)
    return [lbfgs] if optimiser == "lbfgs" else [*adam, lbfgs]


Ways = tuple[Budget, ...]
"""Ways to descend, all of which each image is given: the lowest of its losses says which was the right one for it."""


def named(ways: Ways) -> str:
    """Returns the optimisers in words."""
    return " + ".join(budget.name for budget in ways)


def choices(ways: Sequence[Budget]) -> list[Ways]:
    """Returns each two of the ways; the only one where there is but one.

    A descent that is the best for most images leads single ones into a wrong valley, seldom the same ones as another
    descent (docs/measurements.md). It is too rare for own images to say which way is safe alone.
    """
    return list(itertools.combinations(ways, min(2, len(ways))))


@dataclass(frozen=True)
class Descent:
    """What a descent has reached, for each image by its own loss.

    Attributes:
        w: best coefficients, (N, C, H, W).
        loss: their losses, (N,); infinite where none was finite.
    """

    w: torch.Tensor
    loss: torch.Tensor

    def better(self, other: Descent) -> Descent:
        """Returns, image by image, the one with the lower loss."""
        mine = ~(other.loss < self.loss)
        return Descent(
            torch.where(mine[:, None, None, None], self.w, other.w), torch.where(mine, self.loss, other.loss)
        )

    @staticmethod
    def joined(parts: Sequence[Descent]) -> Descent:
        """Returns the descents of some images and of others as one."""
        return Descent(torch.cat([p.w for p in parts]), torch.cat([p.loss for p in parts]))


def descend(
    objective: Objective,
    z: torch.Tensor,
    w: torch.Tensor,
    weight: torch.Tensor,
    budget: Budget,
    generators: Callable[[str], torch.Generator],
    log: Callable[[int, float], None],
) -> Descent:
    """Minimises each image's loss and keeps each image's best iterate; no image depends on another.

    Under a random defense every step has fresh draws, whose noise a running mean of the iterates leaves out (Polyak and
    Juditsky 1992); these means are compared now and then on draws that are always the same.

    Args:
        objective: the loss.
        z: received features, (N, ...).
        w: the start, (N, C, H, W).
        weight: of the prior, (N,).
        budget: how far to go.
        generators: from a role to a generator; a role gives the same draws each time.
        log: called with each step (from 1) and the sum of the losses.
    """
    visible = objective.visible(z)
    if not budget.lbfgs:
        return _by_adam(objective, z, w, weight, visible, budget, generators, log)
    wire = generators("wire")
    return Descent(*minimise(lambda at: objective(at, z, weight, visible, wire), w, budget.steps, budget.lr, log))


def _by_adam(
    objective: Objective,
    z: torch.Tensor,
    start: torch.Tensor,
    weight: torch.Tensor,
    visible: torch.Tensor | None,
    budget: Budget,
    generators: Callable[[str], torch.Generator],
    log: Callable[[int, float], None],
) -> Descent:
    fresh = generators("wire")
    best, best_loss = start.clone(), torch.full((len(start),), float("inf"), device=start.device)

    def keep(candidate: torch.Tensor, loss: torch.Tensor) -> None:
        better = loss < best_loss
        best[better], best_loss[better] = candidate.detach()[better], loss.detach()[better]

    def fixed(candidate: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return objective(candidate, z, weight, visible, generators("judge"), JUDGE)

    w, smooth = start.clone().requires_grad_(True), start.clone()
    optimizer = torch.optim.Adam([w])
    every = max(1, budget.steps // CHECKPOINTS)
    for step in range(budget.steps):
        optimizer.param_groups[0]["lr"] = budget.lr * (1 + math.cos(math.pi * step / budget.steps)) / 2
        loss = objective(w, z, weight, visible, fresh)
        if not objective.noisy:
            keep(w, loss)
        else:
            smooth.lerp_(w.detach(), max(SHARE, 1 / (step + 1)))
            if step % every == 0:
                keep(smooth, fixed(smooth))
        log(step + 1, float(loss.detach().sum()))
        optimizer.zero_grad(set_to_none=True)
        loss.sum().backward()
        optimizer.step()
    if objective.noisy:
        keep(smooth, fixed(smooth))
    keep(w, fixed(w))
    return Descent(best, best_loss)


def total_variation(x: torch.Tensor) -> torch.Tensor:
    """Returns the mean isotropic total variation per image (N,), smoothed at 1e-3."""
    down = x[:, :, 1:, :-1] - x[:, :, :-1, :-1]
    across = x[:, :, :-1, 1:] - x[:, :, :-1, :-1]
    return (down.square() + across.square() + 1e-6).sqrt().flatten(1).mean(1)


def batches(z: torch.Tensor, values: int) -> tuple[torch.Tensor, ...]:
    """Returns indices of the images that are optimised at once, so that they fit in memory.

    Args:
        z: received features, (N, ...).
        values: what is held for each image beside its features.
    """
    each = z[0].numel() + values if len(z) else 1
    return torch.arange(len(z), device=z.device).split(max(1, AT_ONCE // each))


def probes(view: View) -> torch.Tensor:
    """Returns some images in [0, 1] on which an attacker looks at the defense: its own, or draws from the prior."""
    if view.knowledge.aux != "none":
        return own_images(view, "train", 2, 1)[:PROBES]
    w = torch.empty(64, *view.image_shape, device=view.device).normal_(generator=view.generator("probe prior draws"))
    with torch.no_grad():
        return GaussianPrior(view.image_shape).to(view.device)(w).clamp(0, 1)


def own_images(view: View, part: str, features: int, pixels: int) -> torch.Tensor:
    """Returns own images in [0, 1], as many as fit in memory together with their features, each counted so often."""
    images = (view.aux_train if part == "train" else view.aux_val).images
    values = features * math.prod(view.feature_shape) if features else 0  # a fit on images alone knows no features
    n = most_images(values, pixels * math.prod(view.image_shape), len(images))
    return to_float(images[:n].to(view.device))


def defended(view: View, images: torch.Tensor, role: str, adaptive: bool = True) -> torch.Tensor:
    """Returns the defended features (N, ...) of images in [0, 1], averaged over as many draws as the attacker receives.

    A role gives the same draws each time. Not adaptive: the clean features, for who pretends that there is no defense.
    """
    draws = view.generator(role)
    with torch.no_grad():
        if not adaptive:
            return torch.cat([view.edge(b) for b in images.split(64)])
        return torch.cat([_received(view, view.edge(b), draws) for b in images.split(64)])


def _received(view: View, clean: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    return view.averaged([view.protect(clean, draws) for _ in range(view.knowledge.draws)])
