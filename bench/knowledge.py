"""What an adversary knows, as a value."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .errors import ConfigError, did_you_mean

Edge = Literal["none", "query", "weights"]
Aux = Literal["none", "other", "same"]
_EDGE: tuple[Edge, ...] = ("none", "query", "weights")
_AUX: tuple[Aux, ...] = ("none", "other", "same")


class AdversaryKnowledge(BaseModel):
    """The fields of an adversary's knowledge. The defense itself is known at every level (Kerckhoffs).

    The same class says what a suite *grants* and what an attack *requires*; :meth:`lacks` compares the two and
    :meth:`narrowed` gives an attack what it requires and nothing more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    edge: Edge = Field(default="none", description="access to the edge: none < query (run it on own images) < weights")
    cloud: bool = Field(default=False, description="knows the cloud half's weights")
    aux: Aux = Field(default="none", description="auxiliary images: none < other distribution < same distribution")
    aux_count: int | None = Field(
        default=None, ge=1, description="how many auxiliary training images (null: all of the part)"
    )
    labels: bool = Field(default=False, description="auxiliary images carry labels and attributes")
    queries: int | None = Field(default=None, ge=0, description="query budget in images (null: unlimited)")
    draws: int = Field(default=1, ge=1, description="draws of the defense's randomness received per private image")

    def lacks(self, need: AdversaryKnowledge) -> str | None:
        """Returns why this knowledge does not suffice for ``need`` (one clause), or None if it does."""
        if _EDGE.index(self.edge) < _EDGE.index(need.edge):
            what = "the edge's weights" if need.edge == "weights" else "queries to the edge"
            return f"needs {what}, the level grants edge access '{self.edge}'"
        if _AUX.index(self.aux) < _AUX.index(need.aux):
            return f"needs auxiliary images ('{need.aux}'), the level grants '{self.aux}'"
        if need.cloud and not self.cloud:
            return "needs the cloud's weights, the level does not grant them"
        if need.labels and not self.labels:
            return "needs labels of the auxiliary images, the level does not grant them"
        return None

    def narrowed(self, uses: AdversaryKnowledge, uses_draws: bool = False) -> AdversaryKnowledge:
        """Returns what an attack that can make use of ``uses`` is given at this level: the lesser of the two.

        An attack sees no more than it uses, so its result is shared by all levels that grant as much: the record of
        ``decoder`` is the same at ``query`` and at ``white-box``.
        """
        edge = _EDGE[min(_EDGE.index(self.edge), _EDGE.index(uses.edge))]
        aux = _AUX[min(_AUX.index(self.aux), _AUX.index(uses.aux))]
        return AdversaryKnowledge(
            edge=edge,
            cloud=self.cloud and uses.cloud,
            aux=aux,
            aux_count=None if aux == "none" else self.aux_count,
            labels=self.labels and uses.labels and aux != "none",
            # Who has the weights needs no query, also not for what an attack builds on.
            queries=self.queries if self.edge == edge == "query" else None,
            draws=self.draws if uses_draws else 1,
        )

    def dump(self) -> dict[str, Any]:
        """Returns the fields as plain JSON values."""
        return self.model_dump(mode="json")


PRESETS: dict[str, AdversaryKnowledge] = {
    "white-box": AdversaryKnowledge(edge="weights", aux="same", labels=True),
    "white-box-other": AdversaryKnowledge(edge="weights", aux="other"),
    "white-box-no-aux": AdversaryKnowledge(edge="weights", aux="none"),
    "query": AdversaryKnowledge(edge="query", aux="same", labels=True),
    "query-other": AdversaryKnowledge(edge="query", aux="other"),
    "query-free": AdversaryKnowledge(edge="none", cloud=True, aux="same", labels=True),
    "query-free-other": AdversaryKnowledge(edge="none", cloud=True, aux="other", labels=True),
}
"""Named levels, strongest first."""


def level(name: str) -> AdversaryKnowledge:
    """Returns a named level.

    ``query:16`` is ``query`` with 16 received draws of each private image, ``query:aux=2000`` with no more than 2,000
    auxiliary training images, ``query:queries=5000`` with a budget of 5,000 images for the edge (at levels that query);
    ``query:16,aux=2000`` has two of them.

    Raises:
        ConfigError: for an unknown name, or a limit that is none; with a line for each.
    """
    base, limits, problems = _parsed(name)
    if base not in PRESETS:
        problems.insert(
            0,
            f"knowledge '{name}' is not known.{did_you_mean(base, PRESETS)} Known: {', '.join(PRESETS)}; each also with "
            f"{_WRITTEN}.",
        )
    elif "queries" in limits and PRESETS[base].edge != "query":
        why = (
            "has the edge's weights and needs no query" if PRESETS[base].edge == "weights" else "may not query the edge"
        )
        problems.append(
            f"knowledge '{name}': queries: who is at '{base}' {why}, so a budget limits nothing. Leave it out."
        )
    if problems:
        raise ConfigError(problems)
    return PRESETS[base].model_copy(update=limits)


def split_draws(name: str) -> tuple[str, int]:
    """Returns a level's name without its draws, and how many there are; a count that is none stays in the name."""
    base, limits, problems = _parsed(name)
    if problems or "draws" not in limits:
        return name, 1
    rest = ",".join(p for p in name.partition(":")[2].split(",") if "=" in p and not p.startswith("draws="))
    return (f"{base}:{rest}" if rest else base), limits["draws"]


_LIMITS = {
    "draws": ("draws", "received draws of each private image"),
    "aux": ("aux_count", "auxiliary training images"),
    "queries": ("queries", "images that may be run through the edge"),
}
"""What may follow a level's name: the field that it sets, and what it counts."""

_WRITTEN = "draws per image (query:16), a number of auxiliary images (query:aux=2000), a budget (query:queries=5000)"


def _parsed(name: str) -> tuple[str, dict[str, int], list[str]]:
    """Returns the preset that a level's name begins with, the fields that it changes, and what is wrong with its limits."""
    base, colon, rest = name.partition(":")
    found: dict[str, int] = {}
    problems = []
    for part in rest.split(",") if colon else ():
        key, _, count = part.partition("=") if "=" in part else ("draws", "=", part)
        if key not in _LIMITS:
            problems.append(
                f"knowledge '{name}': '{key}' is no limit.{did_you_mean(key, _LIMITS)} A level may have {_WRITTEN}."
            )
            continue
        field, what = _LIMITS[key]
        if field in found:
            problems.append(f"knowledge '{name}': {key} is given twice. Leave one of the two out.")
        elif not count.isdecimal() or int(count) < 1:
            got = f"'{count}'" if count else "nothing"
            problems.append(f"knowledge '{name}': {key}: got {got}, expected a whole number of {what}, at least 1.")
        else:
            found[field] = int(count)
    return base, found, problems
