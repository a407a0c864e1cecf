"""Checking a suite against the registries, and filling in defaults and sweeps."""

from __future__ import annotations

from typing import Any

from ..errors import ConfigError, did_you_mean
from ..knowledge import level
from ..labels import plugin_labels
from ..metric import LabelMetric
from ..plugins import ATTACKS, BACKBONES, DATASETS, DEFENSES, METRICS
from .claims import Claim
from .complete import complete_params, crossed_params
from .complete_defenses import complete_defenses
from .declared import declared_claims, measured_columns
from .problems import told
from .suite import LABEL_METRIC, AttackSpec, BackboneSpec, DatasetSpec, MetricSpec, Suite


def resolve(suite: Suite) -> tuple[Suite, list[str]]:
    """Returns the suite with validated, complete parameters and sweeps multiplied out, and every problem found."""
    problems: list[str] = []
    resolved = suite.model_copy(
        update={
            "dataset": [_dataset(s, problems) for s in suite.dataset],
            "other": None if suite.other is None else _dataset(suite.other, problems),
            "backbone": [b for s in suite.backbone for b in _backbones(s, problems)],
            "defenses": [d for s in suite.defenses for d in complete_defenses(s, problems)],
            "attacks": [
                s.model_copy(update={"params": p, "adaptive": adaptive})
                for s in suite.attacks
                for p in crossed_params(ATTACKS, s.name, _without_switch(s, problems), problems)
                for adaptive in (s.adaptive if isinstance(s.adaptive, list) else [s.adaptive])
            ],
            "metrics": [
                MetricSpec(name=s.name, params=p)
                for s in suite.metrics
                for p in crossed_params(METRICS, s.name, s.params, problems, cross=False)
            ],
        }
    )
    if _judges_nothing_read(resolved):
        complete = MetricSpec(name=LABEL_METRIC, params=complete_params(METRICS, LABEL_METRIC, {}, problems) or {})
        resolved = resolved.model_copy(update={"metrics": [*resolved.metrics, complete]})
    if suite.other is not None and suite.other.name in {s.name for s in suite.dataset}:
        one = " All folders of imagefolder come from the one --data-root." if suite.other.name == "imagefolder" else ""
        problems.append(
            f"other: got '{suite.other.name}', which is the attacked dataset: it is no other distribution, and with other "
            f"parameters its auxiliary images may hold private ones.{one} Choose another dataset."
        )
    for name in suite.knowledge:
        try:
            granted = level(name)
        except ConfigError as exc:
            problems += exc.problems
            continue
        if granted.aux == "other" and suite.other is None:
            problems.append(
                f"knowledge '{name}' needs auxiliary images of another distribution: add other: {{name: …}}"
            )
    _cuts(resolved, problems)
    for what, specs in (("defenses", resolved.defenses), ("attacks", resolved.attacks), ("metrics", resolved.metrics)):
        seen: set[str] = set()
        for spec in specs:
            text = spec.model_dump_json()
            if text in seen:
                problems.append(f"{what}: '{spec.name}' is listed twice with the same parameters")
            seen.add(text)
    named = [spec.name for spec in resolved.metrics]
    for name in dict.fromkeys(n for n in named if named.count(n) > 1):
        if not any(f"metrics: '{name}' is listed twice" in p for p in problems):
            # Values are stored and shown by the metric's name: of two settings one would be computed and lost.
            problems.append(f"metrics: '{name}' is listed with several settings; a suite has one: use a suite for each")
    for field in ("seeds", "attack_seeds", "knowledge"):
        values = getattr(suite, field)
        if len(set(values)) < len(values):
            problems.append(f"{field}: {values} has a value twice")
    _exclusions(resolved, problems)
    _claims(resolved, problems)
    if suite.declared_claims and not problems:
        # The claims are spelled out, so that the resolved suite says all that is tested.
        every = [*resolved.claims, *declared_claims(resolved)]
        resolved = resolved.model_copy(update={"claims": every, "declared_claims": False})
    return resolved, problems


def _without_switch(spec: AttackSpec, problems: list[str]) -> dict[str, Any]:
    """Returns an attack's parameters; a switch among them that stands beside them, and its attack has none, is told so."""
    if (
        "adaptive" not in spec.params
        or spec.name not in ATTACKS
        or "adaptive" in ATTACKS.get(spec.name).Params.model_fields
    ):
        return spec.params
    problems.append(
        f"attack '{spec.name}': params: adaptive is no parameter, it stands beside them. "
        f"Write {{name: {spec.name}, adaptive: {told(spec.params['adaptive'])}}}."
    )
    return {name: value for name, value in spec.params.items() if name != "adaptive"}


def _judges_nothing_read(suite: Suite) -> bool:
    """Says whether some attack reads labels and no metric judges them."""
    reads = any(s.name in ATTACKS and ATTACKS.get(s.name).infers == "label" for s in suite.attacks)
    return reads and not any(s.name in METRICS and issubclass(METRICS.get(s.name), LabelMetric) for s in suite.metrics)


def _dataset(spec: DatasetSpec, problems: list[str]) -> DatasetSpec:
    params = complete_params(DATASETS, spec.name, spec.params, problems)
    return spec.model_copy(update={"params": params}) if params is not None else spec


def _backbones(spec: BackboneSpec, problems: list[str]) -> list[BackboneSpec]:
    return [spec.model_copy(update={"params": p}) for p in crossed_params(BACKBONES, spec.name, spec.params, problems)]


def _cuts(suite: Suite, problems: list[str]) -> None:
    known: dict[str, tuple[str, ...]] = {}
    for spec in suite.backbone:
        if spec.name in BACKBONES:
            cls = BACKBONES.get(spec.name)
            known[spec.name] = cls(cls.Params(**spec.params)).cuts()
    everywhere = {cut for cuts in known.values() for cut in cuts}
    for spec in suite.backbone:
        if len(set(spec.cut)) < len(spec.cut):
            problems.append(f"backbone '{spec.name}': cut: {spec.cut} has a value twice")
    wanted = dict.fromkeys(cut for spec in suite.backbone for cut in spec.cut)
    for cut in wanted:
        if known and cut not in everywhere:
            have = "; ".join(f"{name}: {', '.join(cuts)}" for name, cuts in known.items())
            problems.append(
                f"cut '{cut}' exists in no backbone of the suite.{did_you_mean(cut, everywhere)} Cuts of {have}."
            )


def _claims(suite: Suite, problems: list[str]) -> None:
    have = list(dict.fromkeys(s.name for s in suite.defenses))
    for claim in suite.claims:
        for label in dict.fromkeys([claim.defense, *claim.against]):
            if label.split("(")[0].split("@")[0] not in have:
                problems.append(
                    f"claim '{claim.name}': defense '{label}' is not in the suite.{did_you_mean(label, have)} "
                    f"It has {', '.join(have)}."
                )
        _claim_figures(suite, claim, problems)


def _claim_figures(suite: Suite, claim: Claim, problems: list[str]) -> None:
    """Adds a problem for every column that the suite does not measure and every attack that it does not run."""
    columns = measured_columns(suite)
    unknown = any(s.name not in METRICS for s in suite.metrics)  # reported elsewhere; what it measures cannot be known
    attacks = list(dict.fromkeys(s.name for s in suite.attacks))
    for figure in claim.figures:
        for column in (figure.column, figure.high):
            if column is not None and column not in columns and not unknown:
                problems.append(
                    f"claim '{claim.name}': column '{column}' is not measured by the suite.{did_you_mean(column, columns)} "
                    "Name a metric of the suite, or a column of one of its measures (splitaudit show MEASURE lists them)."
                )
        if figure.attack is not None and figure.attack.split("(")[0].split("@")[0] not in attacks:
            problems.append(
                f"claim '{claim.name}': attack '{figure.attack}' is not in the suite.{did_you_mean(figure.attack, attacks)} "
                f"It has {', '.join(attacks)}."
            )


def _exclusions(suite: Suite, problems: list[str]) -> None:
    names: dict[str, set[str]] = {
        "dataset": {s.name for s in suite.dataset},
        "backbone": {s.name for s in suite.backbone},
        "cut": {c for s in suite.backbone for c in s.cut},
        "defense": {s.name for s in suite.defenses} | set(plugin_labels(DEFENSES, suite.defenses)),
        "attack": {s.name for s in suite.attacks} | set(plugin_labels(ATTACKS, suite.attacks)),
        "knowledge": set(suite.knowledge),
    }
    for i, rule in enumerate(suite.exclude):
        given = rule.model_dump(exclude_none=True)
        if not given:
            problems.append(f"exclude.{i}: is empty and would leave nothing. Name at least one field.")
        for field, value in given.items():
            if value not in names[field]:
                problems.append(
                    f"exclude.{i}: {field} '{value}' is not in the suite.{did_you_mean(value, names[field])} "
                    f"It has {', '.join(sorted(names[field]))}."
                )
