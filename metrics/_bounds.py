"""What a critic's table of scores says about mutual information, and when to believe it.

A table T is (M, M): row i a wire z_i, column j an image x_j, pairs on the diagonal. All off-diagonal pairs serve as
independent ones; there is no random permutation, whose fixed points would bias the estimate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

CEILING_SHARE = 0.85
LEAST_ESS = 100.0

SLACK = 0.05
"""Nats by which a reading may lie below a certified limit: estimates of nothing differ by as much."""


@dataclass(frozen=True)
class Reading:
    """A reading of a table.

    Attributes:
        value: Donsker–Varadhan estimate in nats.
        low: lower end of its 95 % interval, by resampling images.
        high: upper end.
        nce: InfoNCE estimate in nats, never above ``ceiling``.
        nce_low: its one-sided 95 % lower limit.
        ceiling: ln M: no reliable lower bound from M images can be higher.
        ess: effective number of off-diagonal pairs behind the partition function.
    """

    value: float
    low: float
    high: float
    nce: float
    nce_low: float
    ceiling: float
    ess: float

    @property
    def at_ceiling(self) -> bool:
        return self.nce > CEILING_SHARE * self.ceiling


def donsker_varadhan(table: torch.Tensor) -> torch.Tensor:
    """Returns the Donsker–Varadhan value of a table in nats, a scalar."""
    m = len(table)
    return table.diagonal().mean() - off_diagonal(table).flatten().logsumexp(0) + math.log(m * (m - 1))


def info_nce(table: torch.Tensor) -> torch.Tensor:
    """Returns the InfoNCE value of a table in nats, a scalar: each wire picks its image out of all M."""
    return (table.diagonal() - table.logsumexp(1)).mean() + math.log(len(table))


def off_diagonal(table: torch.Tensor) -> torch.Tensor:
    """Returns the table with minus infinity on its diagonal."""
    return table.masked_fill(torch.eye(len(table), dtype=torch.bool, device=table.device), -math.inf)


def read(table: torch.Tensor, weights: torch.Tensor) -> Reading:
    """Returns the estimates of a table with their intervals.

    Args:
        table: scores on test images, (M, M).
        weights: how often each image is drawn in each resample, (R, M).
    """
    t = table.double()
    w = weights.to(t)
    m = len(t)
    others = off_diagonal(t)
    top = others.max()
    e = (others - top).exp()
    ess = e.sum().square() / e.square().sum()
    joint = w @ t.diagonal() / w.sum(1)
    pairs = w.sum(1).square() - w.square().sum(1)
    values = joint - (((w @ e) * w).sum(1) / pairs).log() - top
    nce, nce_low = info_nce_limit(t, w)
    return Reading(
        value=float(donsker_varadhan(t)),
        low=float(values.quantile(0.025)),
        high=float(values.quantile(0.975)),
        nce=nce,
        nce_low=nce_low,
        ceiling=math.log(m),
        ess=float(ess),
    )


def info_nce_limit(table: torch.Tensor, weights: torch.Tensor) -> tuple[float, float]:
    """Returns the InfoNCE value of a table and its one-sided 95 % lower limit, by resampling images.

    Args:
        table: scores on test images, (M, M).
        weights: how often each image is drawn in each resample, (R, M).
    """
    t = table.double()
    w = weights.to(t)
    # An image drawn twice still stands once against the others: counted twice it would be its own rival.
    peak = t.max(1, keepdim=True).values
    rivals = w @ (off_diagonal(t) - peak).exp().T
    own = t.diagonal() - peak[:, 0]
    share = own - ((rivals + own.exp()) / (1 + w.sum(1, keepdim=True) - w)).log()
    nces = (w * share).sum(1) / w.sum(1)
    return float(info_nce(t)), float(nces.quantile(0.05))


def status(reading: Reading, structured: Reading) -> str:
    """Says whether a reading is a measurement.

    Args:
        reading: of the critic.
        structured: of the critic's frozen start alone, which is a valid lower bound by itself.

    Returns:
        ``ok``, or why not: ``at_ceiling`` (InfoNCE above 0.85 ln M), ``low_ess`` (a few pairs decide the partition
        function), ``critic_limited`` (below what the untrained start certifies).
    """
    if reading.at_ceiling or structured.at_ceiling:
        return "at_ceiling"
    if reading.ess < LEAST_ESS:
        return "low_ess"
    if reading.value < structured.nce_low - SLACK:
        return "critic_limited"
    return "ok"
