"""Canonical JSON and the keys made from it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

KEY_VERSION = 1
"""Raised when the meaning of a key changes for every record at once."""

KEY_LENGTH = 20


def canonical(value: Any) -> str:
    """Returns the one JSON text of a value: sorted keys, no spaces, floats as Python prints them.

    Raises:
        ValueError: for NaN or infinity.
        TypeError: for anything that is not plain JSON.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def key_of(identity: dict[str, Any]) -> str:
    """Returns the key of an identity: the first 20 hex digits of the sha256 of its canonical JSON and KEY_VERSION."""
    text = canonical({"key_version": KEY_VERSION, "identity": identity})
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]
