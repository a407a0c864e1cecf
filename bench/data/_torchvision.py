"""What the datasets read through torchvision's CIFAR classes share: finding, fetching, dividing."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import socket
import sys
import urllib.request
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field

from ..canonical import canonical
from ..errors import DataError
from ..params import Params
from ._divide import TRAIN_SHARES, Item, divide
from ._parts import resolve_sizes
from ._pixels import resized, stacked
from .base import DataInfo, Dataset, Part, PartName

CONNECTION_LIMIT = 10.0
"""Seconds after which a host that does not answer is given up."""

_TEST_SHARES: dict[PartName, float] = {"private": 0.1, "measure": 0.9}


class TorchvisionParams(Params):
    """Parameters of the datasets of torchvision."""

    image_size: int | tuple[int, int] | None = Field(
        None, description="side, or height and width, in px; null: the images' own"
    )


class TorchvisionDataset(Dataset):
    """A dataset with the file format of torchvision's CIFAR classes (pickled batches, md5 of every file).

    The train split is divided 50 / 5 / 40 / 5 per cent over ``client_train``, ``client_val``, ``aux_train`` and
    ``aux_val``, the test split 10 / 90 over ``private`` and ``measure``, each class alike, in a fixed order. Copies
    (equal pixels) stay in one part.

    Files are looked for in the data root (default: ``splitaudit/data`` in the user's cache folder); what is missing is
    downloaded by torchvision, in :meth:`prepare` alone and unless the run is offline.
    """

    Params = TorchvisionParams
    name: str = ""
    """Registry name, for messages."""

    @abstractmethod
    def reader(self) -> Any:
        """Returns torchvision's class (imported here, so that listing plugins does not import torchvision)."""

    def prepare(self) -> DataInfo:
        """Finds or fetches the files, reads them and checks the sizes."""
        root, reader = self._root, self.reader()
        if not self._found(root):
            with _limited():
                self._fetch(root, reader)
        sizes = self._sizes
        _, height, width, channels = self._splits[0].data.shape
        height, width = self._size or (height, width)
        return DataInfo((channels, height, width), tuple(self._splits[0].classes), sizes)

    def fingerprint(self) -> str:
        reader = self.reader()
        files = [*reader.train_list, *reader.test_list]  # names and md5: torchvision refuses files that differ
        text = canonical({"version": self.version, "params": self.params.dump(), "files": [list(f) for f in files]})
        return hashlib.sha256(text.encode()).hexdigest()

    def load(self, part: PartName) -> Part:
        mine = self._parts[part][: self._sizes[part]]
        images, labels, names = self._images
        size = self._size
        arrays = [images[i] if size is None else np.asarray(resized(Image.fromarray(images[i]), size)) for i in mine]
        return Part(stacked(arrays), torch.tensor([labels[i] for i in mine]), None, tuple(names[i] for i in mine))

    @property
    def _root(self) -> Path:
        if self.context.root is not None:
            return self.context.root
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "splitaudit" / "data"

    @property
    def _size(self) -> tuple[int, int] | None:
        size = self.params.image_size
        return (size, size) if isinstance(size, int) else size

    def _found(self, root: Path) -> bool:
        """Says whether every file is there with its checksum."""
        from torchvision.datasets.utils import check_integrity

        reader = self.reader()
        files = [*reader.train_list, *reader.test_list, (reader.meta["filename"], reader.meta["md5"])]
        return all(check_integrity(str(root / reader.base_folder / name), md5) for name, md5 in files)

    def _fetch(self, root: Path, reader: Any) -> None:
        from torchvision.datasets.utils import check_integrity

        try:
            if not check_integrity(str(root / reader.filename), reader.tgz_md5):
                if self.context.offline:
                    raise DataError(self._advice("and the run is offline"))
                # One knock first: torchvision tries several ways in turn, each with the full limit.
                urllib.request.urlopen(urllib.request.Request(reader.url, method="HEAD")).close()
            reader(str(root), train=True, download=True)
        except (OSError, RuntimeError, EOFError) as exc:
            raise DataError(self._advice(f"and cannot be downloaded from {reader.url} ({exc})")) from exc

    def _advice(self, why: str) -> str:
        folder = self.reader().base_folder
        return (
            f"{self.name}: {self._root / folder} is missing or damaged, {why}. Put the folder {folder} (or the "
            f"archive {self.reader().filename}) into a folder and give that by --data-root, or use dataset imagefolder "
            "or photos."
        )

    @functools.cached_property
    def _splits(self) -> tuple[Any, Any]:
        """The train and the test split as torchvision reads them; never downloads."""
        if not self._found(self._root):
            raise DataError(self._advice("and only the preparation of a run downloads"))
        return tuple(self.reader()(str(self._root), train=train, download=False) for train in (True, False))

    @functools.cached_property
    def _images(self) -> tuple[np.ndarray, list[int], list[str]]:
        train, test = self._splits
        names = [f"{side}/{i:05d}" for side, s in (("train", train), ("test", test)) for i in range(len(s.targets))]
        return np.concatenate([train.data, test.data]), [int(y) for y in [*train.targets, *test.targets]], names

    @functools.cached_property
    def _parts(self) -> dict[PartName, list[int]]:
        images, labels, names = self._images
        items = [
            Item(name, label, hashlib.sha256(image.tobytes()).hexdigest(), name.split("/")[0])
            for image, label, name in zip(images, labels, names, strict=True)
        ]
        return divide(items, {"train": TRAIN_SHARES, "test": _TEST_SHARES})

    @property
    def _sizes(self) -> dict[str, int]:
        limits = {part: len(mine) for part, mine in self._parts.items()}
        return resolve_sizes(self.name, self.sizes, limits, limits)


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Limits every connection opened in the block to :data:`CONNECTION_LIMIT` and sends what is printed to stderr."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(CONNECTION_LIMIT)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        socket.setdefaulttimeout(before)
