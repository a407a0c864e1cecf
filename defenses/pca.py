"""Projection of the features on their leading principal components."""

from __future__ import annotations

import torch
from pydantic import Field

from splitaudit.defense import Network
from splitaudit.errors import Unsupported
from splitaudit.nn.principal import principal_components
from splitaudit.split import Split

from ._projection import Projection, ProjectionParams

IMAGES = 2048
"""Images of client_train that the components are taken from, or twice as many as there are components."""


class PcaParams(ProjectionParams):
    """Parameters of :class:`Pca`."""

    keep: float = Field(
        0.02, gt=0, le=1, description="share of the features' numbers that cross the wire; 1: all, as they are"
    )


class Pca(Projection):
    """Sends the leading principal components of the features: Vᵀ(z − m), V the first k = ``keep``·D directions.

    z are the flattened features of an image (D numbers), m and V their mean and principal directions over the first 2,048
    images of ``client_train`` (or 2k), behind the trained undefended network. No linear map of k numbers keeps more of the
    features' variance; what is left out is least about the features, not about the image.

    Source: PCA of the features as in Osia et al. 2020 and arXiv 2502.20629. Departures: the network is not trained for it
    (``when: infer+cloud`` trains the cloud); all of an image's features are one vector, so that the projection knows places
    as well as channels.
    """

    Params = PcaParams
    version = 1
    source = "Osia et al., IEEE IoT-J 2020; arXiv 2502.20629"
    claims = {"mse": "up"}  # noqa: RUF012

    def obstacle(self, split: Split, images: int) -> str | None:
        return None if self.params.keep == 1 else self.obstacle_of(self.count(split.feature_shape()), images)

    def obstacle_of(self, count: int, images: int) -> str | None:
        """Returns why so many components cannot be taken from the features of so many images, or None where they can."""
        if count < images:
            return None
        return (
            f"pca with keep={self.params.keep:g} asks for {count:,} components, which the features of {images:,} images of "
            "client_train do not have: lower keep or give more images"
        )

    def fit(self, network: Network) -> None:
        if self.params.keep == 1:
            return
        count = self.count(self.shape)
        rows: list[torch.Tensor] = []
        with torch.no_grad():
            for x in network.images():
                rows.append(network.edge(x).flatten(1))
                if sum(map(len, rows)) >= max(IMAGES, 2 * count):
                    break
        found = torch.cat(rows)[: max(IMAGES, 2 * count)]
        if reason := self.obstacle_of(count, len(found)):
            raise Unsupported(reason)
        self.mean.data.copy_(found.mean(0))
        self.basis.data.copy_(principal_components(found, count))
