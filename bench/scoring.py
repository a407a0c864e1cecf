"""Scoring what attacks found: the form it must have, and one value per image under each metric."""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping
from typing import Any

import torch

from .attack import Infers
from .metric import LabelMetric, Measure, Metric
from .pixels import to_float
from .plugins import METRICS

OUTSIDE = "guesses outside [0, 1]"
"""Flag of an attack whose guesses had to be clipped."""


def quantised(guess: Any, shape: tuple[int, ...], name: str, warnings: list[str]) -> torch.Tensor:
    """Checks what an attack returned and returns it as uint8 on the CPU, (N, C, H, W).

    Scores are computed on these stored values, so that measuring again gives the same numbers.

    Raises:
        ValueError: wrong type or shape, or values that are not finite.
    """
    if not isinstance(guess, torch.Tensor) or not guess.is_floating_point():
        got = guess.dtype if isinstance(guess, torch.Tensor) else type(guess).__name__
        raise ValueError(f"attack '{name}' returned {got}, expected a tensor of floats in [0, 1]")
    if tuple(guess.shape) != shape:
        raise ValueError(f"attack '{name}' returned shape {tuple(guess.shape)}, expected {shape}")
    guess = guess.detach().float().cpu()
    if not bool(torch.isfinite(guess).all()):
        raise ValueError(f"attack '{name}' returned values that are not finite")
    low, high = float(guess.min()), float(guess.max())
    if low < -1e-3 or high > 1 + 1e-3:
        warnings.append(f"{OUTSIDE}: from {low:.3g} to {high:.3g}, clipped")
    return guess.clamp(0, 1).mul(255).round().to(torch.uint8).contiguous()


def finite_scores(scores: Any, n: int, name: str) -> torch.Tensor:
    """Checks what an attack read of labels and returns it as float32 on the CPU, (n, K).

    Raises:
        ValueError: wrong type or shape, or values that are not finite.
    """
    if not isinstance(scores, torch.Tensor) or not scores.is_floating_point():
        got = scores.dtype if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise ValueError(f"attack '{name}' returned {got}, expected a tensor of floats")
    if scores.ndim != 2 or len(scores) != n:
        raise ValueError(f"attack '{name}' returned shape {tuple(scores.shape)}, expected ({n}, number of values)")
    scores = scores.detach().float().cpu()
    if not bool(torch.isfinite(scores).all()):
        raise ValueError(f"attack '{name}' returned values that are not finite")
    return scores.contiguous()


def score_all(specs: list[dict[str, Any]], truth: torch.Tensor, stored: torch.Tensor) -> dict[str, Any]:
    """Returns the scores of stored guesses (uint8) under every metric of images among the specs."""
    guess = to_float(stored)
    return {spec["name"]: _score(spec, truth, guess) for spec in specs if judges(spec["name"]) == "image"}


def score_labels(specs: list[dict[str, Any]], truth: torch.Tensor, stored: torch.Tensor) -> dict[str, Any]:
    """Returns the scores of what was read (N, K) under every metric of labels among the specs; truth (N,)."""
    return {spec["name"]: _score(spec, truth, stored) for spec in specs if judges(spec["name"]) == "label"}


def make_metric(spec: Mapping[str, Any]) -> Any:
    """Builds a metric or measure from its spec {name, params}."""
    cls = METRICS.get(spec["name"])
    metric = cls(cls.Params(**spec["params"]))
    metric.name = spec["name"]
    return metric


def judges(name: str) -> Infers | None:
    """Returns what a metric judges: images or labels; None for a measure of targets."""
    cls = METRICS.get(name)
    return "image" if issubclass(cls, Metric) else "label" if issubclass(cls, LabelMetric) else None


def is_metric(name: str) -> bool:
    """Says whether a registry name is a metric of attacks, per image (a measure of targets otherwise)."""
    return judges(name) is not None


def is_quiet(name: str) -> bool:
    """Says whether a measure wants the machine for itself."""
    cls = METRICS.get(name)
    return issubclass(cls, Measure) and cls.quiet


def stored_value(value: float, best: float | None) -> float | str | None:
    """Returns a value as a record holds it: JSON has no infinity, so that of a perfect copy is the text ``inf``.

    Left out, an attack that copies one image exactly would have no mean, and a weaker one would be named the worst case.

    Args:
        value: of one image.
        best: the metric's value of a perfect copy, which may be infinite; None: it has none.

    Returns:
        A finite value as it is; ``inf`` or ``-inf`` where that is the best possible value; None for NaN and other infinities.
    """
    if math.isfinite(value):
        return float(value)
    return str(float(value)) if value == best else None


def _score(spec: Mapping[str, Any], truth: torch.Tensor, guess: torch.Tensor) -> dict[str, Any]:
    metric = make_metric(spec)
    head = {"key": spec["key"], "version": metric.version}
    reason = metric.unavailable((truth.shape[1], truth.shape[2], truth.shape[3])) if truth.ndim == 4 else None
    if reason:
        return {**head, "status": "unavailable", "reason": reason}
    try:
        raw = metric.per_sample(truth, guess)
        if tuple(raw.shape) != (len(truth),):
            raise ValueError(f"metric '{spec['name']}' returned shape {tuple(raw.shape)}, expected ({len(truth)},)")
    except Exception as exc:  # noqa: BLE001  (stored with its traceback; the other metrics go on)
        return {**head, "status": "failed", "reason": f"{type(exc).__name__}: {exc}", "error": failure(exc)}
    values = [stored_value(v, getattr(metric, "best", None)) for v in raw.tolist()]
    missing = values.count(None)
    why = f"{missing} of {len(values)} values are not finite" if missing else None
    return {**head, "status": "done", "values": values, "reason": why}


def failure(exc: BaseException) -> dict[str, str]:
    """Returns an exception as a record stores it."""
    text = "".join(traceback.format_exception(exc))
    return {"type": type(exc).__name__, "message": str(exc) or type(exc).__name__, "traceback": text}
