"""What was found, in plain words, per dataset, backbone, cut and knowledge level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..knowledge import level as level_of
from .columns import PLACE
from .flags import CHANCE
from .tables import Results
from .texts import NOT_DISTINGUISHABLE, fixed, number, one_seed, present, said, undistinguished
from .usefulness import LIMIT, useless

Rows = list[dict[str, Any]]

MOST = 5
"""Defenses that a finding names one by one."""

POINTS = f"{100 * LIMIT:g} points of accuracy"


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        place: dataset, backbone and cut; empty where the suite has only one place.
        level: the knowledge level.
        grants: what the attacker has at that level, in words.
        text: the finding.
        cautions: what keeps it from being whole or from being believed.
    """

    place: str
    level: str
    grants: str
    text: str
    cautions: tuple[str, ...]


def find(tables: Results) -> list[Finding]:
    """Returns a finding for each place and knowledge level that has any leakage score."""
    rows, pairs = tables.summary.to_dict("records"), dict[tuple[str, ...], Rows]()
    for pair in tables.pairs.to_dict("records"):
        pairs.setdefault(tuple(pair[n] for n in (*PLACE, "knowledge")), []).append(pair)
    places = list(dict.fromkeys(tuple(r[n] for n in PLACE) for r in rows))
    out = []
    for place in places:
        there = [r for r in rows if tuple(r[n] for n in PLACE) == place]
        for level in dict.fromkeys(r["knowledge"] for r in there):
            here = [r for r in there if r["knowledge"] == level]
            scored = [r for r in here if present(r["leakage"])]
            if scored:
                label = "" if len(places) == 1 else ", ".join(place)
                text = _text(scored, pairs.get((*place, level), []), whole=len(complete(here)) == len(here))
                out.append(Finding(label, level, grants(level), text, _cautions(here)))
    return out


def verdicts(claims: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """Returns each verdict with the statements that it is on, and their place where there are several; the commonest first."""
    rows = claims.drop_duplicates([*PLACE, "claim"]).to_dict("records")
    many = len(claims[list(PLACE)].drop_duplicates()) > 1
    out: dict[str, list[str]] = {}
    for row in rows:
        place = f" ({', '.join(str(row[n]) for n in PLACE)})" if many else ""
        out.setdefault(str(row["overall"]), []).append(f"{row['says'].rstrip('.')}{place}")
    return sorted(out.items(), key=lambda item: -len(item[1]))


def complete(rows: Rows) -> Rows:
    """Returns the rows that may be ranked: where an attack failed or was not run, the true worst case may be higher."""
    return [r for r in rows if said(r, "incomplete") == "-"]


def uncosted(rows: Rows) -> Rows:
    """Returns the defenses of which nobody knows what accuracy they lose: ``none``, or theirs, is not there for every seed."""
    return [r for r in rows if r["defense"] != "none" and not present(r.get("accuracy_drop"))]


def grants(level: str) -> str:
    """Returns what an attacker has at a knowledge level, in words."""
    given = level_of(level)
    text = {
        "weights": "the attacker knows the edge's weights",
        "query": "the attacker may run the defended edge on images of its own",
        "none": "the attacker has no access to the edge",
    }[given.edge]
    if given.cloud:
        text += ", knows the cloud's half"
    images = {"same": "images of the same kind", "other": "images of another kind", "none": "no images of its own"}
    count = f"{given.aux_count:,} " if given.aux_count else ""
    text = f"{text} and has {count}{images[given.aux]}{' with labels' if given.labels else ''}"
    if given.queries is not None:
        text += f"; may run it on {given.queries:,} images"
    return f"{text}; receives {given.draws} draws of each private image's features" if given.draws > 1 else text


def _text(rows: Rows, pairs: Rows, *, whole: bool) -> str:
    """Returns the finding on rows with a leakage score.

    Args:
        rows: of one place and level.
        pairs: the comparisons of two defenses there.
        whole: none of its place and level is incomplete.
    """
    control = next((r for r in rows if r["defense"] == "none"), None)
    ranked = complete(rows)
    if len(rows) == 1:
        return f"{'Undefended' if rows[0] is control else rows[0]['defense']}: {_figures(rows[0])}."
    undefended = f" Undefended: {_figures(control)}." if control else ""
    if all(r is control for r in ranked):
        return f"Incomplete, so none is named the least.{undefended}"
    useful = [r for r in ranked if not useless(r)]
    if all(r is control for r in useful):
        each = "each one" if whole else "each one that is complete"
        return f"No defense is named the least: {each} is at chance or loses more than {POINTS}.{undefended}"
    best = min(useful, key=lambda r: r["leakage"])
    limits = ["are complete"] if len(ranked) < len(rows) else []
    blind = best in uncosted(ranked)
    left_out = [useless(r) for r in ranked if useless(r)]
    if left_out:
        not_known = "are not at chance" if set(left_out) == {CHANCE} else f"are not known to lose more than {POINTS}"
        limits.append(not_known if blind else f"lose at most {POINTS}")
    among = f" of those that {' and '.join(limits)}" if limits else ""
    among += ", at a cost that is not known" if blind else ""
    text = f"Least leakage{among}: {best['defense']} with {_figures(best)}"
    # The least of many figures is small by chance too.
    text += ", not distinguishable from the undefended target." if undistinguished(best, "leakage_change") else "."
    level = _level_with(best, useful, pairs)
    if level:
        rivals = sum(r is not best and r is not control for r in useful)
        many = len(level) > MOST
        text += (
            f" Not distinguishable from it: {f'{len(level)} of {rivals}, see pairs.csv' if many else ', '.join(level)}."
        )
    return text if control is best else text + undefended


def _level_with(best: dict[str, Any], rows: Rows, pairs: Rows) -> list[str]:
    """Returns which other defenses, but ``none``, cannot be told from the best one by their leakage."""
    alike = {
        p["other"] if p["defense"] == best["defense"] else p["defense"]
        for p in pairs
        if best["defense"] in (p["defense"], p["other"]) and NOT_DISTINGUISHABLE in said(p, "note")
    }
    return [r["defense"] for r in rows if r["defense"] in alike and r["defense"] != "none"]


def _cautions(rows: Rows) -> tuple[str, ...]:
    out = []
    alike = [r["defense"] for r in rows if undistinguished(r, "leakage_change")]
    if alike:
        names = _list(alike, len(rows), "n.d. in the table")
        out.append(f"Leakage not distinguishable from that of the undefended target: {names}.")
    scored = [r for r in rows if present(r["leakage"])]
    out += _left_out(complete(scored))
    missing = [r["defense"] for r in rows if not present(r["leakage"])]
    if missing:
        names = _list(missing, len(rows), "empty in the table")
        out.append(f"Without a leakage score, and so not compared: {names}.")
    partial = [r["defense"] for r in scored if said(r, "incomplete") != "-"]
    if partial:
        names = _list(partial, len(rows), "marked in the table")
        out.append(f"Incomplete, so that the true worst case may be higher, and not ranked: {names}.")
    if any(present(r["leakage_lo"]) and math.isinf(r["leakage_lo"]) for r in scored):
        out.append(
            "A single private image, or crops of one image alone: the figures are of it, nothing is known of others, and "
            "nothing can be told apart."
        )
    if one_seed(rows):
        out.append(
            "One seed: intervals are over images and leave out the training's own chance, so a difference may belong to "
            "these trainings and not to the defense. Only several seeds can tell."
        )
    return tuple(out)


def _left_out(rows: Rows) -> list[str]:
    """Returns which defenses are not named the best, however little they leak, and why."""
    unknown = [str(r["defense"]) for r in uncosted(rows) if not useless(r)]
    chance = [str(r["defense"]) for r in rows if useless(r) == CHANCE]
    costly = [f"{r['defense']} ({fixed(100 * r['accuracy_drop'], 1)})" for r in rows if useless(r) not in ("", CHANCE)]
    out = []
    if unknown:
        names = _list(unknown, len(rows), "without a drop in the table")
        out.append(
            f"What accuracy it loses against none is not known: {names}. A defense that gives up its task leaks little for "
            "nothing, and such a one would not be told apart here."
        )
    if chance:
        names = _list(chance, len(rows), "flagged in the table")
        out.append(f"Not named the least, since the task is not done any more (accuracy at chance): {names}.")
    if costly:
        names = _list(costly, len(rows), "their drop is in the table")
        out.append(f"Not named the least, since it costs more than {POINTS} (points lost): {names}.")
    return out


def _figures(row: dict[str, Any]) -> str:
    accuracy = number(row, "accuracy", 3, interval=True)
    return (
        f"a leakage score of {number(row, 'leakage', 3, interval=True)} under the strongest attack, {row['worst_attack']} "
        f"(as close to the truth as a thumbnail of {number(row, 'equivalent_resolution', 1, interval=True)} px a side), "
        f"{f'at an accuracy of {accuracy}' if accuracy != '-' else 'its accuracy not known'}"
    )


def _list(names: Sequence[str], of: int, where: str) -> str:
    """Returns names, or how many there are and where they are marked, if they would fill the page."""
    names = list(dict.fromkeys(names))
    return ", ".join(names) if len(names) <= MOST else f"{len(names)} of {of} defenses, {where} below"
