"""The decoder attack of the SiftFunnel paper's code: for comparison with its figures, not for judging a defense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field

from splitaudit.attack import Attack, Expected, Work
from splitaudit.attacks._decoding import macs
from splitaudit.attacks._published_decoders import PublishedDecoder, Structure, published_structure, unpublished
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.params import Params
from splitaudit.seeds import seeded_globally
from splitaudit.split import SplitInfo
from splitaudit.view import View


class DecoderPublishedParams(Params):
    """Parameters of :class:`DecoderPublished`; the defaults are the official code's."""

    structure: Literal["auto"] | Structure = Field(
        "auto", description="which of the published decoders; auto: the one for this backbone and defense"
    )
    epochs: int = Field(100, ge=1, description="passes over the auxiliary images")
    batch: int = Field(128, ge=1, description="pairs per step")
    lr: float = Field(0.01, gt=0, description="learning rate (Adam, betas 0.5 and 0.999, amsgrad)")
    patience: int = Field(10, ge=0, description="epochs without gain before the learning rate is halved")


class DecoderPublished(Attack):
    """Trains the small decoder that the official code has for such a target, on features as they are.

    Its capacity depends on the defense: about 27,000 parameters against the funnel, 134,000 against the undefended CNN,
    504,000 against the auto-encoder, so a comparison between defenses by this attack favours the narrow ones. Features are
    not standardised: a wire of tiny scale is read badly at first.

    The public architecture and defense say which decoder (``structure: auto``; of several parts that change the edge the
    last one decides):

    - ``cnn4``: ``chain``; ``autoencoder`` against ``bottleneck``; ``funnel`` against ``siftfunnel`` with its funnel.
    - ``resnet18``: ``residual`` for undefended maps of the image's size (``stem``, ``layer1``).
    - ``vgg16_bn``: ``vgg`` for undefended maps of a quarter of the side (published for ``conv3_1``); ``vgg_funnel``
      against ``siftfunnel`` with its funnel.

    Anything else is skipped with the reason: ``resnet18`` with ``siftfunnel`` (the published decoder does not fit the published
    wire), with ``bottleneck`` and at deeper cuts (decoders not known completely); ``vgg16_bn`` with ``bottleneck`` and at
    other cuts, other backbones (the code has none). A structure named there runs, but is not what was published.

    Source: arXiv 2501.00824, official code (``train_inversion``). Departures: the learning rate's schedule and the epoch
    kept follow ``aux_val``, where the code looks at the *victims'* images (an attacker has none); for random defenses the
    features are drawn anew at every step, where the code has one draw.
    """

    Params = DecoderPublishedParams
    version = 2
    source = "arXiv 2501.00824, official code train_inversion and inversion_model_packages"
    requires = AdversaryKnowledge(edge="query", aux="other")
    uses = AdversaryKnowledge(edge="query", aux="same")
    expected = Expected(beats_prior=True)

    def supports(self, architecture: SplitInfo, defense_parts: Sequence[tuple[str, Mapping[str, Any]]]) -> str | None:
        return unpublished(architecture, defense_parts) if self.params.structure == "auto" else None

    def fit(self, view: View) -> dict[str, torch.Tensor]:
        network = self._network(view)
        data, val = view.pairs("train"), view.pairs("val")
        x_val, z_val = val.batch(torch.arange(len(val), device=view.device))
        order = torch.Generator().manual_seed(view.seed_for("decoder_published batches"))
        optimizer = torch.optim.Adam(network.parameters(), lr=self.params.lr, betas=(0.5, 0.999), amsgrad=True)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=self.params.patience)
        best, kept = float("inf"), network.state_dict()
        for epoch in range(1, self.params.epochs + 1):
            network.train()
            for index in torch.randperm(len(data), generator=order).to(view.device).split(self.params.batch):
                x, z = data.batch(index)
                optimizer.zero_grad(set_to_none=True)
                F.mse_loss(network(z), x).backward()
                optimizer.step()
            network.eval()
            with torch.no_grad():
                guess = torch.cat([network(z) for z in z_val.split(256)])
            error = float(F.mse_loss(guess, x_val))
            schedule.step(error)
            view.log("aux_val_mse", epoch, error)
            if error < best:
                best, kept = error, {k: v.clone() for k, v in network.state_dict().items()}
        parameters = sum(p.numel() for p in network.parameters())
        view.note(aux_val_mse=best, parameters=parameters, structure=self._structure(view))
        return kept

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        network = self._network(view)
        network.load_state_dict(fitted)
        network.eval()
        with torch.no_grad():
            return torch.cat([network(z) for z in view.z.split(256)])

    def work(
        self, n_private: int, n_aux: int, image_shape: tuple[int, int, int], feature_shape: tuple[int, ...]
    ) -> Work:
        structure: Structure = self.params.structure
        if self.params.structure == "auto":  # the target is not known here, but the costliest case shows in the shape
            structure = "residual" if feature_shape[1:] == image_shape[1:] else "chain"
        network = PublishedDecoder(feature_shape, image_shape, structure)
        forward = 2 * macs(network, feature_shape) / 1e9
        return Work(edge_passes=n_aux, gflop=3 * forward * n_aux * self.params.epochs)

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        return {"structure": "autoencoder", "epochs": 12, "batch": 8}

    def _structure(self, view: View) -> Structure:
        if self.params.structure != "auto":
            return self.params.structure
        return published_structure(view.architecture, view.defense_parts, view.feature_shape)

    def _network(self, view: View) -> PublishedDecoder:
        with seeded_globally(view.seed_for("decoder_published init")):
            network = PublishedDecoder(view.feature_shape, view.image_shape, self._structure(view))
        return network.to(view.device)
