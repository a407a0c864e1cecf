"""Peak signal-to-noise ratio of a reconstruction."""

from __future__ import annotations

import torch

from splitaudit.metric import Metric
from splitaudit.metrics._images import squared_error


class PSNR(Metric):
    """Computes −10 log₁₀ of each image's own mean squared error; the peak is 1.

    A perfect copy has the value infinity. The mean over images is a mean of decibels: pooling the squared errors of a
    batch first gives another figure (13.5 instead of 25.2 dB for two images of 40.0 and 10.5 dB).
    """

    version = 2
    source = "definition, peak 1, per image"
    unit = "dB"
    label = "peak signal-to-noise ratio"
    bounds = (0.0, float("inf"))
    best = float("inf")
    higher_means = "more leakage"
    reference = "skimage.metrics.peak_signal_noise_ratio(data_range=1)"

    def per_sample(self, truth: torch.Tensor, guess: torch.Tensor) -> torch.Tensor:
        return -10 * squared_error(truth, guess).log10()
