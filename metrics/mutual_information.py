"""Mutual information between the image and what crosses the wire, at declared reference noises."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from pydantic import Field

from splitaudit.metric import Column, Measure, MeasureContext, Measurement
from splitaudit.metrics._bounds import status
from splitaudit.metrics._information_columns import (
    LEVEL,
    REFERENCE_NOISES,
    information_columns,
    lower_at,
    status_at,
    upper_at,
)
from splitaudit.metrics._judging import TWIN_SLACK, Values, judged, modelled, recovered
from splitaudit.metrics._mine import estimate
from splitaudit.metrics._prepared import NotMeasurable, Prepared, Settings, has_density, prepared
from splitaudit.metrics._sandwich import Lower, Upper, lower, upper
from splitaudit.metrics._threshold import crossing
from splitaudit.metrics._twin import twin_of
from splitaudit.params import Params
from splitaudit.selftest import KnownAnswer

CONTRADICTION = 3.0
"""Standard errors of the upper bound by which the lower one may exceed it."""

LEAST_TEST = 100
"""Test images below which MINE is not read: with 20 to 40 of them it says 0.0 to 0.5 of 0.3 nats."""


class MutualInformationParams(Params):
    """Parameters of :class:`MutualInformation`."""

    sigma_over_rms: float = Field(
        32.0,
        ge=0,
        description="reference noise that MINE is trained at: standard deviation over the root mean square of the wire's "
        "centred signal; 0: the wire as it is",
    )
    images: int = Field(5000, ge=100, description="images at most, the first of part measure")
    division: Literal["images", "groups"] = Field(
        "images", description="what is divided 60/20/20 and resampled: images, or groups of them (crops of one tile)"
    )
    steps: int = Field(1000, ge=0, description="training steps of a critic at most")
    seeds: int = Field(3, ge=1, description="critics that are trained; their median is reported")
    resamples: int = Field(200, ge=20, description="bootstrap resamples for intervals")
    memory_mb: int = Field(
        1024,
        ge=1,
        description="memory for one copy of all features (five at the peak); larger ones are reduced to block means",
    )


class MutualInformation(Measure):
    """Bounds I(x; z) in nats from both sides, and estimates it with a MINE whose critic knows the channel.

    A deterministic wire carries infinitely much, or ln N of N images, whatever an estimator prints; so the object is
    always z = protect(f(x)) + reference noise, of declared sizes relative to the root mean square of the centred clean
    features, for every target, also for one that is random itself. Figures are compared at the same noise only.

    ``mi_lower_nats`` and ``mi_upper_nats`` are one-sided 95 % limits that nothing is trained for. Lower: InfoNCE with
    log p(z | x) of the channel; never above ln M of M test images (``mi_ceiling_nats``). Upper: the mean over test wires
    of log p(z | x) − log q(z), with the best of several densities q fitted to other images; no ceiling. For a defense
    that is random but does not add Gaussian noise the upper bound is that for an observer who knows the defense's random
    numbers. At noises 8, 4, 2, 1, ½ and ¼ there are these two only. ``sigma_at_3nats`` is the noise at which they have
    fallen to 3 nats; it never saturates.

    ``mi_mine_nats`` is the Donsker–Varadhan value on test images with all off-diagonal pairs. The critic is T = T₀ + R:
    T₀ = log p(z | x) − log q(z) is frozen, R is a small trained network, unbounded; validation decides whether it is
    used. The value is the median over seeds and is given only with status ``ok``: InfoNCE at most 0.85 ln M, at least
    100 effective pairs, between the two bounds, and 80 to 110 % recovered of a Gaussian twin (same number of images,
    covariance and noise; known answer). Otherwise the cell is empty and ``mi_mine_lo`` holds what is certified: two
    targets at the ceiling are not equal. The default noise of MINE puts undefended feature maps of 2,000 to 8,000
    elements at one to three nats, inside the range of a few hundred test images.

    ``reid_top1`` is the share of test wires whose most likely image among all M is their own, ``reid_top1_max`` what
    Fano's inequality leaves any attacker. None of the lower figures can feed a bound on reconstruction.

    Division: by images the distribution of x is that of crops of the part's own tiles, and train, validation and test
    are independent draws of it. By groups no tile is in two divisions; q then has to fit unseen tiles, and with the few
    tens of tiles of ``photos`` most readings are flagged.

    Departures from MINE (Belghazi et al. 2018): the frozen start, all off-diagonal pairs instead of a permutation, one
    evaluation on held-out images instead of the best of many, and no value beyond what M images can certify.
    """

    Params = MutualInformationParams
    version = 3
    source = "Belghazi et al. 2018 (equation 12); ceiling: McAllester and Stratos 2020; InfoNCE: Poole et al. 2019"
    columns: ClassVar[dict[str, Column]] = information_columns()

    def seconds(self, images: int) -> float:
        p = self.params
        return (1.8e-3 + 2.4e-6 * p.seeds * p.steps) * min(images, p.images)

    @classmethod
    def cheap(cls) -> dict[str, int]:
        return {"images": 400, "steps": 50, "seeds": 1, "resamples": 20}

    @classmethod
    def self_test(cls, quick: bool = True) -> Iterator[KnownAnswer]:
        from splitaudit.metrics._selftest import known_answers

        return known_answers(quick)

    def measure(self, context: MeasureContext) -> Measurement:
        return self.measured(context)

    def measured(self, context: MeasureContext, everywhere: bool = True) -> Measurement:
        """Returns the values of the columns.

        Args:
            context: the target and its data.
            everywhere: also at the reference noises; otherwise their columns stay empty.
        """
        p = self.params
        found: Values = dict.fromkeys(self.columns)
        verdict = context.self_tests.get(self.name, "not run")
        found |= {"mi_sigma_over_rms": p.sigma_over_rms, "mi_selftest": verdict}
        if verdict.startswith("failed"):
            return _nothing(found, "invalid", f"n/a (self-test {verdict})")
        try:
            ready = prepared(context, Settings(p.images, p.division, p.memory_mb))
        except NotMeasurable as exc:
            if exc.status == "constant":
                return _constant(found, str(exc))
            return _nothing(found, exc.status, str(exc))
        noise = "+reference noise" if p.sigma_over_rms > 0 else ""
        found["channel"] = ready.wire.kind + noise + (", projected" if ready.wire.projection else "")
        found["mi_projection"] = ready.wire.projection or "none"
        found |= {"mi_n_train": len(ready.division[0]), "mi_n_test": len(ready.division[2])}
        found["mi_ceiling_nats"] = math.log(len(ready.division[2]))
        if p.sigma_over_rms > 0:
            found["mi_cap_nats"] = ready.rows.elements / 2 * math.log1p(p.sigma_over_rms**-2)
        with torch.no_grad():
            bounds = _Bounds(ready, ready.weights(p.resamples, context.seed))
            lows, highs = self._here(found, bounds)
        reasons: list[str] = []
        flags: tuple[str, ...] = ()
        if ready.unbounded:
            reasons.append(ready.unbounded)
        if ready.wire.projection:
            flags = (f"features were reduced: {ready.wire.projection}",)
        if found["mi_lower_status"] == "invalid":
            flags = (*flags, "mutual information: the bounds contradict each other")
        if not self._has_density(ready):
            found["mi_mine_status"] = "deterministic"
            reasons.insert(
                0, "a wire without noise carries infinitely much of continuous features: not a finite number"
            )
        elif len(ready.division[2]) < LEAST_TEST:
            found["mi_mine_status"] = "too_few_images"
            found["mi_mine_lo"] = max(float(found["mi_lower_nats"] or 0.0), 0.0)
            reasons.insert(0, f"{len(ready.division[2])} test images are too few for MINE (at least {LEAST_TEST})")
        else:
            reason = self._mine(found, ready, context.seed)
            reasons = [reason, *reasons] if reason else reasons
        if found["mi_mine_status"] != "ok":
            flags = (*flags, f"mutual information: {found['mi_mine_status']}")
        if everywhere:
            with torch.no_grad():
                crossed = _elsewhere(found, bounds, lows, highs)
            if not crossed:
                reasons.append("a bound does not cross 3 nats at any noise that was tried")
        return Measurement(found, "; ".join(reasons) or None, flags)

    def _has_density(self, ready: Prepared) -> bool:
        return self.params.sigma_over_rms > 0 or has_density(ready)

    def _here(self, found: Values, bounds: _Bounds) -> tuple[dict[float, float], dict[float, float]]:
        """Fills in the bounds at MINE's noise; returns noise to lower and to upper bound."""
        noise = self.params.sigma_over_rms
        if not self._has_density(bounds.ready):
            return {}, {}
        under = bounds.low(noise)
        found |= {"mi_lower_nats": under.limit, "mi_lower_status": under.status, "reid_top1": under.top1}
        if bounds.ready.unbounded:
            return {noise: under.limit}, {}
        over = bounds.high(noise)
        if under.limit > over.limit + CONTRADICTION * over.error:
            found["mi_lower_status"] = "invalid"
        found |= {"mi_upper_nats": over.limit, "mi_upper_se": over.error, "mi_upper_form": over.form}
        found["reid_top1_max"] = min(1.0, (over.limit + math.log(2)) / under.ceiling)
        return {noise: under.limit}, {noise: over.limit}

    def _mine(self, found: Values, ready: Prepared, seed: int) -> str | None:
        """Fills in the estimate; returns why there is none."""
        p, weights, sigma = (
            self.params,
            ready.weights(self.params.resamples, seed),
            self.params.sigma_over_rms,
        )
        result = estimate(ready.tables, sigma, weights, seed, seeds=p.seeds, steps=p.steps)
        reading = result.readings[result.median]
        found |= {"mi_ess": reading.ess, "mi_seeds": len(result.readings), "mi_critic": result.critics[result.median]}
        # One seed that cannot be read censors them all: a median of values and limits is neither.
        verdicts = [judged(r, result.structured, found) for r in result.readings]
        verdict, why = next((j for j in verdicts if j[0] != "ok"), ("ok", ""))
        if verdict == "ok":
            twin = twin_of(ready.tables, sigma, weights, seed, steps=p.steps)
            found |= {"mi_twin_true": twin.true, "mi_twin_noise": twin.noise}
            readable = status(twin.reading, twin.reading) == "ok"
            if readable:
                found["mi_twin_est"] = twin.reading.value
                found["mi_recovery"] = twin.reading.value / twin.true if twin.true > TWIN_SLACK else 1.0
            verdict, why = recovered(twin, readable)
        if verdict == "ok" and ready.wire.kind == "stochastic_other":
            verdict, why = modelled(reading, found)
        found["mi_mine_status"] = verdict
        if verdict == "ok":
            found |= {"mi_mine_nats": reading.value, "mi_mine_lo": reading.low, "mi_mine_hi": reading.high}
            return None
        # Never the Donsker–Varadhan value: beyond its range it exceeds the truth more often than not.
        found["mi_mine_lo"] = max(float(found["mi_lower_nats"] or 0.0), 0.0)
        return why


class _Bounds:
    """The bounds of a prepared wire by the noise over the root mean square."""

    def __init__(self, ready: Prepared, weights: torch.Tensor) -> None:
        self.ready, self._weights = ready, weights

    def low(self, noise: float) -> Lower:
        return lower(self.ready.tables, noise, self._weights)

    def high(self, noise: float) -> Upper:
        return upper(self.ready.frozen, noise, self.ready.test_groups)


def _elsewhere(found: Values, bounds: _Bounds, lows: dict[float, float], highs: dict[float, float]) -> bool:
    """Fills in the bounds at the reference noises and where they cross; returns whether both do."""
    bounded = not bounds.ready.unbounded
    for noise in REFERENCE_NOISES:
        under = bounds.low(noise)
        found[lower_at(noise)], found[status_at(noise)] = under.limit, under.status
        lows[noise] = under.limit
        if bounded:
            highs[noise] = bounds.high(noise).limit
            found[upper_at(noise)] = highs[noise]
    # Nothing is to be interpolated from a wire without noise.
    ends = [{s: v for s, v in known.items() if s > 0} for known in (lows, highs)]
    refine = 4 if bounds.ready.wire.isotropic else 1
    low = crossing(lambda s: bounds.low(s).limit, LEVEL, ends[0], refine)
    high = crossing(lambda s: bounds.high(s).limit, LEVEL, ends[1], refine) if bounded else None
    found |= {"sigma_at_3nats_lo": low, "sigma_at_3nats_hi": high}
    if low is not None and high is not None:
        found["sigma_at_3nats"] = math.sqrt(low * max(high, low))
    return low is not None and high is not None


def _nothing(found: Values, name: str, reason: str) -> Measurement:
    return Measurement(found | {"mi_mine_status": name}, reason, (f"mutual information: {name}",))


def _constant(found: Values, reason: str) -> Measurement:
    none = {
        "mi_mine_nats": 0.0,
        "mi_mine_lo": 0.0,
        "mi_mine_hi": 0.0,
        "mi_lower_nats": 0.0,
        "mi_upper_nats": 0.0,
        "mi_upper_se": 0.0,
    }
    ends = {c: 0.0 for n in REFERENCE_NOISES for c in (lower_at(n), upper_at(n))}
    fine = {"mi_lower_status": "ok", **{status_at(n): "ok" for n in REFERENCE_NOISES}}
    return Measurement(found | none | ends | fine | {"mi_mine_status": "constant"}, reason, ("constant features",))
