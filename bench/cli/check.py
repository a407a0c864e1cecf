"""``splitaudit check``: holds plugins to their contract."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import PluginError, did_you_mean
from ..plugins import REGISTRIES, add_plugin_file

_KINDS = ("defenses", "attacks", "metrics")


def check_command(names: list[str], plugins: list[Path], *, as_json: bool) -> int:
    """Runs every check of the named plugins; returns 0 if all are kept, else 1.

    Raises:
        PluginError: for a name that is no defense, attack or metric.
    """
    for path in plugins:
        add_plugin_file(path)
    found = []
    for name in names:
        kinds = [k for k in _KINDS if name in REGISTRIES[k]]
        if not kinds:
            known = [n for k in _KINDS for n in REGISTRIES[k].names()]
            raise PluginError(
                f"'{name}' is no defense, attack or metric.{did_you_mean(name, known)}  (splitaudit list)"
            )
        found += [(REGISTRIES[k].kind, name, REGISTRIES[k].get(name)) for k in kinds]
    from ..testing import check_plugin

    rows = []
    for kind, name, cls in found:
        for outcome in check_plugin(cls):
            state = "kept" if outcome.passed and outcome.applies else "does not apply" if outcome.passed else "BROKEN"
            rows.append(
                {"kind": kind, "name": name, "check": outcome.check, "state": state, "message": outcome.message}
            )
            if not as_json:
                tail = f": {outcome.message}" if outcome.message else ""
                print(f"{state:<15} {kind} {name}: {outcome.check}{tail}", flush=True)
    states = [r["state"] for r in rows]
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        kept, broken, beside = (states.count(s) for s in ("kept", "BROKEN", "does not apply"))
        print(f"{kept} kept, {broken} broken, {beside} do not apply")
    return 1 if "BROKEN" in states else 0
