"""Records as the tables need them: read once, with the state of every node in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..canonical import key_of
from ..plan import Plan
from .columns import judges

Array = NDArray[np.float64]
Read = Callable[[str, str], dict[str, Any] | None]


@dataclass(frozen=True)
class State:
    """How a node or a row stands.

    Attributes:
        status: ``done``, ``failed``, ``skipped`` or ``not run``.
        reason: why it is not done; empty where there is nothing to say.
        owed: there ought to be a result and there is none: failed, not run, or skipped because something failed.
    """

    status: str
    reason: str = ""
    owed: bool = False


NOT_RUN = State("not run", "no record yet", owed=True)


@dataclass(frozen=True)
class Scores:
    """The values of one metric for every image, or why there are none.

    Attributes:
        values: (N,), NaN where an image has none, infinite where that is the metric's value of a perfect copy; None where no
            image has any.
        reason: why values are missing; empty where none are.
        flags: validity flags.
    """

    values: Array | None
    reason: str = ""
    flags: tuple[str, ...] = ()

    @property
    def whole(self) -> Array | None:
        """The values if no image lacks one: nothing is averaged over survivors."""
        return None if self.values is None or np.isnan(self.values).any() else self.values


NOT_JUDGED = Scores(None)
"""What a metric of images says of an attack that reads labels, and one of labels of reconstructions: nothing is missing."""


@dataclass(frozen=True)
class Reference:
    """What is known of a dataset's private images.

    Attributes:
        key: of the record.
        state: of the record.
        prior: MSE of the mean auxiliary image, (N,).
        thumbnails: side to MSE, (N,).
        side: the images' shorter side in pixels.
        groups: a label per private image, or None.
        measure_groups: a label per image of ``measure``, or None.
        labels: class of each private image.
        attributes: attribute to its value on each private image.
        rows: reference row to metric to scores.
    """

    key: str
    state: State
    prior: Array | None = None
    thumbnails: Mapping[int, Array] = field(default_factory=dict)
    side: int = 0
    groups: list[int] | None = None
    measure_groups: list[int] | None = None
    labels: tuple[int, ...] = ()
    attributes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    rows: Mapping[str, Mapping[str, Scores]] = field(default_factory=dict)


class Records:
    """The records of a plan.

    Args:
        plan: the plan.
        read: kind and key to the record, or None.
    """

    def __init__(self, plan: Plan, read: Read) -> None:
        self.plan = plan
        self.read = read
        self._records: dict[tuple[str, str], dict[str, Any] | None] = {}
        self._scores: dict[tuple[str, str], Scores] = {}
        self._references: dict[str, Reference] = {}

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        """Returns a record, or None. Scores of cells are taken out of it: :meth:`scores` has them in less memory."""
        name = (kind, key)
        if name not in self._records:
            record = self.read(kind, key)
            if record is not None and kind == "cell":
                for metric, wanted in self.plan.metrics.items():
                    fits = judges(metric) == self.plan.nodes["cell", key].infers
                    self._scores[key, metric] = (
                        parse_scores(record["scores"].get(metric), wanted) if fits else NOT_JUDGED
                    )
                record = {**record, "scores": {m: {**s, "values": []} for m, s in record["scores"].items()}}
            self._records[name] = record
        return self._records[name]

    def done(self, kind: str, key: str | None) -> dict[str, Any] | None:
        """Returns a record if it is done."""
        record = self.get(kind, key) if key else None
        return record if record is not None and record["status"] == "done" else None

    def scores(self, key: str, metric: str) -> Scores:
        """Returns the scores of a done cell under one metric; none where the suite does not have it."""
        self.get("cell", key)
        return self._scores.get((key, metric), NOT_JUDGED)

    def state(self, kind: str, key: str) -> State:
        """Returns how a node stands; without a record, what it needs may say why."""
        record = self.get(kind, key)
        if record is not None:
            if record["status"] == "done":
                return State("done")
            return State("failed", error_line(record["error"]), owed=True)
        name: Any = (kind, key)
        for need in self.plan.nodes[name].needs:
            state = self.state(*need)
            if state.status == "failed":
                return State("skipped", f"{need[0]} failed: {state.reason}", owed=True)
            if state.status == "skipped":
                return state
        return NOT_RUN

    def row_state(self, kind: str, row: Mapping[str, Any]) -> State:
        """Returns how a row of the plan's tables stands."""
        if row["skip"]:
            return State("skipped", row["skip"])
        return self.state(kind, row["key"])

    def measured(self, key: str, measure: str) -> tuple[dict[str, Any] | None, State]:
        """Returns what a measure found on a target, and how it stands."""
        record = self.done("target", key)
        found = record["measurements"].get(measure) if record else None
        if found is None or found["key"] != self._measure_key(key, measure):
            return None, State("not run", f"{measure}: not measured yet", owed=True)
        if found["status"] == "failed":
            return None, State("failed", f"{measure}: failed: {found['reason']}", owed=True)
        reason = f"{measure}: {found['reason']}" if found["reason"] else ""
        return found, State("done" if found["status"] == "done" else "skipped", reason)

    def reference(self, dataset: str) -> Reference:
        """Returns what is known of a dataset's private images."""
        if dataset not in self._references:
            key = self.plan.references[dataset]
            state = self.state("reference", key)
            record = self.done("reference", key)
            made = Reference(key, state)
            if record is not None:
                made = self._parse(key, record, dataset)
            self._references[dataset] = made
        return self._references[dataset]

    def _parse(self, key: str, record: Mapping[str, Any], dataset: str) -> Reference:
        private = record["private"]
        return Reference(
            key=key,
            state=State("done"),
            prior=np.asarray(record["prior_mse"], dtype=np.float64),
            thumbnails={int(s): np.asarray(v, dtype=np.float64) for s, v in record["thumbnails"].items()},
            side=min(self.plan.datasets[dataset]["image_shape"][1:]),
            groups=private.get("groups"),
            measure_groups=record["measure_groups"],
            labels=tuple(private["labels"]),
            attributes={name: tuple(values) for name, values in private.get("attributes", {}).items()},
            rows={
                row: {
                    m: parse_scores(scores.get(m), key) if judges(m) == "image" else NOT_JUDGED
                    for m, key in self.plan.metrics.items()
                }
                for row, scores in record["rows"].items()
            },
        )

    def _measure_key(self, target: str, measure: str) -> str:
        """How many images are measured is part of a measurement's key."""
        data = self.plan.nodes["target", target].identity["dataset"]
        for label, key in self.plan.references.items():
            if self.plan.nodes["reference", key].identity["dataset"] == data:
                images = int(self.plan.datasets[label]["sizes"]["measure"])
                return key_of({"measure": self.plan.metrics[measure], "images": images})
        raise KeyError(f"dataset {data['name']} has no reference node")


def parse_scores(score: Mapping[str, Any] | None, key: str) -> Scores:
    """Returns a stored score as an array; values of another version of the metric count as not there."""
    if score is None or score["key"] != key:
        return Scores(None, "not scored yet")
    if score["status"] == "failed":
        return Scores(None, f"failed: {score['reason']}", tuple(score["flags"]))
    if score["status"] != "done" or not score["values"]:
        return Scores(None, score["reason"] or "no values", tuple(score["flags"]))
    values = np.array([np.nan if v is None else float(v) for v in score["values"]], dtype=np.float64)
    return Scores(values, score["reason"] or "", tuple(score["flags"]))


def error_line(error: Mapping[str, Any]) -> str:
    """Returns an error in one line."""
    lines = f"{error['type']}: {error['message']}".splitlines()
    return lines[0] if lines else error["type"]
