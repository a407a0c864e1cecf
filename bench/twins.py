"""Attacks that meet the same wire twice: a defense on the trained network, with the cloud as it was and trained anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .asking import fits_before
from .canonical import key_of
from .plan import Node
from .store.layout import Name

ON_THE_TRAINED_NETWORK = ("infer", "infer+cloud")


def twins_of(nodes: Mapping[Name, Node]) -> dict[str, str]:
    """Returns the key of a fit or cell to that of an earlier one with the same attack on what may be the same wire.

    Targets that differ in nothing but whether the cloud was trained on what is sent have one edge; whether they send the same
    is for their weights to say, since some defenses learn along. An attack that is given the cloud has no twin.

    Args:
        nodes: of a plan, by (kind, key), in its order.
    """
    targets = twin_targets(nodes)
    at = {name: number for number, name in enumerate(nodes)}
    twins: dict[str, str] = {}
    # What a fit or cell would be on the other target; of fits that know no target that is what they are.
    others: dict[str, str] = {}
    for node in nodes.values():
        if node.kind not in ("fit", "cell"):
            continue
        target = node.identity["target"]
        if target is None:
            others[node.key] = node.key
            continue
        alone = node.identity["knowledge"]["cloud"] or any(f not in others for f in fits_before(node.identity))
        if alone or target not in targets:
            continue
        other = key_of(_moved(node.identity, targets[target], others))
        if (node.kind, other) not in nodes:
            continue
        others[node.key] = other
        if at[node.kind, other] < at[node.name]:
            twins[node.key] = other
    return twins


def twin_targets(nodes: Mapping[Name, Node]) -> dict[str, str]:
    """Returns the key of each target to that of the other with its edge, where there are two.

    Args:
        nodes: of a plan, by (kind, key).
    """
    alike: dict[str, list[str]] = {}
    for node in nodes.values():
        if node.kind != "target":
            continue
        defense = node.identity["defense"]
        if defense.get("when") in ON_THE_TRAINED_NETWORK:
            alike.setdefault(key_of({**node.identity, "defense": defense["parts"]}), []).append(node.key)
    return {key: other for pair in alike.values() if len(pair) == 2 for key, other in (pair, pair[::-1])}


def _moved(identity: Mapping[str, Any], target: str, others: Mapping[str, str]) -> dict[str, Any]:
    """Returns the identity of the same fit or cell on another target."""
    moved = {**identity, "target": target}
    if identity.get("fit"):
        moved["fit"] = others[identity["fit"]]
    if "builds_on" in identity:
        moved["builds_on"] = {role: others[key] for role, key in identity["builds_on"].items()}
    if "after" in identity:
        moved["after"] = [others[key] for key in identity["after"]]
    return moved
