"""Reconstruct, then classify: what an independent classifier of images sees in an attack's reconstructions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field, ValidationError, model_validator

from splitaudit.attack import Attack, LabelAttack, Work
from splitaudit.config.problems import problems_of
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.params import Params
from splitaudit.pixels import to_float
from splitaudit.plugins import ATTACKS
from splitaudit.seeds import seeded_globally
from splitaudit.split import SplitInfo
from splitaudit.view import View

from ._decoding import macs
from ._readers import AT_ONCE, Reader, Schedule, scores_of, train_reader
from .attribute import mirrored, values_of

INNER = "inner"
"""The role of the inner attack's own fit; the fits that it builds on have it as a prefix."""

SIDES = (1.0, 0.5, 0.25)
"""Sizes to which training images are shrunk and blown up again: reconstructions are blurred."""


class RecogniseParams(Params):
    """Parameters of :class:`Recognise`."""

    through: str = Field("decoder", description="the attack whose reconstructions are classified")
    settings: dict[str, Any] = Field(default_factory=dict, description="that attack's parameters")
    attribute: str = Field("label", description="what is read: label (the class) or an attribute of the dataset")
    width: int = Field(48, ge=1, description="channels of the classifier's first convolution")
    epochs: int = Field(20, ge=1, description="passes over the auxiliary images")
    batch: int = Field(64, ge=2, description="images per step")
    lr: float = Field(3e-3, gt=0, description="peak learning rate (AdamW, one cycle)")
    flips: bool | None = Field(
        None,
        description="also train on mirrored images; null: for the class alone, since an attribute may tell left from right",
    )

    @model_validator(mode="after")
    def _inner_is_known(self) -> RecogniseParams:
        if self.through not in ATTACKS:
            raise ValueError(ATTACKS.unknown(self.through))
        inner = ATTACKS.get(self.through).Params
        try:
            inner(**self.settings)
        except ValidationError as exc:
            # As it is, the error would be read as one of this attack's own keys.
            raise ValueError("\n".join(problems_of(exc, f"settings of attack '{self.through}'", inner))) from exc
        return self


class Recognise(LabelAttack):
    """Runs an attack and reads its reconstructions with a classifier that was trained on auxiliary images alone.

    The classifier has seen neither the target nor any of its features: what it recognises is in the picture, as it would
    be for a person. It is trained on mirrored images and on images of reduced resolution too, and its weights are the
    best on ``aux_val``; one training for each inner attack serves all targets. ``converged`` speaks of that training, as
    in ``attribute``.

    ``attribute`` reads the features themselves and knows the defense, so it is the stronger reader as a rule; this one
    says whether a reconstruction that scores well still shows what matters.

    Source: accuracy of an evaluation classifier on reconstructions (Zhang et al., CVPR 2020, *The Secret Revealer*).
    Departures: own small classifier, trained on the attacker's auxiliary images.
    """

    Params = RecogniseParams
    version = 3
    source = "Zhang et al., CVPR 2020 (attack accuracy)"
    requires = AdversaryKnowledge(edge="query", aux="same", labels=True)
    uses_draws = True
    fit_scope = "images"

    def __init__(self, params: RecogniseParams) -> None:
        super().__init__(params)
        cls = ATTACKS.get(params.through)
        self.inner: Attack = cls(cls.Params(**params.settings))
        self.inner.name = params.through
        known = {"aux": "same", "labels": True}
        self.requires = self.inner.requires.model_copy(update=known)  # type: ignore[misc]
        self.uses = (self.inner.uses or self.inner.requires).model_copy(update=known)  # type: ignore[misc]
        self.uses_draws = self.inner.uses_draws  # type: ignore[misc]

    def supports(self, architecture: SplitInfo, defense_parts: Sequence[tuple[str, Mapping[str, Any]]]) -> str | None:
        if self.inner.infers != "image":
            return f"attack 'recognise' needs an attack that makes images, '{self.params.through}' reads labels"
        return self.inner.supports(architecture, defense_parts)

    def runs(self) -> dict[str, tuple[str, dict[str, Any]]]:
        return {INNER: (self.inner.name, self.inner.params.dump())}

    def builds_on(self) -> dict[str, tuple[str, dict[str, Any]]]:
        own = {INNER: (self.inner.name, self.inner.params.dump())} if self.inner.has_fit() else {}
        return own | {f"{INNER}.{role}": spec for role, spec in self.inner.builds_on().items()}

    def fit(self, view: View) -> dict[str, torch.Tensor]:
        p = self.params
        images = view.aux_train.images.to(view.device)
        known, held_out, count = values_of(view, p.attribute)
        mirror = view.generator("recognise mirror")

        def batch(index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            x = to_float(images[index])
            draw = torch.rand(2, len(x), generator=mirror, device=view.device)
            if mirrored(p.flips, p.attribute):
                x = torch.where(draw[0, :, None, None, None] < 0.5, x.flip(-1), x)
            which = (draw[1] * len(SIDES)).long().clamp_max(len(SIDES) - 1)
            for number, share in enumerate(SIDES[1:], 1):
                x = torch.where((which == number)[:, None, None, None], _blurred(x, share), x)
            return x, known[index]

        reader = self._classifier(view, count)
        reader.set_scale(to_float(images[:2048]))
        read = train_reader(
            reader,
            batch,
            len(images),
            _at_every_size(*_some(view, held_out)),
            Schedule(p.epochs, p.batch, p.lr),
            torch.Generator().manual_seed(view.seed_for("recognise batches")),
            view.passes(len(images)),
        )
        for epoch, loss in read.curve:
            view.log("aux_val_cross_entropy", epoch, loss)
        view.note(
            steps=read.steps,
            aux_val_accuracy=read.accuracy,
            aux_val_cross_entropy=read.loss,
            **read.judged(),
        )
        return read.state

    def infer(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        prefix = f"{INNER}."
        fits = {role.removeprefix(prefix): t for role, t in view.fits.items() if role.startswith(prefix)}
        guess = self.inner.reconstruct(view.with_fits(fits), view.fits.get(INNER, {}))
        # As a cell stores them: what is classified is what the other metrics judge.
        guess = guess.clamp(0, 1).mul(255).round().div(255)
        reader = self._classifier(view, values_of(view, self.params.attribute)[2])
        reader.load_state_dict(fitted)
        return scores_of(reader, guess)

    def work(
        self, n_private: int, n_aux: int, image_shape: tuple[int, int, int], feature_shape: tuple[int, ...]
    ) -> Work:
        # The fit knows no target, so there are no features to ask about.
        inner = self.inner.work(n_private, 0, image_shape, feature_shape) if n_private else Work(0.0, 0.0)
        forward = 2 * macs(Reader(image_shape, 2, self.params.width), image_shape) / 1e9
        return Work(edge_passes=inner.edge_passes, gflop=inner.gflop + 3 * forward * n_aux * 1.1 * self.params.epochs)

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        inner = ATTACKS.get("decoder").cheap()
        return {"settings": inner, "width": 16, "epochs": 20, "batch": 16}

    def _classifier(self, view: View, count: int) -> Reader:
        with seeded_globally(view.seed_for("recognise init")):
            return Reader(view.image_shape, count, self.params.width).to(view.device)


def _some(view: View, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns held-out images in [0, 1], as many as fit in memory at every size, and their values."""
    count = max(1, AT_ONCE // (len(SIDES) * math.prod(view.image_shape)))
    return to_float(view.aux_val.images[:count].to(view.device)), values[:count]


def _at_every_size(images: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns held-out images in all the resolutions that are trained on, with their values."""
    return torch.cat([images, *(_blurred(images, s) for s in SIDES[1:])]), values.repeat(len(SIDES))


def _blurred(x: torch.Tensor, share: float) -> torch.Tensor:
    """Returns images shrunk to a share of their sides and blown up again."""
    size = [max(1, round(s * share)) for s in x.shape[2:]]
    return F.interpolate(F.interpolate(x, size, mode="area"), x.shape[2:], mode="bilinear", align_corners=False)
