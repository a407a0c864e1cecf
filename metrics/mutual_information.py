"""Mutual information between the image and what crosses the wire, at a declared reference noise."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field

from splitaudit.metric import Column, Measure, MeasureContext, Measurement
from splitaudit.metrics._mine import Estimate, estimate
from splitaudit.metrics._splits import TooFew, divide
from splitaudit.params import Params


class MutualInformationParams(Params):
    """Parameters of :class:`MutualInformation`."""

    sigma_over_rms: float = Field(
        32.0,
        gt=0,
        description="reference noise: standard deviation over the root mean square of the centred clean features",
    )
    images: int = Field(5000, ge=100, description="images at most, the first of part measure")
    division: Literal["images", "groups"] = Field(
        "images", description="what is divided 60/20/20 and resampled: images, or groups of them (crops of one tile)"
    )
    steps: int = Field(1000, ge=0, description="training steps of the critic at most")
    resamples: int = Field(200, ge=20, description="bootstrap resamples for the interval")


_WHY = {
    "at_ceiling": "the estimator is at its ceiling: {nce:.2f} of at most {ceiling:.2f} nats; the value is not known",
    "low_ess": "{ess:.0f} effective pairs decide the estimate, 100 are needed; the value is not known",
    "critic_limited": "the critic reads less than an untrained bound certifies; the value is not known",
}


class MutualInformation(Measure):
    """Estimates I(x; z) in nats for z = protect(f(x)) + reference noise, with a MINE whose critic knows the channel.

    A deterministic wire carries infinitely much, or ln N of N images, whatever an estimator prints; so the figure is
    always that of the wire with Gaussian noise added, of a declared size relative to the root mean square of the
    centred clean features. It is added to the wire of every target, also to one that is random itself, and figures
    are compared at the same reference noise only. The default puts undefended feature maps of 2,000 to 8,000 elements
    at one to three nats, inside the range of a few hundred test images; a smaller noise asks for more images.

    The critic is T = T₀ + R. T₀ = log p(z | x) − log q(z) is frozen: p is the channel (exact for a deterministic
    wire; for a random defense a Gaussian about an estimated centre, with the total variance), q is fitted to train
    images. R is a small trained network, unbounded; validation decides whether it is used. The estimate is the
    Donsker–Varadhan value on test images with all off-diagonal pairs, read once. It is a *lower* bound in
    expectation, its interval covers the sampling of test images only, and it cannot feed a bound on reconstruction,
    which needs an upper bound.

    The value is given only with status ``ok``: InfoNCE at most 0.85 ln M and at least 100 effective pairs. Otherwise it
    is empty and ``mi_mine_lo`` holds InfoNCE's one-sided 95 % lower limit: two targets at the ceiling are not equal.

    Division: by images the distribution of x is that of crops of the part's own tiles, and train, validation and test
    are independent draws of it. By groups no tile is in two divisions; q then has to fit unseen tiles, and with the few
    tens of tiles of ``photos`` most readings are flagged.

    Departures from MINE (Belghazi et al. 2018): the frozen start, all off-diagonal pairs instead of a permutation, one
    evaluation on held-out images instead of the best of many, and no value beyond what M images can certify.
    """

    Params = MutualInformationParams
    version = 1
    source = "Belghazi et al. 2018 (equation 12); ceiling: McAllester and Stratos 2020; InfoNCE: Poole et al. 2019"
    columns: ClassVar[dict[str, Column]] = {
        "mi_mine_nats": Column(
            "nats",
            "more leakage",
            "mutual information of image and wire at the reference noise",
            status="mi_mine_status",
        ),
        "mi_mine_lo": Column(
            "nats", "more leakage", "lower end of its 95 % interval; InfoNCE's limit if it has no value"
        ),
        "mi_mine_hi": Column("nats", "more leakage", "upper end of its 95 % interval, for the sampling of test images"),
        "mi_mine_status": Column("", "neither", "ok, at_ceiling, low_ess, critic_limited or too_few_images"),
        "mi_ceiling_nats": Column(
            "nats", "neither", "ln of the number of test images: nothing higher can be certified"
        ),
        "mi_ess": Column("pairs", "neither", "effective number of independent pairs behind the estimate"),
        "mi_sigma_over_rms": Column("", "neither", "reference noise over the root mean square of the clean features"),
        "channel": Column("", "neither", "what kind of wire the figure is for"),
        "mi_n_train": Column("images", "neither", "images that the critic was fitted to"),
        "mi_n_test": Column("images", "neither", "images that it was read on"),
    }

    @classmethod
    def cheap(cls) -> dict[str, int]:
        return {"images": 400, "steps": 50, "resamples": 20}

    def measure(self, context: MeasureContext) -> Measurement:
        p = self.params
        part = context.data if len(context.data) <= p.images else context.data.first(p.images)
        stochastic = context.model.defense.stochastic
        found: dict[str, float | int | str | None] = dict.fromkeys(self.columns)
        found["mi_sigma_over_rms"] = p.sigma_over_rms
        found["channel"] = f"{'stochastic' if stochastic else 'deterministic'}+reference noise"
        # The division's generator is on the CPU, so that the images of each are the same on every device.
        draws = torch.Generator().manual_seed(context.generator("division").initial_seed())
        try:
            division = divide(part, draws, grouped=p.division == "groups")
        except TooFew as exc:
            return Measurement(found | {"mi_mine_status": "too_few_images"}, reason=str(exc))
        found |= {"mi_n_train": len(division[0]), "mi_n_test": len(division[2])}
        with torch.no_grad():
            clean = context.clean_features(part)
        result = estimate(
            clean,
            context.model.protect,
            stochastic,
            p.sigma_over_rms,
            division,
            seed=context.seed,
            groups=part.groups if p.division == "groups" else None,
            steps=p.steps,
            resamples=p.resamples,
            batch=context.batch,
        )
        return _reported(found, result)


def _reported(found: dict[str, float | int | str | None], result: Estimate) -> Measurement:
    reading, structured = result.reading, result.structured
    found["mi_mine_status"] = result.status
    if reading is None or structured is None:
        found |= {"mi_mine_nats": 0.0, "mi_mine_lo": 0.0, "mi_mine_hi": 0.0}
        found["mi_ceiling_nats"] = math.log(int(found["mi_n_test"] or 1))
        return Measurement(
            found, reason="no pairs were needed: the features are constant", flags=("constant features",)
        )
    found |= {"mi_ceiling_nats": reading.ceiling, "mi_ess": reading.ess}
    if result.status == "ok":
        found |= {"mi_mine_nats": reading.value, "mi_mine_lo": reading.low, "mi_mine_hi": reading.high}
        return Measurement(found)
    # Never the Donsker–Varadhan value: beyond its range it exceeds the truth more often than not.
    best = max(reading, structured, key=lambda r: r.nce_low)
    found["mi_mine_lo"] = best.nce_low
    why = _WHY[result.status].format(nce=best.nce, ceiling=best.ceiling, ess=reading.ess)
    return Measurement(found, reason=why, flags=(f"mutual information: {result.status}",))
