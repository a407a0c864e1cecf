"""A plan: every node with its identity and key, every row of the tables, every skip with its reason. A plain value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .store.layout import Name
from .store.schema import Kind


@dataclass(frozen=True)
class Node:
    """A piece of stored work.

    Attributes:
        kind: target, fit, cell or reference.
        key: hash of the identity.
        identity: everything that may change a number of it.
        needs: (kind, key) of the nodes that must be done before.
        title: what a person calls it.
    """

    kind: Kind
    key: str
    identity: dict[str, Any]
    needs: tuple[Name, ...] = ()
    title: str = ""

    @property
    def name(self) -> Name:
        """Kind and key."""
        return self.kind, self.key

    @property
    def infers(self) -> Literal["image", "label"]:
        """What a cell's attack says of each private image: the image, or its class or another attribute."""
        return "label" if "attribute" in self.identity else "image"


@dataclass
class Plan:
    """The nodes and the rows of a suite.

    Attributes:
        suite: the resolved suite as JSON values.
        nodes: by (kind, key), in an order in which needs come first.
        targets: rows of the table of targets: labels, ``key`` or null, ``skip`` or null.
        cells: rows of the table of cells: the target's labels, attack, knowledge, ``key`` or null, ``skip`` or null.
        references: dataset label to the key of its reference record.
        datasets: dataset label to ``image_shape``, ``classes`` and ``sizes``.
        metrics: metric name to its key (name, version, parameters).
        twins: key of a fit or cell to that of an earlier one with the same attack on what may be the same wire
            (:mod:`splitaudit.twins`).
    """

    suite: dict[str, Any]
    nodes: dict[Name, Node] = field(default_factory=dict)
    targets: list[dict[str, Any]] = field(default_factory=list)
    cells: list[dict[str, Any]] = field(default_factory=list)
    references: dict[str, str] = field(default_factory=dict)
    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)
    twins: dict[str, str] = field(default_factory=dict)

    def dump(self) -> dict[str, Any]:
        """Returns the plan as plain JSON values."""
        out = dataclasses.asdict(self)
        out["nodes"] = [dataclasses.asdict(n) for n in self.nodes.values()]
        return out

    @classmethod
    def load(cls, raw: Mapping[str, Any]) -> Plan:
        """Returns the plan that :meth:`dump` wrote."""
        values = dict(raw)
        nodes = [
            Node(n["kind"], n["key"], n["identity"], tuple((k, v) for k, v in n["needs"]), n["title"])
            for n in values.pop("nodes")
        ]
        return cls(**values, nodes={n.name: n for n in nodes})
