"""Dataset imagefolder: layouts, division, conversions, and every problem named before training."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from splitaudit.data import _fingerprint, imagefolder
from splitaudit.data._divide import TRAIN_SHARES, Item, counts, divide
from splitaudit.data._parts import interleave, per_class
from splitaudit.data.base import PARTS, DataContext
from splitaudit.data.imagefolder import ImageFolder, ImageFolderParams
from splitaudit.errors import DataError
from splitaudit.work import Surroundings, Worker


def write(path: Path, seed: int, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> None:
    """Writes an image of random pixels; size is (H, W)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = size if mode == "L" else (*size, len(mode))
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def make(root: Path, classes: tuple[str, ...] = ("cat", "dog"), train: int = 20, test: int = 10, **kw: Any) -> Path:
    """Writes train/ and test/ (or, with test = 0, plain class folders)."""
    seed = 0
    for label in classes:
        for side, n in (("train", train), ("test", test)) if test else ((".", train),):
            for i in range(n):
                seed += 1
                write(root / side / label / f"{i:03d}.png", seed, **kw)
    return root


def dataset(
    root: Path | None, sizes: dict[str, int] | None = None, cache: Path | None = None, **kw: Any
) -> ImageFolder:
    return ImageFolder(ImageFolderParams(**kw), sizes, DataContext(root=root, cache=cache))


def all_names(data: ImageFolder) -> dict[str, tuple[str, ...]]:
    return {part: data.load(part).names or () for part in PARTS}


# -- layouts and division ---------------------------------------------------------------------------------------------


def test_train_feeds_client_and_aux_and_test_feeds_private_and_measure(tmp_path: Path):
    data = dataset(make(tmp_path))
    info = data.prepare()
    assert info.classes == ("cat", "dog")
    assert info.sizes == {
        "client_train": 20, "client_val": 2, "private": 2, "measure": 18, "aux_train": 16, "aux_val": 2,
    }  # fmt: skip
    for part, names in all_names(data).items():
        assert {name.split("/")[0] for name in names} == {"test" if part in ("private", "measure") else "train"}


def test_without_train_and_test_each_class_is_divided_over_the_six_parts(tmp_path: Path):
    data = dataset(make(tmp_path, train=60, test=0))
    assert data.prepare().sizes == {
        "client_train": 50, "client_val": 6, "private": 2, "measure": 18, "aux_train": 40, "aux_val": 4,
    }  # fmt: skip
    for part in PARTS:
        labels = data.load(part).labels
        assert labels.bincount().tolist() == [len(labels) // 2] * 2


@pytest.mark.parametrize("test", [0, 10])
def test_every_image_is_in_exactly_one_part(tmp_path: Path, test: int):
    names = [n for part in all_names(dataset(make(tmp_path, test=test))).values() for n in part]
    assert len(names) == len(set(names)) == 2 * (20 + test)


def test_pixels_and_labels_belong_to_the_names(tmp_path: Path):
    part = dataset(make(tmp_path)).load("measure")
    for image, label, name in zip(part.images, part.labels, part.names or (), strict=True):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(Image.open(tmp_path / name)))
        assert ("cat", "dog")[int(label)] == name.split("/")[1]


def test_the_first_n_of_a_part_are_a_balanced_prefix(tmp_path: Path):
    make(tmp_path, classes=("a", "b", "c"))
    few, many = dataset(tmp_path, {"client_train": 7}).load("client_train"), dataset(tmp_path).load("client_train")
    assert torch.equal(few.images, many.images[:7])
    assert few.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_the_division_depends_on_names_and_not_on_the_place(tmp_path: Path):
    here, there = make(tmp_path / "here"), tmp_path / "there"
    shutil.copytree(here, there)
    assert all_names(dataset(here)) == all_names(dataset(there))
    assert dataset(here).fingerprint() == dataset(there).fingerprint()


def test_hidden_and_other_files_are_no_images_and_subfolders_are_read(tmp_path: Path):
    make(tmp_path, train=20, test=0)
    (tmp_path / "cat" / ".hidden.png").write_bytes(b"no image")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / ".cache").mkdir()
    write(tmp_path / "cat" / "more" / "deep.PNG", 999)
    names = [n for part in all_names(dataset(tmp_path)).values() for n in part]
    assert "cat/more/deep.PNG" in names
    assert len(names) == 41


def test_copies_of_one_image_stay_in_one_part(tmp_path: Path):
    make(tmp_path, train=40, test=0)
    for i in range(0, 40, 4):
        shutil.copy(tmp_path / "cat" / f"{i:03d}.png", tmp_path / "cat" / f"copy{i:03d}.png")
        shutil.copy(tmp_path / "cat" / f"{i:03d}.png", tmp_path / "dog" / f"copy{i:03d}.png")
    data = dataset(tmp_path)
    groups = {}
    for part in PARTS:
        loaded = data.load(part)
        assert loaded.groups is not None
        for name, group in zip(loaded.names or (), loaded.groups.tolist(), strict=True):
            groups[name] = (part, group)
    assert len(groups) == 100
    for i in range(0, 40, 4):
        three = {groups[f"cat/{i:03d}.png"], groups[f"cat/copy{i:03d}.png"], groups[f"dog/copy{i:03d}.png"]}
        assert len(three) == 1
    assert len({group for _, group in groups.values()}) == 80


def test_a_training_file_that_equals_a_test_file_leaves_training(tmp_path: Path):
    make(tmp_path)
    shutil.copy(tmp_path / "test/cat/003.png", tmp_path / "train/cat/twin.png")
    where = {name: part for part, names in all_names(dataset(tmp_path)).items() for name in names}
    assert where["train/cat/twin.png"] == where["test/cat/003.png"] in ("private", "measure")


@pytest.mark.parametrize("test", [0, 10])
def test_copies_saved_with_other_metadata_or_in_another_format_stay_in_one_part(tmp_path: Path, test: int):
    """Fails if images are told apart by the bytes of their files."""
    make(tmp_path, train=20, test=test)
    notes = PngInfo()
    notes.add_text("copy", "1")
    for i, path in enumerate(sorted(tmp_path.rglob("*.png"))):
        with Image.open(path) as image:
            # Into the train side where there is one: a copy of a test image has to leave training.
            home = tmp_path / ("train" if test else ".") / "dog"
            if i % 2:
                image.save(home / f"copy{i}.png", pnginfo=notes)
            else:
                image.save(home / f"copy{i}.bmp")
    data = dataset(tmp_path)
    seen: dict[bytes, set[str]] = {}
    groups: dict[bytes, set[int]] = {}
    for part in PARTS:
        loaded = data.load(part)
        assert loaded.groups is not None
        for image, group in zip(loaded.images, loaded.groups.tolist(), strict=True):
            seen.setdefault(image.numpy().tobytes(), set()).add(part)
            groups.setdefault(image.numpy().tobytes(), set()).add(group)
    assert len(seen) == 2 * (20 + test)
    assert all(len(parts) == 1 for parts in seen.values())
    assert all(len(g) == 1 for g in groups.values())
    assert len(set().union(*groups.values())) == len(groups)


def test_images_that_equal_each_other_only_after_conversion_are_copies(tmp_path: Path):
    make(tmp_path, train=20, test=0)
    for path in sorted((tmp_path / "cat").iterdir()):
        with Image.open(path) as image:
            image.convert("L").save(tmp_path / "dog" / f"grey{path.name}")
    where = {name: part for part, names in all_names(dataset(tmp_path, grey=True)).items() for name in names}
    for i in range(20):
        assert where[f"cat/{i:03d}.png"] == where[f"dog/grey{i:03d}.png"]


def test_without_copies_every_image_is_its_own_group(tmp_path: Path):
    assert dataset(make(tmp_path)).load("measure").groups is None


def test_sizes_asked_for_are_kept(tmp_path: Path):
    data = dataset(make(tmp_path), {"measure": 5})
    assert data.prepare().sizes["measure"] == len(data.load("measure")) == 5


# -- pixels -----------------------------------------------------------------------------------------------------------


def test_grey_images_that_are_not_square_have_one_channel(tmp_path: Path):
    data = dataset(make(tmp_path, size=(6, 10), mode="L"))
    assert data.prepare().image_shape == (1, 6, 10)
    part = data.load("private")
    assert part.images.shape == (2, 1, 6, 10)
    assert np.array_equal(part.images[0, 0].numpy(), np.asarray(Image.open(tmp_path / (part.names or ("",))[0])))


@pytest.mark.parametrize("image_size, shape", [(16, (16, 16)), ((5, 9), (5, 9))])
def test_image_size_resizes_files_of_any_size(tmp_path: Path, image_size: Any, shape: tuple[int, int]):
    make(tmp_path)
    write(tmp_path / "train/cat/big.png", 5, size=(40, 20))
    data = dataset(tmp_path, image_size=image_size)
    assert data.prepare().image_shape == (3, *shape)
    assert data.load("aux_train").images.shape[1:] == (3, *shape)


def test_shrinking_averages_instead_of_picking_pixels(tmp_path: Path):
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    for i in range(12):
        for k, label in enumerate(("a", "b")):
            (tmp_path / label).mkdir(exist_ok=True)
            stripes[:4] = 20 * i + 10 * k  # beyond the reach of all rows but the first: no two images are copies
            Image.fromarray(stripes).save(tmp_path / label / f"{label}{i}.png")
    images = dataset(tmp_path, image_size=8).load("client_train").images.float()
    assert float((images[:, :, 1:] - 100).abs().max()) < 12


@pytest.mark.parametrize("grey, channels", [(True, 1), (False, 3)])
def test_grey_converts_files_of_both_kinds(tmp_path: Path, grey: bool, channels: int):
    make(tmp_path)
    write(tmp_path / "train/cat/grey.png", 7, mode="L")
    assert dataset(tmp_path, grey=grey).prepare().image_shape == (channels, 8, 8)


def test_transparency_is_laid_over_white_and_palettes_are_colour(tmp_path: Path):
    make(tmp_path)
    clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    clear.save(tmp_path / "train/cat/clear.png")
    Image.new("RGB", (8, 8), (250, 10, 10)).convert("P").save(tmp_path / "train/cat/palette.png")
    deep = np.full((8, 8), 0x7F12, np.uint16)
    data = dataset(tmp_path)
    assert data.prepare().image_shape[0] == 3
    found = {name: image for p in PARTS for name, image in zip(data.load(p).names or (), data.load(p).images)}
    assert (found["train/cat/clear.png"] == 255).all()
    assert found["train/cat/palette.png"][:, 0, 0].tolist()[0] > 240
    Image.fromarray(deep).save(tmp_path / "train/cat/deep.png")
    data = dataset(tmp_path, grey=True)
    found = {name: image for p in PARTS for name, image in zip(data.load(p).names or (), data.load(p).images)}
    assert (found["train/cat/deep.png"] == 0x7F).all()


def test_only_the_images_asked_for_are_decoded_and_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls: list[str] = []
    decode = imagefolder._decode
    monkeypatch.setattr(imagefolder, "_decode", lambda file, *a: calls.append(file.name) or decode(file, *a))
    root, cache = make(tmp_path / "images"), tmp_path / "cache"
    dataset(root, dict.fromkeys(PARTS, 2), cache).prepare()
    assert len(set(calls)) == 60  # all of them once, to find copies
    assert len(calls) == 60 + 12
    calls.clear()
    data = dataset(root, dict.fromkeys(PARTS, 2), cache)
    data.prepare()
    for part in PARTS:
        data.load(part)
    assert len(calls) == len(set(calls)) == 12


def test_a_worker_decodes_what_it_is_asked_for_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Fails if a worker opens a dataset with all images of all parts."""
    root, cache = make(tmp_path / "images"), tmp_path / "cache"
    planned = dataset(root, dict.fromkeys(PARTS, 2), cache)
    planned.prepare()
    whole = dataset(root, cache=cache).load("measure")
    calls: list[str] = []
    decode = imagefolder._decode
    monkeypatch.setattr(imagefolder, "_decode", lambda file, *a: calls.append(file.name) or decode(file, *a))
    worker = Worker(Surroundings(str(tmp_path / "run"), data_root=str(root), cache=str(cache)))
    identity = {"name": "imagefolder", "params": ImageFolderParams().dump(), "fingerprint": planned.fingerprint()}
    assert worker.info(identity).image_shape == (3, 8, 8)
    assert len(calls) == 6  # one of each part
    for n in (2, 9, 5):
        part = worker.part(identity, "measure", n)
        assert torch.equal(part.images, whole.images[:n])
        assert part.names == (whole.names or ())[:n]
    worker.part(identity, "private", 1)
    assert len(calls) == len(set(calls)) == 5 + 9


# -- problems ---------------------------------------------------------------------------------------------------------


def test_a_missing_folder_is_named_with_the_layout(tmp_path: Path):
    with pytest.raises(DataError, match=r"nowhere is not a folder.*train/CLASS"):
        dataset(tmp_path / "nowhere").prepare()
    with pytest.raises(DataError, match=r"got no folder.*train/CLASS.*--data-root"):
        dataset(None).prepare()


def test_a_folder_with_only_one_class_is_refused_with_the_layout(tmp_path: Path):
    make(tmp_path / "one_level_too_high")
    with pytest.raises(DataError, match=r"only 'one_level_too_high'.*Expected train/CLASS"):
        dataset(tmp_path).prepare()


def test_train_without_test_is_refused(tmp_path: Path):
    make(tmp_path)
    shutil.rmtree(tmp_path / "test")
    with pytest.raises(DataError, match="has train/ but no test/"):
        dataset(tmp_path).prepare()


def test_an_empty_class_is_named(tmp_path: Path):
    make(tmp_path)
    shutil.rmtree(tmp_path / "test/dog")
    (tmp_path / "test/dog").mkdir()
    with pytest.raises(DataError, match=r"class 'dog' is empty: .*test/dog holds no image"):
        dataset(tmp_path).prepare()


def test_classes_of_train_and_test_that_differ_are_named(tmp_path: Path):
    make(tmp_path)
    write(tmp_path / "train/emu/1.png", 1)
    write(tmp_path / "test/fox/1.png", 1)
    with pytest.raises(DataError, match=r"class 'emu' is only in .*train; class 'fox' is only in .*test"):
        dataset(tmp_path).prepare()


def test_a_file_that_is_no_image_is_named(tmp_path: Path):
    make(tmp_path)
    (tmp_path / "train/dog/broken.jpg").write_text("not an image")
    with pytest.raises(
        DataError, match=r"train/dog/broken\.jpg is not a readable image \(Pillow knows no such format\)"
    ):
        dataset(tmp_path).prepare()


def test_all_files_that_are_no_images_are_named_in_one_message(tmp_path: Path):
    make(tmp_path)
    for i in range(12):
        (tmp_path / f"train/dog/broken{i:02}.jpg").write_text("not an image")
    with pytest.raises(DataError) as caught:
        dataset(tmp_path).prepare()
    lines = str(caught.value).splitlines()
    assert [f"broken{i:02}.jpg" in line for i, line in enumerate(lines[:10])] == [True] * 10
    assert lines[10:] == ["imagefolder: and 2 more such files."]


def test_all_truncated_images_are_named_in_one_message(tmp_path: Path):
    make(tmp_path)
    for name in ("test/dog/004.png", "train/dog/002.png"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-60])
    with pytest.raises(DataError, match=r"(?s)train/dog/002\.png is not.*test/dog/004\.png is not"):
        dataset(tmp_path).prepare()


def test_a_truncated_image_is_named_in_prepare(tmp_path: Path):
    make(tmp_path)
    path = tmp_path / "test/dog/004.png"
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match=r"test/dog/004\.png is not a readable image"):
        dataset(tmp_path).prepare()


def test_a_mode_without_meaning_in_8_bits_is_named(tmp_path: Path):
    make(tmp_path)
    Image.new("F", (8, 8)).save(tmp_path / "train/cat/float.tif")
    with pytest.raises(DataError, match=r"float\.tif: got an image of mode F"):
        dataset(tmp_path).prepare()


def test_two_files_of_differing_sizes_are_named(tmp_path: Path):
    make(tmp_path)
    write(tmp_path / "train/dog/wide.png", 3, size=(8, 9))
    with pytest.raises(DataError, match=r"train/cat/000\.png has 8×8 px, .*train/dog/wide\.png has 8×9 px.*image_size"):
        dataset(tmp_path).prepare()


def test_a_file_of_each_channel_count_is_named(tmp_path: Path):
    make(tmp_path)
    write(tmp_path / "train/dog/grey.png", 3, mode="L")
    with pytest.raises(DataError, match=r"train/cat/000\.png is colour, .*train/dog/grey\.png is grey.*grey: true"):
        dataset(tmp_path).prepare()


def test_a_part_that_would_be_empty_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"part 'private' would be empty"):
        dataset(make(tmp_path, train=4, test=1)).prepare()


def test_more_images_than_there_are_is_an_error_with_the_number(tmp_path: Path):
    with pytest.raises(DataError, match=r"part 'measure': got size 19, expected at most 18"):
        dataset(make(tmp_path), {"measure": 19}).prepare()
    with pytest.raises(
        DataError, match=r"than parts have: 'private' 9 \(it has 2\), 'measure' 19 \(it has 18\)\. .*name: imag"
    ):
        dataset(tmp_path, {"private": 9, "measure": 19}).prepare()


# -- fingerprint and cache --------------------------------------------------------------------------------------------


def test_fingerprint_follows_contents_names_and_parameters_but_not_sizes(tmp_path: Path):
    make(tmp_path)
    prints = [dataset(tmp_path).fingerprint(), dataset(tmp_path, image_size=16).fingerprint()]
    assert dataset(tmp_path, {"measure": 2}).fingerprint() == prints[0]
    write(tmp_path / "train/cat/001.png", 12345)
    prints.append(dataset(tmp_path).fingerprint())
    (tmp_path / "train/cat/001.png").rename(tmp_path / "train/cat/renamed.png")
    prints.append(dataset(tmp_path).fingerprint())
    assert len(set(prints)) == 4


def test_cached_files_are_not_read_again_and_changed_ones_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root, cache = make(tmp_path / "images"), tmp_path / "cache"
    first = dataset(root, cache=cache).fingerprint()
    read: list[str] = []
    inspect = _fingerprint._inspect
    monkeypatch.setattr(_fingerprint, "_inspect", lambda path: read.append(path.name) or inspect(path))
    assert dataset(root, cache=cache).fingerprint() == first
    assert read == []
    write(root / "train/cat/007.png", 777)
    os.utime(root / "train/cat/007.png", ns=(1, 1))
    assert dataset(root, cache=cache).fingerprint() != first
    assert read == ["007.png"]
    assert dataset(root).fingerprint() == dataset(root, cache=cache).fingerprint()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"format": 1}',
        '{"format": 99, "files": {}}',
        '{"format": 1, "files": {"train/cat/000.png": [1]}}',
    ],
)
def test_a_damaged_cache_is_ignored_and_rebuilt(tmp_path: Path, text: str):
    root, cache = make(tmp_path / "images"), tmp_path / "cache"
    first = dataset(root, cache=cache).fingerprint()
    (place,) = cache.iterdir()
    good = place.read_text()
    place.write_text(text)
    assert dataset(root, cache=cache).fingerprint() == first
    assert place.read_text() == good


@pytest.mark.parametrize("text", ["", "[]", '{"format": 99, "files": {}}', '{"format": 1, "files": {"a": 1}}'])
def test_a_damaged_cache_of_pixels_is_ignored_and_rebuilt(tmp_path: Path, text: str):
    root, cache = make(tmp_path / "images"), tmp_path / "cache"
    first = all_names(dataset(root, cache=cache))
    (place,) = cache.glob("pixels-*.json")
    good = place.read_text()
    place.write_text(text)
    assert all_names(dataset(root, cache=cache)) == first
    assert place.read_text() == good


def test_cached_facts_of_a_wrong_type_are_not_believed(tmp_path: Path):
    root, cache = make(tmp_path / "images"), tmp_path / "cache"
    dataset(root, cache=cache).prepare()
    (place,) = cache.glob("files-*.json")
    stored = json.loads(place.read_text())
    for entry in stored["files"].values():
        entry[1][1] = "eight"
    place.write_text(json.dumps(stored))
    assert dataset(root, cache=cache).prepare().image_shape == (3, 8, 8)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path):
    blocker = tmp_path / "cache"
    blocker.write_text("a file where a folder should be")
    with pytest.raises(DataError, match=r"the cache .*cache/files-\w+\.json cannot be written"):
        dataset(make(tmp_path / "images"), cache=blocker).prepare()


# -- helpers ----------------------------------------------------------------------------------------------------------


def test_counts_add_up_and_leave_no_part_empty_where_there_are_enough():
    assert counts(5000, TRAIN_SHARES) == {"client_train": 2500, "client_val": 250, "aux_train": 2000, "aux_val": 250}
    for n in range(1, 200):
        got = counts(n, TRAIN_SHARES)
        assert sum(got.values()) == n
        assert min(got.values()) >= (1 if n >= 4 else 0)


def test_interleaving_keeps_each_share_in_every_prefix():
    order = interleave([["a"] * 30, ["b"] * 10])
    for n in range(1, 41):
        assert abs(order[:n].count("b") - n / 4) <= 1


def test_per_class_counts_a_round():
    assert [sum(i % 8 == c for i in range(21)) for c in range(8)] == per_class(21, 8)


def test_division_is_unaffected_by_the_order_of_the_items():
    items = [Item(f"{i}", i % 3, f"{i // 2}", "train") for i in range(60)]
    one = divide(items, {"train": TRAIN_SHARES})
    two = divide(items[::-1], {"train": TRAIN_SHARES})
    assert {p: [items[i].name for i in k] for p, k in one.items()} == {
        p: [items[::-1][i].name for i in k] for p, k in two.items()
    }


def test_reading_many_new_files_is_told_and_remembered_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splitaudit.data._fingerprint.MANY", 10)
    root, told = make(tmp_path / "images"), []
    for _ in range(2):
        context = DataContext(root=root, cache=tmp_path / "cache", tell=told.append)
        ImageFolder(ImageFolderParams(), None, context).prepare()
    assert len(told) == 1
    assert "image files" in told[0]
