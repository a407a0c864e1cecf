"""The number of non-zero elements on the wire."""

from __future__ import annotations

from typing import ClassVar

import torch

from splitaudit.metric import Column, Measure, MeasureContext, Measurement


class EffectiveInformationVolume(Measure):
    """Counts the non-zero elements that cross the wire per image, as the SiftFunnel paper's code does (its δz).

    It is reported for comparison with that paper. It says nothing about noisy or unrectified features, where every
    element is non-zero: adding any noise at all raises it to the number of elements while information falls. It does
    not depend on the scale of the features either. A share of non-zeros of 1 is flagged.
    """

    version = 1
    source = "arXiv 2501.00824, official code: exact non-zero count over images"
    columns: ClassVar[dict[str, Column]] = {
        "effective_information_volume": Column("elements", "more leakage", "mean non-zero elements on the wire"),
        "eiv_nonzero_share": Column("share", "more leakage", "the same as a share of all elements on the wire"),
    }

    def measure(self, context: MeasureContext) -> Measurement:
        generator = context.generator("wire")
        total = 0
        elements = 0
        with torch.no_grad():
            for z in context.clean_features().split(context.batch):
                wire = context.model.protect(z, generator)
                total += int(wire.count_nonzero())
                elements += wire.numel()
        share = total / elements
        flags = ()
        if share == 1:
            why = (
                "a random defense that is no mask"
                if context.model.defense.stochastic
                else "features without a rectifier"
            )
            flags = (f"effective information volume says nothing here: every element is non-zero ({why})",)
        return Measurement(
            {"effective_information_volume": total / len(context.data), "eiv_nonzero_share": share}, flags=flags
        )
