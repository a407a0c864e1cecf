"""How many bits the wire's features take when they are coded well."""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field

from splitaudit.metric import Column, Measure, MeasureContext, Measurement
from splitaudit.metrics._coded import coded
from splitaudit.metrics._prepared import NotMeasurable
from splitaudit.params import Params


class EntropyParams(Params):
    """Parameters of :class:`Entropy`."""

    images: int = Field(5000, ge=100, description="images at most, the first of part measure")
    memory_mb: int = Field(
        1024, ge=1, description="memory for the features of all images; fewer images are used beyond"
    )


class Entropy(Measure):
    """Measures the length of an adaptive code for the 8-bit wire, in bits per image: an upper bound on its entropy.

    Each channel is quantised to 256 equal steps between its least and greatest value on train images; values beyond are
    clipped. A level's probability depends on its channel and on its left and upper neighbours, each in six bins; counts
    come from train images and are smoothed (Witten–Bell), code lengths from test images, and no tile is in both.
    Features that are no map (vectors, tokens) have no neighbours: each element is a channel of its own.

    For a deterministic edge the entropy of the quantised wire is its information on the image. With noise the entropy
    *rises*, because noise has to be coded as well: a random defense with a high value does not leak more.
    ``noise_bits`` is that part, H(Q(z) | x), exact for additive Gaussian noise; ``mi_upper_nats_8bit`` is ln 2 times the
    rest, an upper bound (one-sided 95 %) on the information of image and 8-bit wire for every defense.

    Entropy depends on the step: a finer one adds up to one bit per bit and non-zero element. No joint histogram (always
    log₂ N) and no differential entropy (−∞ where a rectifier makes zeros) is reported. ``mean_abs_activation`` is what
    the code of arXiv 2501.00824 calls entropy; it depends on the scale of the features.
    """

    Params = EntropyParams
    version = 2
    source = "adaptive context code, definition of this project; smoothing: Witten and Bell 1991, method C"
    columns: ClassVar[dict[str, Column]] = {
        "entropy_bits": Column(
            "bits", "more leakage", "code length of the 8-bit wire per image, with neighbours as context"
        ),
        "entropy_bits_se": Column("bits", "neither", "standard error of the same over test images (over tiles)"),
        "entropy_bits_indep": Column(
            "bits", "more leakage", "code length with every element coded by itself", detail=True
        ),
        "noise_bits": Column(
            "bits", "less leakage", "entropy of the 8-bit wire given the image: the defense's own noise"
        ),
        "mi_upper_nats_8bit": Column(
            "nats", "more leakage", "upper bound on the information of image and 8-bit wire, one-sided 95 %"
        ),
        "mean_abs_activation": Column("", "neither", "mean absolute value on the wire ('entropy' in arXiv 2501.00824)"),
    }

    def measure(self, context: MeasureContext) -> Measurement:
        try:
            code = coded(context, self.params.images, self.params.memory_mb)
        except NotMeasurable as exc:
            return Measurement(dict.fromkeys(self.columns), reason=str(exc), flags=(f"entropy: {exc.status}",))
        known = code.noise_bits is not None
        return Measurement(
            {
                "entropy_bits": code.bits,
                "entropy_bits_se": code.error,
                "entropy_bits_indep": code.alone,
                "noise_bits": code.noise_bits,
                "mi_upper_nats_8bit": code.upper_bits * math.log(2),
                "mean_abs_activation": code.mean_abs,
            },
            reason=None if known else "noise_bits is known for additive Gaussian noise only",
            flags=(code.note,) if code.note else (),
        )
