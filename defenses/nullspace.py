"""Removal of what the cloud's first layer does not read, or hardly reads."""

from __future__ import annotations

import math

import torch
from torch import nn

from splitaudit.defense import Network
from splitaudit.errors import Unsupported
from splitaudit.nn.eigen import eigh
from splitaudit.split import Split, device_of, evaluating, feature_shape

from ._projection import Projection, ProjectionParams

MOST = 8192
"""Most numbers of an image's features: the singular vectors are found in a square matrix of that side."""

IMAGES = 2048
"""Images of client_train over which the energy of components is averaged."""


class NullspaceParams(ProjectionParams):
    """Parameters of :class:`Nullspace`."""


class Nullspace(Projection):
    """Sends those components of the features that the cloud's first layer makes most of: Vᵀ(z − m).

    W is the linear map of the first layer on flattened features (a convolution or a linear layer, with its padding and
    stride; several layers that read the features are stacked), v_i its right singular vectors and s_i its singular values.
    Sent are the k = ``keep``·D coefficients with the largest energy s_i²·E[(v_iᵀ(z − m))²] over ``client_train``: the
    layer's output changes least in the mean for a choice among these vectors. Components in the null space (s_i = 0) have
    no energy and go first.

    Source: Samragh et al. 2021 (arXiv 2104.11413), the removal of the null space and of low-energy components. Departures:
    the energy is its mean over ``client_train``, so that the same components are sent for every image; a component that
    is not sent is replaced by its mean and not by zero; the first layer of a convolutional cloud is taken exactly, as a
    matrix over all places, which bounds the features to 8,192 numbers. A shortcut around the first layer (the identity of
    a residual block) is no layer and is not counted as reading the features.
    """

    Params = NullspaceParams
    version = 1
    source = "Samragh et al., arXiv 2104.11413"

    def obstacle(self, split: Split, images: int) -> str | None:
        shape = split.feature_shape()
        if self.params.keep == 1:
            return None
        if shape != feature_shape(split.edge, split.info.image_shape):
            return "nullspace has to be the first defense that changes the shape: it reads the cloud's first layer"
        size = math.prod(shape)
        if size > MOST:
            return f"nullspace takes features of at most {MOST:,} numbers an image, got {size:,}: cut deeper"
        if images < 2:
            return "nullspace needs at least 2 images of client_train, which the energy of components is averaged over"
        with evaluating(split.cloud), torch.no_grad():
            try:
                first_layers(split.cloud, torch.zeros(2, *shape, device=device_of(split.cloud)))
            except Unsupported as exc:
                return str(exc)
        return None

    def prepare(self, split: Split) -> None:
        # Also where no plan has asked: what would be allocated may be larger than any memory.
        if reason := self.obstacle(split, images=2):
            raise Unsupported(reason)
        super().prepare(split)

    def fit(self, network: Network) -> None:
        if self.params.keep == 1:
            return
        with torch.no_grad():
            rows: list[torch.Tensor] = []
            for x in network.images():
                rows.append(network.edge(x).flatten(1))
                if sum(map(len, rows)) >= IMAGES:
                    break
            z = torch.cat(rows)[:IMAGES]
            gram = sum(
                _gram(layer, self.shape, z) for layer in first_layers(network.cloud, z[:2].reshape(2, *self.shape))
            )
            values, vectors = eigh(gram)
            centred = z - z.mean(0)
            energy = values.clamp_min(0) * (centred @ vectors).square().mean(0)
            kept = energy.argsort(descending=True)[: self.count(self.shape)]
            self.mean.data.copy_(z.mean(0))
            self.basis.data.copy_(vectors[:, kept])


def first_layers(cloud: nn.Sequential, z: torch.Tensor) -> list[nn.Conv2d | nn.Linear]:
    """Returns the linear layers of a cloud that read the features themselves.

    Args:
        cloud: in eval mode.
        z: a few features, (N, *feature_shape).

    Raises:
        Unsupported: if there are none (a norm, pooling or attention comes first).
    """
    found: list[nn.Conv2d | nn.Linear] = []

    def seen(module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        # Flattened or not; by the storage, since tensors on the device meta have no address.
        if isinstance(module, nn.Conv2d | nn.Linear) and given[0].untyped_storage() is z.untyped_storage():
            found.append(module)

    hooks = [m.register_forward_pre_hook(seen) for m in cloud.modules()]
    try:
        cloud(z)
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise Unsupported(
            "nullspace: the cloud does not begin with a convolution or a linear layer, so it has no null space that can be "
            "read off: choose another cut"
        )
    return found


def _gram(layer: nn.Conv2d | nn.Linear, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """Returns WᵀW, (D, D), of a layer as a linear map W of flattened features of a shape."""
    unit = torch.eye(math.prod(shape), dtype=like.dtype, device=like.device)
    nothing = layer(torch.zeros(1, *_taken(layer, shape), dtype=like.dtype, device=like.device))
    images = [layer(rows.reshape(-1, *_taken(layer, shape))) - nothing for rows in unit.split(256)]
    columns = torch.cat([part.flatten(1) for part in images])
    return columns @ columns.T


def _taken(layer: nn.Conv2d | nn.Linear, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape in which a layer takes an image's features: a linear layer behind a flattening takes a vector."""
    if isinstance(layer, nn.Linear) and layer.in_features == math.prod(shape):
        return (layer.in_features,)
    return shape
