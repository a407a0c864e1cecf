"""The registries of the five kinds of plugins, and a plugin's identity."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from .params import Params
from .registry import Registry, classes_in, load_file


def _lazy(module: str, name: str) -> Any:
    return lambda: getattr(import_module(module), name)


DEFENSES: Registry[Any] = Registry(
    "defense", _lazy("splitaudit.defense", "Defense"), ("splitaudit.defenses",), "splitaudit.defenses"
)
ATTACKS: Registry[Any] = Registry(
    "attack", _lazy("splitaudit.attack", "Attack"), ("splitaudit.attacks",), "splitaudit.attacks"
)
METRICS: Registry[Any] = Registry(
    "metric", _lazy("splitaudit.metric", "AnyMetric"), ("splitaudit.metrics",), "splitaudit.metrics"
)
DATASETS: Registry[Any] = Registry(
    "dataset", _lazy("splitaudit.data.base", "Dataset"), ("splitaudit.data",), "splitaudit.datasets"
)
BACKBONES: Registry[Any] = Registry(
    "backbone", _lazy("splitaudit.models.base", "Backbone"), ("splitaudit.models",), "splitaudit.backbones"
)
REGISTRIES: dict[str, Registry[Any]] = {
    "defenses": DEFENSES,
    "attacks": ATTACKS,
    "metrics": METRICS,
    "datasets": DATASETS,
    "backbones": BACKBONES,
}

register_defense = DEFENSES.register
register_attack = ATTACKS.register
register_metric = METRICS.register
register_dataset = DATASETS.register
register_backbone = BACKBONES.register


def add_plugin_file(path: str | Path) -> list[str]:
    """Loads one file and adds every plugin class in it as ``local/STEM``; returns ``kind name`` of each.

    Raises:
        PluginError: no such file, it does not import, or it holds no plugin.
    """
    from .errors import PluginError

    path = Path(path).expanduser().resolve()
    module = load_file(path)
    added: list[str] = []
    for registry in REGISTRIES.values():
        classes = classes_in(module, registry._base())
        if classes:
            added += [f"{registry.kind} {name}" for name in registry.add_file(path, classes)]
    if not added:
        raise PluginError(f"--plugin {path.name}: holds no Defense, Attack, Metric, Measure, Dataset or Backbone class")
    return added


def identity(registry: Registry[Any], name: str, params: Params) -> dict[str, Any]:
    """Returns what a plugin contributes to a key: name, version, validated parameters (and a local file's hash)."""
    entry = registry.entry(name)
    out: dict[str, Any] = {"name": name, "version": registry.get(name).version, "params": params.dump()}
    if entry.code is not None:
        out["code"] = entry.code
    return out
