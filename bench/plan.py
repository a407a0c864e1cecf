"""From a suite to a plan: every node with its identity and key, every row of the tables, every skip with its reason.

The plan is a plain value. It does not train, attack or read images; it asks the datasets for their fingerprints.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .attack import Attack
from .canonical import key_of
from .config.suite import AttackSpec, BackboneSpec, DatasetSpec, DefenseSpec, Suite
from .data._overlap import refuse_overlap
from .data.base import DataContext, DataInfo, Dataset
from .errors import ConfigError, Unsupported
from .knowledge import AdversaryKnowledge, level
from .labels import Labelled, plugin_labels, sweep_labels
from .plugins import ATTACKS, BACKBONES, DATASETS, DEFENSES, METRICS, identity
from .split import SplitInfo
from .store.layout import Name
from .store.schema import Kind
from .view import VERSION as VIEW


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
    """

    suite: dict[str, Any]
    nodes: dict[Name, Node] = field(default_factory=dict)
    targets: list[dict[str, Any]] = field(default_factory=list)
    cells: list[dict[str, Any]] = field(default_factory=list)
    references: dict[str, str] = field(default_factory=dict)
    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)

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


def open_datasets(suite: Suite, context: DataContext) -> dict[str, tuple[Dataset, DataInfo]]:
    """Prepares every dataset of a suite, so that all problems of files appear before any work.

    Raises:
        DataError: of the first dataset that cannot be used.
    """
    specs = [*suite.dataset, *([suite.other] if suite.other else [])]
    names = sweep_labels([Labelled(s.name, {**s.params, **{f"n_{k}": v for k, v in s.sizes.items()}}) for s in specs])
    opened = {}
    for spec, name in zip(specs, names, strict=True):
        if name not in opened:
            cls = DATASETS.get(spec.name)
            dataset = cls(cls.Params(**spec.params), spec.sizes, context)
            opened[name] = (dataset, dataset.prepare())
    return opened


def make_plan(suite: Suite, context: DataContext | None = None) -> Plan:
    """Returns the plan of a suite.

    Raises:
        DataError: if a dataset cannot be used, or auxiliary images of the levels ``-other`` are private images.
        ConfigError: if auxiliary images of the levels ``-other`` have another shape.
    """
    context = context or DataContext()
    opened = open_datasets(suite, context)
    names = list(opened)
    plan = Plan(suite.model_dump(mode="json"))
    plan.datasets = {
        name: {"image_shape": list(info.image_shape), "classes": list(info.classes), "sizes": dict(info.sizes)}
        for name, (_, info) in opened.items()
    }
    plan.metrics = {m.name: metric_key(m.name, m.params) for m in suite.metrics}
    specs: list[DatasetSpec] = [*suite.dataset, *([suite.other] if suite.other else [])]
    identities = {
        name: _dataset_identity(spec.name, dataset)
        for (name, (dataset, _)), spec in zip(opened.items(), specs, strict=False)
    }
    other = names[-1] if suite.other else None
    if other is not None:
        _check_other(suite, opened, other)
    builder = _Builder(suite, plan, opened, identities, other)
    for name in names[: len(suite.dataset)]:
        builder.dataset(name)
    return plan


def _check_other(suite: Suite, opened: Mapping[str, tuple[Dataset, DataInfo]], other: str) -> None:
    lender, shape = opened[other][0], opened[other][1].image_shape
    for name in list(opened)[: len(suite.dataset)]:
        dataset, info = opened[name]
        if info.image_shape != shape:
            raise ConfigError(
                [
                    f"other: images of {other} have the shape {shape}, expected that of {name}, {info.image_shape}. "
                    "Set image_size (and grey) in the parameters of other."
                ]
            )
        if any(level(k).aux == "other" for k in suite.knowledge):  # else none of its images is used
            refuse_overlap((name, dataset), (other, lender))


def metric_key(name: str, params: Mapping[str, Any]) -> str:
    """Returns the key under which a metric's values are stored: name, version and parameters."""
    cls = METRICS.get(name)
    return key_of({"metric": identity(METRICS, name, cls.Params(**params))})


class _Builder:
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
        self.attacks: list[Attack] = [
            ATTACKS.get(s.name)(ATTACKS.get(s.name).Params(**s.params)) for s in suite.attacks
        ]

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
        skip = self._target_skip(backbone, cut, defense, self.opened[dataset][1])
        node = None
        if skip is None:
            node = self._target_node(dataset, backbone, cut, defense, seed, labels)
        self.plan.targets.append({**labels, "key": node.key if node else None, "skip": skip})
        for attack, attack_label, made in zip(self.suite.attacks, self.attack_labels, self.attacks, strict=True):
            refusal = None if skip else made.supports(*self._public(dataset, backbone, cut, defense))
            for knowledge in self.suite.knowledge:
                if self._excluded(
                    {**rules, "cut": (cut,), "attack": (attack.name, attack_label), "knowledge": (knowledge,)}
                ):
                    continue
                for attack_seed in self.suite.attack_seeds:
                    row = {**labels, "attack": attack_label, "knowledge": knowledge, "attack_seed": attack_seed}
                    reason, cell = skip and f"target skipped: {skip}", None
                    lacks = level(knowledge).lacks(made.requires)
                    if reason is None and lacks:
                        reason = f"attack '{attack.name}' {lacks}"
                    reason = reason or refusal
                    if node is not None and reason is None:
                        cell = self._cell(dataset, node, attack, made, level(knowledge), attack_seed, row)
                    self.plan.cells.append(
                        {**row, "target": node.key if node else None, "key": cell and cell.key, "skip": reason}
                    )

    def _public(
        self, dataset: str, backbone: BackboneSpec, cut: str, defense: DefenseSpec
    ) -> tuple[SplitInfo, list[tuple[str, dict[str, Any]]]]:
        """Returns what everybody knows of a target: the undefended architecture, the parts of the defense."""
        info = self.opened[dataset][1]
        architecture = SplitInfo(backbone.name, cut, info.image_shape, len(info.classes), dict(backbone.params))
        return architecture, [(part["name"], part["params"]) for part in defense_parts(defense)]

    def _target_skip(self, backbone: BackboneSpec, cut: str, defense: DefenseSpec, info: DataInfo) -> str | None:
        cls = BACKBONES.get(backbone.name)
        made = cls(cls.Params(**backbone.params))
        if cut not in made.cuts():
            return f"backbone '{backbone.name}' has no cut '{cut}' (it has {', '.join(made.cuts())})"
        for part in defense.name.split("+"):
            reason = DEFENSES.get(part).supports(backbone.name, cut)
            if reason:
                return reason
        try:
            made.check(info.image_shape)
        except Unsupported as exc:
            return str(exc)
        return None

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
        if defense.when == "infer":
            undefended = {"defense": {"parts": defense_parts(DefenseSpec(name="none")), "when": "train+infer"}}
            base = self._add("target", {**common, **undefended}, (), f"none, seed {seed} (its weights are reused)")
            needs, extra["base"] = (base.name,), base.key
        place = f"{dataset}, {labels['backbone']} at {cut}"
        return self._add("target", {**common, **extra}, needs, f"{labels['defense']} ({place}, seed {seed})")

    def _cell(
        self,
        dataset: str,
        target: Node,
        attack: AttackSpec,
        made: Attack,
        granted: AdversaryKnowledge,
        seed: int,
        row: dict[str, Any],
    ) -> Node:
        knowledge = made.granted(granted)
        aux = None
        if knowledge.aux != "none":
            aux = self._aux_identity(dataset if knowledge.aux == "same" or self.other is None else self.other)
        common = {
            "target": target.key,
            "knowledge": knowledge.dump(),
            "aux": aux,
            "seed": seed,
            "threads": self.suite.threads,
            "view": VIEW,
        }
        needs = [target.name]
        fit_key = None
        shared = made.shared_fit()
        if shared is not None or made.has_fit():
            name, params = shared or (attack.name, attack.params)
            fit_cls = ATTACKS.get(name)
            fit = self._add(
                "fit",
                {**common, "attack": identity(ATTACKS, name, fit_cls.Params(**params))},
                (target.name,),
                f"fit of {name} on {row['defense']}, seed {row['seed']}",
            )
            needs.append(fit.name)
            fit_key = fit.key
        return self._add(
            "cell",
            {
                **common,
                "attack": identity(ATTACKS, attack.name, made.params),
                "fit": fit_key,
                "dataset": self._data(dataset),
                "private": self.opened[dataset][1].sizes["private"],
            },
            tuple(needs),
            f"{row['attack']} on {row['defense']}, seed {row['seed']}",
        )

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


def _dataset_identity(name: str, dataset: Dataset) -> dict[str, Any]:
    return {**identity(DATASETS, name, dataset.params), "fingerprint": dataset.fingerprint()}
