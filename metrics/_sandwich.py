"""Lower and upper bounds of mutual information at a reference noise, without training."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from splitaudit.metrics._bounds import CEILING_SHARE, info_nce_limit
from splitaudit.metrics._tables import Tables
from splitaudit.stats import standard_error

ONE_SIDED = 1.645
"""Standard errors to a one-sided 95 % limit."""


@dataclass(frozen=True)
class Lower:
    """What a parameter-free critic certifies.

    Attributes:
        limit: one-sided 95 % lower limit of I, nats; at least 0.
        nce: the InfoNCE estimate itself.
        ceiling: ln M, which neither exceeds.
        top1: share of wires whose most likely image, of M, is their own.
    """

    limit: float
    nce: float
    ceiling: float
    top1: float

    @property
    def status(self) -> str:
        """``ok``, or ``at_ceiling`` where the limit says nothing of how much more there may be."""
        return "at_ceiling" if self.nce > CEILING_SHARE * self.ceiling else "ok"


@dataclass(frozen=True)
class Upper:
    """A held-out cross-entropy.

    Attributes:
        limit: one-sided 95 % upper limit of I, nats; at least 0.
        error: standard error over test images, nats.
        form: names of the estimates of the wire's density behind it.
    """

    limit: float
    error: float
    form: str


def lower(tables: Tables, sigma: float, weights: torch.Tensor) -> Lower:
    """Returns the lower bound at a reference noise.

    The critic is log p(z | x) of the channel model itself, so nothing is fitted: each wire picks its image out of all
    test images. For a random defense the model is Gaussian about estimated centres, which can only lower it.

    Args:
        tables: of the wire.
        sigma: deviation of the reference noise.
        weights: bootstrap weights of the test images, (R, M).
    """
    table = tables.test_table(sigma)
    nce, limit = info_nce_limit(table, weights)
    own = table.diagonal()
    rivals = table.clone().fill_diagonal_(-torch.inf).max(1).values
    return Lower(max(limit, 0.0), nce, math.log(len(table)), float((own > rivals).float().mean()))


def upper(tables: Tables, sigma: float, groups: np.ndarray | None = None) -> Upper:
    """Returns the upper bound at a reference noise: the mean of log p(z | x) − log q(z) over test wires.

    For any density q it exceeds I by the divergence of q from the truth. q has several forms; each half of the test
    images gets the form that is best on the other half. log p of the very wire, instead of its mean, takes out most of
    the noise. The channel has to be known: for a random defense other than additive Gaussian the tables have to be
    those of the wire given the defense's random numbers. The bound then is a mean over these numbers of which one set is
    tried; its error contains how much the signal's power scatters between sets (information grows no faster than power).

    Args:
        tables: of a wire whose noise is Gaussian.
        sigma: deviation of the reference noise.
        groups: a label per test image, or None.
    """
    if tables.wire.residual is not None:
        raise ValueError("got a wire whose noise is only modelled, expected a known channel: use its frozen form")
    view = tables.at(sigma)
    given = view.test.given
    excess = {name: given - log_q for name, log_q in view.reference.log_densities(view.test).items()}
    half = torch.arange(len(given), device=given.device) % 2 == 0
    best = [min(excess, key=lambda n: float(excess[n][part].mean())) for part in (half, ~half)]
    values = torch.where(half, excess[best[1]], excess[best[0]]).cpu().numpy()
    mean = float(values.mean())
    error = math.hypot(standard_error(values, groups), tables.wire.scatter * mean)
    return Upper(max(mean + ONE_SIDED * error, 0.0), error, " / ".join(dict.fromkeys(best)))
