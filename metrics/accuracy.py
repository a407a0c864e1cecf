"""Accuracy of a target through its defended wire."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field

from splitaudit.metric import Column, Measure, MeasureContext, Measurement
from splitaudit.params import Params
from splitaudit.pixels import to_float
from splitaudit.stats import wilson_interval


class AccuracyParams(Params):
    """Parameters of :class:`Accuracy`."""

    draws: int = Field(5, ge=1, description="draws of a random defense per image, averaged")


class Accuracy(Measure):
    """Measures the share of images that the cloud classifies rightly from what crosses the wire.

    For a random defense an image counts by the share of its draws that are right. ``per_image`` carries these shares
    for intervals over images. An accuracy whose 95 % Wilson interval reaches down to 1/K is flagged: a target that has
    not learnt its task says nothing about the price of a defense.
    """

    Params = AccuracyParams
    version = 1
    source = "definition; top-1, on part measure"
    columns: ClassVar[dict[str, Column]] = {
        "accuracy": Column("share", "more utility", "share of images classified rightly through the defended wire"),
        "accuracy_n": Column("images", "neither", "images that the accuracy was measured on"),
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
        n, accuracy = len(per_image), float(per_image.mean())
        chance = 1 / model.info.classes
        at_chance = wilson_interval(float(per_image.sum()), n)[0] <= chance
        return Measurement(
            {"accuracy": accuracy, "accuracy_n": n},
            flags=(f"accuracy at chance (1/{model.info.classes})",) if at_chance else (),
            per_image={"accuracy": per_image.tolist()},
        )
