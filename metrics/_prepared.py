"""What the information measures of a target share: its wire, the division of the images, tables of scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from splitaudit.data.base import Part
from splitaudit.metric import MeasureContext
from splitaudit.metrics._channel import Wire, describe, signal_scale
from splitaudit.metrics._features import Rows
from splitaudit.metrics._splits import TooFew, divide
from splitaudit.metrics._tables import Division, Tables
from splitaudit.seeds import derive
from splitaudit.stats import bootstrap_weights

COARSE = 0.3
"""Relative scatter of the signal's power from one set of the defense's random numbers to another beyond which the upper
bound, which holds one set fixed, is none."""

ROUNDING = 1e-3
"""Relative difference of two scales that is none."""

DivisionBy = Literal["images", "groups"]


class NotMeasurable(Exception):
    """There is nothing that could be measured.

    Args:
        status: one word for tables.
        reason: a sentence.
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Settings:
    """What the preparation depends on.

    Attributes:
        images: at most so many, the first of the part.
        division: what is divided and resampled.
        memory_mb: of one copy of all features; larger ones are reduced to block means.
    """

    images: int = 5000
    division: DivisionBy = "images"
    memory_mb: int = 1024


@dataclass
class Prepared:
    """A target's wire, ready to be measured.

    Attributes:
        part: the images.
        division: train, validation and test images.
        rows: the features, in units of ``rms``.
        rms: root mean square of the wire's centred signal, the defense's randomness held fixed; above 0.
        wire: its description.
        tables: scores of the wire.
        frozen: the same for upper bounds: of the wire given the defense's random numbers, where they are not Gaussian.
    """

    part: Part
    division: Division
    rows: Rows
    rms: float
    wire: Wire
    tables: Tables
    frozen: Tables
    _grouped: bool
    _weights: dict[int, torch.Tensor] = field(default_factory=dict, repr=False)

    @property
    def unbounded(self) -> str:
        """Why there is no upper bound; empty where there is one."""
        if self.wire.projection:
            return "features were reduced to fit into memory, so there is no upper bound"
        if self.frozen.wire.scatter > COARSE:
            return "the defense's random numbers decide how much is sent at all, so there is no upper bound"
        return ""

    @property
    def test_groups(self) -> np.ndarray | None:
        """A label per test image where groups are resampled, else None."""
        if not self._grouped or self.part.groups is None:
            return None
        return np.asarray(self.part.groups.cpu()[self.division[2].cpu()])

    def weights(self, resamples: int, seed: int) -> torch.Tensor:
        """Returns bootstrap weights of the test images (or of their groups), (R, M)."""
        if resamples not in self._weights:
            groups = self.test_groups
            labels = len(self.division[2]) if groups is None else groups
            drawn = bootstrap_weights(labels, resamples, derive("measure resamples", seed) % 2**32)
            self._weights[resamples] = torch.from_numpy(drawn)
        return self._weights[resamples]


def prepared(context: MeasureContext, settings: Settings) -> Prepared:
    """Returns a target's wire, described once per context and settings.

    Raises:
        NotMeasurable: too few images, features that are constant or not finite.
    """
    return context.once(f"information {settings}", lambda: _prepare(context, settings))


def has_density(ready: Prepared) -> bool:
    """Says whether the wire as it is, without reference noise, has a density wherever it has a signal."""
    if ready.wire.kind != "additive_gaussian":
        return False
    silent = (ready.wire.own <= 0).expand(ready.wire.centres.shape[1])
    return not bool((ready.wire.centres[:, silent] != 0).any())


def first_images(part: Part, most: int) -> Part:
    """Returns a part, or its first images where it has more than ``most``."""
    return part if len(part) <= most else part.first(most)


def _prepare(context: MeasureContext, settings: Settings) -> Prepared:
    part = first_images(context.data, settings.images)
    grouped = settings.division == "groups"
    # The division's generator is on the CPU, so that the images of each are the same on every device.
    draws = torch.Generator().manual_seed(context.generator("division").initial_seed())
    try:
        division = divide(part, draws, grouped=grouped)
    except TooFew as exc:
        raise NotMeasurable("too_few_images", str(exc)) from exc
    rows = Rows(context, part, settings.memory_mb * 2**20)
    train = division[0].to(context.device)
    rms = rows.root_mean_square()
    if not np.isfinite(rms):
        raise NotMeasurable("invalid", "features are not finite numbers: the target has diverged")
    if rms == 0:
        raise NotMeasurable("constant", "the features are the same for every image: they carry nothing")
    rows.unit = rms
    with torch.no_grad():
        wire = _described(context, rows, train)
        signal = signal_scale(wire, rows)
        if signal == 0:
            raise NotMeasurable("constant", "what the defense sends is the same for every image: it carries nothing")
        if abs(signal - 1) > ROUNDING:
            # The noise is set against what is sent: a factor inside the defense is no privacy.
            rms *= signal
            rows.unit = rms
            wire = _described(context, rows, train)
        tables = Tables(wire, division, context.seed)
        frozen = tables if wire.frozen is None else Tables(wire.frozen, division, context.seed)
    return Prepared(part, division, rows, rms, wire, tables, frozen, grouped)


def _described(context: MeasureContext, rows: Rows, train: torch.Tensor) -> Wire:
    wire = describe(rows, train, context.generator("channel"), derive("measure frozen", context.seed))
    if not bool(torch.isfinite(wire.centres).all()):
        raise NotMeasurable("invalid", "what the defense sends is not finite: the target has diverged")
    return wire
