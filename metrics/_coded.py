"""The code length of a target's wire, which several measures share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from splitaudit.metric import MeasureContext
from splitaudit.metrics._channel import own_noise
from splitaudit.metrics._coding import Code
from splitaudit.metrics._features import Rows
from splitaudit.metrics._prepared import NotMeasurable, first_images
from splitaudit.metrics._splits import TooFew, divide
from splitaudit.stats import standard_error

ONE_SIDED = 1.645
NOISE_IMAGES = 12
"""Test images over which the entropy of the noise, which hardly depends on the image, is averaged."""


@dataclass(frozen=True)
class Coded:
    """The code length of a target's wire, in bits per image.

    Attributes:
        bits: with neighbours as context.
        error: standard error of it over test images (or tiles).
        alone: with every element coded by itself.
        noise_bits: entropy given the image; None where it is not known.
        mean_abs: mean absolute value on the wire.
        note: what is unusual; empty where nothing is.
    """

    bits: float
    error: float
    alone: float
    noise_bits: float | None
    mean_abs: float
    note: str

    @property
    def upper_bits(self) -> float:
        """An upper limit (one-sided 95 %) on the information of image and 8-bit wire."""
        return max(self.bits + ONE_SIDED * self.error - (self.noise_bits or 0.0), 0.0)


def coded(context: MeasureContext, images: int = 5000, memory_mb: int = 1024) -> Coded:
    """Codes the wire of a target's first images; once per context.

    Raises:
        NotMeasurable: too few images (or memory), or features that are not finite.
    """
    return context.once(f"code {images} {memory_mb}", lambda: _coded(context, images, memory_mb))


def _coded(context: MeasureContext, images: int, memory_mb: int) -> Coded:
    part = first_images(context.data, images)
    rows = Rows(context, part, 2**62)
    fitting = memory_mb * 2**20 // (4 * max(rows.elements, math.prod(context.model.feature_shape)))
    note = ""
    if fitting < len(part):
        note = f"entropy from the first {fitting} images: more do not fit into memory"
        if fitting < 100:
            raise NotMeasurable("too_few_images", f"{note}; at least 100 are needed (memory_mb)")
        part = part.first(fitting)
        rows = Rows(context, part, 2**62)
    draws = torch.Generator().manual_seed(context.generator("division").initial_seed())
    try:
        train, validation, test = divide(part, draws)
    except TooFew as exc:
        raise NotMeasurable("too_few_images", str(exc)) from exc
    wire = rows.sent(context.generator("wire")).cpu()
    if not bool(torch.isfinite(wire).all()):
        raise NotMeasurable("invalid", "features are not finite numbers: the target has diverged")
    shape = rows.shape if len(rows.shape) == 3 else (rows.elements, 1, 1)
    z = wire.numpy().reshape(len(wire), *shape)
    # Nothing is chosen here, so the validation images serve for the counts.
    code = Code(z[np.concatenate([train.numpy(), validation.numpy()])])
    bits, alone = code.lengths(z[test.numpy()])
    groups = None if part.groups is None else part.groups.cpu().numpy()[test.numpy()]
    own = own_noise(rows)
    noise: float | None = None
    if own is not None:
        noise = 0.0
        if bool((own > 0).any()):
            deviation = own.sqrt().cpu().double().numpy()
            clean = rows.clean().cpu().numpy().reshape(z.shape)[test.numpy()[:NOISE_IMAGES]]
            noise = code.noise_bits(clean, deviation if deviation.ndim == 0 else deviation.reshape(shape))
    return Coded(
        float(bits.mean()), standard_error(bits, groups), float(alone.mean()), noise, float(wire.abs().mean()), note
    )
