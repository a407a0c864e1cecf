"""The registries of the five kinds of plugins, and a plugin's identity."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from .errors import PluginError
from .loading import classes_in, lacks, load_file, module_name
from .params import Params
from .registry import Registry


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


def add_plugin_files(paths: Iterable[str | Path]) -> list[str]:
    """Loads the files of one command; returns ``kind name`` of each plugin in them.

    Raises:
        PluginError: as :func:`add_plugin_file`, or two files whose plugins would have the same name.
    """
    found = [Path(p).expanduser().resolve() for p in paths]
    for i, path in enumerate(found):
        twin = next((p for p in found[:i] if p != path and p.stem == path.stem), None)
        if twin is not None:
            raise PluginError(f"--plugin {twin} and {path} would both be 'local/{path.stem}'. Rename one of them.")
    return [name for path in dict.fromkeys(found) for name in add_plugin_file(path)]


def add_plugin_file(path: str | Path) -> list[str]:
    """Loads one file and adds every plugin class in it as ``local/STEM``; returns ``kind name`` of each.

    A class that a decorator of this package has named in the file keeps that name.

    Raises:
        PluginError: no such file, it does not import, or it holds no plugin.
    """
    path = Path(path).expanduser().resolve()
    for registry in REGISTRIES.values():
        registry.forget(module_name(path))
    module = load_file(path)
    added: list[str] = []
    partial: list[str] = []
    for registry in REGISTRIES.values():
        base = registry._base()
        added += [f"{registry.kind} {n}" for n in registry.add_file(path, classes_in(module, base))]
        partial += [lacks(c) for c in classes_in(module, base, abstract=True)]
    if not added:
        why = f" ({'; '.join(partial)})" if partial else ""
        raise PluginError(
            f"--plugin {path.name}: holds no Defense, Attack, Metric, Measure, Dataset or Backbone class{why}"
        )
    return added


def identity(registry: Registry[Any], name: str, params: Params) -> dict[str, Any]:
    """Returns what a plugin contributes to a key: name, version, validated parameters (and a local file's hash)."""
    entry = registry.entry(name)
    out: dict[str, Any] = {"name": name, "version": registry.get(name).version, "params": params.dump()}
    if entry.code is not None:
        out["code"] = entry.code
    return out
