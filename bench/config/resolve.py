"""Checking a suite against the registries, and filling in defaults and sweeps."""

from __future__ import annotations

import itertools
import re
from typing import Any

from pydantic import ValidationError

from ..defense import Defense
from ..errors import ConfigError, PluginError, did_you_mean
from ..knowledge import level
from ..labels import plugin_labels
from ..metric import LabelMetric, Measure
from ..params import list_valued
from ..plugins import ATTACKS, BACKBONES, DATASETS, DEFENSES, METRICS
from ..registry import Registry
from .claims import Claim
from .problems import problems_of, told
from .suite import LABEL_METRIC, BackboneSpec, DatasetSpec, DefenseSpec, MetricSpec, Suite


def resolve(suite: Suite) -> tuple[Suite, list[str]]:
    """Returns the suite with validated, complete parameters and sweeps multiplied out, and every problem found."""
    problems: list[str] = []
    resolved = suite.model_copy(
        update={
            "dataset": [_dataset(s, problems) for s in suite.dataset],
            "other": None if suite.other is None else _dataset(suite.other, problems),
            "backbone": [b for s in suite.backbone for b in _backbones(s, problems)],
            "defenses": [d for s in suite.defenses for d in _defenses(s, problems)],
            "attacks": [
                s.model_copy(update={"params": p})
                for s in suite.attacks
                for p in _crossed(ATTACKS, s.name, s.params, problems)
            ],
            "metrics": [
                MetricSpec(name=s.name, params=p)
                for s in suite.metrics
                for p in _crossed(METRICS, s.name, s.params, problems, cross=False)
            ],
        }
    )
    if _judges_nothing_read(resolved):
        complete = MetricSpec(name=LABEL_METRIC, params=_params(METRICS, LABEL_METRIC, {}, problems) or {})
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
    for field in ("seeds", "attack_seeds", "knowledge"):
        values = getattr(suite, field)
        if len(set(values)) < len(values):
            problems.append(f"{field}: {values} has a value twice")
    _exclusions(resolved, problems)
    _claims(resolved, problems)
    return resolved, problems


def _params(registry: Registry[Any], name: str, params: dict[str, Any], problems: list[str]) -> dict[str, Any] | None:
    """Returns the validated, complete parameters of a plugin, or None after adding to the problems."""
    if name not in registry:
        problems.append(registry.unknown(name) + _way_of_writing(registry, name))
        return None
    try:
        cls = registry.get(name)
    except PluginError as exc:
        problems.append(str(exc))
        return None
    try:
        return cls.Params(**params).dump()
    except ValidationError as exc:
        problems += problems_of(exc, f"{registry.kind} '{name}'", cls.Params)
        return None
    except TypeError as exc:
        problems.append(f"{registry.kind} '{name}': params: {exc}")
        return None


def _judges_nothing_read(suite: Suite) -> bool:
    """Says whether some attack reads labels and no metric judges them."""
    reads = any(s.name in ATTACKS and ATTACKS.get(s.name).infers == "label" for s in suite.attacks)
    return reads and not any(s.name in METRICS and issubclass(METRICS.get(s.name), LabelMetric) for s in suite.metrics)


def _way_of_writing(registry: Registry[Any], name: str) -> str:
    """Returns how it is written, where a name that is not known looks like a list or like a name with parameters."""
    parts = [p.strip() for p in name.split(",")]
    if len(parts) > 1 and all(p in registry for p in parts):
        return f" A list is written in brackets: [{', '.join(parts)}]."
    first = re.match(r"([^\s(:=]+)[\s(:=]", name)
    if first and first[1] in registry:
        return f" Parameters are written apart from the name: {{name: {first[1]}, params: {{…}}}}."
    return ""


def _crossed(
    registry: Registry[Any], name: str, params: dict[str, Any], problems: list[str], cross: bool = True
) -> list[dict[str, Any]]:
    """Returns one complete set of parameters per combination of listed values."""
    swept: dict[str, list[Any]] = {}
    if cross and name in registry:
        try:
            model = registry.get(name).Params
        except PluginError:
            model = None
        for key, value in params.items():
            if isinstance(value, list) and model is not None and not list_valued(model, key):
                if not value:
                    problems.append(f"{registry.kind} '{name}': {key}: got an empty list, expected at least one value")
                    return []
                swept[key] = value
    out = []
    for values in itertools.product(*swept.values()):
        complete = _params(registry, name, {**params, **dict(zip(swept, values, strict=True))}, problems)
        if complete is not None:
            out.append(complete)
    return out


def _dataset(spec: DatasetSpec, problems: list[str]) -> DatasetSpec:
    params = _params(DATASETS, spec.name, spec.params, problems)
    return spec.model_copy(update={"params": params}) if params is not None else spec


def _backbones(spec: BackboneSpec, problems: list[str]) -> list[BackboneSpec]:
    return [spec.model_copy(update={"params": p}) for p in _crossed(BACKBONES, spec.name, spec.params, problems)]


def _defenses(spec: DefenseSpec, problems: list[str]) -> list[DefenseSpec]:
    names = spec.name.split("+")
    if len(names) == 1:
        found = _crossed(DEFENSES, spec.name, spec.params, problems)
        return [_when(spec.model_copy(update={"params": p}), problems) for p in found]
    if len(set(names)) < len(names):
        problems.append(f"defense '{spec.name}': a part is listed twice")
        return []
    if "none" in names:
        problems.append(f"defense '{spec.name}': 'none' changes nothing, leave it out of the composition")
        return []
    for key in spec.params:
        if key not in names:
            problems.append(
                f"defense '{spec.name}': params: '{key}' is no part of the composition.{did_you_mean(key, names)} "
                f"Expected part names ({', '.join(names)}) with their parameters."
            )
    per_part: list[list[dict[str, Any]]] = []
    for name in names:
        given = spec.params.get(name, {})
        if not isinstance(given, dict):
            problems.append(f"defense '{spec.name}': params: {name}: got {told(given)}, expected keys and values")
            return []
        per_part.append(_crossed(DEFENSES, name, given, problems))
    if any(not p for p in per_part):
        return []
    tasks = [n for n in names if DEFENSES.get(n).task_loss is not Defense.task_loss]
    if len(tasks) > 1:
        problems.append(f"defense '{spec.name}': {' and '.join(tasks)} each replace the task loss; only one may")
    shapes = [n for n in names if DEFENSES.get(n).wrap is not Defense.wrap]
    if len(shapes) > 1:
        problems.append(f"defense '{spec.name}': {' and '.join(shapes)} each replace the architecture; only one may")
    return [
        _when(spec.model_copy(update={"params": dict(zip(names, values, strict=True))}), problems)
        for values in itertools.product(*per_part)
    ]


def _when(spec: DefenseSpec, problems: list[str]) -> DefenseSpec:
    if spec.when == "infer":
        trained = [n for n in spec.name.split("+") if not DEFENSES.get(n).acts_on_wire]
        if trained:
            problems.append(
                f"defense '{spec.name}' with when: infer: {' and '.join(trained)} acts only in training, so at "
                "inference alone it would equal 'none'. Leave out when."
            )
    return spec


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
            if label.split("(")[0].removesuffix("@infer") not in have:
                problems.append(
                    f"claim '{claim.name}': defense '{label}' is not in the suite.{did_you_mean(label, have)} "
                    f"It has {', '.join(have)}."
                )
        _claim_figures(suite, claim, problems)


def _claim_figures(suite: Suite, claim: Claim, problems: list[str]) -> None:
    """Adds a problem for every column that the suite does not measure and every attack that it does not run."""
    columns, unknown = set[str](), False
    for spec in suite.metrics:
        if spec.name not in METRICS:
            unknown = True  # reported elsewhere; what it would measure cannot be known
            continue
        cls = METRICS.get(spec.name)
        columns |= set(cls.columns) if issubclass(cls, Measure) else {spec.name}
    attacks = list(dict.fromkeys(s.name for s in suite.attacks))
    for figure in claim.figures:
        for column in (figure.column, figure.high):
            if column is not None and column not in columns and not unknown:
                problems.append(
                    f"claim '{claim.name}': column '{column}' is not measured by the suite.{did_you_mean(column, columns)} "
                    "Name a metric of the suite, or a column of one of its measures (splitaudit show MEASURE lists them)."
                )
        if figure.attack is not None and figure.attack.split("(")[0] not in attacks:
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
