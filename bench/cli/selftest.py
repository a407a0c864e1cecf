"""``splitaudit selftest``: known answers, what came out, and whether that is acceptable."""

from __future__ import annotations

import json

from ..errors import ConfigError, did_you_mean
from ..plugins import METRICS
from ..selftest import KnownAnswer, run_self_test, verdict

SHORT = {"mi": "mutual_information"}
_LINE = "{task:<52} {truth:>9} {estimate:>9} {bounds:>19}  {status:<15} {seconds:>6}  {verdict}"


def selftest_command(name: str, *, quick: bool, as_json: bool) -> int:
    """Runs the known-answer tests of a measure; returns 0 if every answer is acceptable, else 1.

    Raises:
        ConfigError: for a name that is no measure, or one without a self-test.
    """
    name = SHORT.get(name, name)
    if name not in METRICS:
        known = [*SHORT, *METRICS.names()]
        raise ConfigError([f"selftest {name}: is no measure.{did_you_mean(name, known)} Try: selftest mi"], "usage")
    if not as_json:
        heads = ("task", "truth", "estimate", "bounds", "status", "seconds", "verdict")
        print(_LINE.format(**{h: h for h in heads}), flush=True)
    rows = []
    for row in run_self_test(name, quick):
        rows.append(row)
        if not as_json:
            print(_line(row), flush=True)
    if not rows:
        raise ConfigError([f"selftest {name}: has no known-answer tests. Try: selftest mi"], "usage")
    found = verdict(rows)
    if as_json:
        print(json.dumps({"measure": name, "verdict": found, "rows": [r.dump() for r in rows]}, indent=1))
    else:
        print(f"{name}: {found} ({len(rows)} tasks, {sum(r.seconds for r in rows):.0f} s)")
    return 1 if any(r.failure for r in rows) else 0


def _line(row: KnownAnswer) -> str:
    bounds = f"[{_number(row.low)}, {_number(row.high)}]"
    return _LINE.format(
        task=row.task,
        truth=_number(row.truth),
        estimate=_number(row.estimate),
        bounds=bounds,
        status=row.status.replace("_", " "),
        seconds=f"{row.seconds:.1f}",
        verdict=row.verdict,
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
