"""The noise at which information has fallen to a level."""

from __future__ import annotations

import math
from collections.abc import Callable

FACTOR = 4.0
STEPS = 3
CLOSE = 0.02


def crossing(value: Callable[[float], float], level: float, known: dict[float, float], refine: int = 4) -> float | None:
    """Returns the noise at which a falling function of it reaches a level, or None where it does not.

    The bracket is looked for among known noises, then by factors of four beyond them; inside, noise and value are
    interpolated on logarithmic axes.

    Args:
        value: information at a noise; is not asked for known noises.
        level: above 0.
        known: noise to value.
        refine: evaluations inside the bracket at most.
    """
    found = dict(known)
    for _ in range(STEPS):
        if found[min(found)] >= level:
            break
        found[min(found) / FACTOR] = value(min(found) / FACTOR)
    for _ in range(STEPS):
        if found[max(found)] < level:
            break
        found[max(found) * FACTOR] = value(max(found) * FACTOR)
    above = [s for s, v in found.items() if v >= level]
    below = [s for s, v in found.items() if v < level]
    if not above or not below:
        return None
    low = max(above)
    beyond = [s for s in below if s > low]
    if not beyond:
        return None
    high = min(beyond)
    at, top, bottom = low, found[low], found[high]
    for _ in range(refine):
        at = _between(low, high, top, bottom, level)
        here = value(at)
        if abs(math.log(max(here, 1e-9) / level)) < CLOSE:
            return at
        if here >= level:
            low, top = at, here
        else:
            high, bottom = at, here
    return _between(low, high, top, bottom, level)


def _between(low: float, high: float, top: float, bottom: float, level: float) -> float:
    a, b = math.log(max(top, 1e-9)), math.log(max(bottom, 1e-9))
    share = (a - math.log(level)) / (a - b) if a > b else 0.5
    # Away from the ends, so that the bracket shrinks on both sides.
    share = min(max(share, 0.02), 0.98)
    return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
