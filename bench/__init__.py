"""splitaudit: how much does a split (collaborative) inference leak, which defense helps, what does it cost?

Public names are few and loaded on first use, so that ``import splitaudit`` stays cheap (no torch, no pandas).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_LAZY = {
    "run": "splitaudit.api",
    "plan_suite": "splitaudit.api",
    "load_suite": "splitaudit.api",
    "load_results": "splitaudit.api",
    "AdversaryKnowledge": "splitaudit.knowledge",
    "Attack": "splitaudit.attack",
    "LabelAttack": "splitaudit.attack",
    "LabelMetric": "splitaudit.metric",
    "Backbone": "splitaudit.models.base",
    "Dataset": "splitaudit.data.base",
    "Defense": "splitaudit.defense",
    "Measure": "splitaudit.metric",
    "Metric": "splitaudit.metric",
    "Params": "splitaudit.params",
    "View": "splitaudit.view",
    "register_attack": "splitaudit.plugins",
    "register_backbone": "splitaudit.plugins",
    "register_dataset": "splitaudit.plugins",
    "register_defense": "splitaudit.plugins",
    "register_metric": "splitaudit.plugins",
}
__all__ = ["__version__", *sorted(_LAZY)]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'splitaudit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from .api import load_results, load_suite, plan_suite, run
    from .attack import Attack, LabelAttack
    from .data.base import Dataset
    from .defense import Defense
    from .knowledge import AdversaryKnowledge
    from .metric import LabelMetric, Measure, Metric
    from .models.base import Backbone
    from .params import Params
    from .plugins import register_attack, register_backbone, register_dataset, register_defense, register_metric
    from .view import View
