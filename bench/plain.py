"""Facts as the plain JSON values that records hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def plain(value: Any, name: str) -> Any:
    """Returns a fact as plain JSON values: tensors and arrays become lists, numbers that are not finite become null.

    Args:
        value: a number, text, bool or None, a tensor or array, or lists and mappings of them.
        name: what the message calls it.

    Raises:
        TypeError: for anything else.
    """
    if hasattr(value, "tolist"):  # tensors and numpy's arrays and scalars
        value = value.tolist()
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Mapping):
        return {str(k): plain(v, f"{name}.{k}") for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v, f"{name}[{i}]") for i, v in enumerate(value)]
    raise TypeError(f"got {name} of type {type(value).__name__}, expected plain values: numbers, text, lists, mappings")
