"""Tables of scores of a wire's images at any reference noise, with what can be shared between noises shared."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from splitaudit.metrics._channel import Wire
from splitaudit.metrics._products import Products, Scores
from splitaudit.metrics._reference import Reference
from splitaudit.metrics._spectrum import Spectrum, spectrum
from splitaudit.seeds import generator

Division = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Indices of train, validation and test images."""


DIRECTIONS = 512
"""Principal directions where they have to be found again for every noise: beyond them such a wire is mostly noise."""


@dataclass(frozen=True)
class View:
    """The held-out images at one reference noise.

    Attributes:
        validation: scores of the validation wires.
        test: scores of the test wires.
        reference: estimates of the wire's density, fitted to train centres and validation wires.
    """

    validation: Scores
    test: Scores
    reference: Reference


@dataclass
class _Built:
    basis: Spectrum
    gram: torch.Tensor
    train: torch.Tensor
    validation: Products
    test: Products

    @cached_property
    def along(self) -> torch.Tensor:
        """The train centres along the principal directions, (n, k)."""
        return self.train @ self.basis.vectors


class Tables:
    """Scores of a wire plus reference noise.

    The test wires' noise is one draw, scaled: bounds at several noises ride on the same images and the same draw. Where
    the wire's own noise is Gaussian and of one variance, the matrix products are made once; otherwise centres are
    divided by the whole noise of each coordinate, and all is made again for every reference noise.

    Args:
        wire: the wire.
        division: train, validation and test images.
        seed: of the noise.
    """

    def __init__(self, wire: Wire, division: Division, seed: int) -> None:
        device = wire.centres.device
        self.wire = wire
        self.train, self.validation, self.test = (d.to(device) for d in division)
        self._noise = generator("measure reference noise", seed, device)
        held_out = len(self.validation) + len(self.test)
        self._drawn = torch.randn((held_out, wire.centres.shape[1]), generator=self._noise, device=device)
        self._residual = wire.residual(self._noise) if wire.residual is not None else None
        self._basis: tuple[float, Spectrum, torch.Tensor, torch.Tensor] | None = None
        self._last: tuple[float, _Built] | None = None

    def spectrum(self, sigma: float) -> tuple[Spectrum, float]:
        """Returns the spectrum of the centres and the deviation of the noise in the same units.

        Where the noise is of one variance the units are the features', else the noise itself.
        """
        if self.wire.isotropic:
            return self._found(1.0)[1], float(self.wire.deviation(sigma))
        return self._found(sigma)[1], 1.0

    def at(self, sigma: float) -> View:
        """Returns the held-out images at a reference noise (deviation, in the features' units)."""
        built, scale = self._scaled(sigma)
        validation = built.validation.at(scale)
        return View(validation, built.test.at(scale), Reference(built.basis, scale, validation))

    def test_table(self, sigma: float) -> torch.Tensor:
        """Returns log p(z_i | x_j) of the test images up to a term of i, (M, M), without fitting anything."""
        if self.wire.isotropic:
            built, scale = self._scaled(sigma)
            return built.test.table(scale)
        c = self.wire.centres[self.test] / self.wire.deviation(sigma)
        z = c + self._standard(sigma)[len(self.validation) :]
        return z @ c.T - c.double().square().sum(1).to(c) / 2

    def train_scores(self, sigma: float) -> Scores:
        """Returns the scores of another draw of the train images' wires."""
        built, scale = self._scaled(sigma)
        n, d = built.train.shape
        device = built.train.device
        if self.wire.isotropic:
            # Centres lie within the span of their principal directions, so only there noise has to be told apart.
            along = built.along
            noise = torch.randn(along.shape, generator=self._noise, device=device)
            outside = torch.randn((n, d - along.shape[1]), generator=self._noise, device=device).square().sum(1)
            products = Products(along, noise, along, None, own=True, gram=built.gram, outside=outside)
            return products.at(scale)
        noise = torch.randn((n, d), generator=self._noise, device=device)
        if self.wire.residual is not None:
            residual = self.wire.residual(self._noise)[self.train]
            noise = (residual + sigma * noise) / self.wire.deviation(sigma)
        products = Products(built.train, noise, built.train, built.basis.vectors, own=True, gram=built.gram)
        return products.at(scale)

    def _scaled(self, sigma: float) -> tuple[_Built, float]:
        if self.wire.isotropic:
            return self._build(1.0), float(self.wire.deviation(sigma))
        return self._build(sigma), 1.0

    def _centres(self, sigma: float) -> torch.Tensor:
        return self.wire.centres if self.wire.isotropic else self.wire.centres / self.wire.deviation(sigma)

    def _found(self, sigma: float) -> tuple[float, Spectrum, torch.Tensor, torch.Tensor]:
        """Returns the noise, the spectrum, the products of the train centres with each other, and these centres."""
        if self._basis is None or self._basis[0] != sigma:
            c = self._centres(sigma)
            train = c[self.train]
            gram = train @ train.T
            most = None if self.wire.isotropic else DIRECTIONS
            self._basis = (sigma, spectrum(train, c[self.validation], gram, most), gram, train)
        return self._basis

    def _build(self, sigma: float) -> _Built:
        if self._last is None or self._last[0] != sigma:
            _, basis, gram, train = self._found(sigma)
            c = self._centres(sigma)
            noise = self._drawn if self.wire.isotropic else self._standard(sigma)
            m = len(self.validation)
            validation = Products(c[self.validation], noise[:m], train, basis.vectors)
            self._last = (
                sigma,
                _Built(basis, gram, train, validation, Products(c[self.test], noise[m:], train, basis.vectors)),
            )
        return self._last[1]

    def _standard(self, sigma: float) -> torch.Tensor:
        """Returns the whole noise of the held-out wires in units of its deviation, validation images first."""
        if self._residual is None:
            return self._drawn
        own = self._residual[torch.cat([self.validation, self.test])]
        return (own + sigma * self._drawn) / self.wire.deviation(sigma)
