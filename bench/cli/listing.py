"""``splitaudit list`` and ``splitaudit show``."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from ..defense import Defense
from ..errors import ConfigError, PluginError, did_you_mean
from ..plugins import REGISTRIES, add_plugin_files
from .output import Output


def list_command(kind: str | None, plugins: list[Path], *, as_json: bool) -> None:
    """Prints every plugin of a kind, or of all kinds, and the presets."""
    add_plugin_files(plugins)
    kinds = [*REGISTRIES, "presets"]
    if kind is not None and kind not in kinds and f"{kind}s" in kinds:
        kind += "s"
    if kind == "defense":
        kind = "defenses"
    if kind is not None and kind not in kinds:
        raise ConfigError([f"list {kind}: expected one of {', '.join(kinds)}.{did_you_mean(kind, kinds)}"], "usage")
    found = {k: _rows(k) for k in kinds if kind in (None, k)}
    if as_json:
        print(json.dumps(found if kind is None else found[kind], indent=1))
        return
    from rich.markup import escape
    from rich.table import Table

    console = Output()
    for title, rows in found.items():
        table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
        for column in ("name", "what it does", "origin"):
            table.add_column(column, overflow="fold", no_wrap=column == "name")
        for row in rows:
            text = f"BROKEN: {row['error'].splitlines()[0]}" if row["error"] else row["summary"]
            table.add_row(*map(escape, (row["name"], text, row["origin"])), style="red" if row["error"] else "")
        console.print(table)


def show_command(name: str, plugins: list[Path], *, as_json: bool) -> None:
    """Prints all that is known of a plugin, each kind's where several share a name, or the YAML of a preset."""
    from ..config import preset_text, presets

    add_plugin_files(plugins)
    kinds = [k for k, r in REGISTRIES.items() if name in r]
    if not kinds and name in presets():
        text = preset_text(name)
        print(json.dumps({"kind": "preset", "name": name, "yaml": text}, indent=1) if as_json else text, end="")
        return
    if not kinds:
        known = [*(n for r in REGISTRIES.values() for n in r.names()), *presets()]
        raise PluginError(f"nothing is called '{name}'.{did_you_mean(name, known)}  (splitaudit list)")
    facts = [_facts(kind, name) for kind in kinds]
    if as_json:
        print(json.dumps(facts[0] if len(facts) == 1 else facts, indent=1))
        return
    from rich.markup import escape
    from rich.table import Table

    console = Output()
    for fact in facts:
        console.print(
            f"{fact['kind']} {fact['name']}, version {fact['version']}, {fact['origin']}", style="bold", markup=False
        )
        console.print(f"{fact['where']}\n", markup=False, style="dim", soft_wrap=True)
        console.print(fact["text"], markup=False)
        for key in ("source", "acts", "claims", "requires", "uses", "cuts", "unit", "direction"):
            if fact.get(key):
                console.print(f"{key}: {fact[key]}", markup=False, soft_wrap=True)
        for title in ("parameters", "columns"):
            rows = fact.get(title, [])
            if not rows:
                continue
            table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
            for column in rows[0]:
                table.add_column(column, overflow="fold")
            for row in rows:
                table.add_row(*(escape(str(v)) for v in row.values()))
            console.print(table)


def _rows(kind: str) -> list[dict[str, Any]]:
    if kind == "presets":
        from ..config import describe_preset, presets

        return [{"name": n, "summary": describe_preset(n), "origin": "built-in", "error": None} for n in presets()]
    return [
        {
            "name": entry.name,
            "summary": "" if entry.cls is None else _first_line(entry.cls),
            "origin": entry.origin,
            "error": entry.error,
        }
        for entry in REGISTRIES[kind].survey()
    ]


def _facts(kind: str, name: str) -> dict[str, Any]:
    registry = REGISTRIES[kind]
    cls = registry.get(name)
    file, line = inspect.getsourcefile(cls), inspect.getsourcelines(cls)[1]
    out: dict[str, Any] = {
        "kind": registry.kind,
        "name": name,
        "version": cls.version,
        "origin": registry.entry(name).origin,
        "where": f"{file}:{line}",
        "text": inspect.cleandoc(cls.__doc__ or ""),
        "source": cls.source,
        "parameters": [
            {"name": k, "default": json.dumps(cls.Params().dump()[k]), "meaning": f.description or ""}
            for k, f in cls.Params.model_fields.items()
        ],
    }
    for key in ("requires", "uses"):
        knowledge = getattr(cls, key, None)
        if knowledge is not None:
            out[key] = ", ".join(f"{k}={v}" for k, v in knowledge.dump().items() if v not in (None, False, "none"))
            out[key] = out[key] or "nothing but the received features"
    if issubclass(cls, Defense):
        out["acts"] = f"{cls.usually} unless a suite says otherwise"
        out["claims"] = ", ".join(f"{column} {moves}" for column, moves in cls.claims.items())
    if hasattr(cls, "higher_means"):
        out["unit"], out["direction"] = cls.unit or "none", f"higher means {cls.higher_means}"
    if hasattr(cls, "cuts"):
        out["cuts"] = ", ".join(cls(cls.Params()).cuts())
    if getattr(cls, "columns", None):
        out["columns"] = [
            {"name": n, "unit": c.unit, "higher means": c.higher_means, "meaning": c.meaning}
            for n, c in cls.columns.items()
        ]
    return out


def _first_line(cls: type) -> str:
    return inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].replace("\n", " ")
