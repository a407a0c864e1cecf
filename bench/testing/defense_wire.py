"""Checks of what a defense does to the features on the wire."""

from __future__ import annotations

from typing import Any

import torch

from ..defense import Defense
from ..pixels import to_float
from ..split import SplitModel
from .data import part
from .outcome import Check, fail, require
from .randomness import global_generators_watched
from .targets import defended, home_of, make, parameter_sets, trained


def check_wire_shape(cls: type[Defense]) -> None:
    """Attacks, costs and clouds are built from the declared shape before any feature is seen."""
    # Before training: the shared loop would refuse a wrong shape before this check could say what is wrong.
    model, z = untrained(cls)
    declared = model.defense.wire_shape(model.feature_shape)
    require(
        isinstance(declared, tuple) and all(isinstance(n, int) for n in declared),
        f"wire_shape returned {declared!r}",
        "a tuple of ints, the shape of one image's features after protect",
        "it returns a list, or the shape of a batch",
    )
    for mode in (True, False):
        got = sent(model.train(mode), z)
        require(
            isinstance(got, torch.Tensor),
            f"protect returned {type(got).__name__}",
            "a tensor",
            "it returns a mask or statistics beside the features",
        )
        require(
            tuple(got.shape) == (len(z), *declared),
            f"protect returned shape {tuple(got.shape)} for {len(z)} images, wire_shape declares {tuple(declared)}",
            "the batch axis followed by the declared shape, in training and at inference",
            "protect pools or flattens, and wire_shape is not overridden",
        )
        _require_answer(model, got)


def _require_answer(model: SplitModel, got: torch.Tensor) -> None:
    try:
        model.answer(got)
    except RuntimeError as exc:
        fail(
            f"the cloud half cannot take what was sent ({str(exc).splitlines()[0]})",
            "features of the shape that the cloud half takes",
            "what crosses the wire has another shape, and lift does not fill it up again",
        )


def check_wire_is_finite(cls: type[Defense]) -> None:
    """One NaN on the wire ends a run; zeros, large values and a single image are where they come from."""
    model, z = model_and_features(cls)
    cases = {"zeros": torch.zeros_like(z), "values of a million": z * 1e6, "one image": z[:1]}
    x = to_float(part("client_val", 6, model.info.image_shape).images)
    with torch.no_grad():  # the edge may be the defense's own
        cases |= {"black images": model.clean(x * 0), "images a million times as bright": model.clean(x * 1e6)}
    for what, features in cases.items():
        require(
            bool(torch.isfinite(sent(model, features)).all()),
            f"protect gives values that are not finite for features of {what}",
            "finite values for finite features and images",
            "it divides by a norm or a deviation that can be zero, or takes an exponential or a logarithm",
        )


def check_calibration_survives_constant_features(cls: type[Defense]) -> None:
    """Dead channels are common behind a rectifier: statistics of features that never move must not become NaN."""
    model, z = untrained(cls)
    constant = torch.zeros_like(z)
    model.defense.calibrate(lambda: [constant, constant])
    # A channel that is dead on client_train may live on a private image.
    for what, features in {"the same features": constant, "features that move": z}.items():
        require(
            bool(torch.isfinite(sent(model, features)).all()),
            f"after calibrate has seen constant features, protect gives values that are not finite for {what}",
            "finite values",
            "calibrate takes a deviation of zero as a divisor",
        )


def check_input_is_unchanged(cls: type[Defense]) -> None:
    """The clean features are used again (extra loss, further draws): protect must not write into them."""
    # Before training: an in-place operation on features with a gradient ends the training with torch's own words.
    model, z = untrained(cls)
    for mode in (True, False):
        given = z.clone()
        with torch.no_grad():
            model.train(mode).defense.protect(given, torch.Generator().manual_seed(0))
        require(
            torch.equal(given, z),
            f"protect changed its input in place by up to {float((given - z).abs().max()):.3g}",
            "z is left as it is",
            "an in-place operation (a trailing underscore, z[...] = ..., z += ...)",
        )


def check_same_generator_same_output(cls: type[Defense]) -> None:
    """All attacks on a target must meet the same draws, and a run must give the same numbers twice."""
    model, z = model_and_features(cls)
    first, again = sent(model, z, 7), sent(model, z, 7)
    require(
        torch.equal(first, again),
        f"two calls with equal generators differ by up to {float((first - again).abs().max()):.3g}",
        "all randomness comes from the generator that protect is given",
        "a call such as torch.randn_like or F.dropout, which draws from the global generator, "
        "or a state that changes at inference",
    )


def check_stochastic_is_declared(cls: type[Defense]) -> None:
    """Attacks meet a defense that is declared random with fresh draws; a wrong flag makes them weak or slow."""
    for which in parameter_sets(cls):
        model, z = model_and_features(cls, which)
        draws = [sent(model, z, seed) for seed in range(4)]
        differ = any(not torch.equal(draws[0], other) for other in draws[1:])
        declared = model.defense.stochastic
        require(
            differ == bool(declared),
            f"with parameters {which!r} stochastic is {declared!r}, four different generators give "
            f"{'different' if differ else 'equal'} features",
            "stochastic is true exactly where protect draws",
            "stochastic is not overridden, or does not look at the parameters",
        )


def check_batch_equals_samples(cls: type[Defense]) -> None:
    """A device sends one image at a time: at inference no image may depend on the others of its batch."""
    model, z = model_and_features(cls)
    x = to_float(part("client_val", 6, model.info.image_shape).images)
    alone = "for a batch than for its images one by one"
    with torch.no_grad():
        _require_equal("edge", alone, model.clean(x), torch.cat([model.clean(one) for one in x.split(1)]))
    if not model.defense.stochastic:
        _require_equal("protect", alone, sent(model, z), torch.cat([sent(model, one) for one in z.split(1)]))
        return
    # A single image meets other draws than a batch: the batch keeps its size, and all but its first image change.
    others = torch.cat([z[:1], 3 * z[1:].flip(0) + 1])
    _require_equal("protect", "for the first image when the others change", sent(model, z)[:1], sent(model, others)[:1])


def check_global_generators_are_untouched(cls: type[Defense]) -> None:
    """Targets are paired by their seed: a draw from a global generator would shift everybody else's."""
    home = home_of(cls)
    model = defended(make(cls), home)
    data = part("client_train", 8, home.image_shape)
    x = to_float(data.images)
    z = model.clean(x)
    logits = model.answer(model.protect(z, torch.Generator().manual_seed(0)))  # a head's dropout draws globally
    likely = "torch.randn, F.dropout or torch.manual_seed; draw with generator=… from the generator that is given"
    with global_generators_watched("the defense", likely):
        for mode in (True, False):
            model.train(mode)
            model.defense.protect(z, torch.Generator().manual_seed(0))
            model.defense.train_helpers(x, z.detach(), data.labels)
            model.defense.task_loss(logits, data.labels)
            model.defense.extra_loss(x, z, data.labels, logits)
        model.defense.calibrate(lambda: [z.detach()])


def check_inference_leaves_state_alone(cls: type[Defense]) -> None:
    """What is stored is what is attacked: in eval mode neither buffers nor modes may move."""
    model, z = model_and_features(cls)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    for seed in range(3):
        model.wire(to_float(part("client_val", 4, model.info.image_shape).images), torch.Generator().manual_seed(seed))
        sent(model, z, seed)
    moved = [k for k, v in model.state_dict().items() if not torch.equal(v, before[k])]
    require(
        not moved and modes == [m.training for m in model.modules()],
        f"inference changed {', '.join(moved) or 'the training mode of a module'}",
        "in eval mode nothing of the target's state changes",
        "a running statistic is updated without asking self.training",
    )


WIRE_CHECKS: tuple[Check, ...] = (
    check_wire_shape,
    check_wire_is_finite,
    check_calibration_survives_constant_features,
    check_input_is_unchanged,
    check_same_generator_same_output,
    check_stochastic_is_declared,
    check_batch_equals_samples,
    check_global_generators_are_untouched,
    check_inference_leaves_state_alone,
)


def untrained(cls: type[Defense]) -> tuple[SplitModel, torch.Tensor]:
    """Returns a fresh target in eval mode and its clean features of six images, detached."""
    home = home_of(cls)
    model = defended(make(cls), home).eval()
    return model, _features(model)


def model_and_features(cls: type[Defense], params: dict[str, Any] | None = None) -> tuple[SplitModel, torch.Tensor]:
    """Returns a trained target in eval mode and its clean features of six images, detached."""
    model = trained(cls, params)
    return model, _features(model)


def sent(model: SplitModel, z: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Returns what protect makes of a copy of features z, with a fresh generator; no gradient."""
    with torch.no_grad():
        return model.defense.protect(z.clone(), torch.Generator().manual_seed(seed))


def _features(model: SplitModel) -> torch.Tensor:
    with torch.no_grad():
        return model.clean(to_float(part("client_val", 6, model.info.image_shape).images)).contiguous()


def _require_equal(what: str, when: str, first: torch.Tensor, second: torch.Tensor) -> None:
    gap = float((first - second).abs().max())
    require(
        gap <= 1e-4 * max(1.0, float(first.abs().max())),
        f"the {what} gives other values {when} (up to {gap:.3g})",
        "at inference each image is treated by itself",
        "statistics of the batch are used in eval mode too",
    )
