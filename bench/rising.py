"""Whether an accuracy still rose at the end of a training."""

from __future__ import annotations

import math

import numpy as np


def still_rising(curve: list[float], n: int) -> bool:
    """Says whether an accuracy curve still rises: its last quarter lies clearly over the quarter before.

    The difference of the two means must be half a point (or an image) and, from 12 epochs on, two of its standard errors,
    by the scatter of epochs around each quarter's straight line. The images are the same in every epoch, so how few they
    are adds no noise to the difference. With fewer epochs scatter and rise cannot be told apart: the least rise decides,
    and below 4 epochs the answer is yes, so that nothing is called converged for want of epochs.

    A learning rate that falls to zero raises the last quarter in any case: the flag says that a larger budget may give
    more, not that this training was cut short.

    Args:
        curve: one value per epoch.
        n: images behind each value.
    """
    quarter = len(curve) // 4
    if quarter < 1:
        return True
    last, before = np.asarray(curve[-quarter:]), np.asarray(curve[-2 * quarter : -quarter])
    rise, least = last.mean() - before.mean(), max(0.005, 1 / n)
    if quarter < 3:  # a straight line leaves nothing of two points
        return bool(rise > least)
    epochs = np.arange(quarter)
    scatter = sum(float(np.polyfit(epochs, part, 1, full=True)[1].sum()) for part in (last, before))
    error = math.sqrt(scatter / (2 * (quarter - 2)) * 2 / quarter)
    return bool(rise > least and rise > 2 * error)
