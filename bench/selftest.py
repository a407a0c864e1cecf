"""Known-answer tests of measures: whether an estimator gives what is known to be true, on this machine and these versions.

A measure that estimates something may declare a :meth:`~splitaudit.metric.Measure.self_test`. A run asks for the verdict
once, before the first job that needs it, and hands it to the measure, which gives no numbers where it has failed.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .canonical import key_of
from .plugins import METRICS
from .store.atomic import write_json

PASSED = "passed"


@dataclass(frozen=True)
class KnownAnswer:
    """One task of a self-test.

    Attributes:
        task: what was measured.
        truth: what is true, in the measure's unit; infinite where it is.
        estimate: what came out; None where the measure gave no value.
        low: what is certified from below; None where nothing is.
        high: what is certified from above.
        status: the measure's own word for its value.
        failure: why the answer is not acceptable; empty where it is.
        seconds: how long it took.
    """

    task: str
    truth: float | None
    estimate: float | None
    low: float | None
    high: float | None
    status: str
    failure: str
    seconds: float

    @property
    def verdict(self) -> str:
        """``pass``, or ``FAIL`` with the reason."""
        return f"FAIL: {self.failure}" if self.failure else "pass"

    def dump(self) -> dict[str, Any]:
        """Returns the row as plain JSON values; what is not finite is None."""
        row = {**self.__dict__, "verdict": self.verdict}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def verdict(rows: Iterable[KnownAnswer]) -> str:
    """Returns ``passed``, or ``failed: `` with every task that did."""
    failures = [f"{r.task}: {r.failure}" for r in rows if r.failure]
    return f"failed: {'; '.join(failures)}" if failures else PASSED


def run_self_test(name: str, quick: bool) -> Iterator[KnownAnswer]:
    """Yields the rows of a measure's self-test as they come; none where it has none."""
    yield from getattr(METRICS.get(name), "self_test", lambda quick: ())(quick)


def self_tests(names: Iterable[str], cache: Path, known: dict[str, str]) -> None:
    """Adds the verdicts of the measures' quick self-tests to those that are known; a measure without one has none.

    Args:
        names: registry names of measures.
        cache: folder that remembers verdicts under the versions of the measure, torch, Python and this package.
        known: measure to verdict, changed in place; empty for measures without a self-test.
    """
    for name in names:
        if name not in known:
            known[name] = _verdict(name, cache)


def _verdict(name: str, cache: Path) -> str:
    import torch

    from . import __version__

    cls = METRICS.get(name)
    if not hasattr(cls, "self_test"):
        return ""
    versions = {"measure": name, "version": cls.version, "package": __version__, "torch": torch.__version__}
    code = METRICS.entry(name).code or _code(cls)
    key = key_of({**versions, "python": sys.version.split()[0], "code": code})
    at = cache / f"selftest-{key}.json"
    try:
        return str(json.loads(at.read_text())["verdict"])
    except (OSError, ValueError, KeyError):
        pass  # not tested yet, or the file is damaged
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small networks: more threads than free cores make it ten times slower beside the workers
    try:
        rows = list(run_self_test(name, quick=True))
    except Exception as exc:  # noqa: BLE001  (an estimator that cannot run its test is not to be believed)
        return f"failed: {type(exc).__name__}: {exc}".splitlines()[0]
    finally:
        torch.set_num_threads(threads)
    if not rows:
        return ""
    found = verdict(rows)
    cache.mkdir(parents=True, exist_ok=True)
    write_json(at, {**versions, "verdict": found, "rows": [r.dump() for r in rows]})
    return found


def _code(cls: type) -> str:
    """Returns a hash of the Python files beside a measure: its helpers decide its answers as much as it does itself."""
    place = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if place is None:
        return ""
    found = hashlib.sha256()
    for path in sorted(Path(place).parent.glob("*.py")):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()[:16]
