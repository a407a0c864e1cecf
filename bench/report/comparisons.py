"""Validity flags that only a comparison of cells can raise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from ..errors import PluginError
from ..labels import ignores_defense
from ..plan import Plan
from ..plugins import BACKBONES
from ..stats import Interval
from .adaptive import adaptive_pairs, unlike_settings
from .flags import BETTER_BLIND, DEEPER, FALSE_SECURITY, WEAK_WHITE_BOX
from .frames import joined
from .headline import by_seed, leakage_difference
from .reading import Array, Records


def comparison_flags(plan: Plan, records: Records, *, worst_case: bool = False) -> dict[int, str]:
    """Returns index of a row of cells to the flags that comparisons with other cells raise.

    Args:
        plan: of the suite.
        records: of the run.
        worst_case: only those that say something of the target's worst case: of white-box attacks that are weaker than a
            black-box one, the best.
    """
    found: dict[int, list[str]] = defaultdict(list)
    for raised in (
        weak_white_box(plan, records, best_only=worst_case),
        deeper_leaks(plan, records),
        false_security(plan, records),
    ):
        for index, text in raised.items():
            found[index].append(text)
    return {index: joined(texts) for index, texts in found.items()}


def weak_white_box(plan: Plan, records: Records, *, best_only: bool = False) -> dict[int, str]:
    """Returns the rows of cells whose attack knows the edge's weights and does worse than one that does not.

    On each target every attack that only ``white-box`` allows is compared with the best one that ``query`` allows, paired
    over images; levels with the same suffix are compared with each other.

    Args:
        plan: of the suite.
        records: of the run.
        best_only: only the best attack with weights is compared.
    """
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for i, row in enumerate(plan.cells):
        base, suffix = _split(row["knowledge"])
        if base in ("white-box", "query") and records.done("cell", row["key"]) and not ignores_defense(row["attack"]):
            groups[*(row[n] for n in ("dataset", "backbone", "cut", "defense", "seed")), suffix].append(i)
    flags: dict[int, str] = {}
    for indices in groups.values():
        strong = {i: m for i in indices if (m := _mse(plan, records, i)) is not None and _has_weights(plan, i)}
        weak = {i: m for i in indices if (m := _mse(plan, records, i)) is not None and not _has_weights(plan, i)}
        if not strong or not weak:
            continue
        rival = _best(weak)
        for index in [_best(strong)] if best_only else strong:
            if _leaks_less(plan, records, index, strong[index], weak[rival]):
                names = f"{plan.cells[index]['attack']} leaks less than {plan.cells[rival]['attack']}"
                flags[index] = f"{WEAK_WHITE_BOX}: {names}"
    return flags


def _split(knowledge: str) -> tuple[str, str]:
    # What follows the name (another distribution, draws) must be the same for levels that are compared.
    for base in ("white-box", "query-free", "query"):
        if knowledge.startswith(base):
            return base, knowledge[len(base) :]
    return knowledge, ""


def _has_weights(plan: Plan, index: int) -> bool:
    return plan.nodes["cell", plan.cells[index]["key"]].identity["knowledge"]["edge"] == "weights"


def _mse(plan: Plan, records: Records, index: int) -> Array | None:
    return records.scores(plan.cells[index]["key"], "mse").whole if "mse" in plan.metrics else None


def _best(errors: Mapping[int, Array]) -> int:
    return min(errors, key=lambda i: float(errors[i].mean()))


def deeper_leaks(plan: Plan, records: Records) -> dict[int, str]:
    """Returns the rows of cells that are the best at their cut and leak less than the best at a deeper one.

    Compared are targets of the same dataset, backbone, defense and seed at the same knowledge level, paired over images.
    """
    groups: dict[tuple[Any, ...], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, row in enumerate(plan.cells):
        if records.done("cell", row["key"]) and not ignores_defense(row["attack"]):
            place = tuple(row[n] for n in ("dataset", "backbone", "defense", "seed", "knowledge"))
            groups[place][row["cut"]].append(i)
    flags: dict[int, str] = {}
    for cuts in groups.values():
        best = {}
        for cut, indices in cuts.items():
            errors = {i: m for i in indices if (m := _mse(plan, records, i)) is not None}
            if errors:
                best[cut] = (_best(errors), errors[_best(errors)])
        if len(best) < 2:
            continue
        order = [c for c in _cuts(plan, next(iter(cuts.values()))[0]) if c in best]
        for at, cut in enumerate(order):
            index, errors = best[cut]
            for deeper in order[at + 1 :]:
                if index not in flags and _leaks_less(plan, records, index, errors, best[deeper][1]):
                    flags[index] = f"{DEEPER}: {deeper} than {cut}"
    return flags


def false_security(plan: Plan, records: Records) -> dict[int, str]:
    """Returns the rows of cells whose attack ignores the defense and leaks less than the same attack that does not.

    Where it leaks more, it is the row of the attack that takes the defense into account: that one is too weak.
    """
    flags: dict[int, str] = {}
    for pair in adaptive_pairs(plan, records):
        naive, adaptive = (_mse(plan, records, index) for index in pair)
        gap = None if naive is None or adaptive is None else _gap(plan, records, pair[0], naive, adaptive)
        if gap is not None and gap.high < 0:
            hidden = f"{-gap.value:.3f} [{-gap.high:.3f}, {-gap.low:.3f}] of leakage hidden"
            unlike = unlike_settings(plan, records, pair)
            settings = f", in part perhaps by another chosen setting ({unlike})" if unlike else ""
            flags[pair[0]] = f"{FALSE_SECURITY}: {plan.cells[pair[0]]['attack']}, {hidden}{settings}"
        elif gap is not None and gap.low > 0:
            more = f"{gap.value:.3f} [{gap.low:.3f}, {gap.high:.3f}] of leakage more"
            flags[pair[1]] = f"{BETTER_BLIND}: {plan.cells[pair[0]]['attack']}, {more}"
    return flags


def _leaks_less(plan: Plan, records: Records, index: int, errors: Array, rival: Array) -> bool:
    """Says whether errors of a cell mean less leakage than a rival's, beyond the paired interval."""
    difference = _gap(plan, records, index, errors, rival)
    return difference is not None and difference.high < 0


def _gap(plan: Plan, records: Records, index: int, errors: Array, rival: Array) -> Interval | None:
    """Returns the leakage of a cell's errors less that of a rival's, paired over images."""
    reference = records.reference(plan.cells[index]["dataset"])
    return leakage_difference(by_seed([(0, errors)]), by_seed([(0, rival)]), reference)


def _cuts(plan: Plan, index: int) -> tuple[str, ...]:
    """Returns the cuts of a cell's backbone from the first to the last; none where its plugin is not installed here."""
    target = plan.nodes["target", plan.cells[index]["target"]].identity
    spec: Mapping[str, Any] = target["backbone"]
    try:
        cls = BACKBONES.get(spec["name"])
    except PluginError:
        return ()
    return cls(cls.Params(**spec["params"])).cuts()
