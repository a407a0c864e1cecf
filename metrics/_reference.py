"""The frozen start of the critic: log p(z | x) − log q(z), with q fitted to the train images."""

from __future__ import annotations

import math

import torch

from splitaudit.metrics._channel import Channel

COMPONENTS = 256
"""Principal components at most; the rest of the variance is taken to be equal in all directions."""

SCALES = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Factors on the covariance of the Gaussian parts."""


class Reference:
    """Log-density ratios of a channel against an estimate q of the wire's distribution.

    q is a mixture: Gaussians with the covariance of the train centres (principal components, the rest isotropic),
    scaled by several factors and plus the noise, and a kernel estimate (the noise around every train centre). Images
    differ in contrast, so features have heavier tails than one Gaussian; without the wider ones a single unusual test
    image would decide the partition function. The weights and the number of components are fitted to the validation
    wires. Any q gives a valid critic; a better one gives a better start.

    Args:
        channel: the channel.
        train: indices of the train images.
        generator: for the randomised principal components.
    """

    def __init__(self, channel: Channel, train: torch.Tensor, generator: torch.Generator) -> None:
        self.centres = channel.centres[train]
        self.half_norms = channel.centres.square().sum(1) / 2
        self._train_half_norms = self.half_norms[train]
        total = self.centres.square().mean(0).sum()
        self.values, self.vectors = principal_components(self.centres, COMPONENTS, generator)
        before = torch.cat([self.values.new_zeros(1), self.values.cumsum(0)])
        free = self.centres.shape[1] - torch.arange(len(before), device=before.device)
        self._rest = (total - before).clamp(min=0) / free.clamp(min=1)
        self._kept = len(self.values)
        self._log_weights = self.values.new_full((1 + len(SCALES),), -math.log(1 + len(SCALES)))

    def coordinates(self, z: torch.Tensor, most: int) -> torch.Tensor:
        """Returns the first principal coordinates of centres or wires (N, D), (N, at most ``most``)."""
        return z @ self.vectors[:, :most]

    def fit(self, validation: torch.Tensor) -> None:
        """Sets weights and number of components to those of the greatest likelihood of validation wires (M, D)."""
        kernel = self._kernel(validation, None)
        best = -math.inf
        for kept in [0, *(2**i for i in range(20) if 2**i < len(self.values)), len(self.values)]:
            parts = self._parts(validation, kept, kernel)
            log_weights, score = mixture_weights(parts)
            if score > best:
                best, self._kept, self._log_weights = score, kept, log_weights

    def table(self, z: torch.Tensor, images: torch.Tensor, centres: torch.Tensor, own: bool = False) -> torch.Tensor:
        """Returns log p(z_i | x_j) − log q(z_i), (M, M).

        Args:
            z: wires of some images, (M, D).
            images: indices of these images, (M,).
            centres: centres of the same images, (M, D).
            own: whether these are the train images; the kernel at an image's own centre is then left out.
        """
        log_p = z @ centres.T - self.half_norms[images]
        parts = self._parts(z, self._kept, self._kernel(z, log_p if own else None))
        return log_p - (parts + self._log_weights).logsumexp(1, keepdim=True)

    def _parts(self, z: torch.Tensor, kept: int, kernel: torch.Tensor) -> torch.Tensor:
        """Returns the log-density of each part of the mixture relative to N(0, I), (M, parts)."""
        return torch.stack([kernel, *(self._gaussian(z, kept, scale) for scale in SCALES)], dim=1)

    def _kernel(self, z: torch.Tensor, own: torch.Tensor | None) -> torch.Tensor:
        if own is None:
            return (z @ self.centres.T - self._train_half_norms).logsumexp(1) - math.log(len(self.centres))
        others = own.clone().fill_diagonal_(-math.inf)
        return others.logsumexp(1) - math.log(max(len(own) - 1, 1))

    def _gaussian(self, z: torch.Tensor, kept: int, scale: float) -> torch.Tensor:
        """Returns log N(z; 0, scale Σ + I) − log N(z; 0, I), (M,)."""
        y = self.coordinates(z, kept)
        values, rest = scale * self.values[:kept], scale * self._rest[kept]
        quadratic = (y.square() * (values / (1 + values))).sum(1)
        quadratic = quadratic + (z.square().sum(1) - y.square().sum(1)) * (rest / (1 + rest))
        volume = values.log1p().sum() + (z.shape[1] - kept) * rest.log1p()
        return (quadratic - volume) / 2


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


def principal_components(
    centres: torch.Tensor, most: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the largest variances (k,), falling, and their directions (D, k), of rows (N, D) about 0.

    By subspace iteration, which is accurate where the variances fall off; directions without variance are left out.
    """
    n, d = centres.shape
    k = min(most, n, d)
    basis = torch.randn((d, k), generator=generator, device=centres.device)
    for _ in range(4):
        basis = torch.linalg.qr(centres.T @ (centres @ basis)).Q
    projected = centres @ basis
    values, turn = torch.linalg.eigh(projected.T @ projected / n)
    values, turn = values.flip(0), turn.flip(1)
    kept = values > max(1e-6 * float(values[0]), 1e-9)
    return values[kept], (basis @ turn)[:, kept]
