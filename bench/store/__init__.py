"""The results store: one JSON record per target, fit and cell, tensors beside it, never a pickle."""

from __future__ import annotations

from .atomic import write_json, write_text
from .index import Entry
from .layout import Name
from .lock import RunLock
from .records import new_record, validate
from .schema import FORMAT_VERSION, Kind
from .store import Store

__all__ = [
    "FORMAT_VERSION",
    "Entry",
    "Kind",
    "Name",
    "RunLock",
    "Store",
    "new_record",
    "validate",
    "write_json",
    "write_text",
]
