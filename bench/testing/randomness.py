"""Watching the global random generators, which no plugin may touch."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch

from ..seeds import seeded_globally
from .outcome import require


@contextlib.contextmanager
def global_generators_watched(what: str, likely: str) -> Iterator[None]:
    """Requires that the block leaves the global generators of torch, numpy and random as they were.

    Targets of one seed are paired, and two runs give the same numbers, only if nobody else draws from them.

    Args:
        what: what runs in the block, for the message.
        likely: the likely cause of a failure.
    """
    with seeded_globally(20_240_229):
        before = _states()
        yield
        after = _states()
    touched = [name for name in before if before[name] != after[name]]
    require(
        not touched,
        f"{what} changed the global random state of {' and '.join(touched)}",
        "a plugin draws from the generators it is given, and never seeds or draws from a global one",
        likely,
    )


def _states() -> dict[str, str]:
    # Reading numpy's global state is the point here: a plugin may have drawn from it.
    legacy = np.random.get_state(legacy=False)  # noqa: NPY002
    return {
        "torch": bytes(torch.get_rng_state().tolist()).hex(),
        "numpy": repr(legacy),
        "random": repr(random.getstate()),
    }
