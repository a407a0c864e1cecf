"""Attacks that read a class or another attribute: from features to the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from splitaudit.api import load_results, plan_suite, run
from splitaudit.attack import LabelAttack
from splitaudit.attacks._readers import Read, Reader, Schedule, train_reader
from splitaudit.attacks.attribute import Attribute
from splitaudit.attacks.linear import Linear
from splitaudit.attacks.recognise import Recognise
from splitaudit.config import load_suite
from splitaudit.data.base import DataContext
from splitaudit.data.imagefolder import ImageFolder, ImageFolderParams
from splitaudit.errors import ConfigError, DataError
from splitaudit.metrics.label_accuracy import LabelAccuracy
from splitaudit.options import Options
from splitaudit.report.advantage import advantage
from splitaudit.report.reading import Reference, State
from splitaudit.store import Store
from splitaudit.testing import attacked
from splitaudit.testing.attacking import Sizes

SERIAL = Options(executor="serial", device="cpu", offline=True)
CHEAP = {"width": 8, "epochs": 2, "batch": 16}


def test_the_accuracy_is_of_the_value_with_the_greatest_score() -> None:
    scores = torch.tensor([[0.1, 0.9], [0.8, 0.2], [-3.0, -2.0], [0.5, 0.5]])
    assert LabelAccuracy().per_sample(torch.tensor([1, 1, 1, 0]), scores).tolist() == [1.0, 0.0, 1.0, 1.0]


def test_the_advantage_is_0_for_the_best_constant_guess_and_1_without_error() -> None:
    labels = (0, 0, 0, 1, 1, 2)  # the constant guess is right for three of six
    reference = Reference("key", State("done"), labels=labels, attributes={"same": (1,) * 6})
    for right, wanted in (([1, 1, 1, 0, 0, 0], 0.0), ([1] * 6, 1.0), ([0] * 6, -1.0), ([1, 1, 1, 1, 0, 0], 1 / 3)):
        found = advantage(np.array(right, dtype=float), reference, "label")
        assert found is not None
        assert found.value == pytest.approx(wanted)
    assert advantage(np.ones(6), reference, "same") is None  # all have one value: there is nothing to read
    assert advantage(np.ones(6), reference, "unknown") is None


@pytest.mark.full
def test_a_linear_reader_reads_a_linear_attribute_and_a_network_what_is_not_linear() -> None:
    """The place of a toy shape is random: its class is no linear function of the pixels."""
    sizes = Sizes(private=128, aux_train=512, aux_val=128)
    linear = attacked(Attribute, "identity", params={"reader": "linear"}, sizes=sizes)
    network = attacked(Attribute, "identity", params={"width": 16, "epochs": 12}, sizes=sizes)
    assert float(network.right().mean()) > float(linear.right().mean()) + 0.2
    assert float(network.right().mean()) > 0.75


def trained(
    inputs: torch.Tensor, values: torch.Tensor, held_out: tuple[torch.Tensor, torch.Tensor], schedule: Schedule
) -> Read:
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(0)
    return train_reader(Reader((8,), 2, 8), lambda i: (inputs[i], values[i]), len(inputs), held_out, schedule, draws)


def told_apart() -> tuple[torch.Tensor, torch.Tensor]:
    """Returns inputs (64, 8) and their two values, which are easily told apart."""
    values = torch.arange(64) % 2
    return 0.1 * torch.randn(64, 8, generator=torch.Generator().manual_seed(0)) + values[:, None], values


@pytest.mark.parametrize(("lr", "converged"), [(1e-4, False), (2e-3, False), (3e-2, True)])
def test_a_reader_has_converged_when_it_gets_no_better(lr: float, converged: bool) -> None:
    """Small steps are still on their way after sixteen epochs.

    With the smallest the accuracy is at chance throughout, with those between it is 1 from the fifth epoch on.
    """
    data = told_apart()
    notes = trained(*data, data, Schedule(16, 16, lr)).judged()
    assert notes["converged"] is converged
    assert notes["gain_by_doubling"] > 0


def test_a_reader_whose_best_weights_are_early_ones_has_converged() -> None:
    """Values by chance are learned by heart, which makes other inputs' cross-entropy rise; what was kept stays the best."""
    g = torch.Generator().manual_seed(0)
    inputs, values = torch.randn(2, 64, 8, generator=g), torch.randint(2, (2, 64), generator=g)
    read = trained(inputs[0], values[0], (inputs[1], values[1]), Schedule(20, 16, 1e-2))
    losses = [loss for _, loss in read.curve]
    assert losses.index(read.loss) < 4
    assert losses[-1] > 1.2 * read.loss
    assert read.half == read.loss
    assert read.judged() == {"gain_by_doubling": 0.0, "converged": True}


def test_half_the_budget_of_a_reader_is_a_training_of_its_own() -> None:
    """Its rate falls to zero, so it is further than the whole was when as many steps were done; the whole is as without it."""
    data = told_apart()
    read = trained(*data, data, Schedule(16, 16, 2e-3))
    assert read.half is not None
    assert read.loss < read.half < dict(read.curve)[6]
    assert read.steps == 64
    assert read.loss == min(loss for _, loss in read.curve)
    assert read.constant == pytest.approx(np.log(2))


def test_a_reader_of_two_epochs_has_no_half() -> None:
    data = told_apart()
    assert trained(*data, data, Schedule(2, 16, 1e-2)).judged() == {"converged": False}


def test_what_doubling_takes_off_a_readers_loss_is_set_against_that_of_a_constant_guess() -> None:
    """As of images: 4 % of a loss near that of the constant guess are more than 0.01 of it."""

    def read(loss: float, half: float) -> Any:
        return Read({}, loss, 0.5, [], 1, half, 1.0).judged()["converged"]

    assert [read(0.864, 0.9), read(0.096, 0.1), read(0.09, 0.1), read(0.001, 0.002)] == [False, True, False, True]


@pytest.mark.full
def test_what_is_recognised_in_a_reconstruction_is_lost_where_the_reconstruction_is() -> None:
    """The classifier sees the picture and nothing else: where the inner attack is blind, so is it."""
    sizes = Sizes(private=64, aux_train=256, aux_val=64)
    settings = {"width": 16, "epochs": 30, "batch": 16, "through": "linear"}
    seen = attacked(Recognise, "identity", params=settings, sizes=sizes)
    blind = attacked(Recognise, "identity", params={**settings, "through": "prior"}, sizes=sizes)
    assert float(seen.right().mean()) > 0.6
    assert len({int(v) for v in blind.guess.argmax(1)}) == 1


def test_recognising_asks_for_what_its_inner_attack_needs() -> None:
    made = Recognise(Recognise.Params(through="refine"))
    assert made.requires.edge == "weights"
    assert Recognise(Recognise.Params()).requires.edge == "query"
    assert set(made.builds_on()) == {"inner", "inner.decoder"}
    assert Recognise(Recognise.Params(through="linear")).builds_on() == {}
    assert Linear(Linear.Params()).infers == "image"
    refusal = Recognise(Recognise.Params(through="attribute")).supports(None, ())  # type: ignore[arg-type]
    assert refusal is not None
    assert "makes images" in refusal


# -- through a run ------------------------------------------------------------------------------------------------------


@pytest.fixture
def read_toy(toy: dict[str, Any]) -> dict[str, Any]:
    attacks: list[Any] = [
        "prior",
        {"name": "attribute", "params": {"reader": "linear", "attribute": ["label", "tone"]}},
        {"name": "attribute", "params": CHEAP},
        {"name": "recognise", "params": {**CHEAP, "through": "linear"}},
    ]
    return {**toy, "defenses": ["none"], "attacks": attacks, "metrics": ["mse", "accuracy"]}


def test_labels_and_images_stand_beside_each_other_and_neither_is_judged_by_the_others_metric(
    read_toy: dict[str, Any], tmp_path: Path
) -> None:
    outcome = run(read_toy, out=tmp_path, options=SERIAL)
    assert outcome.exit_code == 0
    results = load_results(tmp_path)
    cells = results.cells[results.cells["knowledge"] == "query"].set_index("attack")
    assert set(cells["status"]) == {"done"}
    for attack, row in cells.iterrows():
        reads = attack != "prior"
        assert pd.isna(row["leakage"]) == pd.isna(row["mse"]) == reads
        assert pd.isna(row["label_accuracy"]) == pd.isna(row["label_advantage"]) == (not reads)
        assert row["reason"] == ""
    summary = results.summary.iloc[0]
    assert summary["worst_attack"] == "prior"
    assert summary["incomplete"] == ""
    read = results.attributes[results.attributes["knowledge"] == "query"].set_index("attribute")
    assert list(read.index) == ["label", "tone"]
    assert read.loc["tone", "attack"] == "attribute(attribute=tone,reader=linear)"
    assert set(read["incomplete"]) == {""}
    assert (read["label_accuracy"] >= 0).all()
    assert read.loc["label", "constant"] == pytest.approx(1 / 8)  # eight private images of eight photographs
    images = results.per_image[results.per_image["attack"] == "attribute(reader=linear)"]
    assert set(images["label_accuracy"]) <= {0.0, 1.0}
    page = (tmp_path / "report.html").read_text()
    assert "Values that are missing" not in page
    assert (tmp_path / "plots" / "heatmap-label_accuracy.png").exists()


@pytest.mark.full
def test_scores_of_labels_are_kept_without_pictures_and_scored_again_without_an_attack(
    read_toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(executor="serial", device="cpu", offline=True, images=False)
    suite = {**read_toy, "attacks": read_toy["attacks"][1:2]}
    run(suite, out=tmp_path, options=options)
    monkeypatch.setattr(Attribute, "infer", _refuse)
    monkeypatch.setattr(LabelAccuracy, "version", 2)
    outcome = run(suite, out=tmp_path, options=options)
    assert outcome.counts.total == outcome.counts.done == 2
    keys = [r["key"] for r in plan_suite(suite, out=tmp_path, options=options).plan.cells if r["key"]]
    stored = Store(tmp_path).read_artifact("cell", keys[0])["guess"]
    assert stored.dtype == torch.float32
    assert stored.ndim == 2


def _refuse(*_: Any) -> Any:
    raise AssertionError("was called")


@pytest.mark.parametrize("attack", ["attribute", "recognise"])
def test_an_attribute_that_no_dataset_has_is_a_config_error(
    read_toy: dict[str, Any], tmp_path: Path, attack: str
) -> None:
    read_toy["attacks"] = [{"name": attack, "params": {"attribute": ["tune", "label", "smile"]}}]
    with pytest.raises(ConfigError) as caught:
        plan_suite(read_toy, out=tmp_path, options=SERIAL)
    assert caught.value.problems == [
        f"attack '{attack}': attribute: got 'tune', which no dataset of the suite has. Did you mean 'tone'? Attributes of "
        "photos: label, tone.",
        f"attack '{attack}': attribute: got 'smile', which no dataset of the suite has. Attributes of photos: label, tone.",
    ]


def test_an_attribute_that_one_dataset_has_is_skipped_for_the_others_with_what_they_have(
    read_toy: dict[str, Any], tmp_path: Path
) -> None:
    _folder(tmp_path, _lines(lambda n: "yes" if "1" in n else "no"))
    folder = {"name": "imagefolder", "params": {"attributes": "known.csv", "image_size": 32}}
    read_toy["dataset"] = [read_toy["dataset"], folder]
    read_toy["attacks"] = [{"name": "attribute", "params": {"attribute": "hat"}}]
    options = Options(executor="serial", device="cpu", offline=True, data_root=tmp_path)
    cells = plan_suite(read_toy, out=tmp_path / "out", options=options).plan.cells
    skips = {(r["dataset"], r["skip"]) for r in cells if r["knowledge"] == "query"}
    assert skips == {("photos", "dataset 'photos' has no attribute 'hat' (it has label, tone)"), ("imagefolder", None)}


def test_readers_are_planned_before_any_features_are_there_and_on_maps_of_one_place(
    read_toy: dict[str, Any], tmp_path: Path
) -> None:
    """The fit of recognise knows no target; batch norm has no statistics of a single value."""
    read_toy["dataset"]["params"] = {"image_size": 28}
    read_toy["backbone"] = {"name": "cnn4", "cut": "block4", "params": {"width": 4}}
    read_toy["attacks"] = ["attribute", "recognise", {"name": "recognise", "params": {"through": "shadow"}}]
    read_toy["knowledge"] = ["query", "query-free"]
    preview = plan_suite(read_toy, out=tmp_path, options=SERIAL)
    assert sum(r["key"] is not None for r in preview.plan.cells) == 3  # shadow needs the cloud, the others queries


def test_what_recognise_runs_is_in_its_key(
    read_toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_toy["attacks"] = read_toy["attacks"][3:]

    def key() -> str:
        (key,) = {r["key"] for r in plan_suite(read_toy, out=tmp_path, options=SERIAL).plan.cells}
        return str(key)

    before = key()
    assert key() == before
    monkeypatch.setattr(Linear, "version", 99)
    assert key() != before


def test_an_inner_attack_that_is_none_is_a_config_error(read_toy: dict[str, Any]) -> None:
    read_toy["attacks"] = [{"name": "recognise", "params": {"through": "liner"}}]
    with pytest.raises(ConfigError, match="linear"):
        load_suite(read_toy)


@pytest.mark.parametrize(
    ("through", "settings", "problem"),
    [
        ("linear", {"flip": True}, "flip: is not a known key. Did you mean 'flips'? Known: flips."),
        ("decoder", {"loss": "msee"}, "loss: got 'msee', expected 'mse', 'l1' or 'ssim'. Did you mean 'mse'?"),
        (
            "latent",
            {"decoder": {"widht": 3}},
            "decoder.widht: is not a known key. Did you mean 'width'? Known: batch, ",
        ),
    ],
)
def test_what_is_wrong_in_the_settings_of_the_inner_attack_is_told_of_that_attack(
    read_toy: dict[str, Any], through: str, settings: dict[str, Any], problem: str
) -> None:
    read_toy["attacks"] = [{"name": "recognise", "params": {"through": through, "settings": settings}}]
    with pytest.raises(ConfigError) as caught:
        load_suite(read_toy)
    (found,) = caught.value.problems
    assert found.startswith(f"attack 'recognise': settings of attack '{through}': {problem}")


def test_an_attack_that_reads_labels_needs_them(read_toy: dict[str, Any], tmp_path: Path) -> None:
    read_toy["attacks"], read_toy["knowledge"] = ["attribute"], ["query", "white-box-no-aux"]
    plan = plan_suite(read_toy, out=tmp_path, options=SERIAL).plan
    skips = {r["knowledge"]: r["skip"] for r in plan.cells}
    assert skips["query"] is None
    assert "auxiliary images" in str(skips["white-box-no-aux"])


def test_a_suite_that_reads_labels_measures_how_well_and_others_do_not(toy: dict[str, Any]) -> None:
    plain = [m.name for m in load_suite(toy).metrics]
    assert "label_accuracy" not in plain
    read = load_suite({**toy, "attacks": ["prior", "attribute"]})
    assert [m.name for m in read.metrics] == [*plain, "label_accuracy"]


def test_a_label_attack_has_no_image() -> None:
    class Reads(LabelAttack):
        def infer(self, view: Any, fitted: Any) -> torch.Tensor:
            return torch.zeros(1, 2)

    with pytest.raises(TypeError, match="makes no image"):
        Reads(Reads.Params()).reconstruct(None, {})  # type: ignore[arg-type]


# -- where attributes come from -----------------------------------------------------------------------------------------


def _folder(root: Path, lines: str) -> ImageFolder:
    for side in ("train", "test"):
        for label in ("a", "b"):
            (root / side / label).mkdir(parents=True, exist_ok=True)
            for i in range(12):
                pixels = np.full(
                    (8, 8, 3), 3 * i + (100 if label == "a" else 0) + (50 if side == "test" else 0), np.uint8
                )
                Image.fromarray(pixels).save(root / side / label / f"{i}.png")
    (root / "known.csv").write_text(lines)
    return ImageFolder(ImageFolderParams(attributes="known.csv"), None, DataContext(root=root))


def _lines(value: Any) -> str:
    names = [f"{side}/{label}/{i}.png" for side in ("train", "test") for label in "ab" for i in range(12)]
    return "file,hat,colour\n" + "".join(f"{n},{value(n)},{'red' if 'a/' in n else 'blue'}\n" for n in names)


def test_a_table_in_the_folder_says_what_else_is_known_of_its_images(tmp_path: Path) -> None:
    def hat(name: str) -> str:
        return "yes" if int(Path(name).stem) % 3 == 0 else "no"

    data = _folder(tmp_path, _lines(hat))
    assert data.prepare().attributes == {"hat": ("no", "yes"), "colour": ("blue", "red")}
    part = data.load("private")
    assert part.names is not None
    assert part.attributes["hat"].tolist() == [int(hat(n) == "yes") for n in part.names]
    assert part.known("colour").tolist() == [1 - y for y in part.labels.tolist()]
    changed = _folder(tmp_path, _lines(lambda n: "no" if hat(n) == "yes" else "yes"))
    assert changed.fingerprint() != data.fingerprint()


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("hat\nyes\n", "Expected 'file'"),
        ("file,hat\ntrain/a/0.png,yes\n", "no line for 47 of 48 images, the first is train/a/1.png"),
        (_lines(lambda n: "yes"), "'hat' has 1 values"),
        (_lines(lambda n: "" if n.endswith("a/3.png") else "yes"), "'hat' of train/a/3.png is empty"),
        (_lines(lambda n: "yes" if "1" in n else "no") + "train/a/0.png,yes,red\n", "two lines for train/a/0.png"),
        (_lines(lambda n: "yes" if "1" in n else "no").replace("hat", "label", 1), "'label' is the class"),
    ],
)
def test_a_table_that_does_not_fit_says_what_is_wrong(tmp_path: Path, lines: str, says: str) -> None:
    with pytest.raises(DataError, match=says.replace("(", r"\(")):
        _folder(tmp_path, lines).prepare()
