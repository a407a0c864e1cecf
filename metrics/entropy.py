"""How many bits the wire's features take when they are coded well."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field

from splitaudit.metric import Column, Measure, MeasureContext, Measurement
from splitaudit.metrics._coding import Code
from splitaudit.metrics._splits import TooFew, divide
from splitaudit.params import Params
from splitaudit.stats import standard_error


class EntropyParams(Params):
    """Parameters of :class:`Entropy`."""

    images: int = Field(5000, ge=100, description="images at most, the first of part measure")


class Entropy(Measure):
    """Measures the length of an adaptive code for the 8-bit wire, in bits per image: an upper bound on its entropy.

    Each channel is quantised to 256 equal steps between its least and greatest value on train images; values beyond are
    clipped. A level's probability depends on its channel and on its left and upper neighbours, each in six bins; counts
    come from train images and are smoothed (Witten–Bell), code lengths from test images, and no tile is in both.
    Features that are no map (vectors, tokens) have no neighbours: each element is a channel of its own.

    For a deterministic edge the entropy of the quantised wire is its information on the image, so this bounds that too.
    It depends on the step: a finer one adds up to one bit per bit and non-zero element. With noise the entropy *rises*,
    because noise has to be coded as well: a random defense with a high value does not leak more. No joint histogram
    (always log₂ N) and no differential entropy (−∞ where a rectifier makes zeros) is reported.
    """

    Params = EntropyParams
    version = 1
    source = "adaptive context code, definition of this project; smoothing: Witten and Bell 1991, method C"
    columns: ClassVar[dict[str, Column]] = {
        "entropy_bits": Column(
            "bits", "more leakage", "code length of the 8-bit wire per image, with neighbours as context"
        ),
        "entropy_bits_se": Column("bits", "neither", "standard error of the same over test images (over tiles)"),
        "entropy_bits_indep": Column("bits", "more leakage", "code length with every element coded by itself"),
    }

    def measure(self, context: MeasureContext) -> Measurement:
        part = context.data if len(context.data) <= self.params.images else context.data.first(self.params.images)
        draws = torch.Generator().manual_seed(context.generator("division").initial_seed())
        try:
            train, validation, test = divide(part, draws)
        except TooFew as exc:
            return Measurement(dict.fromkeys(self.columns), reason=str(exc))
        generator = context.generator("wire")
        with torch.no_grad():
            clean = context.clean_features(part)
            wire = torch.cat([context.model.protect(z, generator).cpu() for z in clean.split(context.batch)])
        if not torch.isfinite(wire).all():
            raise ValueError("got features that are not finite, expected finite ones: the target has diverged")
        z = wire.float().numpy()
        z = z if z.ndim == 4 else z.reshape(len(z), -1, 1, 1)
        # Nothing is chosen here, so the validation images serve for the counts.
        code = Code(z[np.concatenate([train.numpy(), validation.numpy()])])
        bits, alone = code.lengths(z[test.numpy()])
        groups = None if part.groups is None else part.groups.cpu().numpy()[test.numpy()]
        return Measurement(
            {
                "entropy_bits": float(bits.mean()),
                "entropy_bits_se": standard_error(bits, groups),
                "entropy_bits_indep": float(alone.mean()),
            }
        )
