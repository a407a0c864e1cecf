"""What a metric needs is fetched once, before the first node; where that fails the run goes on and says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import splitaudit
from splitaudit.api import Options, run
from splitaudit.events import Event

PLUGIN = '''
from pathlib import Path

from splitaudit import Metric
from splitaudit.errors import DataError

WEIGHTS = Path({weights!r})
ASKED = Path({asked!r})


class Weighted(Metric):
    """Needs weights that it does not ship."""

    @classmethod
    def fetch(cls, params, *, offline):
        with ASKED.open("a") as file:
            file.write("offline\\n" if offline else "online\\n")
        if offline:
            raise DataError("no weights, and --offline forbids to fetch them. Get them elsewhere.")
        WEIGHTS.touch()
        return WEIGHTS

    def unavailable(self, image_shape):
        return None if WEIGHTS.exists() else "has no weights"

    def per_sample(self, truth, guess):
        return (truth - guess).abs().mean((1, 2, 3))
'''


def test_a_failed_fetch_is_told_and_a_later_one_fills_the_column_without_attacking_again(
    tmp_path: Path, tiny: dict[str, Any], images: Path, undrawn: None
) -> None:
    asked, plugin = tmp_path / "asked", tmp_path / "needy.py"
    plugin.write_text(PLUGIN.format(weights=str(tmp_path / "weights"), asked=str(asked)))
    tiny |= {"metrics": ["mse", "local/needy"], "defenses": ["none"]}
    events: list[Event] = []

    def go(**options: Any) -> int:
        events.clear()
        surroundings = Options(executor="serial", device="cpu", data_root=images, plugins=(str(plugin),), **options)
        outcome = run(tiny, out=tmp_path / "out", options=surroundings, listener=events.append)
        assert outcome.exit_code == 0
        return outcome.counts.done

    def column() -> tuple[Any, str]:
        cells = splitaudit.load_results(tmp_path / "out").cells.set_index(["attack", "knowledge"])
        return cells.loc[("rmle", "white-box"), "local/needy"], cells.loc[("rmle", "white-box"), "reason"]

    assert go(offline=True) > 0
    assert [e.message for e in events if e.kind == "note"] == [
        "local/needy: no values in this run. no weights, and --offline forbids to fetch them. Get them elsewhere."
    ]
    assert events[0].kind == "note"  # before the plan, and so before the first node
    value, reason = column()
    assert value != value  # NaN
    assert "has no weights" in reason

    assert go(offline=False) == 0  # nothing to do: no connection is opened either
    assert asked.read_text() == "offline\n"

    assert go(offline=False, force=("prior",)) > 0
    assert asked.read_text() == "offline\nonline\n"
    titles = {(e.task, e.title) for e in events if e.kind == "done"}
    assert ("score", "scores of rmle on none, seed 0") in titles
    assert not any(task == "cell" and "rmle" in title for task, title in titles)
    value, reason = column()
    assert value > 0

    assert go(offline=False) == 0
    assert asked.read_text() == "offline\nonline\n"
