"""The exact privacy of Gaussian noise.

For two inputs whose values lie a distance Δ apart, with noise of deviation σ = m·Δ, the least δ at a given ε is

    δ(ε, m) = Φ(1/(2m) − ε·m) − e^ε · Φ(−1/(2m) − ε·m),

which falls with m: the noise that is needed follows from its root. Values that are closer to each other are better
protected, and only their distance counts, so this holds for vectors of any length.

Source: Balle and Wang, ICML 2018, theorem 8. Departure: computed with logarithms of Φ, which stay exact where e^ε
overflows or Φ underflows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from scipy.optimize import brentq
from scipy.special import log_ndtr


def log_delta(epsilon: float, multiple: float) -> float:
    """Returns ln δ of Gaussian noise.

    Args:
        epsilon: ε, at least 0.
        multiple: m, the noise's deviation in units of the distance of the two values, above 0.
    """
    inner = float(log_ndtr(1 / (2 * multiple) - epsilon * multiple))
    outer = epsilon + float(log_ndtr(-1 / (2 * multiple) - epsilon * multiple))
    if outer >= inner:  # equal to all digits: less than can be told from nothing
        return -math.inf
    return inner + math.log(-math.expm1(outer - inner))


@lru_cache(maxsize=256)
def noise_multiple(epsilon: float, delta: float) -> float:
    """Returns the least m with which Gaussian noise is (ε, δ) private.

    Args:
        epsilon: ε, above 0.
        delta: δ, between 0 and 1, both excluded.
    """
    # Below the first end δ is 1 to all digits; at the second it is at most 0.4·δ, whatever ε.
    first, second = math.log(1e-3 / (1 + math.sqrt(epsilon))), -math.log(delta)
    root = _root(lambda at: log_delta(epsilon, math.exp(at)) - math.log(delta), first, second)
    return math.exp(root) * (1 + 1e-9)  # rounding must not end on the side of too little noise


@lru_cache(maxsize=256)
def epsilon_of(multiple: float, delta: float) -> float:
    """Returns the least ε at which Gaussian noise is (ε, δ) private, 0 if it is so without any.

    Args:
        multiple: m, above 0.
        delta: δ, between 0 and 1, both excluded.
    """
    if log_delta(0.0, multiple) <= math.log(delta):
        return 0.0
    # The tail bound of the privacy loss, which is Gaussian with mean 1/(2m²) and deviation 1/m.
    enough = 1 / (2 * multiple**2) + math.sqrt(2 * math.log(1 / delta)) / multiple + 1e-9
    root = _root(lambda at: log_delta(at, multiple) - math.log(delta), 0.0, enough)
    return root * (1 + 1e-9)


def _root(function: Callable[[float], float], first: float, second: float) -> float:
    # brentq takes no infinity: far beyond the root any large value does.
    found: Any = brentq(lambda at: max(function(at), -1e9), first, second, xtol=1e-13)
    return float(found)
