"""What benchmarks share: an undefended target of the default suite's shape, untrained, on toy images."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from splitaudit.data.base import Part
from splitaudit.defenses.none import Undefended
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.models.cnn4 import CNN4, CNN4Params
from splitaudit.params import Params
from splitaudit.split import SplitInfo, SplitModel, cut_blocks
from splitaudit.testing import toy_part
from splitaudit.testing.attacking import untrained
from splitaudit.view import View
from splitaudit.work import receive

SHAPE = (3, 32, 32)
CPU = torch.device("cpu")
Fits = dict[str, dict[str, torch.Tensor]]


@dataclass(frozen=True)
class Bench:
    """A target of the default suite's shape with images for every part."""

    model: SplitModel
    private: Part
    aux: tuple[Part, Part]

    def view(self, level: AdversaryKnowledge, private: int, fits: Fits | None = None) -> View:
        """Returns a view of the first so many private images."""
        received = receive(self.model, self.private.first(private), 1, 0, CPU)
        return View(
            knowledge=level,
            received=received,
            image_shape=SHAPE,
            model=self.model,
            aux=self.aux,
            seed=0,
            fits=fits,
            blank=lambda seed: untrained(self.model, seed),
        )


def make_bench() -> Bench:
    """Returns the target and its images; everything runs on one torch thread, as in a worker."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    info = SplitInfo("cnn4", "block2", SHAPE, 4, {"width": 32})
    blocks = CNN4(CNN4Params(width=32)).blocks(SHAPE, 4)
    split = cut_blocks(blocks, info, torch.full((3,), 0.5), torch.full((3,), 0.25))
    model = SplitModel(split, Undefended(Params()))
    model = model.to(CPU, memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]
    parts = (toy_part(n, SHAPE, seed=i) for i, n in enumerate((64, 640, 64)))
    return Bench(model, next(parts), (next(parts), next(parts)))
