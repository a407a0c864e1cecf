"""Principal directions of the train images' centres, with the variances that other images have along them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from splitaudit.nn.eigen import eigh


@dataclass(frozen=True)
class Spectrum:
    """A Gaussian description of centres (N, D): variance along k directions, and the same for all others.

    Attributes:
        vectors: orthonormal, (D, k), by falling variance of the train centres.
        values: variance of held-out centres along them, (k,).
        rest: variance of held-out centres along every other direction, a scalar tensor.
        dimensions: D.
        squares: of each held-out image along them and in all, (m, k + 1): what variances are means of.
    """

    vectors: torch.Tensor
    values: torch.Tensor
    rest: torch.Tensor
    dimensions: int
    squares: torch.Tensor

    def resampled(self, weights: torch.Tensor) -> Iterator[Spectrum]:
        """Yields the spectrum of each resample of the held-out images.

        Args:
            weights: how often each image counts, (R, m).
        """
        means = (weights.to(self.squares) @ self.squares) / weights.sum(1, keepdim=True).to(self.squares)
        for row in means:
            yield replace(self, values=_smooth(row[:-1]), rest=_rest(row, self.free))

    @property
    def free(self) -> int:
        """The number of directions outside ``vectors``."""
        return self.dimensions - self.vectors.shape[1]

    def information(self, noise: float) -> float:
        """Returns ½ Σ ln(1 + λ / noise) in nats: what a Gaussian with these variances carries over noise of a variance."""
        known = (self.values / noise).double().log1p().sum() + self.free * (self.rest / noise).double().log1p()
        return float(known) / 2

    def effective_dimensions(self) -> float:
        """Returns exp of the entropy of the variances' shares: 1 for one direction, k for k equal ones; 0 for none."""
        values = self.values.double().clamp(min=0)
        total = float(values.sum() + self.free * self.rest.double())
        if total <= 0:
            return 0.0
        share = values / total
        other = float(self.rest) / total
        entropy = -torch.special.xlogy(share, share).sum()
        if other > 0:
            entropy = entropy - self.free * other * torch.tensor(other, dtype=torch.float64).log()
        return float(entropy.exp())


def spectrum(
    train: torch.Tensor, held_out: torch.Tensor, gram: torch.Tensor | None = None, most: int | None = None
) -> Spectrum:
    """Fits directions to train centres and variances to others, both about 0.

    The variances of the train centres themselves are too large along the first directions and nothing beyond the n-th:
    with as many numbers as images they promise a code that other images do not keep. Those of held-out images are what
    a Gaussian code has to have. They are averaged over bins that grow by an eighth, which takes out their own noise.

    Args:
        train: (n, D).
        held_out: (m, D).
        gram: ``train @ train.T`` if it is at hand.
        most: directions at most; the others share one variance.
    """
    n, d = train.shape
    if d <= n:
        values, vectors = eigh(train.T @ train)
        vectors = vectors.flip(1)[:, :most]
    else:
        gram = train @ train.T if gram is None else gram
        values, turn = eigh(gram) if most is None or n <= 2 * most else _leading(gram, most)
        kept = values > 1e-6 * values[-1].clamp(min=1e-30)
        vectors = train.T @ (turn[:, kept] / values[kept].sqrt()).flip(1)[:, :most]
        vectors = _orthonormal(vectors)
    squares = torch.cat([(held_out @ vectors).square(), held_out.square().sum(1, keepdim=True)], dim=1)
    means = squares.double().mean(0)
    return Spectrum(
        vectors, _smooth(means[:-1].to(squares)), _rest(means, d - vectors.shape[1]).to(squares), d, squares
    )


def _rest(means: torch.Tensor, free: int) -> torch.Tensor:
    """Returns the variance of each direction outside, from the variances along the directions and in all, (k + 1,)."""
    means = means.double()
    return ((means[-1] - means[:-1].sum()) / free).clamp(min=0) if free else means.new_zeros(())


def _orthonormal(vectors: torch.Tensor) -> torch.Tensor:
    """Returns directions that are orthonormal, as a density needs them; rounding leaves those of little variance askew."""
    if vectors.shape[1] == 0:
        return vectors
    factor, failed = torch.linalg.cholesky_ex(vectors.T @ vectors, upper=True)
    if int(failed) == 0:
        straight = torch.linalg.solve_triangular(factor, vectors, upper=True, left=False)
        excess = straight.T @ straight - torch.eye(vectors.shape[1]).to(vectors)
        if float(excess.abs().max()) < 1e-4:
            return straight
    return torch.linalg.qr(vectors).Q


def _leading(gram: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns about the greatest eigenvalues of a product, rising, and their vectors, by subspace iteration.

    Where the values hardly differ the vectors are a mixture: any directions make a density, so this costs tightness only.
    """
    draws = torch.Generator(device=gram.device).manual_seed(0)
    basis = torch.randn((len(gram), most + 32), generator=draws, device=gram.device)
    for _ in range(3):
        basis = torch.linalg.qr(gram @ basis).Q
    values, turn = eigh(basis.T @ (gram @ basis))
    return values[-most:], (basis @ turn)[:, -most:]


def _smooth(values: torch.Tensor) -> torch.Tensor:
    sizes, start = [], 0
    while start < len(values):
        size = min(max(1, start // 8), len(values) - start)
        sizes.append(size)
        start += size
    return torch.cat([part.mean().expand(len(part)) for part in values.split(sizes)]) if sizes else values
