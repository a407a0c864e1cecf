"""Mean squared error of a reconstruction."""

from __future__ import annotations

import torch

from splitaudit.metric import Metric
from splitaudit.metrics._images import squared_error


class MSE(Metric):
    """Averages the squared error over pixels *and* channels, per image, for images in [0, 1].

    Some papers sum over channels instead (SiftFunnel's code among them): divide their RGB values by 3 to compare.
    """

    version = 1
    source = "definition; reported values of arXiv 2501.00824 are C times this"
    label = "mean squared error"
    bounds = (0.0, 1.0)
    best = 0.0
    higher_means = "less leakage"
    reference = "skimage.metrics.mean_squared_error"

    def per_sample(self, truth: torch.Tensor, guess: torch.Tensor) -> torch.Tensor:
        return squared_error(truth, guess)
