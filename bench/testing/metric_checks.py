"""The contract of a per-image metric, check by check."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import itertools
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from ..metric import Metric
from ..seeds import generator
from .data import toy_images
from .outcome import Check, NotApplicable, fail, require
from .randomness import global_generators_watched
from .targets import make

SHAPE = (3, 32, 32)
"""Large enough for windows and for the backbones of learned distances."""

N = 12


def check_meta_data(cls: type[Metric]) -> None:
    """Axes, arrows and the worst case are drawn from what a metric says of itself."""
    problems = []
    if not isinstance(cls.unit, str):
        problems.append(f"unit is {cls.unit!r}, expected a string (empty for a pure number)")
    if not (isinstance(cls.label, str) and cls.label.strip()):
        problems.append(f"label is {cls.label!r}, expected what an axis says")
    if cls.higher_means not in ("more leakage", "less leakage"):
        problems.append(f"higher_means is {cls.higher_means!r}, expected 'more leakage' or 'less leakage'")
    low, high = cls.bounds
    if not low < high:
        problems.append(f"bounds are {cls.bounds!r}, expected (lowest, highest)")
    elif not low <= cls.best <= high:
        problems.append(f"best is {cls.best!r}, outside bounds {cls.bounds!r}")
    require(
        not problems,
        "; ".join(problems),
        "unit, label, bounds, best and higher_means that fit each other",
        "they are left from the base class",
    )


def check_one_value_per_image(cls: type[Metric]) -> None:
    """Intervals are taken over images: a mean over the batch hides them."""
    truth, guess = _pair()
    values = _metric(cls).per_sample(truth, guess)
    require(
        isinstance(values, torch.Tensor) and values.is_floating_point() and tuple(values.shape) == (len(truth),),
        f"per_sample returned {_form(values)} for {len(truth)} images",
        "a float tensor (N,), one value per image",
        "the values are averaged over the batch, or an axis is kept",
    )


def check_permuted_images_permute_values(cls: type[Metric]) -> None:
    """A value belongs to its image, wherever that stands in the batch."""
    truth, guess = _pair()
    order = torch.randperm(len(truth), generator=generator("metric order", 0))
    metric = _metric(cls)
    whole, mixed = metric.per_sample(truth, guess)[order], metric.per_sample(truth[order], guess[order])
    gap = _gap(whole, mixed)
    require(
        gap <= 1e-5,
        f"values change by up to {gap:.3g} when the images are put in another order",
        "the same values in the new order",
        "a statistic over the batch, or values that are sorted",
    )


def check_split_batches_change_nothing(cls: type[Metric]) -> None:
    """The size of a batch is a matter of memory and must not change a number."""
    if cls.set_wise:
        raise NotApplicable("set_wise: a value depends on the whole set")
    truth, guess = _pair()
    metric = _metric(cls)
    whole = metric.per_sample(truth, guess)
    parts = torch.cat([metric.per_sample(t, g) for t, g in zip(truth.split(5), guess.split(5), strict=True)])
    gap = _gap(whole, parts)
    require(
        gap <= 1e-5,
        f"values change by up to {gap:.3g} when the batch is divided",
        "the same value for an image in any batch (or set_wise = True)",
        "a minimum, a maximum or a mean over the batch",
    )


def check_perfect_copy_is_best(cls: type[Metric]) -> None:
    """A table that marks the best value has to know it."""
    truth, _ = _pair()
    values = _metric(cls).per_sample(truth, truth.clone())
    gap = _gap(values, torch.full_like(values, cls.best))
    require(
        gap <= 1e-5,
        f"metric(x, x) is {float(values[0]):.6g}",
        f"the declared best, {cls.best:g}",
        "best is left from the base class, or a constant under a root keeps the value off its end",
    )


def check_degradation_moves_as_declared(cls: type[Metric]) -> None:
    """A direction that is declared the wrong way round turns the worst case into the best."""
    truth, noise = _pair()
    metric = _metric(cls)
    steps = (0.1, 0.3, 0.6, 1.0)
    means = [float(metric.per_sample(truth, (1 - t) * truth + t * noise).mean()) for t in steps]
    sign = 1 if cls.higher_means in ("less leakage", "more cost") else -1
    rises = [sign * (b - a) for a, b in itertools.pairwise(means)]
    require(
        min(rises) >= -1e-6 and sum(rises) > 0,
        f"replacing {', '.join(f'{t:.0%}' for t in steps)} of the image by noise gives {_row(means)}",
        f"values that {'rise' if sign > 0 else 'fall'} (higher_means = {cls.higher_means!r})",
        "higher_means is the wrong way round",
    )


def check_values_are_within_bounds(cls: type[Metric]) -> None:
    """Bounds are an axis' ends; infinity is a value only where it is declared and explained."""
    truth, noise = _pair()
    black, white = torch.zeros_like(truth), torch.ones_like(truth)
    metric = _metric(cls)
    low, high = cls.bounds
    cases = {
        "noise": (truth, noise),
        "its own copy": (truth, truth),
        "black for white": (white, black),
        "grey": (truth, 0 * truth + 0.5),
        "black for black": (black, black),
    }
    for what, (t, g) in cases.items():
        values = metric.per_sample(t, g)
        require(
            not bool(values.isnan().any()),
            f"a guess of {what} has the value NaN",
            "a number for every pair of images",
            "0 / 0: a flat image has no variance",
        )
        require(
            bool(((values >= low - 1e-6) & (values <= high + 1e-6)).all()),
            f"a guess of {what} has values from {float(values.min()):.4g} to {float(values.max()):.4g}",
            f"values within the declared bounds {cls.bounds!r}",
            "the bounds are those of another normalisation",
        )
        require(
            bool(torch.isfinite(values).all()) or "infini" in (cls.__doc__ or ""),
            f"a guess of {what} has an infinite value and the docstring does not say so",
            "infinite values are explained in the docstring",
            "a logarithm or a quotient at zero",
        )


def check_agrees_with_its_reference(cls: type[Metric]) -> None:
    """A metric that names a library's implementation promises that library's numbers."""
    compare = _reference(cls)
    truth, noise = _pair()
    guess = 0.7 * truth + 0.3 * noise
    ours = _metric(cls).per_sample(truth, guess)
    theirs = [float(compare(t, g)) for t, g in zip(truth.double().numpy(), guess.double().numpy(), strict=True)]
    gap = _gap(ours.double(), torch.tensor(theirs, dtype=torch.float64))
    require(
        gap <= 1e-4 * max(1.0, max(abs(v) for v in theirs)),
        f"the values differ from {cls.reference} by up to {gap:.3g}",
        "agreement to 1e-4",
        "another normalisation, window or peak",
    )


def check_integer_images_are_refused(cls: type[Metric]) -> None:
    """8-bit images in place of [0, 1] give plausible nonsense; the message has to say what to do."""
    truth, guess = (images.mul(255).to(torch.uint8) for images in _pair())
    try:
        value = _metric(cls).per_sample(truth, guess)
    except (TypeError, ValueError, RuntimeError) as exc:
        require(
            "float" in str(exc) and ("[0, 1]" in str(exc) or "255" in str(exc)),
            f"8-bit images are refused with the message {str(exc)!r}",
            "a message that names what is expected: float images in [0, 1]",
            "the error comes from a library further down; check the images first",
        )
        return
    fail(
        f"8-bit images are accepted and give {float(value.float().mean()):.4g}",
        "a TypeError or ValueError that says what to do",
        "the images are converted without a look at their type",
    )


def check_inputs_are_unchanged(cls: type[Metric]) -> None:
    """The next metric gets the same images."""
    truth, guess = _pair()
    kept = truth.clone(), guess.clone()
    _metric(cls).per_sample(truth, guess)
    require(
        torch.equal(truth, kept[0]) and torch.equal(guess, kept[1]),
        "per_sample changed its arguments in place",
        "arguments that are left as they are",
        "an in-place operation on the images (a trailing underscore, -=)",
    )


def check_deterministic(cls: type[Metric]) -> None:
    """Measuring the stored reconstructions again must give the stored numbers, and draw from no global generator."""
    truth, guess = _pair()
    metric = _metric(cls)
    with global_generators_watched("per_sample", "random projections or crops without a generator of their own"):
        first, again = metric.per_sample(truth, guess), metric.per_sample(truth, guess)
    require(
        _gap(first, again) == 0,
        f"two calls differ by up to {_gap(first, again):.3g}",
        "equal values for equal images",
        "a counter or a cache on self, or a random number",
    )


METRIC_CHECKS: tuple[Check, ...] = (
    check_meta_data,
    check_one_value_per_image,
    check_permuted_images_permute_values,
    check_split_batches_change_nothing,
    check_perfect_copy_is_best,
    check_degradation_moves_as_declared,
    check_values_are_within_bounds,
    check_agrees_with_its_reference,
    check_integer_images_are_refused,
    check_inputs_are_unchanged,
    check_deterministic,
)


@lru_cache(maxsize=1)
def _images() -> tuple[torch.Tensor, torch.Tensor]:
    truth = toy_images(N, SHAPE, seed=3)[0]
    return truth, torch.rand(truth.shape, generator=generator("metric noise", 0))


def _pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Returns images and unrelated noise, both (N, C, H, W) in [0, 1]; fresh copies."""
    truth, noise = _images()
    return truth.clone(), noise.clone()


def _metric(cls: type[Metric]) -> Metric:
    metric = make(cls)
    reason = metric.unavailable(SHAPE)
    if reason is not None:
        raise NotApplicable(reason)
    return metric


def _reference(cls: type[Metric]) -> Callable[..., Any]:
    """Returns the named reference as a function of two arrays (C, H, W); its text is a path with keyword arguments."""
    if cls.reference is None:
        raise NotApplicable("no reference is named")
    tree = ast.parse(cls.reference.strip(), mode="eval").body
    call = tree if isinstance(tree, ast.Call) else None
    path = ast.unparse(call.func if call else tree)
    options = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg} if call else {}
    module, _, name = path.rpartition(".")
    if importlib.util.find_spec(module.partition(".")[0] or name) is None:
        raise NotApplicable(f"{module or name} is not installed")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as exc:
        fail(
            f"the reference {cls.reference!r} cannot be imported: {exc}",
            "module.function(option=value) of a library, or None",
            "a misspelt name, or one that the library has moved",
        )
    if inspect.isclass(function):
        raise NotApplicable(f"{path} is a class: compare it in a test of your own")
    return lambda truth, guess: np.asarray(function(truth, guess, **options))


def _gap(a: torch.Tensor, b: torch.Tensor) -> float:
    """Returns the greatest difference; equal infinities do not differ."""
    same = (a == b) | (a.isnan() & b.isnan())
    gap = torch.where(same, torch.zeros_like(a), (a - b).abs())
    return float(gap.max()) if not gap.isnan().any() else math.inf


def _row(values: list[float]) -> str:
    return ", ".join(f"{v:.4g}" for v in values)


def _form(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of {value.dtype} of shape {tuple(value.shape)}"
    return type(value).__name__
