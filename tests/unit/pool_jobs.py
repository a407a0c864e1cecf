"""Jobs for the tests of the pool, in a file of their own: processes import it, and it does not import torch."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any


def begin() -> None:
    """Does nothing."""


def work(job: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """Does what the job says: ``returns``, ``dies``, ``dies once``, or ``hangs`` when it is run first."""
    mark = Path(job["folder"], job["name"])
    first = not mark.exists()
    mark.touch()
    if job["does"] == "hangs" and first:
        time.sleep(600)
    if job["does"] == "dies" or (job["does"] == "dies once" and first):
        while not Path(job["folder"], job["beside"]).exists():
            time.sleep(0.002)
        os.kill(os.getpid(), signal.SIGKILL)
    return {"name": job["name"]}, 0.0
