"""The fits behind a cell, and which of the settings that were tried a tuned attack has chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .reading import Records

Record = Mapping[str, Any]


def fits_of(records: Records, record: Mapping[str, Any], *, chosen: bool = False) -> list[Mapping[str, Any]]:
    """Returns the records of all fits behind a cell or a fit, its own first; those that others share too.

    Args:
        records: of the run.
        record: of the cell or fit.
        chosen: leave out the fits of settings that a tuned attack has tried and not chosen.
    """
    found: dict[str, Mapping[str, Any]] = {}
    setting = chosen_setting(records, record) if chosen else None
    waiting = [record["identity"]]
    while waiting:
        identity = waiting.pop(0)
        built = identity.get("builds_on", {})
        if setting is not None and "tune" in identity.get("attack", {}):
            built = {role: key for role, key in built.items() if role.split(".")[0] == str(setting)}
        for key in (identity.get("fit"), *built.values()):
            fit = records.done("fit", key)
            if fit is not None and key not in found:  # a cell names again what its fit builds on
                found[key] = fit
                waiting.append(fit["identity"])
    return list(found.values())


def chosen_setting(records: Records, record: Mapping[str, Any]) -> int | None:
    """Returns which of the settings that were tried a tuned attack has chosen, 0 the given one; None for any other attack."""
    attack = record["identity"].get("attack", {})
    fit = records.done("fit", record["identity"].get("fit"))
    if "tune" not in attack or fit is None:
        return None
    tried = [attack["params"], *attack["tune"]]
    return tried.index(fit["info"]["notes"]["chosen"])


def chosen_fit(records: Records, record: Record) -> Record | None:
    """Returns the fit whose weights a cell's attack uses: of a tuned attack that of the chosen setting; None without one."""
    fit = records.done("fit", record["identity"].get("fit"))
    setting = chosen_setting(records, record)
    if setting is None or fit is None:
        return fit
    return records.done("fit", fit["identity"].get("builds_on", {}).get(str(setting)))


def words_of_setting(record: Record, setting: int) -> str:
    """Returns those parameters of a tried setting in which the tried ones differ: ``lr=0.1, steps=60``.

    Args:
        record: of the cell of a tuned attack.
        setting: which of the settings, 0 the given one.
    """
    attack = record["identity"]["attack"]
    tried = [attack["params"], *attack["tune"]]
    varied = [k for k in sorted(tried[0]) if any(p.get(k) != tried[0][k] for p in tried)]
    return ", ".join(f"{k}={tried[setting].get(k)}" for k in varied)
