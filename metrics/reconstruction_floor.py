"""What an upper bound on information leaves to the best reconstruction, if images were Gaussian."""

from __future__ import annotations

import math
from typing import ClassVar

import torch

from splitaudit.metric import Column, Measure, MeasureContext, Measurement
from splitaudit.metrics._coded import coded
from splitaudit.metrics._image_twin import distortion, image_twin, variances
from splitaudit.metrics._prepared import NotMeasurable, Settings, has_density, prepared
from splitaudit.metrics._sandwich import upper


class ReconstructionFloor(Measure):
    """Computes the least mean squared error that so much information allows, for the Gaussian twin of the images.

    Information is an *upper* bound (one-sided 95 %; where two are compared the smaller one, so at least 90 %, and what the
    estimate of the defense's own bits errs by is in neither) for the wire as it is sent: of the 8-bit wire by its code length
    (``mi_upper_nats_8bit``), or of a wire with Gaussian noise of its own by held-out cross-entropy, whichever is lower. No
    lower bound or estimate can take its place: what MINE misses an attacker may use. The error is the rate–distortion
    function of independent Gaussian cosine coefficients with the images' variances.

    Indicative only, never a guarantee: the entropy of natural images is not known, and a Gaussian's is higher, so real
    images can be rebuilt better from as much information. Differences between defenses are safer than the figure.
    """

    version = 2
    source = "Cover and Thomas 2006, theorem 10.3.3 (reverse water-filling)"
    columns: ClassVar[dict[str, Column]] = {
        "recon_floor_mse": Column(
            "",
            "less leakage",
            "least error that the upper bound allows if images were Gaussian; indicative, no guarantee",
        ),
        "recon_floor_nats": Column("nats", "neither", "the upper bound behind it, for the wire as it is sent"),
        "recon_floor_channel": Column("", "neither", "what that bound is of: 8-bit wire, or own noise"),
    }

    def measure(self, context: MeasureContext) -> Measurement:
        try:
            nats, channel = coded(context).upper_bits * math.log(2), "8-bit wire"
            with torch.no_grad():
                ready = prepared(context, Settings())
                if has_density(ready) and not ready.unbounded:
                    own = upper(ready.frozen, 0.0, ready.test_groups).limit
                    nats, channel = min((nats, channel), (own, "own noise"))
        except NotMeasurable as exc:
            if exc.status != "constant":
                flags = (f"reconstruction floor: {exc.status}",)
                return Measurement(dict.fromkeys(self.columns), reason=str(exc), flags=flags)
            nats, channel = 0.0, "constant features"
        floor = distortion(variances(image_twin(context)), nats)
        return Measurement({"recon_floor_mse": floor, "recon_floor_nats": nats, "recon_floor_channel": channel})
