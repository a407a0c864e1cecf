"""How sensitive the wire is to the image, over a declared noise: diagonal Fisher information leakage."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field

from splitaudit.data.base import Part
from splitaudit.metric import Column, Measure, MeasureContext, Measurement
from splitaudit.metrics._channel import own_noise
from splitaudit.metrics._features import Rows
from splitaudit.metrics._image_twin import image_twin, variances
from splitaudit.metrics._prepared import NotMeasurable, Prepared, Settings, prepared
from splitaudit.params import Params
from splitaudit.pixels import to_float

BATCH = 64
STEP = 1e-3
"""Change of pixels in [0, 1] by which the gradient is checked."""

AGREE = (0.5, 2.0)
"""What the squared change may be, over what the gradient says."""


class FisherInformationParams(Params):
    """Parameters of :class:`FisherInformation`."""

    sigma_over_rms: float = Field(
        1.0,
        gt=0,
        description="reference noise: standard deviation over the root mean square of the wire's centred signal",
    )
    images: int = Field(256, ge=1, description="images at most, the first of part measure")
    probes: int = Field(4, ge=1, description="random directions per image (Hutchinson)")


class FisherInformation(Measure):
    """Measures dFIL = E tr(Jᵀ S⁻¹ J)/d: Fisher information of the wire about the image, per pixel.

    J is the derivative of the wire by the image in [0, 1], S the variance of the noise: the declared reference noise plus
    the defense's own where it is additive Gaussian; d is the number of pixels times channels. Without noise dFIL is
    infinite, so deterministic edges are measured at the reference noise as well, and targets compared at the same one.
    For a random defense that does anything else it is that for an observer who knows the defense's random numbers, which
    is at least as much. A wire whose gradient is not that of what it sends (in steps, say) has no figure.

    ``dfil_unbiased_mse`` = 1/dFIL is the mean squared error that no *unbiased* attacker gets below (Cramér–Rao). Attackers
    are biased, and ordinary ones do get below it: it is no floor.

    ``van_trees_mse`` = d⁻¹ Σᵢ 1/(Aᵢᵢ + 1/λᵢ) is a bound for any attacker if the images were their Gaussian twin: A = E Jᵀ S⁻¹ J
    in the cosine basis, λᵢ the variance of coefficient i. The full form d⁻¹ tr (A + Λ⁻¹)⁻¹ is at least as high; for a linear
    edge that is diagonal in that basis both are the least error there is. Images are no Gaussians: indicative.

    Both are of the wire plus the reference noise, which nobody sends. Attacks read the wire as it is, and of a wire whose own
    noise is small against the reference noise they get far below both (67 times below on an undefended first block).
    """

    Params = FisherInformationParams
    version = 2
    source = "dFIL: Maeng et al. 2022, arXiv 2209.10119; van Trees 1968; diagonal form and Gaussian twin: this project"
    columns: ClassVar[dict[str, Column]] = {
        "dfil": Column("", "more leakage", "Fisher information of the wire plus reference noise about a pixel, mean"),
        "dfil_unbiased_mse": Column(
            "",
            "less leakage",
            "1/dfil: error that no unbiased attacker on the wire plus reference noise gets below; attackers are biased, and "
            "that noise is not sent: attacks may get below",
        ),
        "van_trees_mse": Column(
            "",
            "less leakage",
            "error that no attacker on the wire plus reference noise gets below if images were Gaussian; that noise is not "
            "sent: attacks may get below",
        ),
        "dfil_sigma_over_rms": Column(
            "", "neither", "reference noise over the root mean square of the wire's centred signal"
        ),
        "dfil_noise": Column("", "neither", "what the noise is"),
        "dfil_images": Column("images", "neither", "images that it was measured on"),
    }

    @classmethod
    def cheap(cls) -> dict[str, int]:
        return {"images": 32, "probes": 2}

    def measure(self, context: MeasureContext) -> Measurement:
        p = self.params
        found: dict[str, float | int | str | None] = dict.fromkeys(self.columns)
        try:
            ready = prepared(context, Settings())
        except NotMeasurable as exc:
            # Constant features have no scale for a relative noise: there is nothing to be sensitive over.
            return Measurement(found, str(exc), (f"Fisher information: {exc.status}",))
        part = context.data.first(min(p.images, len(context.data)))
        deviation = ready.rms * (p.sigma_over_rms**2 + _own_variance(context, ready)).sqrt()
        names = {"deterministic": "reference", "additive_gaussian": "reference + own", "stochastic_other": "reference"}
        found |= {"dfil_sigma_over_rms": p.sigma_over_rms, "dfil_images": len(part)}
        found["dfil_noise"] = names[ready.wire.kind]
        if ready.wire.kind == "stochastic_other":
            found["dfil_noise"] = "reference (defense's random numbers known)"
        why = _gradient_is_true(context, part.first(min(BATCH, len(part))), deviation)
        if why:
            return Measurement(found, why, ("Fisher information: no gradient",))
        information = _information(context, part, deviation, p.probes)
        twin = image_twin(context)
        dfil = float(information.mean())
        if dfil == 0:
            return Measurement(found | {"dfil": 0.0}, "the wire does not depend on the image: no bound is finite")
        bound = 1 / (information + 1 / variances(twin).double())
        return Measurement(found | {"dfil": dfil, "dfil_unbiased_mse": 1 / dfil, "van_trees_mse": float(bound.mean())})


def _own_variance(context: MeasureContext, ready: Prepared) -> torch.Tensor:
    """Returns the variance of a defense's own Gaussian noise per element of the wire, in units of rms²; 0 for any other."""
    if ready.wire.kind != "additive_gaussian":
        return torch.zeros((), device=context.device)
    whole = Rows(context, context.data, 2**62)
    whole.unit = ready.rms
    own = own_noise(whole)
    return ready.wire.own if own is None else own.float()


def _scaled(context: MeasureContext, x: torch.Tensor, draws: torch.Generator, deviation: torch.Tensor) -> torch.Tensor:
    return context.model.wire(x, draws).flatten(1) / deviation


def _information(context: MeasureContext, part: Part, deviation: torch.Tensor, probes: int) -> torch.Tensor:
    """Returns E |S^-½ J uᵢ|² for every cosine coefficient i, (C, H, W), by Hutchinson's estimator."""
    draws, signs = context.generator("wire"), context.generator("probes")
    twin = image_twin(context)
    total = torch.zeros(context.model.info.image_shape, dtype=torch.float64, device=context.device)
    for images in part.images.split(BATCH):
        x = to_float(images.to(context.device)).requires_grad_()
        with torch.enable_grad():
            z = _scaled(context, x, draws, deviation)
            for probe in range(probes):
                v = torch.randint(2, z.shape, generator=signs, device=z.device).to(z) * 2 - 1
                (g,) = torch.autograd.grad(z, x, v, retain_graph=probe + 1 < probes)
                total += twin.analyse(g).square().sum(0).double()
    return total / (len(part) * probes)


def _gradient_is_true(context: MeasureContext, part: Part, deviation: torch.Tensor) -> str | None:
    """Returns why the wire's gradient is of no use, or None: a small random change has to do what the gradient says."""
    draws, signs = context.generator("wire"), context.generator("check")
    state = draws.get_state()
    x = to_float(part.images.to(context.device)).requires_grad_()
    u = torch.randint(2, x.shape, generator=signs, device=x.device).to(x) * 2 - 1
    with torch.enable_grad():
        z = _scaled(context, x, draws, deviation)
        if not z.requires_grad:
            return "the wire has no gradient by the image"
        # Columns of J from rows: the derivative of ⟨Jᵀv, u⟩ by v is J u.
        v = torch.zeros_like(z, requires_grad=True)
        (g,) = torch.autograd.grad(z, x, v, create_graph=True, allow_unused=True)
        if g is None or not g.requires_grad:
            return "the wire has no gradient by the image"
        (along,) = torch.autograd.grad((g * u).sum(), v)
    draws.set_state(state)
    with torch.no_grad():
        moved = (_scaled(context, x + STEP * u, draws, deviation) - z) / STEP
    said, seen = float(along.square().sum()), float(moved.square().sum())
    if not torch.isfinite(torch.tensor([said, seen])).all():
        return "the wire's gradient is not finite"
    if seen == 0 and said == 0:
        return None
    if said == 0 or not AGREE[0] < seen / said < AGREE[1]:
        return "the wire's gradient is not that of what it sends (it may be in steps)"
    return None
