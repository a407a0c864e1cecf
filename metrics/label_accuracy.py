"""Accuracy of what an attack reads of a class or another attribute."""

from __future__ import annotations

import torch

from splitaudit.metric import LabelMetric


class LabelAccuracy(LabelMetric):
    """1 where the value with the greatest score is the image's, else 0; its mean is the accuracy of the attack.

    Judged against the best constant guess as ``label_advantage``. Of equal scores the first counts.
    """

    source = "share of images whose value is read rightly"
    unit = "share"
    label = "accuracy of reading"

    def per_sample(self, truth: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return (scores.argmax(1) == truth).float()
