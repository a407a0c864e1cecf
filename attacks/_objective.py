"""The objective of white-box inversion."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from splitaudit.nn.fold import folded
from splitaudit.nn.image_prior import GaussianPrior
from splitaudit.nn.scale import channel_axes
from splitaudit.view import View

from ._covered import Covered, covered
from ._expected import averaged_expectation, expected_wire, noisy
from ._laplace import by_magnitude, laplace_error
from ._own import probes
from ._patterns import without_patterns
from ._total_variation import total_variation
from ._whitening import MODEL, Whitening, covers


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
    """

    view: View
    prior: GaussianPrior
    unit: Whitening
    tv: float
    draws: int

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
        return noisy(self.view)

    def visible(self, z: torch.Tensor) -> torch.Tensor | None:
        """Returns which received elements count (None: all)."""
        return self.view.visible(z)

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
        return self.view.patterns
