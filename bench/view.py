"""All that an attack can reach."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from .answers import Answers
from .asking import Asked, Ledger, divided, draws_each, shortage
from .data.base import Part
from .errors import KnowledgeError
from .knowledge import AdversaryKnowledge
from .pairs import Pairs
from .pixels import to_float
from .plain import plain
from .public_defense import PublicDefense
from .seeds import generator
from .split import CloudSide, SplitInfo, SplitModel
from .straight import PROBE, pass_gradients

VERSION = 6
"""Raised when a View shows the same things in another way, so that attacks give other numbers; part of their keys."""

FEWEST = 16
"""Least images of ``aux_val`` where a level grants fewer auxiliary images than there are: of fewer nothing can be chosen."""


def hidden_order(n: int, what: str, seed: int) -> torch.Tensor:
    """Returns the order in which n images are shown to an attack, a permutation (n,).

    Datasets interleave their classes, so the place of an image in its part says which class it has. Shown in this order
    it says nothing, and the orders of two parts have nothing to do with each other.

    Args:
        n: how many.
        what: which images (``"private"``, ``"aux_train"``, ``"aux_val"``).
        seed: of the attack.
    """
    return torch.randperm(n, generator=generator("order shown", seed, what=what))


class View(PublicDefense):
    """What an attack sees of a target: received features, and what its knowledge grants.

    Anything else raises :class:`~splitaudit.errors.KnowledgeError`. The private images are not in here at all. Every
    access is recorded in :attr:`accessed`, queries are counted in :attr:`queries`. It protects from mistakes, not from
    malice: attacks are trusted code.

    The auxiliary parts are copies, in an order of their own (:func:`hidden_order`): an attack that changes them changes
    them for itself alone, and the place of an image says nothing of its class.

    Args:
        knowledge: what is granted, already narrowed to what the attack requires.
        received: features of the private images as they crossed the wire, (N, draws, *wire_shape), in a hidden order;
            empty while fitting a piece that several attacks share.
        image_shape: (C, H, W) of the images to reconstruct.
        model: the target; copied, so that an attack cannot change it. None: a fit for all targets, which knows none.
        aux: the attacker's parts (train, val) or None.
        seed: base seed of the attack.
        device: where to compute.
        fits: the fits that the attack builds on, by role.
        blank: from a seed to a freshly initialised target of the same architecture and defense.
        before: what earlier stages of the attack have asked, where there is a budget of queries: they share it.
    """

    def __init__(
        self,
        *,
        knowledge: AdversaryKnowledge,
        received: torch.Tensor,
        image_shape: tuple[int, int, int],
        model: SplitModel | None,
        aux: tuple[Part, Part] | None,
        seed: int,
        device: torch.device | str = "cpu",
        fits: Mapping[str, dict[str, torch.Tensor]] | None = None,
        blank: Callable[[int], SplitModel] | None = None,
        before: Asked | None = None,
    ) -> None:
        self.knowledge = knowledge
        self.fits = dict(fits or {})
        self.image_shape = image_shape
        self.device = torch.device(device)
        self.seed = seed
        self.accessed: set[str] = set()
        self._ledger = Ledger(knowledge.queries, before)  # shared with rehearsals
        self.curves: dict[str, list[tuple[int, float]]] = {}
        self.notes: dict[str, Any] = {}
        self._received = received
        self._blank = blank
        self._aux_at_hand = 0 if aux is None else len(aux[0])
        if aux is not None and knowledge.aux_count is not None and knowledge.aux_count < len(aux[0]):
            count = knowledge.aux_count
            aux = (aux[0].first(count), aux[1].first(max(FEWEST, math.ceil(count / 8))))
        self._aux = None if aux is None else (self._shown(aux[0], "aux_train"), self._shown(aux[1], "aux_val"))
        self._target = None
        if model is not None:
            own = copy.deepcopy(model).to(self.device).eval().requires_grad_(False)
            self._target = pass_gradients(own, self._varied())

    # -- always there ---------------------------------------------------------------------------------------------

    @property
    def z(self) -> torch.Tensor:
        """The received features, one draw per private image, (N, *wire_shape)."""
        return self._received[:, 0]

    @property
    def draws(self) -> torch.Tensor:
        """Every received draw, (N, draws, *wire_shape)."""
        return self._received

    @property
    def average(self) -> torch.Tensor:
        """The received draws of each private image, averaged where they show the edge's output, (N, *wire_shape).

        With one draw it is :attr:`z`. Elements that no draw shows are as the first draw has them. Where elements are hidden,
        an average of more draws than own pairs are of would show what no pair does: it is of as many.
        """
        masked = self.knowledge.queries is not None and self.visible(self.z) is not None
        count = self._received.shape[1]
        return self.averaged([self._received[:, i] for i in range(min(count, self._each) if masked else count)])

    def __len__(self) -> int:
        return len(self._received)

    @property
    def queries(self) -> int:
        """Images that the attacker has sent through the edge."""
        return self._ledger.queries

    @property
    def queries_left(self) -> int | None:
        """Images that may still be sent through the edge; None: as many as one likes."""
        return self._ledger.left

    @property
    def asked(self) -> Asked:
        """What was asked here, and which answers are at hand."""
        return self._ledger.asked

    def affordable(self, most: int) -> int:
        """Returns how many of the first images of ``aux_val`` a rehearsal can show: ``most``, or what a budget pays for."""
        return most if self.knowledge.queries is None else min(most, self._paid("val", len(self.aux_val)))

    @property
    def architecture(self) -> SplitInfo:
        """What the (public) undefended model is: backbone, its parameters, cut, image shape and number of classes."""
        return copy.deepcopy(self._model.info)

    def untrained(self, role: str) -> SplitModel:
        """Returns a freshly initialised target of the (public) architecture and defense, for the attacker to train.

        Its weights are the attacker's own: they have nothing to do with those that the target started from. What the defense
        has fitted or learned on the wire is the target's, as in :meth:`protect`, and asks for no gradient.

        Args:
            role: names the initialisation.
        """
        if self._blank is None:
            raise KnowledgeError("the architecture of the target is not at hand here")
        model = self._blank(self.seed_for(f"untrained {role}")).to(self.device)
        helpers = tuple(f"{name}." for name in model.defense.helpers)
        known = self._model.defense.state_dict()
        model.defense.load_state_dict({n: t for n, t in known.items() if not n.startswith(helpers)}, strict=False)
        model.defense.requires_grad_(False)
        return pass_gradients(model, self._varied(), again=True)

    def generator(self, role: str) -> torch.Generator:
        """Returns a generator for a role of the attack's own randomness."""
        return generator(role, self.seed, self.device)

    def seed_for(self, role: str) -> int:
        """Returns a seed for a role, for libraries that want a number."""
        return int(generator(role, self.seed, "cpu").initial_seed())

    def log(self, curve: str, step: int, value: float) -> None:
        """Adds a point to a convergence curve, which is stored with the record."""
        self.curves.setdefault(curve, []).append((int(step), float(value)))

    def note(self, **facts: Any) -> None:
        """Stores plain facts with the record, for instance ``converged=False`` or ``steps=300``; NaN and infinity as null.

        Raises:
            TypeError: for a value that is not plain (:func:`splitaudit.plain.plain`).
        """
        self.notes.update({name: plain(value, f"note '{name}'") for name, value in facts.items()})

    # -- granted --------------------------------------------------------------------------------------------------

    @property
    def edge(self) -> nn.Module:
        """The edge with its weights, differentiable: images in [0, 1] to clean features."""
        self._grant("edge weights", self.knowledge.edge == "weights")
        return self._model.edge

    @property
    def cloud(self) -> nn.Module:
        """The cloud half with its weights, from what is sent to logits."""
        self._grant("cloud weights", self.knowledge.cloud)
        return CloudSide(self._model)

    def query(self, x: torch.Tensor) -> torch.Tensor:
        """Runs the defended edge on the attacker's images in [0, 1] and returns one draw of the features."""
        self._grant("queries", self.knowledge.edge in ("query", "weights"))
        self._ledger.count(len(x))
        with torch.no_grad():
            return self._model.wire(x, self._wire_draws())

    @property
    def aux_train(self) -> Part:
        """The attacker's own images for training, uint8; labels and attributes only where labels are granted."""
        return self._aux_part(0)

    @property
    def aux_val(self) -> Part:
        """The attacker's own images for choosing and stopping, uint8."""
        return self._aux_part(1)

    def pairs(self, part: str, *, flips: bool = False, batch: int = 256) -> Pairs:
        """Queries the defended edge with an auxiliary part (``"train"`` or ``"val"``).

        The pairs are of the part's first images, in its order: all of them, or with a budget of queries as many as
        it pays for (:func:`splitaudit.asking.divided`). The mirrored images come after all others.

        Args:
            part: which part.
            flips: adds the horizontally mirrored images.
            batch: images per pass.
        """
        self._grant("queries", self.knowledge.edge in ("query", "weights"))
        images = (self.aux_train if part == "train" else self.aux_val).images
        if flips:
            images = torch.cat([images, images.flip(-1)])
        if self.knowledge.queries is not None:
            return self._paid_pairs(part, images, batch)
        images = images.to(self.device)
        if not self.stochastic:
            # One answer per image says everything: later batches repeat it and are no new queries.
            self._ledger.count(len(images))
        clean = self._clean(images, batch)
        draws = self._wire_draws()
        if not self.stochastic:
            clean = torch.cat([self._model.protect(z, draws) for z in clean.split(batch)]).detach()
            return Pairs(images, lambda index: clean[index])

        def draw(index: torch.Tensor) -> torch.Tensor:
            self._ledger.count(len(index) * self.knowledge.draws)
            return self._sent(clean[index], draws)

        return Pairs(images, draw)

    def passes(self, images: int, copies: int = 1) -> int:
        """Returns how often an attack goes through its images in what its parameters call one pass over them.

        Once where it has all that the dataset has for attackers. A level that grants fewer of them (``aux=``), or fewer
        queries, takes images away, not time: they are gone through more often, so that all levels train for as many steps.

        Args:
            images: how many it has, with their copies.
            copies: how many copies of each (mirrored ones) it would have of all.
        """
        return max(1, round(copies * self._aux_at_hand / max(1, images)))

    @property
    def prior(self) -> torch.Tensor:
        """The best constant guess in [0, 1], (C, H, W): the mean auxiliary image, mid-grey without auxiliary images."""
        if self._aux is None or self.knowledge.aux == "none":
            return torch.full(self.image_shape, 0.5, device=self.device)
        return to_float(self.aux_train.images).mean(0).to(self.device)

    def with_fits(self, fits: Mapping[str, dict[str, torch.Tensor]]) -> View:
        """Returns the same view with other fits, for an attack that runs others; notes, curves and queries are shared."""
        other = object.__new__(type(self))
        other.__dict__ |= {**self.__dict__, "fits": dict(fits)}
        return other

    def rehearsal(self, images: torch.Tensor, role: str) -> View:
        """Returns a view in which images of the attacker's own are the private ones, to choose settings on.

        Their features are queries and are counted here; with a budget those of the first images of ``aux_val`` are those of
        ``pairs("val")`` and cost nothing more. Everything else is as in this view. Needs access to the edge.

        Args:
            images: own images in [0, 1], (N, C, H, W).
            role: names the draws of the defense's randomness; a role gives the same ones each time.
        """
        self._grant("queries", self.knowledge.edge in ("query", "weights"))
        drawn = None if self.knowledge.queries is None else self._known(images)
        if drawn is None:
            received = []
            for number in range(self._each):
                self._ledger.count(len(images))
                with torch.no_grad():
                    draws = self.generator(f"{role} {number}")
                    received.append(torch.cat([self._model.wire(b, draws) for b in images.split(256)]))
            drawn = torch.stack(received, 1)
        if not self.stochastic:  # it sends the same each time
            drawn = drawn.expand(-1, self.knowledge.draws, *drawn.shape[2:])
        other = object.__new__(type(self))
        other.__dict__ |= {**self.__dict__, "_received": drawn, "curves": {}, "notes": {}}
        return other

    # -- inner ----------------------------------------------------------------------------------------------------

    @property
    def _model(self) -> SplitModel:
        if self._target is None:
            raise KnowledgeError(
                "the attack reached for the target, but this fit is for all targets (fit_scope 'images')"
            )
        return self._target

    def _varied(self) -> torch.Tensor | None:
        """Returns some of the attacker's own images in [0, 1], at no cost; None where there are none."""
        return None if self._aux is None else to_float(self._aux[0].images[:PROBE])

    def _aux_part(self, which: int) -> Part:
        self._grant("auxiliary images", self.knowledge.aux != "none" and self._aux is not None)
        if self._aux is None:  # for the type checker: _grant has raised
            raise KnowledgeError("no auxiliary images")
        return self._aux[which]

    def _shown(self, part: Part, what: str) -> Part:
        """Returns a copy of a part as the attack may see it: reordered, without names and groups, which tell classes."""
        order = hidden_order(len(part), what, self.seed).to(part.images.device)
        labels = part.labels[order]
        if not self.knowledge.labels:
            return Part(part.images[order], torch.full_like(labels, -1))
        return Part(part.images[order], labels, attributes={n: v[order] for n, v in part.attributes.items()})

    def _grant(self, what: str, granted: bool) -> None:
        self.accessed.add(what)
        if not granted:
            raise KnowledgeError(
                f"the attack reached for {what}, which its knowledge does not grant ({self.knowledge.dump()}). "
                "Declare it in the attack's `requires`."
            )

    @property
    def _each(self) -> int:
        """How often an own image is sent for one pair: as often as each private image was received, or as the budget pays."""
        if not self.stochastic or self.knowledge.queries is None:
            return self.knowledge.draws if self.stochastic else 1
        images = 0 if self._aux is None else 2 * len(self._aux[0]) + len(self._aux[1])
        return draws_each(self.knowledge.queries, images, self.knowledge.draws)

    def _question(self, part: str, turn: int = 0) -> str:
        return f"{part} {turn} x{self._each}"

    def _paid(self, part: str, wanted: int) -> int:
        """Returns for how many images of a part, of those wanted, the budget pays; answers that are at hand cost nothing."""
        train = wanted if part == "train" else self._ledger.answered(self._question("train")) or 2 * len(self.aux_train)
        shares = divided((self.knowledge.queries or 0) // self._each, train, len(self.aux_val))
        share = shares[0 if part == "train" else 1]
        return min(wanted, share, self._ledger.pays(self._question(part), self._each))

    def _paid_pairs(self, part: str, images: torch.Tensor, batch: int) -> Pairs:
        """Returns pairs of as many images as the budget pays for."""
        ledger, each, n = self._ledger, self._each, self._paid(part, len(images))
        few = shortage(self.knowledge)
        if few or n < 2:
            raise KnowledgeError(f"the attack {few or f'has {ledger.left} of {ledger.budget} queries left'}")
        images = images[:n].to(self.device)
        clean = self._clean(images, batch)

        def answer(turn: int) -> torch.Tensor | None:
            question = self._question(part, turn)
            if ledger.pays(question, each) < n:
                return None
            ledger.pay(question, n, each)
            return torch.cat([self.averaged(z) for z in self._answers(part, turn, clean)])

        share = divided((self.knowledge.queries or 0) // each, n, len(self.aux_val))[0]
        return Pairs(images, Answers(share // n if self.stochastic and part == "train" else 1, answer))

    def _known(self, images: torch.Tensor) -> torch.Tensor | None:
        """Returns the answers (N, draws, ...) to the first images of ``aux_val``; None of others, or of more than is paid."""
        n = 0 if self._aux is None else self._paid("val", len(self._aux[1]))
        if self._aux is None or len(images) > n:
            return None
        own = self._aux[1].images[:n].to(self.device)
        shown = to_float(own[: len(images)])
        if shown.shape != images.shape or not torch.allclose(shown, images.to(self.device)):
            return None
        self._ledger.pay(self._question("val"), n, self._each)
        return torch.cat([torch.stack(z, 1) for z in self._answers("val", 0, self._clean(own))])[: len(images)]

    def _clean(self, images: torch.Tensor, batch: int = 256) -> torch.Tensor:
        with torch.no_grad():
            return torch.cat([self._model.clean(to_float(b)) for b in images.split(batch)])

    def _answers(self, part: str, turn: int, clean: torch.Tensor) -> Iterator[list[torch.Tensor]]:
        """Yields every draw (N, ...) that answers a question, 256 images at a time; the same in each stage that asks it."""
        draws = [self.generator(f"answers {part} {turn} draw {number}") for number in range(self._each)]
        with torch.no_grad():
            for z in clean.split(256):
                yield [self._model.protect(z, d) for d in draws]

    def _sent(self, clean: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
        """Returns what is sent for clean features (N, ...): the average of as many draws as are received."""
        with torch.no_grad():
            return self.averaged([self._model.protect(clean, draws) for _ in range(self._each)])

    def _wire_draws(self) -> torch.Generator:
        if not hasattr(self, "_draws"):
            self._draws = generator("attack wire draws", self.seed, self.device)
        return self._draws
