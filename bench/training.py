"""The shared training loop of targets."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from .augment import Augmentation, augment
from .data.base import Part
from .defense import Course, Network
from .params import Params
from .pixels import to_float
from .rising import still_rising
from .seeds import derive, generator, seeded_globally
from .split import SplitModel

Half = Literal["edge", "cloud"]


class TrainingParams(Params):
    """How targets are trained; the same for every defense of a suite."""

    epochs: int = Field(12, ge=1, description="passes over client_train")
    batch: int = Field(64, ge=4, description="images per step")
    lr: float = Field(2e-3, gt=0, description="peak learning rate")
    optimizer: Literal["adam", "adamw", "amsgrad", "sgd"] = Field(
        "adamw",
        description="optimiser (sgd: Nesterov momentum 0.9; amsgrad: Adam with AMSGrad and betas 0.5, 0.999; one-cycle "
        "moves momentum and the first beta between 0.85 and 0.95 instead)",
    )
    weight_decay: float = Field(5e-4, ge=0, description="weight decay")
    schedule: Literal["one-cycle", "cosine", "constant"] = Field("one-cycle", description="course of the learning rate")
    selection: Literal["last", "best"] = Field(
        "last", description="weights kept: the last, or the best on client_val in the last quarter of the epochs"
    )
    augment: Augmentation = Field(Augmentation(), description="augmentation of client_train")


def train(
    model: SplitModel,
    data: Part,
    val: Part,
    params: TrainingParams,
    seed: int,
    names: dict[str, Any],
    device: torch.device,
    frozen: Collection[Half] = (),
) -> dict[str, Any]:
    """Trains a target in place and returns its history.

    Batch order and augmentation are drawn from generators that do not depend on the defense, so that targets of one
    seed are paired; the defense's own randomness has its own generator.

    Args:
        model: edge, defense and cloud, freshly initialised, on ``device``.
        data: client_train.
        val: client_val.
        params: the training's parameters.
        seed: the target's seed.
        names: plain values that batch order may depend on (dataset, backbone, cut).
        device: where to compute.
        frozen: halves that stay as they are, in eval mode.

    Returns:
        ``loss`` and ``val_accuracy`` per epoch, ``kept_epoch``, ``val_rising``: whether the validation accuracy of
        the last quarter still lies clearly above that of the quarter before (:func:`still_rising`), and ``notes`` where
        the defense leaves some.

    Raises:
        FloatingPointError: if the loss stops being finite, naming the epoch.
    """
    trained = learned(model, frozen)
    steps = math.ceil(len(data) / params.batch)
    optimizer = _optimizer(params, trained)
    schedule = _schedule(params, optimizer, params.epochs * steps)
    order, jitter = generator("batches", seed, **names), generator("augment", seed, device, **names)
    draws = generator("defense draws", seed, device, **names)
    images, labels = data.images.to(device), data.labels.to(device)
    course = Course(model, optimizer, len(data), params.batch, params.epochs, draws)
    history: dict[str, Any] = {"loss": [], "val_accuracy": [], "kept_epoch": params.epochs}
    best: tuple[float, int, dict[str, torch.Tensor]] | None = None
    # The head's dropout draws from the global generator; seeding it per target keeps targets paired.
    layers = seeded_globally(derive("layers", seed, **names))
    with layers, _held(model, frozen), model.defense.during(course) as optimizer:
        for epoch in range(1, params.epochs + 1):
            model.train()
            for half in frozen:
                getattr(model, half).eval()
            total = 0.0
            for index in torch.randperm(len(data), generator=order).to(device).split(params.batch):
                if len(index) < 4:
                    continue  # batch statistics of fewer than 4 images mean nothing
                x = augment(to_float(images[index]), params.augment, jitter)
                loss = _step(model, x, labels[index], optimizer, draws)
                if not math.isfinite(loss):
                    raise FloatingPointError(
                        f"the training loss became {loss} in epoch {epoch} (defense '{model.defense.name}')"
                    )
                schedule.step()
                total += loss * len(index)
            history["loss"].append(total / len(data))
            history["val_accuracy"].append(accuracy(model, val, seed, device))
            late = epoch > params.epochs - max(1, params.epochs // 4)
            if params.selection == "best" and late and (best is None or history["val_accuracy"][-1] >= best[0]):
                state = {k: v.clone() for k, v in model.state_dict().items()}
                best = (history["val_accuracy"][-1], epoch, state)
    if best is not None:
        model.load_state_dict(best[2])
        history["kept_epoch"] = best[1]
    if course.notes:
        history["notes"] = course.notes
    history["val_rising"] = still_rising(history["val_accuracy"], len(val))
    return history


def learned(model: SplitModel, frozen: Collection[Half] = ()) -> list[nn.Parameter]:
    """Returns what the shared optimiser trains: all that asks for gradients but helper networks and frozen halves."""
    left_out = (*(f"{half}." for half in frozen), *(f"defense.{h}." for h in model.defense.helpers))
    return [p for n, p in model.named_parameters() if p.requires_grad and not n.startswith(left_out)]


def fit_defense(model: SplitModel, data: Part, device: torch.device, batch: int = 64) -> None:
    """Lets the defense take what it needs from the trained undefended network, in eval mode."""
    model.eval()

    def images() -> Iterator[torch.Tensor]:
        for some in data.images.split(batch):
            yield to_float(some.to(device))

    model.defense.fit(Network(model.edge, model.cloud, images))


def accuracy(model: SplitModel, part: Part, seed: int, device: torch.device, batch: int = 256) -> float:
    """Returns the accuracy through the defended wire, one draw per image."""
    model.eval()
    draws = generator("validation draws", seed, device)
    hits = 0
    with torch.no_grad():
        for images, labels in zip(part.images.split(batch), part.labels.split(batch), strict=True):
            logits = model(to_float(images.to(device)), draws)
            hits += int((logits.argmax(1).cpu() == labels).sum())
    return hits / len(part)


def calibrate(model: SplitModel, data: Part, device: torch.device, batch: int = 256) -> None:
    """Lets the defense fit its statistics on the clean features of client_train, in eval mode."""
    model.eval()

    def features() -> Any:
        with torch.no_grad():
            for images in data.images.split(batch):
                yield model.clean(to_float(images.to(device)))

    model.defense.calibrate(features)


def _step(
    model: SplitModel, x: torch.Tensor, y: torch.Tensor, optimizer: torch.optim.Optimizer, draws: torch.Generator
) -> float:
    z = model.clean(x)
    logits = model.answer(model.protect(z, draws))
    model.defense.train_helpers(x, z.detach(), y)
    loss = model.defense.task_loss(logits, y)
    extra = model.defense.extra_loss(x, z, y, logits)
    for name, value in (("task_loss", loss), ("extra_loss", extra)):
        if value is not None and value.numel() != 1:
            raise ValueError(
                f"{name} of defense '{model.defense.name}' has shape {tuple(value.shape)}, expected a single number: "
                "take its mean"
            )
    if extra is not None:
        loss = loss + extra.reshape(())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


@contextmanager
def _held(model: SplitModel, frozen: Collection[Half]) -> Iterator[None]:
    """Asks for no gradients of frozen halves' weights, which nobody would use."""
    weights = [p for half in frozen for p in getattr(model, half).parameters() if p.requires_grad]
    for p in weights:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in weights:
            p.requires_grad_(True)


def _optimizer(params: TrainingParams, trained: list[nn.Parameter]) -> torch.optim.Optimizer:
    if params.optimizer == "sgd":
        return torch.optim.SGD(trained, lr=params.lr, momentum=0.9, nesterov=True, weight_decay=params.weight_decay)
    if params.optimizer == "amsgrad":  # as in the code of arXiv 2501.00824
        return torch.optim.Adam(
            trained, lr=params.lr, betas=(0.5, 0.999), amsgrad=True, weight_decay=params.weight_decay
        )
    kind = torch.optim.Adam if params.optimizer == "adam" else torch.optim.AdamW
    return kind(trained, lr=params.lr, weight_decay=params.weight_decay)


def _schedule(
    params: TrainingParams, optimizer: torch.optim.Optimizer, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if params.schedule == "one-cycle":
        # OneCycleLR leaves room for the warm-up of at least one step.
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=params.lr, total_steps=max(steps, 4) + 1)
    if params.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=0)
