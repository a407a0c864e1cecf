"""``splitaudit check``: plugins held to their contract."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ..errors import ConfigError, did_you_mean
from ..plugins import REGISTRIES, add_plugin_file

KINDS = ("defenses", "attacks", "metrics")
"""Kinds of plugins that the kit has checks for."""


def check_command(names: list[str], plugins: list[Path], *, as_json: bool) -> int:
    """Runs every check of the named plugins and prints the outcomes.

    Args:
        names: registry names; one that several kinds share is checked for each.
        plugins: files to load first.
        as_json: print JSON instead of lines.

    Returns:
        0 if every contract is kept, else 1.

    Raises:
        ConfigError: for names that are not known, all at once.
        PluginError: for a plugin that cannot be loaded, with its traceback.
    """
    added = [line for path in plugins for line in add_plugin_file(path)]
    problems = [p for name in names if (p := _problem(name, added))]
    if problems:
        raise ConfigError(problems, "check")
    found = [(kind, name, REGISTRIES[kind].get(name)) for name in names for kind in KINDS if name in REGISTRIES[kind]]

    from ..testing import check_plugin

    reports: list[dict[str, Any]] = []
    for kind, name, cls in found:
        title = f"{REGISTRIES[kind].kind} {name}"
        print(f"{title}: checking …", file=sys.stderr)
        outcomes = check_plugin(cls)
        reports.append(
            {
                "kind": REGISTRIES[kind].kind,
                "name": name,
                "passed": all(o.ok for o in outcomes),
                "outcomes": [
                    {"check": o.check, "passed": o.passed, "applies": o.applies, "message": o.message} for o in outcomes
                ],
            }
        )
        if not as_json:
            _print(title, reports[-1]["outcomes"])
    if as_json:
        print(json.dumps(reports, indent=1))
    return 0 if all(report["passed"] for report in reports) else 1


def _problem(name: str, added: list[str]) -> str | None:
    if any(name in REGISTRIES[kind] for kind in KINDS):
        return None
    for kind, registry in REGISTRIES.items():
        if name in registry:
            return (
                f"'{name}' is a {registry.kind}; expected one of {', '.join(KINDS)}. For {kind} there are no checks yet"
            )
    known = [n for kind in KINDS for n in REGISTRIES[kind].names()]
    loaded = f" The files given define: {', '.join(added)}." if added else ""
    return f"nothing is called '{name}'.{did_you_mean(name, known)}{loaded}  (splitaudit list)"


def _print(title: str, outcomes: list[dict[str, Any]]) -> None:
    failed = [o for o in outcomes if not o["passed"]]
    skipped = [o for o in outcomes if not o["applies"]]
    for outcome in outcomes:
        word = "FAIL" if not outcome["passed"] else "ok  " if outcome["applies"] else "n/a "
        print(f"{word}  {outcome['check']}" + (f": {outcome['message']}" if outcome["message"] else ""))
    kept = len(outcomes) - len(failed) - len(skipped)
    print(f"{title}: {kept} checks kept, {len(failed)} broken, {len(skipped)} do not apply")
