"""Datasets cifar10 and cifar100 on made batches of the true file format, with a checksum table of their own."""

from __future__ import annotations

import hashlib
import io
import pickle
import socket
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, CIFAR100

from splitaudit.data import cifar10, cifar100
from splitaudit.data._torchvision import TorchvisionParams
from splitaudit.data.base import PARTS, DataContext
from splitaudit.errors import DataError


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def batch(n: int, classes: int, key: str, seed: int) -> dict[str, Any]:
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 3072), dtype=np.uint8)
    return {"data": pixels, key: [i % classes for i in range(n)]}


def made(root: Path, kind: str = "cifar10", twin: bool = False) -> type:
    """Writes small batches below root and returns a dataset class that reads exactly these."""
    true, classes, key = (CIFAR10, 10, "labels") if kind == "cifar10" else (CIFAR100, 100, "fine_labels")
    folder = root / true.base_folder
    folder.mkdir(parents=True)
    train, test = (["data_batch_1", "data_batch_2"], ["test_batch"]) if kind == "cifar10" else (["train"], ["test"])
    per_file = 20 * classes // len(train)
    contents: dict[str, Any] = {n: batch(per_file, classes, key, i) for i, n in enumerate(train)}
    contents[test[0]] = batch(10 * classes, classes, key, 99)
    if twin:
        contents[train[0]]["data"][0] = contents[test[0]]["data"][0]
    contents[true.meta["filename"]] = {true.meta["key"]: [f"class{i}" for i in range(classes)]}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))

    small = type(
        "Small",
        (true,),
        {
            "train_list": [[n, md5(folder / n)] for n in train],
            "test_list": [[n, md5(folder / n)] for n in test],
            "meta": {**true.meta, "md5": md5(folder / true.meta["filename"])},
        },
    )
    plugin = cifar10.Cifar10 if kind == "cifar10" else cifar100.Cifar100
    return type("Made", (plugin,), {"reader": lambda self: small, "small": small})


def opened(cls: type, root: Path | None, sizes: dict[str, int] | None = None, **kw: Any) -> Any:
    return cls(TorchvisionParams(**kw), sizes, DataContext(root=root, offline=True))


@pytest.mark.parametrize("kind, classes", [("cifar10", 10), ("cifar100", 100)])
def test_splits_are_divided_in_the_declared_shares(tmp_path: Path, kind: str, classes: int):
    data = opened(made(tmp_path, kind), tmp_path)
    info = data.prepare()
    assert info.image_shape == (3, 32, 32)
    assert info.classes == tuple(f"class{i}" for i in range(classes))
    per = {"client_train": 10, "client_val": 1, "private": 1, "measure": 9, "aux_train": 8, "aux_val": 1}
    assert info.sizes == {part: n * classes for part, n in per.items()}
    for part in PARTS:
        loaded = data.load(part)
        assert loaded.labels.bincount().tolist() == [per[part]] * classes
        assert sorted(loaded.labels[:classes].tolist()) == list(range(classes))


def test_pixels_and_labels_are_those_of_the_files(tmp_path: Path):
    cls = made(tmp_path)
    part = opened(cls, tmp_path).load("private")
    true = cls.small(str(tmp_path), train=False)
    for image, label, name in zip(part.images, part.labels, part.names):
        side, index = name.split("/")
        assert side == "test"
        assert np.array_equal(image.permute(1, 2, 0).numpy(), true.data[int(index)])
        assert int(label) == true.targets[int(index)]


def test_parts_share_no_image_and_leave_none_out(tmp_path: Path):
    data = opened(made(tmp_path), tmp_path)
    names = [name for part in PARTS for name in data.load(part).names]
    assert len(names) == len(set(names)) == 300


def test_a_training_image_that_equals_a_test_image_leaves_training(tmp_path: Path):
    data = opened(made(tmp_path, twin=True), tmp_path)
    where = {name: part for part in PARTS for name in data.load(part).names}
    assert where["train/00000"] == where["test/00000"] in ("private", "measure")


def test_a_smaller_part_is_a_prefix_and_the_order_is_fixed(tmp_path: Path):
    cls = made(tmp_path)
    few, many = opened(cls, tmp_path, {"aux_train": 13}).load("aux_train"), opened(cls, tmp_path).load("aux_train")
    assert torch.equal(few.images, many.images[:13])
    assert few.names == many.names[:13]


def test_more_images_than_there_are_is_an_error(tmp_path: Path):
    with pytest.raises(DataError, match=r"cifar10: part 'private': got size 11, expected at most 10"):
        opened(made(tmp_path), tmp_path, {"private": 11}).prepare()


@pytest.mark.parametrize("image_size, shape", [(64, (64, 64)), ((16, 24), (16, 24))])
def test_image_size_resizes(tmp_path: Path, image_size: Any, shape: tuple[int, int]):
    data = opened(made(tmp_path), tmp_path, image_size=image_size)
    assert data.prepare().image_shape == (3, *shape)
    assert data.load("private").images.shape == (10, 3, *shape)


def test_fingerprint_follows_files_and_parameters_and_reads_nothing(tmp_path: Path):
    cls = made(tmp_path)
    prints = {opened(cls, tmp_path).fingerprint(), opened(cls, tmp_path, image_size=64).fingerprint()}
    prints.add(opened(cifar10.Cifar10, tmp_path).fingerprint())
    prints.add(opened(cifar100.Cifar100, tmp_path).fingerprint())
    assert len(prints) == 4
    assert opened(cls, tmp_path / "elsewhere").fingerprint() == opened(cls, tmp_path).fingerprint()


def test_missing_files_offline_say_what_to_do(tmp_path: Path):
    with pytest.raises(DataError, match=r"cifar-10-batches-py is missing.*offline.*--data-root.*imagefolder or photos"):
        opened(cifar10.Cifar10, tmp_path).prepare()


def test_a_damaged_file_is_not_read(tmp_path: Path):
    cls = made(tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DataError, match=r"cifar-10-batches-py is missing or damaged"):
        opened(cls, tmp_path).prepare()


def test_an_archive_in_the_root_is_unpacked_offline(tmp_path: Path):
    cls = made(tmp_path / "packed")
    root = tmp_path / "root"
    root.mkdir()
    with tarfile.open(root / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "packed" / "cifar-10-batches-py", "cifar-10-batches-py")
    cls.small.tgz_md5 = md5(root / "cifar-10-python.tar.gz")
    assert opened(cls, root).prepare().sizes["private"] == 10


def test_a_host_that_does_not_answer_is_an_error_within_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    limits: list[float | None] = []

    def silent(*_: object, **__: object) -> io.BytesIO:
        limits.append(socket.getdefaulttimeout())
        raise urllib.error.URLError(TimeoutError("timed out"))

    monkeypatch.setattr(urllib.request, "urlopen", silent)
    before = socket.getdefaulttimeout()
    data = cifar10.Cifar10(TorchvisionParams(), None, DataContext(root=tmp_path))
    with pytest.raises(DataError, match=r"cannot be downloaded from https://.*timed out.*--data-root"):
        data.prepare()
    assert limits == [10.0]  # one try only
    assert socket.getdefaulttimeout() == before


def test_only_prepare_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    data = cifar10.Cifar10(TorchvisionParams(), None, DataContext(root=tmp_path))
    data.fingerprint()
    with pytest.raises(DataError, match="only the preparation of a run downloads"):
        data.load("private")


def test_the_default_root_is_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cls = made(tmp_path / "splitaudit" / "data")
    assert opened(cls, None).prepare().sizes["measure"] == 90
