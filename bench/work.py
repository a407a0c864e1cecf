"""What a worker does: one job in, one plain JSON result out; artifacts go to files, records are the driver's."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from .asking import Asked, fits_before
from .attack import LabelAttack
from .data.base import PARTS, DataContext, DataInfo, Dataset, Part, PartName
from .ignoring import without_wire_defense
from .knowledge import AdversaryKnowledge
from .metric import Measure, MeasureContext
from .pixels import to_float
from .plugins import DATASETS
from .references import reference_guesses, thumbnail_errors
from .scoring import failure, finite_scores, make_metric, quantised, score_all, score_labels
from .seeds import derive, generator
from .split import SplitModel
from .store import Store
from .targets import (
    adapts,
    build,
    channel_statistics,
    check_wire,
    halves,
    names_of,
    own_tensors,
    restore,
    stored_state,
)
from .training import Half, TrainingParams, calibrate, fit_defense, learned, train
from .tuned import attack_of
from .view import View, hidden_order


@dataclass(frozen=True)
class Surroundings:
    """Where a job runs; nothing in it may change a number (but low-order bits: ``threads`` is in the key for that).

    Attributes:
        folder: the run folder.
        device: torch device.
        threads: torch threads per worker.
        data_root: folder of dataset files.
        cache: folder for caches.
        offline: never open a connection.
        plugins: paths given with ``--plugin``.
        images: whether reconstructions may be stored.
    """

    folder: str
    device: str = "cpu"
    threads: int = 1
    data_root: str | None = None
    cache: str | None = None
    offline: bool = False
    plugins: tuple[str, ...] = ()
    images: bool = True

    @property
    def context(self) -> DataContext:
        """The surroundings of datasets."""
        return DataContext(
            Path(self.data_root) if self.data_root else None, Path(self.cache) if self.cache else None, self.offline
        )


@dataclass(frozen=True)
class Job:
    """A piece of work for one worker.

    Attributes:
        task: ``target`` (train), ``measure``, ``fit``, ``cell`` (attack and score), ``score`` (again, from the stored
            reconstructions) or ``reference``.
        kind: kind of the record that it makes or completes.
        key: that record's key.
        identity: that record's identity.
        related: identities of the nodes that it needs, by role (``target``, ``fit``).
        metrics: specs {name, params, key} of what to measure or score.
        extra: other plain values.
    """

    task: str
    kind: str
    key: str
    identity: dict[str, Any]
    related: dict[str, dict[str, Any]] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    def dump(self) -> dict[str, Any]:
        """Returns the job as plain JSON values."""
        return asdict(self)


class Worker:
    """Runs jobs; keeps datasets and the last target in memory between them."""

    def __init__(self, surroundings: Surroundings) -> None:
        self.at = surroundings
        self.device = torch.device(surroundings.device)
        self.store = Store(surroundings.folder)
        self._data: dict[str, tuple[Dataset, DataInfo]] = {}
        self._parts: dict[tuple[str, str], Part] = {}
        self._models: dict[str, SplitModel] = {}
        torch.set_num_threads(surroundings.threads)

    def run(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Runs a job and returns ``{"ok": True, "fields": …}`` or ``{"ok": False, "error": …}``; never raises.

        A plugin may raise anything, ``SystemExit`` too; whatever it is becomes the record's error, with its traceback.
        """
        task: Callable[[Job], dict[str, Any]] = getattr(self, f"_{job['task']}")
        try:
            return {"ok": True, "fields": task(Job(**job))}
        except (Exception, SystemExit) as exc:  # noqa: BLE001
            return {"ok": False, "error": failure(exc)}

    # -- tasks ----------------------------------------------------------------------------------------------------

    def _target(self, job: Job) -> dict[str, Any]:
        started = time.perf_counter()
        identity, seed = job.identity, int(job.identity["seed"])
        client = {k: int(v) for k, v in identity["client"].items()}
        data, val = (self.part(identity["dataset"], p, client[p]) for p in ("client_train", "client_val"))
        info = self.info(identity["dataset"])
        statistics = channel_statistics(data)
        model = build(identity, info, statistics, self.device)
        history: dict[str, Any] = {}
        frozen: tuple[Half, ...] = ()
        if "base" in identity:
            # The base's edge and cloud; the defense's own tensors are as initialised.
            weights = self.store.read_artifact("target", identity["base"], self.device)
            own = {k: v for k, v in model.state_dict().items() if k.startswith("defense.")}
            model.load_state_dict({**halves(weights), **own})
            fit_defense(model, data, self.device)
            calibrate(model, data, self.device)
            frozen = ("edge",) if adapts(identity) else ("edge", "cloud")
        if learned(model, frozen):
            params = TrainingParams(**identity["training"])
            history = train(model, data, val, params, seed, names_of(identity), self.device, frozen)
            calibrate(model, data, self.device)
        check_wire(model, val, lambda draw: generator("check", seed, self.device, draw=draw), self.device)
        state = stored_state(model)
        if "base" in identity:
            state = {k: v for k, v in state.items() if k.startswith(own_tensors(identity))}
            state["normalize.mean"], state["normalize.std"] = (t.clone() for t in statistics)
        else:
            state |= {"statistics.mean": statistics[0].clone(), "statistics.std": statistics[1].clone()}
        for name, tensor in state.items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise FloatingPointError(f"the trained tensor '{name}' is not finite")
        self.store.write_artifact("target", job.key, state)
        return {"artifact": True, "training": history, "timing": {"train_s": time.perf_counter() - started}}

    def _measure(self, job: Job) -> dict[str, Any]:
        identity = job.identity
        model = self.model(job.key, identity)
        part = self.part(identity["dataset"], "measure", int(job.extra["measure"]))
        found: dict[str, Any] = {}
        context = MeasureContext(
            model=model,
            data=part,
            seed=derive("measure", int(identity["seed"]), **names_of(identity)),
            device=self.device,
            threads=self.at.threads,
            extra={"self_tests": job.extra.get("self_tests", {})},
        )
        for spec in job.metrics:
            started = time.perf_counter()
            measure = make_metric(spec)
            try:
                entry = _measured(measure, context)
            except Exception as exc:  # noqa: BLE001  (a failed measure is stored with its traceback; the others go on)
                entry = {"status": "failed", "reason": f"{type(exc).__name__}: {exc}", "error": failure(exc)}
            entry["key"] = spec["key"]
            entry.setdefault("timing_values", {})[f"{spec['name']}_s"] = time.perf_counter() - started
            found[spec["name"]] = entry
        return {"measurements": found}

    def _fit(self, job: Job) -> dict[str, Any]:
        started = time.perf_counter()
        twin = self._twin(job)
        if twin is not None:
            self.store.write_artifact("fit", job.key, self.store.read_artifact("fit", twin["key"]))
            return {"artifact": True, "info": {**twin["info"], "taken_from": twin["key"]}}
        attack, view, _ = self._attack(job)
        fitted = attack.fit(view)
        for name, tensor in fitted.items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise FloatingPointError(f"attack '{attack.name}': fitted tensor '{name}' is not finite")
        self.store.write_artifact("fit", job.key, {k: v.detach().cpu().contiguous() for k, v in fitted.items()})
        return {"artifact": True, "info": _facts(view), "timing": {"fit_s": time.perf_counter() - started}}

    def _cell(self, job: Job) -> dict[str, Any]:
        started = time.perf_counter()
        twin = self._twin(job)
        if twin is not None and twin["artifact"]:
            return self._taken(job, twin)
        attack, view, order = self._attack(job)
        fit = job.identity["fit"]
        fitted = self.store.read_artifact("fit", fit, self.device) if fit else {}
        warnings: list[str] = []
        if isinstance(attack, LabelAttack):
            found = attack.infer(view, fitted)
            attacked = time.perf_counter() - started
            stored = finite_scores(found, len(view), attack.name)[order.argsort()]
        else:
            guess = attack.reconstruct(view, fitted)
            attacked = time.perf_counter() - started
            stored = quantised(guess, (len(view), *view.image_shape), attack.name, warnings)[order.argsort()]
        # --no-images leaves out pictures; what was read of a class is none.
        kept = self.at.images or isinstance(attack, LabelAttack)
        if kept:
            self.store.write_artifact("cell", job.key, {"guess": stored})
        scores, scored = self._scores(job, stored)
        return {
            "artifact": kept,
            "attack": _facts(view),
            "scores": scores,
            "warnings": warnings,
            "timing": {"attack_s": attacked, "score_s": scored},
        }

    def _taken(self, job: Job, twin: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the fields of a cell whose attack has been made already, on another target with the same wire."""
        stored = self.store.read_artifact("cell", twin["key"])["guess"]
        kept = self.at.images or "attribute" in job.identity
        if kept:
            self.store.write_artifact("cell", job.key, {"guess": stored})
        scores, scored = self._scores(job, stored)
        return {
            "artifact": kept,
            "attack": {**twin["attack"], "taken_from": twin["key"]},
            "scores": scores,
            "warnings": twin["warnings"],
            "timing": {"score_s": scored},
        }

    def _score(self, job: Job) -> dict[str, Any]:
        stored = self.store.read_artifact("cell", job.key)["guess"]
        return {"scores": self._scores(job, stored)[0]}

    def _reference(self, job: Job) -> dict[str, Any]:
        started = time.perf_counter()
        identity = job.identity
        private = self.part(identity["dataset"], "private", int(identity["private"]))
        aux = self.part(identity["aux"]["dataset"], "aux_train", int(identity["aux"]["aux_train"]))
        measure = self.part(identity["dataset"], "measure", int(identity["measure"]))
        truth = to_float(private.images)
        prior = to_float(aux.images).mean(0)
        rows = {}
        for name, guess in reference_guesses(truth)[0].items():
            as_stored = quantised(guess, tuple(truth.shape), name, [])
            rows[name] = score_all(job.metrics, truth, as_stored)
        return {
            "private": {
                "labels": private.labels.tolist(),
                "attributes": {name: values.tolist() for name, values in private.attributes.items()},
                "names": list(private.names) if private.names else None,
                "groups": None if private.groups is None else private.groups.tolist(),
                "pixels_sha256": hashlib.sha256(private.images.numpy().tobytes()).hexdigest(),
            },
            "measure_groups": None if measure.groups is None else measure.groups.tolist(),
            "prior_mse": [float(v) for v in (truth - prior).square().mean((1, 2, 3))],
            "thumbnails": {str(s): [float(v) for v in e] for s, e in thumbnail_errors(truth).items()},
            "rows": rows,
            "timing": {"reference_s": time.perf_counter() - started},
        }

    # -- what jobs share ------------------------------------------------------------------------------------------

    def info(self, dataset: Mapping[str, Any]) -> DataInfo:
        """Returns what is known of a dataset, by its identity."""
        return self._opened(dataset)[1]

    def part(self, dataset: Mapping[str, Any], name: PartName, n: int) -> Part:
        """Returns the first n images of a part, loading it once."""
        opened, _ = self._opened(dataset)
        at = (str(dataset["fingerprint"]) + dataset["name"], name)
        if at not in self._parts or len(self._parts[at]) < n:
            opened.sizes[name] = n
            self._parts[at] = opened.load(name)
        part = self._parts[at]
        return part if len(part) == n else part.first(n)

    def _opened(self, dataset: Mapping[str, Any]) -> tuple[Dataset, DataInfo]:
        at = str(dataset["fingerprint"]) + dataset["name"]
        if at not in self._data:
            cls = DATASETS.get(dataset["name"])
            # One image of each part: shape and classes are wanted here; the parts are loaded when they are needed.
            made = cls(cls.Params(**dataset["params"]), dict.fromkeys(PARTS, 1), self.at.context)
            self._data[at] = (made, made.prepare())
        return self._data[at]

    def model(self, key: str, identity: Mapping[str, Any]) -> SplitModel:
        """Returns a trained target in eval mode; the last one is kept."""
        if key not in self._models:
            weights = self.store.read_artifact("target", key, self.device)
            base = identity.get("base")
            if base:
                own = {k: v for k, v in weights.items() if k.startswith(own_tensors(identity))}
                statistics = (weights["normalize.mean"], weights["normalize.std"])
                lent = self.store.read_artifact("target", base, self.device)
                weights = {**halves(lent), **own}
            else:
                statistics = (weights["statistics.mean"], weights["statistics.std"])
            weights = {k: v for k, v in weights.items() if not k.startswith(("statistics.", "normalize."))}
            model = build(
                identity, self.info(identity["dataset"]), (statistics[0].cpu(), statistics[1].cpu()), self.device
            )
            restore(model, weights)
            self._models.clear()
            self._models[key] = model
        return self._models[key]

    def _attack(self, job: Job) -> tuple[Any, View, torch.Tensor]:
        """Returns the attack, its view, and which private image each of the view's is, (N,)."""
        identity, target = job.identity, job.related.get("target")
        attack = attack_of(identity["attack"])
        knowledge = AdversaryKnowledge(**identity["knowledge"])
        model = None if target is None else self.model(identity["target"], target)
        aux, lent = None, identity["aux"] or {}
        if lent:
            aux = (
                self.part(lent["dataset"], "aux_train", int(lent["aux_train"])),
                self.part(lent["dataset"], "aux_val", int(lent["aux_val"])),
            )
        dataset = lent["dataset"] if target is None else target["dataset"]
        shape = () if model is None else tuple(model.defense.wire_shape(model.feature_shape))
        # Neither the defense nor the attack's name is in the seed: attacks on different defenses are paired.
        names = {"dataset": dataset["name"]} if target is None else names_of(target)
        seed = derive("attack", int(identity["seed"]), **names)
        order = torch.empty(0, dtype=torch.int64)
        received = torch.empty(0, knowledge.draws, *shape, device=self.device)
        if job.task == "cell" and model is not None and target is not None:
            private = self.part(identity["dataset"], "private", int(identity["private"]))
            order = hidden_order(len(private), "private", seed)
            received = receive(model, private, knowledge.draws, int(target["seed"]), self.device)
            received = received[order.to(self.device)]
        if model is not None and not attack.adaptive:
            model = without_wire_defense(model)
        view = View(
            knowledge=knowledge,
            received=received,
            image_shape=self.info(dataset).image_shape,
            model=model,
            aux=aux,
            seed=seed,
            device=self.device,
            fits={
                role: self.store.read_artifact("fit", key, self.device)
                for role, key in identity.get("builds_on", {}).items()
                if not self._failed(key)
            },
            blank=None if target is None else self._blank(target, aux, knowledge.aux_count, attack.adaptive),
            before=None if knowledge.queries is None else self._asked_before(identity),
        )
        return attack, view, order

    def _failed(self, key: str) -> bool:
        """Says whether a fit has failed: only a tuned attack is run without it."""
        record = self.store.read("fit", key)
        return record is not None and record["status"] == "failed"

    def _twin(self, job: Job) -> dict[str, Any] | None:
        """Returns the record of the same attack on another target, if that is done and both send the same."""
        key = job.extra.get("twin")
        record = None if key is None else self.store.read(job.kind, key)
        if record is None or record["status"] != "done":
            return None
        one, other = (
            {n: t for n, t in self.store.read_artifact("target", target).items() if n.startswith("defense.")}
            for target in (job.identity["target"], record["identity"]["target"])
        )
        same = one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)
        return record if same else None

    def _asked_before(self, identity: Mapping[str, Any]) -> Asked:
        """Returns what the fits behind a node have asked of the edge: all of them share one budget."""
        found: dict[str, Asked] = {}
        waiting = fits_before(identity)
        while waiting:
            key = waiting.pop()
            record = None if key in found else self.store.read("fit", key)
            if record is not None:
                found[key] = Asked(int(record["info"]["queries"]), record["info"].get("answered", {}))
                waiting += fits_before(record["identity"])
        return Asked.together(found.values())

    def _blank(
        self, target: Mapping[str, Any], aux: tuple[Part, Part] | None, count: int | None, adaptive: bool
    ) -> Callable[[int], SplitModel]:
        """Returns what makes untrained targets for an attacker, from a seed of its own and its own images' statistics."""
        info = self.info(target["dataset"])
        channels = info.image_shape[0]
        statistics = torch.full((channels,), 0.5), torch.full((channels,), 0.25)
        if aux is not None:
            statistics = channel_statistics(aux[0] if count is None else aux[0].first(count))

        def made(seed: int) -> SplitModel:
            model = build({**target, "seed": seed}, info, statistics, self.device)
            return model if adaptive else without_wire_defense(model)

        return made

    def _scores(self, job: Job, stored: torch.Tensor) -> tuple[dict[str, Any], float]:
        started = time.perf_counter()
        private = self.part(job.identity["dataset"], "private", int(job.identity["private"]))
        if "attribute" in job.identity:
            found = score_labels(job.metrics, private.known(job.identity["attribute"]), stored)
        else:
            found = score_all(job.metrics, to_float(private.images), stored)
        return found, time.perf_counter() - started


def receive(model: SplitModel, private: Part, draws: int, seed: int, device: torch.device) -> torch.Tensor:
    """Returns what crossed the wire for the private images, (N, draws, *wire_shape).

    Every attack on a target meets the same draws. Each draw has a generator of its own, so that more draws begin with
    the same first ones, and more images leave the draws of the first as they are (on the CPU, for noise that is drawn
    element by element; a GPU deals its random numbers out by the size of the whole).
    """
    model.eval()
    with torch.no_grad():
        z = torch.cat([model.clean(to_float(b.to(device))) for b in private.images.split(256)])
        return torch.stack([model.protect(z, generator("received", seed, device, draw=k)) for k in range(draws)], dim=1)


def _measured(measure: Measure, context: MeasureContext) -> dict[str, Any]:
    found = measure.measure(context)
    unknown = set(found.values) - set(measure.columns)
    if unknown:
        raise ValueError(f"measure '{measure.name}' returned columns it does not declare: {sorted(unknown)}")
    values: dict[str, Any] = {}
    timing: dict[str, Any] = {}
    reason = found.reason
    for name, column in measure.columns.items():
        value = found.values.get(name)
        if isinstance(value, float) and not math.isfinite(value):
            value, reason = None, reason or f"{name} is not finite"
        if value is None:
            reason = reason or f"{name} has no value"
        (timing if column.timing else values)[name] = value
    for name, each in found.per_image.items():
        if not all(map(math.isfinite, each)):
            raise ValueError(f"measure '{measure.name}': values of '{name}' per image are not finite")
    return {
        "status": "done",
        "reason": reason,
        "flags": list(found.flags),
        "values": values,
        "timing_values": timing,
        "per_image": {k: [float(v) for v in vs] for k, vs in found.per_image.items()},
    }


def _facts(view: View) -> dict[str, Any]:
    # Who asks later, within the same budget, must know what was asked.
    answered = {} if view.knowledge.queries is None else {"answered": dict(view.asked.answered)}
    return {
        **answered,
        "notes": view.notes,
        "curves": {name: [[s, v] for s, v in points if math.isfinite(v)] for name, points in view.curves.items()},
        # Stored mappings are sorted, and the loss that was logged first is the one that speaks for the attack.
        "logged": list(view.curves),
        "not_finite": [name for name, points in view.curves.items() if not all(math.isfinite(v) for _, v in points)],
        "queries": view.queries,
        "accessed": sorted(view.accessed),
    }
