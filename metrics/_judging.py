"""Whether an estimate of mutual information is a measurement, and why not."""

from __future__ import annotations

from splitaudit.metrics._bounds import SLACK, Reading, status
from splitaudit.metrics._twin import Twin

Values = dict[str, float | int | str | None]

RECOVERY = (0.8, 1.1)
"""Share of its Gaussian twin's information that the estimator has to read, and may read."""

TWIN_SLACK = 0.08
"""Nats that it may be off in any case."""


def judged(reading: Reading, structured: Reading, found: Values) -> tuple[str, str]:
    """Returns the status of a reading and, if it is not ok, why."""
    name = status(reading, structured)
    nce, ceiling = max(reading.nce, structured.nce), reading.ceiling
    why = {
        "ok": "",
        "at_ceiling": f"the estimator is at its ceiling: {nce:.2f} of at most {ceiling:.2f} nats; the value is not known",
        "low_ess": f"{reading.ess:.0f} effective pairs decide the estimate, 100 are needed; the value is not known",
        "critic_limited": "the critic reads less than an untrained bound certifies; the value is not known",
    }[name]
    limit, certified = found["mi_upper_nats"], found["mi_lower_nats"]
    if name == "ok" and isinstance(limit, float) and reading.value > limit + SLACK:
        return "invalid", f"the estimate of {reading.value:.2f} nats exceeds the upper bound of {limit:.2f}"
    if name == "ok" and isinstance(certified, float) and reading.high < certified - SLACK:
        return "critic_limited", f"the critic reads less than the {certified:.2f} nats that are certified"
    return name, why


def recovered(twin: Twin, readable: bool) -> tuple[str, str]:
    """Returns ok if the estimator reads of its Gaussian twin what is there, else which way it fails."""
    lowest, highest = RECOVERY
    reading, true = twin.reading, twin.true
    if not readable:
        why = f"of a Gaussian twin with {true:.2f} nats no more than {reading.nce_low:.2f} can be read"
        return ("ok", "") if reading.nce_low >= lowest * true else ("critic_limited", why)
    if reading.value < lowest * true and true - reading.value > TWIN_SLACK:
        return "critic_limited", f"the estimator reads {reading.value:.2f} of the {true:.2f} nats of a Gaussian twin"
    if reading.low > highest * true and reading.low - true > TWIN_SLACK:
        return "invalid", f"the estimator reads {reading.value:.2f} nats of a Gaussian twin that has {true:.2f}"
    return "ok", ""


def modelled(reading: Reading, found: Values) -> tuple[str, str]:
    """Returns ok if the reading of a random defense whose channel is only modelled comes near the upper bound.

    The Gaussian twin has no such randomness, so it cannot show what the model loses (a random sign: 0.5 of 1.8 nats).
    """
    limit = found["mi_upper_nats"]
    if isinstance(limit, float) and (reading.value >= RECOVERY[0] * limit or limit - reading.value <= TWIN_SLACK):
        return "ok", ""
    most = f"the upper bound is {limit:.2f}" if isinstance(limit, float) else "there is no upper bound"
    return "critic_limited", f"the defense's randomness is only modelled: {reading.value:.2f} nats read, {most}"
