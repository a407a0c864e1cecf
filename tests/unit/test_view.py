"""What a view shows and what it keeps to itself."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from test_data_cifar import made, opened

from splitaudit.data.base import DataContext, Dataset, Part, PartName
from splitaudit.data.imagefolder import ImageFolder, ImageFolderParams
from splitaudit.data.photos import Photos, PhotosParams
from splitaudit.defense import Defense
from splitaudit.defenses.disco import Disco
from splitaudit.defenses.fisher_noise import FisherNoise
from splitaudit.defenses.noise import Noise
from splitaudit.defenses.pca import Pca
from splitaudit.defenses.shredder import Shredder
from splitaudit.errors import KnowledgeError
from splitaudit.knowledge import AdversaryKnowledge, level
from splitaudit.params import Params
from splitaudit.targets import make_defense
from splitaudit.testing import toy_part, toy_target
from splitaudit.view import View, hidden_order

LABELLED = AdversaryKnowledge(edge="query", aux="same", labels=True)


@cache
def target() -> Any:
    return toy_target()


def view_of(aux: tuple[Part, Part] | None, knowledge: AdversaryKnowledge = LABELLED, seed: int = 0) -> View:
    return View(
        knowledge=knowledge,
        received=torch.empty(0, 1, *target().feature_shape),
        image_shape=(3, 16, 16),
        model=target(),
        aux=aux,
        seed=seed,
    )


def dataset(name: str, root: Path, images: Path) -> Dataset:
    if name == "photos":
        return Photos(PhotosParams(), {"private": 128, "aux_train": 160, "aux_val": 80})
    if name == "imagefolder":
        return ImageFolder(ImageFolderParams(private_share=0.5), None, DataContext(root=images))
    return opened(made(root), root)


def by_place(labels: torch.Tensor, classes: int) -> float:
    """Returns how many standard errors of pure chance the place modulo the classes tells of the class."""
    n = len(labels)
    # A round of any offset counts: the best of them is what an attacker would find.
    hits = max(int((labels == (torch.arange(n) + k) % classes).sum()) for k in range(classes))
    return (hits / n - 1 / classes) / ((1 / classes) * (1 - 1 / classes) / n) ** 0.5


@pytest.mark.parametrize("name", ["photos", "imagefolder", "cifar10"])
def test_the_place_of_an_image_says_nothing_of_its_class(name: str, tmp_path: Path, images: Path):
    """Fails where images are shown in the order of their part, which goes round the classes."""
    data = dataset(name, tmp_path, images)
    classes = len(data.prepare().classes)
    parts: list[PartName] = ["private", "aux_train", "aux_val"]
    part = {p: data.load(p) for p in parts}
    view = view_of((part["aux_train"], part["aux_val"]))
    private = part["private"]
    shown = {
        "private": private.labels[hidden_order(len(private), "private", view.seed)],
        "aux_train": view.aux_train.labels,
        "aux_val": view.aux_val.labels,
    }
    for p in parts:
        if len(part[p]) >= 32:
            assert by_place(part[p].labels, classes) > 5  # the order of the part itself gives them away
        assert by_place(shown[p], classes) < 4
        assert shown[p].bincount().tolist() == part[p].labels.bincount().tolist()
    n = min(len(private), len(shown["aux_train"]))
    same = float((shown["private"][:n] == shown["aux_train"][:n]).double().mean())
    assert abs(same - 1 / classes) < 4 * ((1 / classes) * (1 - 1 / classes) / n) ** 0.5


def test_orders_of_two_parts_and_of_two_seeds_have_nothing_in_common():
    orders = [hidden_order(400, what, seed) for what in ("private", "aux_train", "aux_val") for seed in (0, 1)]
    for i, one in enumerate(orders):
        assert sorted(one.tolist()) == list(range(400))
        for two in (torch.arange(400), *orders[:i]):
            assert int((one == two).sum()) <= 6  # of two random orders one place in 400 agrees, on average
            assert abs(float(torch.corrcoef(torch.stack([one, two]).double())[0, 1])) < 0.2


def test_images_keep_their_labels_and_the_count_granted_is_the_first_of_the_part():
    train, val = toy_part(40), toy_part(12, seed=1)
    view = view_of((train, val), LABELLED.model_copy(update={"aux_count": 16}))
    truth = {image.numpy().tobytes(): int(label) for image, label in zip(train.images[:16], train.labels)}
    assert len(view.aux_train) == len(truth) == 16
    assert {i.numpy().tobytes(): int(y) for i, y in zip(*_pair(view.aux_train), strict=True)} == truth
    assert len(view.aux_val) == 12


@pytest.mark.parametrize("name", ["white-box-other", "query-other"])
def test_labels_are_hidden_where_they_are_not_granted(name: str):
    """Fails for a view that hands out the labels of the part whatever its level says."""
    parts = [
        Part(p.images, p.labels, p.labels, tuple(f"class{y}/{i}" for i, y in enumerate(p.labels)))
        for p in (toy_part(16), toy_part(8, seed=1))
    ]
    view = view_of((parts[0], parts[1]), level(name))
    for part in (view.aux_train, view.aux_val):
        assert part.labels.tolist() == [-1] * len(part)
        assert part.names is part.groups is None  # a file's name or a tile tells the class


def test_labels_are_shown_where_they_are_granted():
    view = view_of((toy_part(16), toy_part(8, seed=1)), LABELLED)
    assert view.aux_train.labels.bincount().tolist() == [4] * 4


def test_an_attribute_stays_with_its_image_and_is_hidden_with_the_labels():
    part = toy_part(16)
    brightness = part.images.float().mean((1, 2, 3)).long()
    part = Part(part.images, part.labels, attributes={"brightness": brightness})
    shown = view_of((part, part), LABELLED).aux_train
    assert shown.attributes["brightness"].tolist() == shown.images.float().mean((1, 2, 3)).long().tolist()
    assert shown.attributes["brightness"].tolist() != brightness.tolist()
    assert view_of((part, part), level("query-other")).aux_train.attributes == {}


def test_an_attack_that_changes_its_images_changes_no_other_view():
    """Fails for a view that hands out the tensors which the worker keeps for later cells."""
    train = Part(toy_part(16).images, toy_part(16).labels)
    before = train.images.clone(), train.labels.clone()
    spoiled = view_of((train, train))
    for part in (spoiled.aux_train, spoiled.aux_val):
        part.images.zero_()
        part.labels.fill_(3)
    assert torch.equal(train.images, before[0])
    assert torch.equal(train.labels, before[1])
    assert float(view_of((train, train)).prior.mean()) > 0.1


def test_without_auxiliary_images_there_are_none_and_the_prior_is_grey():
    view = view_of((toy_part(16), toy_part(8)), level("white-box-no-aux"))
    with pytest.raises(KnowledgeError, match="auxiliary images"):
        view.aux_train
    assert (view.prior == 0.5).all()


def test_the_public_architecture_and_defense_are_shown_and_are_copies():
    specs = [{"name": "nopeek", "params": {}}, {"name": "noise", "params": {"sigma": 0.5}}]
    for used, names in ((specs, ["nopeek", "noise"]), (specs[1:], ["noise"])):
        model = toy_target(make_defense(used), steps=False)
        view = View(
            knowledge=level("query"),
            received=torch.empty(0, 1, *model.feature_shape),
            image_shape=(3, 16, 16),
            model=model,
            aux=None,
            seed=0,
        )
        assert [name for name, _ in view.defense_parts] == names
        assert view.defense_parts[-1][1]["sigma"] == 0.5
        assert (view.architecture.backbone, view.architecture.cut) == ("toy", "block1")
        view.architecture.params["width"] = -1
        view.defense_parts[-1][1]["sigma"] = 9
        assert "width" not in view.architecture.params
        assert view.defense_parts[-1][1]["sigma"] == 0.5
        assert not view.accessed  # both are public: no knowledge is used up


def _pair(part: Part) -> tuple[torch.Tensor, torch.Tensor]:
    return part.images, part.labels


# -- what an attacker's own target has of the defense ----------------------------------------------------------------------


FITTED = [
    (Pca, {"keep": 0.02}, {"mean", "basis"}),
    (FisherNoise, {}, {"sigma"}),
    (Shredder, {}, {"noise"}),
    (Noise, {}, {"scale.std"}),
    (Disco, {}, {"pruner.0.weight"}),
]


@pytest.mark.parametrize("cloud", [True, False])
@pytest.mark.parametrize(("cls", "params", "names"), FITTED, ids=lambda v: v.__name__ if isinstance(v, type) else "")
def test_a_stand_in_has_what_the_defense_has_fitted_or_learned_and_trains_none_of_it(
    cloud: bool, cls: type[Defense], params: dict[str, Any], names: set[str]
) -> None:
    """Without it the stand-in of a calibrated noise was free of noise, and its decoder met none in its training."""
    model = toy_target(cls(cls.Params(**params)))
    marked = {n: t for n, t in model.defense.state_dict().items() if n in names}
    assert marked.keys() == names, list(model.defense.state_dict())
    with torch.no_grad():
        for tensor in marked.values():
            tensor.add_(0.123)
    view = View(
        knowledge=AdversaryKnowledge(cloud=cloud),
        received=torch.empty(0, 1, *model.defense.wire_shape(model.feature_shape)),
        image_shape=(3, 16, 16),
        model=model,
        aux=None,
        seed=0,
        blank=lambda seed: toy_target(cls(cls.Params(**params)), steps=False),
    )
    own = view.untrained("test")
    for name, tensor in own.defense.state_dict().items():
        if name in marked:
            assert torch.equal(tensor, marked[name]), name
    assert not any(p.requires_grad for p in own.defense.parameters())
    assert all(p.requires_grad for p in own.edge.parameters())
    z = torch.rand(2, *model.feature_shape)
    sent = [m.eval().protect(z, torch.Generator().manual_seed(3)) for m in (own, model)]
    assert torch.equal(*(s.detach() for s in sent))


# -- what a defense says of what it sends ---------------------------------------------------------------------------------


class Told(Defense):
    """Returns what it is given, whatever that is."""

    name = "told"

    def __init__(self, told: Any) -> None:
        super().__init__(Params())
        self.told = told

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return self.told

    def ceiling(self, received: torch.Tensor) -> torch.Tensor | None:
        return self.told


def told(value: Any, what: str) -> Any:
    model = toy_target(Told(value), steps=False)
    view = View(
        knowledge=level("query"),
        received=torch.empty(0, 1, *model.feature_shape),
        image_shape=(3, 16, 16),
        model=model,
        aux=None,
        seed=0,
    )
    z = torch.zeros(3, *model.feature_shape)
    return view.expectation(z, torch.Generator()) if what == "expectation" else view.ceiling(z)


@pytest.mark.parametrize(
    ("what", "shape", "expected"),
    [
        ("expectation", (3, 8), "(3, 8, 8, 8)"),
        ("expectation", (1, 8, 8, 8), "(3, 8, 8, 8)"),  # would be broadcast over the images
        ("ceiling", (3,), "(3, 1, 1, 1)"),
        ("ceiling", (), "(3, 1, 1, 1)"),
        ("ceiling", (1, 8, 1, 1), "(3, 1, 1, 1)"),
    ],
)
def test_what_a_defense_says_in_another_shape_is_an_error_and_not_broadcast(
    what: str, shape: tuple[int, ...], expected: str
) -> None:
    with pytest.raises(ValueError, match="defense 'told': ") as caught:
        told(torch.zeros(shape), what)
    assert f"{what} returned shape {shape}, expected {expected}" in str(caught.value)


@pytest.mark.parametrize("what", ["expectation", "ceiling"])
def test_what_a_defense_says_is_a_tensor_or_nothing(what: str) -> None:
    assert told(None, what) is None
    with pytest.raises(ValueError, match=f"defense 'told': {what} returned float, expected a tensor or None"):
        told(1.0, what)
    right = torch.ones(3, *((8, 8, 8) if what == "expectation" else (1, 1, 1)))
    assert torch.equal(told(right, what), right)


def test_a_level_with_fewer_images_has_an_eighth_as_many_to_choose_on():
    """All 400 of aux_val would be an attacker of 416 images at the level of 16."""
    for count, held_out in ((80, 16), (200, 25), (400, 60), (800, 60)):
        view = view_of((toy_part(400), toy_part(60)), LABELLED.model_copy(update={"aux_count": count}))
        assert (len(view.aux_train), len(view.aux_val)) == (min(count, 400), held_out)


def test_fewer_images_are_gone_through_more_often():
    """A level takes images from an attacker, not the time to train with those that are left."""
    assert view_of((toy_part(400), toy_part(40))).passes(400) == 1
    assert view_of((toy_part(400), toy_part(40))).passes(800, copies=2) == 1
    few = view_of((toy_part(400), toy_part(40)), LABELLED.model_copy(update={"aux_count": 50}))
    assert few.passes(len(few.aux_train)) == 8
    assert few.passes(2 * len(few.aux_train), copies=2) == 8
    assert view_of(None).passes(0) == 1
