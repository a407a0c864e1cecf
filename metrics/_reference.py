"""Estimates q of the wire's density, for the critic's start and for the upper bound: any q is valid, a better one tighter."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from splitaudit.metrics._products import Scores
from splitaudit.metrics._spectrum import Spectrum

SCALES = (1.0, 0.1, 0.3, 3.0, 10.0)
"""Factors on the covariance of the Gaussian parts."""

FORMS: dict[str, tuple[int, ...]] = {
    "gaussian": (1,),
    "scale mixture": (1, 2, 3, 4, 5),
    "kernel and scale mixture": (0, 1, 2, 3, 4, 5),
}
"""Name of a form of q to the parts that it mixes: 0 the kernel estimate, then the Gaussians in the order of SCALES."""


class Reference:
    """Estimates of the wire's density at one noise, as mixtures with weights fitted to validation wires.

    The parts are Gaussians with the variances of :class:`Spectrum`, scaled by several factors and plus the noise, and a
    kernel estimate (the noise around every train centre). Images differ in contrast, so features have heavier tails than
    one Gaussian; without the wider ones a single unusual image would decide the partition function.

    Args:
        spectrum: of the centres.
        scale: the noise in units of the centres.
        validation: scores of the validation wires.
    """

    def __init__(self, spectrum: Spectrum, scale: float, validation: Scores) -> None:
        self._variances = (spectrum.values / scale**2).double().clamp(min=0)
        self._rest = float(spectrum.rest) / scale**2
        self._free = spectrum.free
        parts = self._parts(validation)
        self._weights = {name: mixture_weights(parts[:, list(chosen)])[0] for name, chosen in FORMS.items()}

    def log_density(self, scores: Scores, form: str = "kernel and scale mixture") -> torch.Tensor:
        """Returns log q(z) − log N(z; 0, I) of wires under a form, (M,), double precision."""
        return (self._parts(scores)[:, list(FORMS[form])] + self._weights[form]).logsumexp(1)

    def log_densities(self, scores: Scores) -> dict[str, torch.Tensor]:
        """Returns the same under every form."""
        parts = self._parts(scores)
        return {n: (parts[:, list(chosen)] + self._weights[n]).logsumexp(1) for n, chosen in FORMS.items()}

    def table(self, scores: Scores) -> torch.Tensor:
        """Returns log p(z_i | x_j) − log q(z_i), (M, M): the critic's frozen start."""
        table = scores.table()
        return table - self.log_density(scores).to(table)[:, None]

    def inputs(self, scores: Scores, most: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the first coordinates of centres and of wires with variance about 1, (M, at most ``most``) each."""
        values = self._variances[:most].float()
        live = values > 1e-9
        x = scores.centres[:, :most][:, live] / values[live].sqrt()
        return x, scores.wires[:, :most][:, live] / (1 + values[live]).sqrt()

    def _parts(self, scores: Scores) -> torch.Tensor:
        """Returns the log-density of each part relative to N(0, I), (M, parts)."""
        y = scores.wires.double().square()
        outside = scores.squares - y.sum(1)
        return torch.stack([scores.kernel.double(), *self._gaussians(y, outside, SCALES)], dim=1)

    def _gaussians(self, y: torch.Tensor, outside: torch.Tensor, scales: Sequence[float]) -> list[torch.Tensor]:
        out = []
        for s in scales:
            values, rest = s * self._variances, s * self._rest
            quadratic = y @ (values / (1 + values)) + outside * (rest / (1 + rest))
            out.append((quadratic - values.log1p().sum() - self._free * math.log1p(rest)) / 2)
        return out


def mixture_weights(parts: torch.Tensor, rounds: int = 50) -> tuple[torch.Tensor, float]:
    """Fits the weights of a mixture by expectation maximisation.

    Args:
        parts: log-density of each part at each point, (M, parts).
        rounds: iterations.

    Returns:
        Log-weights (parts,), none of them below 1 % so that no part is lost, and the mean log-likelihood.
    """
    log_weights = parts.new_full((parts.shape[1],), -math.log(parts.shape[1]))
    for _ in range(rounds):
        share = (parts + log_weights).softmax(1).mean(0)
        log_weights = (share.clamp(min=0.01) / share.clamp(min=0.01).sum()).log()
    return log_weights, float((parts + log_weights).logsumexp(1).mean())
