"""The linear-Gaussian case: the least mean squared error that any attack can have is known in closed form (Wiener)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import nn

from splitaudit.attack import Attack
from splitaudit.data.base import Part
from splitaudit.defense import Defense
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.params import Params
from splitaudit.pixels import to_float
from splitaudit.plan_rows import lenders
from splitaudit.split import Normalize, SplitModel
from splitaudit.testing.targets import control_target
from splitaudit.view import View
from splitaudit.work import receive

SHAPE = (3, 6, 6)
DEVIATION = 0.08
"""Standard deviation of a pixel about mid-grey: six of them fit into [0, 1], so that clipping plays no part."""


class AbsoluteNoise(Defense):
    """Adds Gaussian noise of a fixed standard deviation."""

    source = "toy"
    acts_on_wire = True

    def __init__(self, sigma: float) -> None:
        super().__init__(Params())
        self.sigma = sigma

    @property
    def stochastic(self) -> bool:
        return True

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        noise = torch.empty_like(z, memory_format=torch.contiguous_format).normal_(generator=generator)
        return z + self.sigma * noise


class KnownNoise(AbsoluteNoise):
    """The same, and says that its mean is zero."""

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return z


def covariance() -> torch.Tensor:
    """Returns the covariance of the pixels, (D, D): exponential in the distance, the same for all channels, correlated."""
    channels, height, width = SHAPE
    rows = torch.arange(height, dtype=torch.float64)[:, None] - torch.arange(height, dtype=torch.float64)[None]
    columns = torch.arange(width, dtype=torch.float64)[:, None] - torch.arange(width, dtype=torch.float64)[None]
    colour = 0.7 + 0.3 * torch.eye(channels, dtype=torch.float64)
    along, across = torch.exp(-rows.abs() / 3), torch.exp(-columns.abs() / 3)
    return DEVIATION**2 * torch.kron(colour, torch.kron(along, across))


def images(n: int, seed: int) -> Part:
    """Returns Gaussian images as a part, uint8."""
    factor = torch.linalg.cholesky(covariance())
    draw = torch.randn(n, len(factor), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = (0.5 + draw @ factor.T).clamp(0, 1).reshape(n, *SHAPE)
    return Part((255 * x).round().to(torch.uint8), torch.zeros(n, dtype=torch.int64))


@dataclass(frozen=True)
class Case:
    """A linear edge with Gaussian noise on the wire.

    Attributes:
        matrix: of the edge, (features, pixels).
        sigma: of the noise.
        draws: received draws of each private image.
        private: how many private images.
        aux: how many auxiliary images; at least 20 for each pixel dimension.
        known: whether the defense says what it sends on average; if not, attacks meet it with fresh draws.
    """

    matrix: torch.Tensor
    sigma: float
    draws: int = 1
    private: int = 400
    aux: int = 4000
    known: bool = False

    def least(self) -> float:
        """Returns the mean squared error of the Wiener filter, per pixel."""
        c, a = covariance(), self.matrix.double()
        return float((c - self._filter() @ a @ c).diagonal().mean())

    def filtered(self) -> torch.Tensor:
        """Returns the mean squared error of each private image under the Wiener filter of the features received, (N,)."""
        private = images(self.private, 3)
        received = receive(self.target(), private, self.draws, 0, torch.device("cpu")).mean(1).double()
        mean = torch.full((self.matrix.shape[1],), 0.5, dtype=torch.float64)
        guess = mean + (received - self.matrix.double() @ mean) @ self._filter().T
        return (guess - to_float(private.images).flatten(1)).square().mean(1)

    def _filter(self) -> torch.Tensor:
        """Returns the matrix of the Wiener filter, (pixels, features)."""
        c, a = covariance(), self.matrix.double()
        noise = self.sigma**2 / self.draws * torch.eye(len(a), dtype=torch.float64)
        return c @ a.T @ torch.linalg.inv(a @ c @ a.T + noise)

    def target(self) -> SplitModel:
        """Returns the target: the linear edge, with noise on the wire."""
        edge = nn.Sequential(
            OrderedDict(
                normalize=Normalize(torch.zeros(SHAPE[0]), torch.ones(SHAPE[0])),
                flatten=nn.Flatten(),
                matrix=nn.Linear(self.matrix.shape[1], self.matrix.shape[0], bias=False),
            )
        )
        with torch.no_grad():
            edge.get_submodule("matrix").get_parameter("weight").copy_(self.matrix)
        return control_target(edge.eval(), (KnownNoise if self.known else AbsoluteNoise)(self.sigma), SHAPE)

    def attacked(self, attack: Attack, seed: int = 0) -> torch.Tensor:
        """Returns the mean squared error of each private image under an attack that is given all it can use, (N,)."""
        model = self.target()
        granted = AdversaryKnowledge(edge="weights", aux="same", draws=self.draws)
        aux = images(self.aux, 1), images(512, 2)
        private = images(self.private, 3)
        received = receive(model, private, granted.draws, 0, torch.device("cpu"))

        def view(shown: torch.Tensor, made: Attack, fits: dict[str, dict[str, torch.Tensor]]) -> View:
            return View(
                knowledge=made.granted(granted),
                received=shown[:, : made.granted(granted).draws],
                image_shape=SHAPE,
                model=None if made.fit_scope == "images" and not len(shown) else model,
                aux=aux,
                seed=seed,
                fits=fits,
            )

        def fitted(made: Attack) -> tuple[dict[str, torch.Tensor], dict[str, dict[str, torch.Tensor]]]:
            fits = {role: fitted(other)[0] for role, (_, other) in lenders(made).items()}
            return (made.fit(view(received[:0], made, fits)) if made.has_fit() else {}), fits

        own, fits = fitted(attack)
        guess = attack.reconstruct(view(received, attack, fits), own)
        return (guess - to_float(private.images)).square().flatten(1).mean(1)


def orthogonal(seed: int = 0) -> torch.Tensor:
    """Returns a random orthogonal matrix as wide as an image."""
    size = SHAPE[0] * SHAPE[1] * SHAPE[2]
    return torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(seed)))[0]


def within(errors: torch.Tensor, least: float, tolerance: float = 0.05) -> str:
    """Returns what is wrong with errors that should come within a tolerance of the least possible one; empty if nothing."""
    mean, half = float(errors.mean()), 1.96 * float(errors.std()) / len(errors) ** 0.5
    if mean > (1 + tolerance) * least:
        return f"mean squared error {mean:.3g}, more than {1 + tolerance:g} of the least possible {least:.3g}"
    if mean + half < least:
        return (
            f"mean squared error {mean:.3g} ± {half:.2g} is below the least possible {least:.3g}: it has seen the truth"
        )
    return ""
