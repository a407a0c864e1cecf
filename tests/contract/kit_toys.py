"""Toys that keep the contract, to break one clause at a time, and what a broken one has to show."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from splitaudit.attack import INVERTIBLE, Attack, Expected, Work
from splitaudit.defense import Defense
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.metric import Column, Measure, MeasureContext, Measurement, Metric
from splitaudit.testing import check_plugin, checks_of
from splitaudit.testing.kit import outcome_of
from splitaudit.testing.outcome import is_long
from splitaudit.view import View

ALL = frozenset({"*"})
"""For a toy whose targets cannot even be trained: most checks fail with what the training says."""


@dataclass(frozen=True)
class Broken:
    """A plugin class that breaks one clause of its contract.

    Attributes:
        cls: the class.
        check: the check that has to find it.
        words: what its message has to say.
        also: checks that cannot but fail too; :data:`ALL` where it would be nearly every one.
    """

    cls: Any
    check: str
    words: tuple[str, ...]
    also: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.cls.__name__}-{self.check}"

    def is_found(self) -> None:
        """Asserts that the check fails, and with these words."""
        outcome = outcome_of(named(self.cls, self.check), self.cls)
        assert outcome.applies, outcome
        assert not outcome.passed, f"{self.check} lets {self.cls.__name__} pass"
        for word in self.words:
            assert word in outcome.message, outcome.message

    def fails_nothing_else(self, size: Any = "fast") -> None:
        """Asserts that no other check of this size fails but those named."""
        if self.also == ALL:
            return
        found = {o.check: o.message for o in check_plugin(self.cls, size=size) if not o.passed}
        named = {self.check, *self.also} & {c.__name__ for c in checks_of(self.cls, size)}
        assert set(found) == named, found


def named(cls: Any, check: str) -> Any:
    """Returns a check of a class by its name."""
    (function,) = (c for c in checks_of(cls) if c.__name__ == check)
    return function


def collector(toys: list[Broken]) -> Callable[..., Callable[[type], type]]:
    """Returns the decorator ``@breaks(check, *words, also=…)`` that adds a broken toy to a list."""

    def breaks(check: str, *words: str, also: Iterable[str] = ()) -> Callable[[type], type]:
        def add(cls: type) -> type:
            toys.append(Broken(cls, check, words, frozenset(also)))
            return cls

        return add

    return breaks


def by_size(toys: list[Broken], size: str) -> list[Broken]:
    """Returns the toys whose check is fast, or full."""
    return [t for t in toys if is_long(named(t.cls, t.check)) == (size == "full")]


class ToyDefense(Defense):
    """Changes nothing."""

    source = "toy"


class ToyAttack(Attack):
    """Takes one step of steepest descent from the mean auxiliary image: exact on an orthogonal edge of any scale."""

    source = "toy"
    requires = AdversaryKnowledge(edge="weights")
    uses = AdversaryKnowledge(edge="weights", aux="same")
    expected = Expected(control_mse=dict.fromkeys(INVERTIBLE, 1e-6))

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        return transposed(view, view.edge)


def transposed(view: View, edge: nn.Module) -> torch.Tensor:
    """Returns the images (N, C, H, W) that the transpose of the defended edge gives for the received features."""

    def sent(x: torch.Tensor) -> torch.Tensor:
        return view.protect(edge(x), view.generator("toy"))

    start = view.prior.expand(len(view), *view.image_shape).clone().requires_grad_(True)
    z = sent(start)
    missing = view.z - z.detach()
    (step,) = torch.autograd.grad(z, start, missing)
    with torch.no_grad():
        ahead = (sent(start + step) - z).flatten(1)
        length = (ahead * missing.flatten(1)).sum(1) / ahead.square().sum(1).clamp_min(1e-30)
        return (start + length[:, None, None, None] * step).clamp(0, 1)


STEPS = 12
"""Steps of :class:`ToyDescent`."""


class ToyDescent(ToyAttack):
    """Goes a few steps downhill from the transpose's guess, each against a fresh draw of a random defense."""

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        x = super().reconstruct(view, fitted).requires_grad_(True)
        draws, size = view.generator("descent"), view.z.square().mean().clamp_min(1e-30)
        view.note(converged=False)
        for step in range(STEPS):
            sent = view.protect(view.edge(x), self.draws(view, draws))
            loss = (sent - view.z).square().sum()
            view.log("loss", step + 1, float(loss.detach()))
            (slope,) = torch.autograd.grad(loss, x)
            with torch.no_grad():
                x.sub_(0.05 * slope / size).clamp_(0, 1)
        return x.detach()

    def draws(self, view: View, given: torch.Generator) -> torch.Generator:
        """Returns the generator of a step."""
        return given

    def work(
        self, n_private: int, n_aux: int, image_shape: tuple[int, int, int], feature_shape: tuple[int, ...]
    ) -> Work:
        return Work(edge_passes=3 * (STEPS + 1) * n_private)


class ToyQueries(Attack):
    """Fits a linear inverse to its own queries."""

    source = "toy"
    requires = AdversaryKnowledge(edge="query", aux="other")
    uses = AdversaryKnowledge(edge="query", aux="same")

    def fit(self, view: View) -> dict[str, torch.Tensor]:
        x, z = self.answers(view)
        x, z = x.flatten(1), z.flatten(1)
        z0, x0 = z.mean(0), x.mean(0)
        kernel = (z - z0) @ (z - z0).T
        ridge = 1e-3 * kernel.diagonal().mean().clamp_min(1e-6) * torch.eye(len(z))
        return {"z0": z0, "x0": x0, "inverse": (z - z0).T @ torch.linalg.solve(kernel + ridge, x - x0)}

    def answers(self, view: View) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns own images and the edge's answers."""
        pairs = view.pairs("train")
        return pairs.batch(torch.arange(len(pairs)))

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        guess = fitted["x0"] + (view.z.flatten(1) - fitted["z0"]) @ fitted["inverse"]
        return guess.reshape(-1, *view.image_shape).clamp(0, 1)


class ToyMetric(Metric):
    """Averages the squared error over all elements of an image."""

    source = "toy"
    label = "mean squared error"
    bounds = (0.0, 1.0)

    def per_sample(self, truth: torch.Tensor, guess: torch.Tensor) -> torch.Tensor:
        return error(truth, guess)


def error(truth: torch.Tensor, guess: torch.Tensor) -> torch.Tensor:
    """Returns the mean squared error of each image (N,); integer images are refused."""
    if not (truth.is_floating_point() and guess.is_floating_point()):
        raise TypeError(f"got {guess.dtype}, expected float images in [0, 1]")
    return (truth - guess).square().flatten(1).mean(1)


class ToyMeasure(Measure):
    """Averages what crosses the wire."""

    source = "toy"
    columns: ClassVar[dict[str, Column]] = {
        "mean_feature": Column("", "neither", "mean of the features on the wire"),
        "elements": Column("elements", "more cost", "numbers that cross the wire for one image"),
    }

    def measure(self, context: MeasureContext) -> Measurement:
        per_image = features(context).flatten(1).mean(1)
        values = {"mean_feature": float(per_image.mean()), "elements": features(context)[0].numel()}
        return Measurement(values, per_image={"mean_feature": per_image.tolist()})


def features(context: MeasureContext) -> torch.Tensor:
    """Returns what crosses the wire for every image of the part, (N, …)."""
    with torch.no_grad():
        return context.model.protect(context.clean_features(), context.generator("toy"))
