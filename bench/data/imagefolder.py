"""A folder of image files, one sub-folder for each class."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field

from ..canonical import canonical
from ..errors import DataError
from ..params import Params
from ._attributes import Attributes, read_attributes
from ._divide import TRAIN_SHARES, Item, divide
from ._files import LAYOUT, Folder, ImageFile, survey
from ._fingerprint import FileFacts, facts_of, pixel_hashes, unreadable
from ._parts import resolve_sizes
from ._pixels import converted, resized, stacked
from .base import PARTS, DataInfo, Dataset, Part, PartName


class ImageFolderParams(Params):
    """Parameters of :class:`ImageFolder`."""

    image_size: int | tuple[int, int] | None = Field(
        None, description="side, or height and width, in px; null: the images' own, which must then be equal"
    )
    grey: bool | None = Field(None, description="one channel (true), three (false), or as the files are (null)")
    private_share: float = Field(0.1, gt=0, lt=1, description="share of the test images that are attacked")
    attributes: str | None = Field(
        None,
        description="CSV file in the folder: a column file (path relative to the folder, with forward slashes) and a column "
        "for each attribute that an attack may read; null: none",
    )
    test_share: float = Field(1 / 6, gt=0, lt=1, description="share of test images where the folder has no test/")


class ImageFolder(Dataset):
    """Reads images from a folder; nothing is downloaded.

    Layout: ``train/CLASS/*`` and ``test/CLASS/*`` (train/ feeds the client's and the auxiliary parts, test/ feeds
    ``private`` and ``measure``), or ``CLASS/*``, each class of which is divided over all six parts. A hash of the file
    name decides who goes where, classes are interleaved. Copies (equal pixels, however they are saved) stay in one part;
    a file of train/ that equals one of test/ goes where that one goes. Where there are copies, ``groups`` numbers the
    contents. So every file is decoded once, before any part is handed out; a cache remembers its hash.

    Sub-folders of a class are read too; hidden files and files with other suffixes than those of images are not images
    of the dataset; folders beside train/ and test/ are not read. Any size and shape. Transparency is laid over white,
    16-bit grey keeps its upper 8 bits, palette images count as colour, the first frame of an animation is taken, and
    the orientation tag of cameras is not applied.
    """

    Params = ImageFolderParams
    version = 2
    source = "the user's files"

    def prepare(self) -> DataInfo:
        """Checks every file and decodes the images of all parts, which :meth:`load` then returns.

        Raises:
            DataError: a missing folder, another layout, an empty class, an unreadable file, sizes or channels that
                differ, a part that would be empty, more images asked for than there are.
        """
        sizes = self._sizes
        for part in PARTS:
            self._pixels(part)
        known = self._attributes.values if self._attributes else {}
        return DataInfo((1 if self._grey else 3, *self._shape), self._folder.classes, sizes, known)

    def fingerprint(self) -> str:
        files = [[f.name, fact.sha256] for f, fact in zip(self._folder.files, self._facts, strict=True)]
        table = {"attributes": self._attributes.sha256} if self._attributes else {}
        text = canonical({"version": self.version, "params": self.params.dump(), "files": files, **table})
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()

    def load(self, part: PartName) -> Part:
        files, contents = self._folder.files, self._contents
        mine = self._parts[part][: self._sizes[part]]
        numbers = {content: k for k, content in enumerate(sorted(set(contents)))}
        groups = None if len(numbers) == len(files) else torch.tensor([numbers[contents[i]] for i in mine])
        labels = torch.tensor([files[i].label for i in mine])
        known = self._attributes.of_file if self._attributes else {}
        attributes = {name: torch.tensor([values[i] for i in mine]) for name, values in known.items()}
        return Part(self._pixels(part), labels, groups, tuple(files[i].name for i in mine), attributes)

    @property
    def _root(self) -> Path:
        if self.context.root is None:
            raise DataError(f"imagefolder: got no folder. {LAYOUT} Give it by --data-root.")
        return self.context.root

    @functools.cached_property
    def _folder(self) -> Folder:
        return survey(self._root)

    @functools.cached_property
    def _attributes(self) -> Attributes | None:
        if self.params.attributes is None:
            return None
        return read_attributes(self._root / self.params.attributes, [f.name for f in self._folder.files])

    @functools.cached_property
    def _facts(self) -> list[FileFacts]:
        return facts_of(self._root, self._folder.files, self.context.cache, self.context.tell)

    @functools.cached_property
    def _contents(self) -> list[str]:
        """The hash of each file's pixels after conversion and resizing."""
        shape, grey = self._shape, self._grey
        conversion = f"{'grey' if grey else 'colour'} {shape[0]}x{shape[1]}"
        return pixel_hashes(
            self._root,
            self._folder.files,
            self._facts,
            lambda file: _decode(file, grey, shape),
            conversion,
            self.context.cache,
        )

    @functools.cached_property
    def _parts(self) -> dict[PartName, list[int]]:
        test: dict[PartName, float] = {"private": self.params.private_share, "measure": 1 - self.params.private_share}
        t = self.params.test_share
        both: dict[PartName, float] = {part: (1 - t) * share for part, share in TRAIN_SHARES.items()}
        both.update({part: t * share for part, share in test.items()})
        shares: dict[str, dict[PartName, float]] = {"train": both}
        if self._folder.split:
            shares = {"train": TRAIN_SHARES, "test": test}
        items = [
            Item(f.name, f.label, content, "test" if f.test else "train")
            for f, content in zip(self._folder.files, self._contents, strict=True)
        ]
        return divide(items, shares)

    @property
    def _sizes(self) -> dict[str, int]:
        limits = {part: len(files) for part, files in self._parts.items()}
        return resolve_sizes(f"imagefolder: {self._root}", self.sizes, limits, limits)

    @functools.cached_property
    def _grey(self) -> bool:
        if self.params.grey is not None:
            return self.params.grey
        first, fact = self._folder.files[0], self._facts[0]
        for file, other in zip(self._folder.files, self._facts, strict=True):
            if other.grey != fact.grey:
                kinds = ("grey", "colour") if fact.grey else ("colour", "grey")
                raise DataError(
                    f"imagefolder: {first.path} is {kinds[0]}, {file.path} is {kinds[1]}. Expected one kind; "
                    "set grey: true or grey: false to convert all."
                )
        return fact.grey

    @functools.cached_property
    def _shape(self) -> tuple[int, int]:
        size = self.params.image_size
        if size is not None:
            return (size, size) if isinstance(size, int) else size
        first, fact = self._folder.files[0], self._facts[0]
        for file, other in zip(self._folder.files, self._facts, strict=True):
            if (other.height, other.width) != (fact.height, fact.width):
                raise DataError(
                    f"imagefolder: {first.path} has {fact.height}×{fact.width} px, {file.path} has "
                    f"{other.height}×{other.width} px. Expected one size; set image_size to resize all."
                )
        return fact.height, fact.width

    def _pixels(self, part: PartName) -> torch.Tensor:
        """Returns the part's first images as many as are asked for, decoding those that have not been."""
        shape, grey, size = self._shape, self._grey, self._sizes[part]
        done = self._decoded.get(part)
        missing = self._parts[part][0 if done is None else len(done) : size]
        if missing:
            more = stacked([_decode(self._folder.files[i], grey, shape) for i in missing])
            done = self._decoded[part] = more if done is None else torch.cat([done, more])
        return self._decoded[part][:size]

    @functools.cached_property
    def _decoded(self) -> dict[str, torch.Tensor]:
        return {}

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        return {}


def _decode(file: ImageFile, grey: bool, shape: tuple[int, int]) -> np.ndarray:
    """Returns a file's pixels, (H, W) or (H, W, 3)."""
    try:
        with Image.open(file.path) as image:
            return np.asarray(resized(converted(image, grey), shape))
    except Exception as exc:  # decoders raise anything; it is shown with the file's name
        raise DataError(unreadable(file.path, exc)) from exc
