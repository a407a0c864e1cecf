"""Where and with what a number was made."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-image", "torchmetrics", "lpips", "pandas")


def provenance(device: str, workers: int, threads: int) -> dict[str, Any]:
    """Returns versions, hardware and the program's own version as plain JSON values."""
    from . import __version__

    return {
        "splitaudit": __version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": os.cpu_count() or 1,
        "device": device_name(device),
        "workers": workers,
        "threads": threads,
    }


def processor() -> str:
    """Returns the processor's name as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def device_name(device: str) -> str:
    """Returns what a torch device is, for people."""
    if device.startswith("cuda"):
        import torch

        return f"{device} ({torch.cuda.get_device_name(torch.device(device))})"
    return device


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
