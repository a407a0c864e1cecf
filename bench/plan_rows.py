"""The rows of a plan and the nodes behind them: targets, the fits of attacks, cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .asking import VERSION as BUDGET
from .asking import shortage
from .attack import Attack, LabelAttack
from .canonical import key_of
from .config.suite import BackboneSpec, DefenseSpec, Suite
from .data.base import LABEL, DataInfo, Dataset
from .errors import ConfigError, did_you_mean
from .ignoring import nothing_to_ignore, off_the_wire
from .knowledge import AdversaryKnowledge, level
from .labels import plugin_labels
from .plan import Node, Plan
from .plugins import ATTACKS, BACKBONES, DEFENSES, identity
from .possible import refusal
from .split import SplitInfo
from .stages import trained_before
from .store.layout import Name
from .store.schema import Kind
from .tuned import VERSION as TUNING
from .tuned import Tuned, make_attack
from .view import VERSION as VIEW


@dataclass(frozen=True)
class _Sight:
    """A target as an attack meets it.

    Attributes:
        dataset: label of the attacked dataset.
        target: the target's node.
        granted: what the level grants.
        seed: of the attack.
        row: labels of the cell's row.
    """

    dataset: str
    target: Node
    granted: AdversaryKnowledge
    seed: int
    row: dict[str, Any]


Chain = dict[str, Node]
"""The fits behind a cell by the key of their attack, in the order in which they ask the edge: they share one budget."""


class RowBuilder:
    def __init__(
        self,
        suite: Suite,
        plan: Plan,
        opened: dict[str, tuple[Dataset, DataInfo]],
        identities: dict[str, dict[str, Any]],
        other: str | None,
    ) -> None:
        self.suite, self.plan, self.opened, self.identities, self.other = suite, plan, opened, identities, other
        self.defense_labels = plugin_labels(DEFENSES, suite.defenses)
        self.attack_labels = plugin_labels(ATTACKS, suite.attacks)
        self.backbone_labels = plugin_labels(BACKBONES, suite.backbone)
        self.attacks = [make_attack(s.name, s.params, s.tune, s.adaptive is True) for s in suite.attacks]
        self._refusals: dict[tuple[str, ...], str | None] = {}
        self._check_attributes()

    def dataset(self, name: str) -> None:
        info = self.opened[name][1]
        reference = self._add(
            "reference",
            {
                "dataset": self._data(name),
                "private": info.sizes["private"],
                # The groups of the measured images lie in this record.
                "measure": info.sizes["measure"],
                "aux": self._aux_identity(name),
                **({"attributes": sorted(info.attributes)} if info.attributes else {}),
            },
            (),
            f"reference rows of {name}",
        )
        self.plan.references[name] = reference.key
        for backbone, backbone_label in zip(self.suite.backbone, self.backbone_labels, strict=True):
            for cut in backbone.cut:
                for defense, defense_label in zip(self.suite.defenses, self.defense_labels, strict=True):
                    for seed in self.suite.seeds:
                        labels = {
                            "dataset": name,
                            "backbone": backbone_label,
                            "cut": cut,
                            "defense": defense_label,
                            "seed": seed,
                        }
                        self._target(name, backbone, cut, defense, seed, labels)

    def _target(
        self, dataset: str, backbone: BackboneSpec, cut: str, defense: DefenseSpec, seed: int, labels: dict[str, Any]
    ) -> None:
        rules = {"defense": (defense.name, labels["defense"]), "dataset": (dataset,), "backbone": (backbone.name,)}
        if self._excluded({**rules, "cut": (cut,)}):
            return
        skip = self._target_skip(dataset, backbone, cut, defense)
        node = None
        if skip is None:
            node = self._target_node(dataset, backbone, cut, defense, seed, labels)
        self.plan.targets.append({**labels, "key": node.key if node else None, "skip": skip})
        random = skip is None and stochastic(defense)
        for attack, attack_label, made in zip(self.suite.attacks, self.attack_labels, self.attacks, strict=True):
            refusal = None if skip else self._refusal(dataset, backbone, cut, defense, made)
            refusal = refusal or self._unknown_attribute(dataset, made)
            for knowledge in self.suite.knowledge:
                if self._excluded(
                    {**rules, "cut": (cut,), "attack": (attack.name, attack_label), "knowledge": (knowledge,)}
                ):
                    continue
                for attack_seed in self.suite.attack_seeds:
                    row = {**labels, "attack": attack_label, "knowledge": knowledge, "attack_seed": attack_seed}
                    reason, cell = skip and f"target skipped: {skip}", None
                    granted = self._of_use(level(knowledge), dataset)
                    if not random:
                        granted = granted.model_copy(update={"draws": 1})  # all draws are the same
                    lacks = self._foreign_labels(made, level(knowledge), dataset) or _lack(made, granted)
                    if reason is None and lacks:
                        reason = f"attack '{attack.name}' {lacks}"
                    reason = reason or refusal
                    if node is not None and reason is None:
                        cell = self._cell(
                            _Sight(dataset, node, granted, attack_seed, row), attack.name, _tunable(made, granted)
                        )
                    self.plan.cells.append(
                        {**row, "target": node.key if node else None, "key": cell and cell.key, "skip": reason}
                    )

    def _foreign(self, knowledge: AdversaryKnowledge, dataset: str) -> bool:
        """Says whether a level grants labels that are of other classes than the target's."""
        if knowledge.aux != "other" or not knowledge.labels or self.other is None:
            return False
        return self.opened[self.other][1].classes != self.opened[dataset][1].classes

    def _of_use(self, knowledge: AdversaryKnowledge, dataset: str) -> AdversaryKnowledge:
        """Returns a level without labels that say nothing of the target: an attack would take them for its classes."""
        return knowledge.model_copy(update={"labels": False}) if self._foreign(knowledge, dataset) else knowledge

    def _foreign_labels(self, made: Attack, knowledge: AdversaryKnowledge, dataset: str) -> str | None:
        if not (made.requires.labels and self._foreign(knowledge, dataset)):
            return None
        return f"needs labels of the target's classes, and those of {self.other} are not the classes of {dataset}"

    def _refusal(
        self, dataset: str, backbone: BackboneSpec, cut: str, defense: DefenseSpec, made: Attack
    ) -> str | None:
        """Returns why an attack cannot run on a target, by what everybody knows of it: architecture and defense."""
        info = self.opened[dataset][1]
        architecture = SplitInfo(backbone.name, cut, info.image_shape, len(info.classes), dict(backbone.params))
        parts = defense_parts(defense)
        if not made.adaptive:
            why = nothing_to_ignore(parts)
            if why is not None:
                return why
            parts = off_the_wire(parts) or defense_parts(DefenseSpec(name="none"))
        return made.supports(architecture, [(part["name"], part["params"]) for part in parts])

    def _check_attributes(self) -> None:
        """Refuses an attribute that no attacked dataset has: all its rows would be skipped.

        Raises:
            ConfigError: with a line for each.
        """
        known = {
            s.name: (LABEL, *info.attributes)
            for s, (_, info) in zip(self.suite.dataset, self.opened.values(), strict=False)
        }
        every = {a for attributes in known.values() for a in attributes}
        have = "; ".join(f"{name}: {', '.join(attributes)}" for name, attributes in known.items())
        problems = [
            f"attack '{spec.name}': attribute: got '{made.attribute}', which no dataset of the suite has."
            f"{did_you_mean(made.attribute, every)} Attributes of {have}."
            for spec, made in zip(self.suite.attacks, self.attacks, strict=True)
            if isinstance(made, LabelAttack) and made.attribute not in every
        ]
        if problems:
            raise ConfigError(list(dict.fromkeys(problems)))

    def _unknown_attribute(self, dataset: str, made: Attack) -> str | None:
        known = (LABEL, *self.opened[dataset][1].attributes)
        if not isinstance(made, LabelAttack) or made.attribute in known:
            return None
        return f"dataset '{dataset}' has no attribute '{made.attribute}' (it has {', '.join(known)})"

    def _target_skip(self, dataset: str, backbone: BackboneSpec, cut: str, defense: DefenseSpec) -> str | None:
        # The same for every seed.
        at = (dataset, backbone.model_dump_json(), cut, defense.model_dump_json())
        if at not in self._refusals:
            info = self.opened[dataset][1]
            self._refusals[at] = refusal(backbone, cut, defense, defense_parts(defense), info)
        return self._refusals[at]

    def _target_node(
        self, dataset: str, backbone: BackboneSpec, cut: str, defense: DefenseSpec, seed: int, labels: dict[str, Any]
    ) -> Node:
        sizes = self.opened[dataset][1].sizes
        common = {
            "dataset": self._data(dataset),
            "client": {k: sizes[k] for k in ("client_train", "client_val")},
            "backbone": identity(BACKBONES, backbone.name, BACKBONES.get(backbone.name).Params(**backbone.params)),
            "cut": cut,
            "training": self.suite.training.dump(),
            "seed": seed,
            "threads": self.suite.threads,
        }
        needs: tuple[Name, ...] = ()
        parts = defense_parts(defense)
        extra: dict[str, Any] = {"defense": {"parts": parts, "when": defense.when}}
        if defense.when != "train+infer":
            before = trained_before(extra["defense"]) or defense_parts(DefenseSpec(name="none"))
            title = f"{'+'.join(p['name'] for p in before)}, seed {seed} (its weights are reused)"
            base = self._add("target", {**common, "defense": {"parts": before, "when": "train+infer"}}, (), title)
            needs, extra["base"] = (base.name,), base.key
        place = f"{dataset}, {labels['backbone']} at {cut}"
        return self._add("target", {**common, **extra}, needs, f"{labels['defense']} ({place}, seed {seed})")

    def _cell(self, sight: _Sight, name: str, made: Attack) -> Node:
        chain: Chain = {}
        fits = self._fits_of(sight, made, chain)
        own = self._fit(sight, name, made, chain) if made.has_fit() else None
        return self._add(
            "cell",
            {
                **self._seen(sight, made.granted(sight.granted)),
                "attack": attack_identity(name, made),
                **({"attribute": made.attribute} if isinstance(made, LabelAttack) else {}),
                "fit": own and own.key,
                "dataset": self._data(sight.dataset),
                "private": self.opened[sight.dataset][1].sizes["private"],
                **_built(fits),
            },
            (sight.target.name, *((own.name,) if own else ()), *(f.name for f in fits.values())),
            f"{sight.row['attack']} on {sight.row['defense']}, seed {sight.row['seed']}",
        )

    def _fit(self, sight: _Sight, name: str, made: Attack, chain: Chain) -> Node:
        """Returns the node of an attack's own fit, with the knowledge that the attack is given at the level.

        Args:
            sight: the target.
            name: of the attack.
            made: the attack.
            chain: the fits behind the cell so far; takes this one.
        """
        made = made.of_fit()
        identity_ = attack_identity(name, made)
        at = key_of(identity_)
        if at in chain:
            return chain[at]
        fits = self._fits_of(sight, made, chain, made.fit_scope)
        needs = tuple(f.name for f in fits.values())
        ignoring = "" if made.adaptive else " ignoring its defense"
        title = f"fit of {name} on {sight.row['defense']}{ignoring}, seed {sight.row['seed']}"
        knowledge = made.granted(sight.granted)
        if made.fit_scope == "images":
            knowledge = of_images_alone(knowledge)
        elif not made.adaptive:
            # Of a defense that does nothing all draws are the same.
            knowledge = knowledge.model_copy(update={"draws": 1})
        seen = self._seen(sight, knowledge)
        if made.fit_scope == "images":
            seen["target"] = None
            title = f"fit of {name} on auxiliary images"
        else:
            needs = (sight.target.name, *needs)
        after = [] if knowledge.queries is None else _asking(chain, fits)
        needs += tuple(f.name for f in after)
        full = {**seen, "attack": identity_, **_built(fits), **({"after": [f.key for f in after]} if after else {})}
        chain[at] = self._add("fit", full, needs, title)
        return chain[at]

    def _fits_of(self, sight: _Sight, made: Attack, chain: Chain, scope: str = "target") -> dict[str, Node]:
        """Returns role to the node of each fit that an attack (or its fit of a scope) builds on."""
        return {role: self._fit(sight, name, other, chain) for role, (name, other) in lenders(made, scope).items()}

    def _seen(self, sight: _Sight, knowledge: AdversaryKnowledge) -> dict[str, Any]:
        """Returns what an attack that is given some knowledge sees of a target, as part of an identity."""
        aux = None
        if knowledge.aux != "none":
            aux = self._aux_identity(sight.dataset if knowledge.aux == "same" or self.other is None else self.other)
        return {
            "target": sight.target.key,
            "knowledge": knowledge.dump(),
            "aux": aux,
            "seed": sight.seed,
            "threads": self.suite.threads,
            "view": VIEW,
            **({} if knowledge.queries is None else {"budget": BUDGET}),
        }

    def _add(self, kind: Kind, identity_: dict[str, Any], needs: Iterable[Name], title: str) -> Node:
        full = {"kind": kind, **identity_}
        node = Node(kind, key_of(full), full, tuple(needs), title)
        # Several rows may share a node; the first keeps its title, and its place before all that need it.
        return self.plan.nodes.setdefault(node.name, node)

    def _data(self, name: str) -> dict[str, Any]:
        return self.identities[name]

    def _aux_identity(self, name: str) -> dict[str, Any]:
        sizes = self.opened[name][1].sizes
        return {"dataset": self._data(name), "aux_train": sizes["aux_train"], "aux_val": sizes["aux_val"]}

    def _excluded(self, values: Mapping[str, tuple[str, ...]]) -> bool:
        for rule in self.suite.exclude:
            given = rule.model_dump(exclude_none=True)
            if given and all(k in values and v in values[k] for k, v in given.items()):
                return True
        return False


def defense_parts(spec: DefenseSpec) -> list[dict[str, Any]]:
    """Returns the identity of each part of a defense, in order."""
    names = spec.name.split("+")
    out = []
    for name in names:
        params = spec.params if len(names) == 1 else spec.params.get(name, {})
        out.append(identity(DEFENSES, name, DEFENSES.get(name).Params(**params)))
    return out


def stochastic(spec: DefenseSpec) -> bool:
    """Says whether a defense draws randomness on the wire."""
    parts = defense_parts(spec)
    return any(DEFENSES.get(p["name"])(DEFENSES.get(p["name"]).Params(**p["params"])).stochastic for p in parts)


def lenders(made: Attack, scope: str = "target") -> dict[str, tuple[str, Attack]]:
    """Returns role to (name, attack) of the attacks whose fits an attack builds on.

    A fit on images alone (``scope`` ``images``) builds on such fits only: what knows a target would make it one for that
    target.
    """
    out = {}
    for role, (name, params) in made.builds_on().items():
        cls = ATTACKS.get(name)
        if scope == "target" or cls.fit_scope == "images":
            out[role] = (name, cls(cls.Params(**params)))
            out[role][1].adaptive = made.adaptive
    return out


def of_images_alone(knowledge: AdversaryKnowledge) -> AdversaryKnowledge:
    """Returns what a fit on images alone is given of an attack's knowledge: the auxiliary images."""
    return knowledge.model_copy(update={"edge": "none", "cloud": False, "queries": None, "draws": 1})


def attack_identity(name: str, made: Attack) -> dict[str, Any]:
    """Returns what an attack contributes to a key; a tuned one names the other settings that it tries."""
    found = identity(ATTACKS, name, made.params)
    if not made.adaptive:
        found["adaptive"] = False
    if made.runs():
        inner = {role: (n, ATTACKS.get(n).Params(**params)) for role, (n, params) in made.runs().items()}
        found["runs"] = {role: identity(ATTACKS, *spec) for role, spec in inner.items()}
    if not isinstance(made, Tuned):
        return found
    return {**found, "tune": [a.params.dump() for a in made.tried[1:]], "tuning": TUNING}


def _tunable(made: Attack, granted: AdversaryKnowledge) -> Attack:
    """Returns a tuned attack where there are own images and features to try settings on, else its first setting."""
    if isinstance(made, Tuned) and (granted.edge == "none" or made.granted(granted).aux == "none"):
        return made.tried[0]
    return made


def _lack(made: Attack, granted: AdversaryKnowledge) -> str | None:
    """Returns what a level lacks for an attack and all that it builds on, a budget that pays for enough too, in one clause."""
    lacks = granted.lacks(made.requires) or (shortage(granted) if made.requires.edge == "query" else None)
    for _, other in lenders(made).values():
        lacks = lacks or _lack(other, granted)
    return lacks


def _asking(chain: Chain, but: Mapping[str, Node]) -> list[Node]:
    """Returns the fits of a chain that may have asked the edge within a budget, but for some that are known otherwise."""
    known = {f.key for f in but.values()}
    return [f for f in chain.values() if f.key not in known and f.identity["knowledge"]["queries"] is not None]


def _built(fits: Mapping[str, Node]) -> dict[str, Any]:
    return {"builds_on": {role: node.key for role, node in fits.items()}} if fits else {}
