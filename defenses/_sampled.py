"""A sample of a Gaussian and what it costs in nats, as one operation whose gradient keeps no tensor but its arguments."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch.autograd.function import once_differentiable

CHUNK = 2**18
"""Elements whose deviations exist at a time (a megabyte each in single precision), but of one image at least."""


def log_variance_of(raw: torch.Tensor, bound: float) -> torch.Tensor:
    """Returns log σ² of unbounded numbers (N, ...): the same shape, between -bound and bound."""
    return bound * torch.tanh(raw / bound)


def divergence(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Returns KL(N(mean, variance) ‖ N(0, I)) in nats an image: summed over elements, averaged over images; a scalar.

    Args:
        mean: (N, ...).
        log_variance: log σ², the same shape.
    """
    return _nats(mean, log_variance).mean()


def sampled(
    mean: torch.Tensor, raw: torch.Tensor, unit: torch.Tensor, bound: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns μ + σ·ε, shaped as the mean, and the divergence of N(μ, σ²) from N(0, I) in nats an image, a scalar.

    The same numbers and gradients as by :func:`log_variance_of` and :func:`divergence`, which keep nine tensors of the
    wire's size at the peak of a step; this keeps the arguments and two gradients, and the rest for ``CHUNK`` elements.
    Differentiable once, by the mean and by ``raw``.

    Args:
        mean: μ (N, ...).
        raw: what bounds to log σ², the same shape.
        unit: ε, standard normal, the same shape.
        bound: most that log σ² is, on both sides.
    """
    return cast("tuple[torch.Tensor, torch.Tensor]", _Sampled.apply(mean, raw, unit, bound))


class _Sampled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, mean: torch.Tensor, raw: torch.Tensor, unit: torch.Tensor, bound: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(mean, raw, unit)
        ctx.bound = bound
        ctx.set_materialize_grads(False)
        sent, nats = torch.empty_like(mean), []
        for i in _chunks(mean):
            log_variance = log_variance_of(raw[i], bound)
            sent[i] = mean[i] + (log_variance / 2).exp() * unit[i]
            nats.append(_nats(mean[i], log_variance))
        return sent, torch.cat(nats).mean()

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_sent: torch.Tensor | None, of_nats: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        mean, raw, unit = ctx.saved_tensors
        of_mean, of_raw = torch.empty_like(mean), torch.empty_like(raw)
        for i in _chunks(mean):
            with torch.enable_grad():
                m, r = mean[i].detach().requires_grad_(), raw[i].detach().requires_grad_()
                log_variance = log_variance_of(r, ctx.bound)
                outputs, gradients = [], []  # one of the two at least is asked for, or autograd would not be here
                if of_nats is not None:
                    outputs.append(_nats(m, log_variance))
                    gradients.append((of_nats / len(mean)).expand(len(m)))
                if of_sent is not None:
                    outputs.append(m + (log_variance / 2).exp() * unit[i])
                    gradients.append(of_sent[i])
                of_mean[i], of_raw[i] = torch.autograd.grad(outputs, (m, r), gradients)
        return of_mean, of_raw, None, None


def _nats(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Returns the divergence of each image (N)."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1) / 2


def _chunks(batch: torch.Tensor) -> list[slice]:
    images = max(1, CHUNK // batch[:1].numel())
    return [slice(start, start + images) for start in range(0, len(batch), images)]
