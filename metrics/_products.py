"""Noisy wires against centres: tables of scores at any noise from a few matrix products.

In units of the noise a wire is z = c / s + n with n of variance 1, and log p(z | x) of the channel is, relative to
N(z; 0, I), z·c / s − ½ |c|² / s². Everything that depends on s is a sum of inner products that do not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch


@dataclass(frozen=True)
class Scores:
    """What a set of wires at one noise has to offer, in units of the noise.

    Attributes:
        given: log p(z_i | x_i) − log N(z_i; 0, I), (M,), double precision.
        kernel: log of the mean of p(z_i | x) / N(z_i; 0, I) over the train images x, (M,); without the own one among them.
        wires: coordinates of the wires along the principal directions, (M, k).
        centres: the same of their images' centres, (M, k).
        squares: |z|², (M,).
        table: returns log p(z_i | x_j) − log N(z_i; 0, I) for the wires' own images, (M, M).
    """

    given: torch.Tensor
    kernel: torch.Tensor
    wires: torch.Tensor
    centres: torch.Tensor
    squares: torch.Tensor
    table: Callable[[], torch.Tensor]


class Products:
    """Inner products of some wires and centres.

    Args:
        centres: of the wires' images, (M, D).
        noise: of variance 1, (M, D).
        train: centres of the train images, (n, D).
        basis: principal directions, orthonormal, (D, k); None where D are already coordinates along them.
        own: whether the wires' images are the train images, in the same order.
        gram: centres against train centres, (M, n), if it is at hand.
        outside: squared noise outside the D coordinates, (M,), where these are not all.
    """

    def __init__(
        self,
        centres: torch.Tensor,
        noise: torch.Tensor,
        train: torch.Tensor,
        basis: torch.Tensor | None,
        *,
        own: bool = False,
        gram: torch.Tensor | None = None,
        outside: torch.Tensor | None = None,
    ) -> None:
        self._is_train, self._centres, self._noise = own, centres, noise
        self._train = centres @ train.T if gram is None else gram
        self._noise_train = noise @ train.T
        self._norms = centres.square().sum(1).double()
        self._train_norms = self._norms if own else train.square().sum(1).double()
        self._cross = (centres * noise).sum(1).double()
        self._noise_norms = noise.square().sum(1).double() + (0.0 if outside is None else outside.double())
        self._along = centres if basis is None else centres @ basis
        self._noise_along = noise if basis is None else noise @ basis

    def at(self, scale: float) -> Scores:
        """Returns the scores where the noise is ``scale`` in units of the centres."""
        if self._is_train:
            others = self.table(scale).fill_diagonal_(-torch.inf)
            kernel = others.logsumexp(1) - torch.tensor(float(max(len(others) - 1, 1))).log()
        else:
            against = self._scored(self._train, self._noise_train, self._train_norms, scale)
            kernel = against.logsumexp(1) - torch.tensor(float(against.shape[1])).log()
        squares = self._norms / scale**2 + 2 * self._cross / scale + self._noise_norms
        along = self._along / scale
        given = self._norms / (2 * scale**2) + self._cross / scale
        return Scores(given, kernel, along + self._noise_along, along, squares, lambda: self.table(scale))

    def table(self, scale: float) -> torch.Tensor:
        """Returns log p(z_i | x_j) − log N(z_i; 0, I) for the wires' own images, (M, M), where the noise is ``scale``."""
        return self._scored(*self._own, self._norms, scale)

    @cached_property
    def _own(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Centres and noise against the wires' own centres, (M, M) each: of no use to an upper bound."""
        if self._is_train:
            return self._train, self._noise_train
        return self._centres @ self._centres.T, self._noise @ self._centres.T

    @staticmethod
    def _scored(products: torch.Tensor, noise: torch.Tensor, norms: torch.Tensor, scale: float) -> torch.Tensor:
        # In place: with thousands of images every temporary is as large as a copy of the features.
        scores = (products / scale**2).add_(noise, alpha=1 / scale)
        return scores.sub_((norms / (2 * scale**2)).to(scores))
