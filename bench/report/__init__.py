"""Tables, plots and the report, derived from plan and records at any time."""

from __future__ import annotations

from .columns import timing_columns
from .tables import Results, build_tables
from .write import load_results, write_derived

__all__ = ["Results", "build_tables", "load_results", "timing_columns", "write_derived"]
