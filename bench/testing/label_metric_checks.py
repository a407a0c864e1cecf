"""The contract of a metric of labels, check by check."""

from __future__ import annotations

import torch

from ..metric import LabelMetric
from ..seeds import generator
from .outcome import Check, require
from .targets import make

N, VALUES = 12, 4


def check_label_meta_data(cls: type[LabelMetric]) -> None:
    """Axes and arrows are drawn from what a metric says of itself."""
    low, high = cls.bounds
    require(
        isinstance(cls.unit, str) and bool(cls.label.strip()) and low < high,
        f"unit is {cls.unit!r}, label {cls.label!r}, bounds {cls.bounds!r}",
        "a unit (empty for a pure number), what an axis says, and (lowest, highest)",
        "they are left from the base class",
    )
    require(
        cls.higher_means in ("more leakage", "less leakage"),
        f"higher_means is {cls.higher_means!r}",
        "'more leakage' or 'less leakage'",
        "it is left from the base class",
    )


def check_one_value_per_label(cls: type[LabelMetric]) -> None:
    """Intervals are taken over images: a mean over the batch hides them; a value belongs to its image."""
    truth, scores = _pair()
    metric = make(cls)
    values = metric.per_sample(truth, scores)
    require(
        isinstance(values, torch.Tensor) and values.is_floating_point() and tuple(values.shape) == (N,),
        f"per_sample returned {type(values).__name__} of shape {tuple(getattr(values, 'shape', ()))} for {N} images",
        "a float tensor (N,), one value per image",
        "the values are averaged over the batch",
    )
    order = torch.randperm(N, generator=generator("label metric order", 0))
    require(
        torch.allclose(values[order], metric.per_sample(truth[order], scores[order]), atol=1e-5),
        "values change when the images are put in another order",
        "the same values in the new order",
        "a statistic over the batch",
    )
    low, high = cls.bounds
    require(
        bool(((values >= low) & (values <= high)).all()),
        f"values from {float(values.min()):g} to {float(values.max()):g}",
        f"values within the declared bounds {cls.bounds}",
        "the bounds are left from the base class",
    )


def check_right_is_told_from_wrong(cls: type[LabelMetric]) -> None:
    """A direction that is declared the wrong way round turns the worst case into the best."""
    truth, _ = _pair()
    right = torch.nn.functional.one_hot(truth, VALUES).float()
    metric = make(cls)
    gain = float((metric.per_sample(truth, right) - metric.per_sample(truth, right.roll(1, 1))).mean())
    sign = 1 if cls.higher_means == "more leakage" else -1
    require(
        sign * gain > 0,
        f"scores that are all right differ by {gain:g} from scores that are all wrong",
        f"a difference in the declared direction (higher means {cls.higher_means})",
        "truth and scores are exchanged, or the metric does not look at the scores",
    )


LABEL_METRIC_CHECKS: tuple[Check, ...] = (
    check_label_meta_data,
    check_one_value_per_label,
    check_right_is_told_from_wrong,
)


def _pair() -> tuple[torch.Tensor, torch.Tensor]:
    g = generator("label metric", 0)
    return torch.randint(VALUES, (N,), generator=g), torch.randn(N, VALUES, generator=g)
