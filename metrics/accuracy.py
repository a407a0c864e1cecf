"""Accuracy of a target through its defended wire."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field

from splitaudit.metric import Column, Measure, MeasureContext, Measurement
from splitaudit.params import Params
from splitaudit.pixels import to_float
from splitaudit.stats import share_interval

ROUNDING = 1e-9
"""What a mean of equal shares may lie above the share itself."""


class AccuracyParams(Params):
    """Parameters of :class:`Accuracy`."""

    draws: int = Field(5, ge=1, description="draws of a random defense per image, averaged")


class Accuracy(Measure):
    """Measures the share of images that the cloud classifies rightly from what crosses the wire.

    For a random defense an image counts by the share of its draws that are right. ``per_image`` carries these shares
    for intervals over images. ``accuracy_chance`` is what the best constant answer reaches: the share of the most frequent
    class among the measured images, about 1/K where classes are balanced. An accuracy whose 95 % interval reaches down to
    it is flagged: a target that has not learnt its task says nothing about the price of a defense. The interval is the
    report's, over images or groups of them: crops of one tile are right or wrong together.
    """

    Params = AccuracyParams
    version = 3
    source = "definition; top-1, on part measure"
    columns: ClassVar[dict[str, Column]] = {
        "accuracy": Column("share", "more utility", "share of images classified rightly through the defended wire"),
        "accuracy_n": Column("images", "neither", "images that the accuracy was measured on"),
        "accuracy_chance": Column(
            "share",
            "neither",
            "accuracy of the best constant answer: share of the most frequent class among these images",
        ),
    }

    def measure(self, context: MeasureContext) -> Measurement:
        model, part = context.model, context.data
        draws = self.params.draws if model.defense.stochastic else 1
        generator = context.generator("accuracy")
        right = []
        with torch.no_grad():
            for images, labels in zip(part.images.split(context.batch), part.labels.split(context.batch), strict=True):
                z = model.clean(to_float(images.to(context.device)))
                y = labels.to(context.device)
                hits = [model.answer(model.protect(z, generator)).argmax(1) == y for _ in range(draws)]
                right.append(torch.stack(hits).double().mean(0).cpu())
        per_image = torch.cat(right)
        accuracy, chance = float(per_image.mean()), float(part.labels.bincount().max()) / len(per_image)
        at_chance = share_interval(per_image.numpy(), part.groups).low <= chance + ROUNDING
        return Measurement(
            {"accuracy": accuracy, "accuracy_n": len(per_image), "accuracy_chance": chance},
            flags=(f"accuracy at chance ({chance:.3g})",) if at_chance else (),
            per_image={"accuracy": per_image.tolist()},
        )
