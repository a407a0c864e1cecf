"""Few bits for each feature."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from pydantic import Field

from splitaudit.defense import Defense
from splitaudit.nn.range import ChannelRange
from splitaudit.params import Params
from splitaudit.split import Split


class QuantizeParams(Params):
    """Parameters of :class:`Quantize`."""

    bits: int = Field(2, ge=1, le=16, description="bits of one element: 2^bits levels")
    tail: float = Field(
        0.001,
        ge=0,
        le=0.01,
        description="share of a channel's values on client_train beyond each end of its range; 0: least and largest value",
    )


class Quantize(Defense):
    """Rounds each element to one of 2^b levels of its channel: z' = l_c + Δ_c·round((clamp(z, l_c, h_c) − l_c)/Δ_c).

    Δ_c = (h_c − l_c)/(2^b − 1). The range [l_c, h_c] of channel c is that of the clean features on ``client_train`` but
    for a share ``tail`` on either side (running and without gradient in training, exact and frozen afterwards); of maps
    each channel has a range, of tokens each channel, of vectors each element. What lies outside is clamped.

    **Bits**: b bits for each element, b·D for an image with D elements, without an entropy code, which would need fewer.
    The ranges are constants of the model, sent once. Here the levels' values travel instead of their numbers, which is the
    same information; the cost counts b bits.

    **Gradient**: straight through the rounding, that of the staircase's slope instead of its derivative, which is 0 almost
    everywhere. In training it is 0 where the clamp holds a value. At inference, where only attacks ask for it, it is 1
    there too: what was received lies inside the range, and a guess that lies outside would else never come back.

    Source: uniform affine quantisation with running ranges, Jacob et al., CVPR 2018 (ranges: minima and maxima, averaged
    over batches); straight-through gradient: Bengio et al. 2013. Departures: quantiles instead of minima and maxima (of a
    heavy-tailed channel a few bits would else name little but zero), exact ones of client_train at inference; zero need
    not be a level (it is one for rectified features, whose lower end it is); only what is sent is quantised, not the
    weights; rounding is to the nearest level, not random. No parameters are neutral: 16 bits still round.
    """

    Params = QuantizeParams
    version = 1
    source = "Jacob et al., CVPR 2018, section 2.1 and 3; Bengio et al. 2013 (straight-through gradient)"
    acts_on_wire = True

    def prepare(self, split: Split) -> None:
        self.range = ChannelRange(split.feature_shape(), self.params.tail)

    def calibrate(self, features: Callable[[], Iterable[torch.Tensor]]) -> None:
        self.range.calibrate(features)

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        low, high = self.range(z)
        inside = z.clamp(low, high)
        step = (high - low) / (2**self.params.bits - 1)
        # A channel without a range has one level, its lower end.
        number = ((inside.detach() - low) / torch.where(step > 0, step, torch.ones_like(step))).round()
        through = inside if self.training else z
        # Zero with a gradient: adding it leaves the levels exact. Where there is one level only, nothing ever changes.
        return low + step * number + (through - through.detach()) * (step > 0)

    def wire_bits(self, feature_shape: tuple[int, ...]) -> int:
        return self.params.bits * math.prod(feature_shape)
