"""``splitaudit doctor`` and ``splitaudit fetch``."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..plugins import METRICS, REGISTRIES, add_plugin_files
from .progress import size


def doctor_command(plugins: list[Path], *, as_json: bool) -> int:
    """Prints the state of the installation and returns 0, or 1 where something is wrong."""
    add_plugin_files(plugins)
    rows = _findings()
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        for row in rows:
            print(f"{row['state']:<8} {row['what']}: {row['found']}" + (f"  -> {row['do']}" if row["do"] else ""))
    return 1 if any(r["state"] == "problem" for r in rows) else 0


def fetch_command(what: str, net: str) -> None:
    """Fetches what a metric needs."""
    if what != "lpips":
        raise ConfigError([f"fetch {what}: expected lpips"], "usage")
    cls = METRICS.get("lpips")
    if net not in ("squeeze", "alex"):
        raise ConfigError([f"--net {net}: expected squeeze or alex"], "usage")
    print(f"LPIPS weights: {cls.fetch(cls.Params(net=net), offline=False)}")


def _findings() -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []

    def add(state: str, what: str, found: Any, do: str = "") -> None:
        rows.append({"state": state, "what": what, "found": str(found), "do": do})

    good = sys.version_info >= (3, 11)
    add("ok" if good else "problem", "Python", platform.python_version(), "" if good else "use Python 3.11 or newer")
    import torch

    add("ok", "torch", f"{torch.__version__}, {torch.get_num_threads()} threads")
    try:
        import torchvision

        add("ok", "torchvision", torchvision.__version__)
    except Exception as exc:  # noqa: BLE001  (a torchvision built for another torch fails in many ways)
        fix = "install torch and torchvision together from one source: their builds have to match"
        add("problem", "torchvision", f"{type(exc).__name__}: {exc}".splitlines()[0], fix)
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            add("ok", f"GPU {i}", torch.cuda.get_device_name(i))
    else:
        add("note", "GPU", "none that torch can use; everything runs on the CPU")
    add("ok", "cores", os.cpu_count())
    for kind, registry in REGISTRIES.items():
        entries = list(registry.survey())
        for entry in entries:
            if entry.error:
                fix = f"mend or uninstall it (from {entry.origin})"
                add("problem", f"{registry.kind} '{entry.name}'", entry.error.splitlines()[0], fix)
        add("ok", kind, f"{sum(e.error is None for e in entries)} usable")
    cls = METRICS.get("lpips")
    reason = cls(cls.Params()).unavailable((3, 224, 224))
    add("note" if reason else "ok", "LPIPS weights", reason or "present", "splitaudit fetch lpips" if reason else "")
    results = Path("results") if Path("results").is_dir() else Path()
    writable = os.access(results, os.W_OK)
    free = size(shutil.disk_usage(results).free)
    add(
        "ok" if writable else "problem",
        "results folder",
        f"{results.resolve()} ({free} free)",
        "" if writable else "use --out",
    )
    return rows
