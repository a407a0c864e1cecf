"""How much of the wire carries something: non-zero elements, bits above the noise floor, effective dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field

from splitaudit.metric import Column, Measure, MeasureContext, Measurement
from splitaudit.metrics._features import Rows
from splitaudit.metrics._prepared import NotMeasurable, Prepared, Settings, prepared
from splitaudit.metrics._spectrum import Spectrum, spectrum
from splitaudit.params import Params
from splitaudit.seeds import derive
from splitaudit.stats import bootstrap_weights

LEVELS = 256
NORMAL, RESAMPLES = 1.96, 100
MEANINGLESS = 0.999
"""Share of non-zero elements from which the count says nothing; noise hits an exact zero now and then."""


class EffectiveInformationVolumeParams(Params):
    """Parameters of :class:`EffectiveInformationVolume`."""

    images: int = Field(5000, ge=100, description="images at most for variances, the first of part measure")
    memory_mb: int = Field(
        1024,
        ge=1,
        description="memory for one copy of all features (five at the peak); larger ones are reduced to block means",
    )


class EffectiveInformationVolume(Measure):
    """Measures effective information volume in three ways: as published, in bits above the noise, in dimensions.

    ``effective_information_volume`` counts the non-zero elements that cross the wire per image, as the SiftFunnel paper's
    code does (its δz). It is there for comparison with that paper. It says nothing about noisy or unrectified features,
    where every element is non-zero: adding any noise at all raises it to the number of elements while information falls.
    It does not depend on the scale of the features either. A share of non-zeros of 0.999 or more is flagged.

    ``eiv_bits`` = ½ Σ log₂(1 + λᵢ/σ₀²), the information of Gaussian features with the same variances over the noise floor:
    σ₀² is the variance of the defense's own noise plus that of quantisation to 8 bits (step²/12, a step being a 255th of
    a channel's range, its root mean square over channels). Variances are those of held-out images along the principal
    directions of others, so that fewer images than elements do not inflate it.

    ``eiv_dims`` = exp of the entropy of λᵢ/Σλ, the effective rank of the features without noise: it says nothing of what a
    random defense leaves. Intervals of both are over the held-out images, the directions held fixed.
    """

    Params = EffectiveInformationVolumeParams
    version = 3
    source = "arXiv 2501.00824, official code: exact non-zero count over images; bits and dimensions: this project"
    columns: ClassVar[dict[str, Column]] = {
        "effective_information_volume": Column("elements", "more leakage", "mean non-zero elements on the wire"),
        "eiv_nonzero_share": Column(
            "share", "more leakage", "the same as a share of all elements on the wire", detail=True
        ),
        "eiv_bits": Column("bits", "more leakage", "Gaussian information above the floor of own noise and 8-bit steps"),
        "eiv_dims": Column("dimensions", "more leakage", "effective rank of the features without noise"),
        **{
            f"{name}{end}": Column(unit, "more leakage", f"{which} end of its 95 % interval, over held-out images")
            for name, unit in (("eiv_bits", "bits"), ("eiv_dims", "dimensions"))
            for end, which in (("_lo", "lower"), ("_hi", "upper"))
        },
        "eiv_sigma": Column("", "neither", "deviation of the 8-bit steps that the floor has, in the features' units"),
    }

    def measure(self, context: MeasureContext) -> Measurement:
        found: dict[str, float | int | str | None] = dict.fromkeys(self.columns)
        generator = context.generator("wire")
        counts: list[float] = []
        elements, finite = 0, True
        ready: Prepared | None = None
        reason = None
        try:
            ready = prepared(context, Settings(self.params.images, "images", self.params.memory_mb))
        except NotMeasurable as exc:
            reason = str(exc)
            if exc.status == "invalid":
                return Measurement(found, reason, ("effective information volume: invalid",))
            if exc.status == "constant":
                found |= {c: 0.0 for c in self.columns if c.startswith(("eiv_bits", "eiv_dims", "eiv_sigma"))}
        with torch.no_grad():
            for z in self._batches(context, ready):
                wire = context.model.protect(z, generator)
                finite = finite and bool(torch.isfinite(wire).all())
                counts += (wire != 0).flatten(1).sum(1).double().tolist()
                elements += wire.numel()
            if not finite:
                why = "features are not finite numbers: the target has diverged"
                return Measurement(dict.fromkeys(self.columns), why, ("effective information volume: invalid",))
            if ready is not None:
                found |= _spread(ready, context.seed)
        share = sum(counts) / elements
        found |= {"effective_information_volume": sum(counts) / len(counts), "eiv_nonzero_share": share}
        flags: tuple[str, ...] = ()
        if share >= MEANINGLESS:
            random = context.model.defense.stochastic
            why = "a random defense that is no mask" if random else "features without a rectifier"
            flags = (f"effective information volume says nothing here: (almost) every element is non-zero ({why})",)
        if ready is not None and ready.wire.projection:
            flags = (*flags, f"eiv_bits and eiv_dims of reduced features: {ready.wire.projection}")
        return Measurement(found, reason, flags, {"effective_information_volume": counts})

    @staticmethod
    def _batches(context: MeasureContext, ready: Prepared | None) -> Iterator[torch.Tensor]:
        if ready is not None and ready.part is context.data:
            return ready.rows.batches()
        return Rows(context, context.data).batches()


def _spread(ready: Prepared, seed: int) -> dict[str, float]:
    """Returns bits above the floor, effective dimensions, their intervals, and the floor's deviation from quantisation."""
    tables, wire = ready.tables, ready.wire
    floor = _quantisation(ready)
    basis, noise = tables.spectrum(floor)
    raw = basis if wire.isotropic else spectrum(wire.centres[tables.train], wire.centres[tables.validation])
    weights = torch.from_numpy(bootstrap_weights(len(tables.validation), RESAMPLES, derive("eiv", seed) % 2**32))
    found: dict[str, float] = {"eiv_sigma": floor * ready.rms, "eiv_bits": 0.0, "eiv_bits_lo": 0.0, "eiv_bits_hi": 0.0}
    if noise > 0:
        found |= _with_interval("eiv_bits", lambda s: s.information(noise**2) / math.log(2), basis, weights)
    return found | _with_interval("eiv_dims", Spectrum.effective_dimensions, raw, weights)


def _with_interval(
    name: str, read: Callable[[Spectrum], float], found: Spectrum, weights: torch.Tensor
) -> dict[str, float]:
    value = read(found)
    # Resampled variances are a little more uneven than the images' own: only the scatter is taken from them.
    reach = NORMAL * float(np.std([read(s) for s in found.resampled(weights)], ddof=1))
    return {name: value, f"{name}_lo": max(value - reach, 0.0), f"{name}_hi": value + reach}


def _quantisation(ready: Prepared) -> float:
    """Returns the deviation of rounding to 8 bits, root mean square over the channels of a map (or over elements)."""
    z = ready.wire.centres[ready.tables.train]
    channels = ready.rows.shape[0] if len(ready.rows.shape) == 3 else z.shape[1]
    z = z.unflatten(1, (channels, -1))
    span = z.amax((0, 2)) - z.amin((0, 2))
    return float((span / (LEVELS - 1)).square().mean().sqrt()) / math.sqrt(12)
