"""Seeds derived by role, so that what shares randomness is decided in one place.

The seed of a role is a hash of the base seed, the role's name and the names that the role may depend on. Initialisation
and batch order depend on dataset, backbone, cut and seed but not on the defense: defenses are paired.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import torch

from .canonical import canonical


def derive(role: str, seed: int, **parts: object) -> int:
    """Returns a 63-bit seed for a role.

    Args:
        role: what the randomness is for, for instance ``"init"`` or ``"batches"``.
        seed: the base seed of the suite.
        parts: plain JSON values that this role may depend on.
    """
    text = canonical({"role": role, "seed": seed, "parts": parts})
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(role: str, seed: int, device: torch.device | str = "cpu", **parts: object) -> torch.Generator:
    """Returns a fresh generator on a device, seeded for a role."""
    g = torch.Generator(device=device)
    g.manual_seed(derive(role, seed, **parts))
    return g


@contextlib.contextmanager
def seeded_globally(seed: int) -> Iterator[None]:
    """Seeds torch's global generator for the block and restores it afterwards.

    torch's module constructors draw from the global generator; this is the only place that touches it.
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
