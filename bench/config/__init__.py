"""Suites: what a run is to do, from YAML to a validated, resolved value."""

from __future__ import annotations

from .load import describe_preset, load_suite, preset_text, presets
from .suite import AttackSpec, BackboneSpec, DatasetSpec, DefenseSpec, MetricSpec, Suite

__all__ = [
    "AttackSpec",
    "BackboneSpec",
    "DatasetSpec",
    "DefenseSpec",
    "MetricSpec",
    "Suite",
    "describe_preset",
    "load_suite",
    "preset_text",
    "presets",
]
