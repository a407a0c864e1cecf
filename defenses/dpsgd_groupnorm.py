"""DP-SGD: differential privacy of the training images, with group norm in the place of batch norm."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from pydantic import Field
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from splitaudit.composing import LOSSES
from splitaudit.defense import Course, Defense
from splitaudit.guarantee import Guarantee
from splitaudit.params import Params
from splitaudit.split import Split

MISSING = "dpsgd_groupnorm needs opacus, which is not installed: pip install splitaudit[dp]"


class DpSgdGroupNormParams(Params):
    """Parameters of :class:`DpSgdGroupNorm`."""

    noise: float = Field(
        1.0, gt=0, description="noise multiplier: standard deviation of a step's noise in units of the clipping norm"
    )
    clip: float = Field(
        1.0, gt=0, description="norm to which the gradient of each image is clipped, over all weights together"
    )
    delta: float = Field(1e-5, gt=0, lt=1, description="δ, the probability with which the reported ε may be exceeded")
    groups: int = Field(32, ge=1, description="most groups of a group norm; a divisor of the channels is used")


class DpSgdGroupNorm(Defense):
    """Trains edge and cloud by DP-SGD: gradients clipped for each image, and noise, in the shared loop.

    Each step uses (Σ_i g_i·min(1, C/‖g_i‖) + n)/B instead of the mean gradient: g_i is the gradient of image i over all
    weights of edge and cloud, C = ``clip``, n ~ N(0, (noise·C)²) for each weight, B the batch size. The suite's optimiser and
    learning rate take it from there. Features are sent as they are.

    **What it protects**: the images that the network is trained on. Whoever sees the weights, of edge and cloud, can tell
    an image among them from any other image in its place at most by a factor e^ε (but for a probability of δ):
    ``epsilon_shuffled``, which the tables call ``privacy_epsilon``. The batches of the shared loop are shuffled and each image
    is used once an epoch, so that another image in its place moves the sum of one batch an epoch by up to 2C: opacus' RDP
    accountant is asked for that many releases of Gaussian noise of multiplier ``noise``/2. Beside it, in ``notes`` and
    :attr:`epsilon`, stands the figure that papers report: for q = batch/images and epochs·⌈images/batch⌉ steps, of whether
    the image was there at all, if each image were drawn with probability q in each step (Poisson sampling). That is not what
    the shared loop does. In a composition with a part that takes statistics of client_train there is no ε.

    **What it does not protect**: the private images at inference. Nothing is added to the wire, and features of an
    image that the network has never seen tell of it whatever the weights are. It is in this suite because the two
    are often confused; that attacks do about as well as without it is to be expected, not a fault. Nor does ε
    cover: the constants of the normalisation, which are exact means of client_train; the choice of an epoch by validation
    images; parts of a composition that keep statistics of the batch in training (``noise`` with a relative scale). And the
    noise follows from the suite's seed, so that runs can be repeated: who knows the seed knows it.

    **Group norm.** Batch norm makes an image's gradient depend on the others of its batch. Every batch norm, of edge and
    cloud, becomes a group norm: gcd(``groups``, C) groups of a map's C channels; one group for vectors, where groups of
    one number would be constant. The architecture is therefore not that of ``none``, and the difference in accuracy is
    that of both changes. The name says so.

    Source: Abadi et al. 2016 by opacus (Yousefpour et al. 2021): ``GradSampleHooks``, ``DPOptimizer``, ``RDPAccountant``;
    group norm as opacus' own replacement. Departures: shuffled batches, see above; the suite's optimiser (AdamW by default)
    on the private gradient instead of plain SGD. Memory grows by the batch times the number of weights. With another
    part that adds a loss or has helpers it is refused: what clipping bounds is the gradient of one image's own loss.
    """

    Params = DpSgdGroupNormParams
    version = 2
    source = (
        "Abadi et al., CCS 2016; opacus 1.6 (Yousefpour et al., arXiv 2109.12298); group norm, Wu and He, ECCV 2018"
    )

    governs_training = True

    spent: torch.Tensor

    @classmethod
    def supports(cls, backbone: str, cut: str) -> str | None:
        return None if installed() else MISSING

    @property
    def epsilon(self) -> float:
        """ε of the training, at ``delta``; infinite before it."""
        return float(self.spent) if self.spent >= 0 else math.inf

    def guarantees(self, notes: Mapping[str, Any], releases: int = 1) -> tuple[Guarantee, ...]:
        stored = notes.get("dpsgd")
        if stored is None:  # not trained yet
            return ()
        return (
            Guarantee(
                about="training image",
                epsilon=float(stored["epsilon_shuffled"]),
                delta=float(stored["delta"]),
                protects="one training image, from any other in its place (DP-SGD, shuffled batches)",
                leaves_out="the images that the network is used on (it adds nothing to the features that are sent); the "
                "normalisation's constants, the choice of an epoch, the losses and accuracies that a run records of its "
                "training; against who knows the suite's seed, and so the noise",
                accountant=f"{stored['accountant']}, one release an epoch for each image; of whether an image was there at "
                f"all, if each batch were drawn by chance, as papers assume, ε = {stored['epsilon']:.4g}",
            ),
        )

    def wrap(self, split: Split) -> Split:
        return Split(split.info, grouped(split.edge, self.params.groups), grouped(split.cloud, self.params.groups))

    def prepare(self, split: Split) -> None:
        # -1 stands for none yet: what is stored must be finite.
        self.register_buffer("spent", torch.tensor(-1.0))

    @contextmanager
    def during(self, course: Course) -> Iterator[torch.optim.Optimizer]:
        if not installed():
            raise ImportError(MISSING)
        from opacus.optimizers import DPOptimizer  # pyright: ignore[reportMissingImports]

        self._check(course)
        spent = epsilon_of(self.params.noise, self.params.delta, course.images, course.batch, course.steps)
        self.spent.fill_(spent)
        course.notes["dpsgd"] = {
            "epsilon": spent,
            # Another image in the place of one moves a sum of clipped gradients by twice the clipping norm.
            "epsilon_shuffled": epsilon_of(self.params.noise / 2, self.params.delta, 1, 1, course.epochs),
            "delta": self.params.delta,
            "accountant": "opacus RDP",
            "norm": "group",
        }
        hooks = _per_image(course.model)
        optimizer: Any = DPOptimizer(
            course.optimizer,
            noise_multiplier=self.params.noise,
            max_grad_norm=self.params.clip,
            expected_batch_size=min(course.batch, course.images),
            generator=course.generator,
        )
        try:
            with warnings.catch_warnings():
                # The first layer's input, the images, has no gradient; torch remarks on hooks there.
                warnings.filterwarnings("ignore", message="Full backward hook is firing")
                yield optimizer
        finally:
            hooks.cleanup()
            for p in course.model.parameters():
                if hasattr(p, "summed_grad"):
                    delattr(p, "summed_grad")

    def _check(self, course: Course) -> None:
        """Refuses what makes the gradient of one image depend on others.

        Raises:
            ValueError: naming it.
        """
        others = [m for m in course.model.defense.modules() if isinstance(m, Defense) and m is not self]
        for part in others:
            added = [h for h in LOSSES if getattr(type(part), h) is not getattr(Defense, h)]
            if added and part is not course.model.defense:
                raise ValueError(
                    f"dpsgd_groupnorm with '{part.name}', which overrides {added[0]}: clipping bounds the gradient "
                    "of one image's cross-entropy, and the ε would be wrong. Leave it out of the composition."
                )
        left = [name for name, m in course.model.named_modules() if isinstance(m, _BatchNorm)]
        if left:
            raise ValueError(
                f"{', '.join(left)} is a batch norm, which makes an image's gradient depend on the others of its batch. "
                "Put dpsgd_groupnorm last in the composition, so that it replaces it."
            )


def installed() -> bool:
    """Says whether opacus can be imported."""
    try:
        return find_spec("opacus") is not None
    except ValueError:  # an entry of None in sys.modules
        return False


def _per_image(model: nn.Module) -> Any:
    """Returns hooks that leave each image's gradient on the weights of a model, until ``cleanup`` is called."""
    from opacus.grad_sample import GradSampleHooks  # pyright: ignore[reportMissingImports]

    class Hooks(GradSampleHooks):
        """Opacus 1.6 cuts patches out of a convolution's input by strides that hold for the default memory layout alone.

        Of images in channels-last order, as the suite has them, it makes gradients that are wrong without a word.
        """

        def capture_activations_hook(self, module: Any, forward_input: Any, _forward_output: Any) -> None:
            super().capture_activations_hook(module, [t.contiguous() for t in forward_input], _forward_output)

    return Hooks(model, strict=False)  # strict refuses every buffer, the normalisation's too


def epsilon_of(noise: float, delta: float, images: int, batch: int, steps: int) -> float:
    """Returns opacus' ε of a training by its accountant of Rényi differential privacy.

    Args:
        noise: noise multiplier.
        delta: δ.
        images: number of training images.
        batch: images in a step.
        steps: of the training.
    """
    from opacus.accountants import RDPAccountant  # pyright: ignore[reportMissingImports]

    accountant: Any = RDPAccountant()
    accountant.history.append((noise, min(1.0, batch / images), steps))
    with warnings.catch_warnings():
        # At very small or large ε the best order lies at the end of its list: a slightly larger ε, still a bound.
        warnings.filterwarnings("ignore", message="Optimal order")
        return float(accountant.get_epsilon(delta))


def grouped(module: Any, groups: int) -> Any:
    """Replaces every batch norm in a module, in place, by a group norm of the same channels; returns the module.

    Args:
        module: anything made of modules.
        groups: most groups.
    """
    for name, child in list(module.named_children()):
        if isinstance(child, _BatchNorm):
            count = 1 if isinstance(child, nn.BatchNorm1d) else math.gcd(groups, child.num_features)
            setattr(module, name, nn.GroupNorm(count, child.num_features, eps=child.eps, affine=child.affine))
        else:
            grouped(child, groups)
    return module
