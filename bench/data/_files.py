"""Which image files a folder holds: the layout of ``imagefolder``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
LAYOUT = "Expected train/CLASS/*.png and test/CLASS/*.png, or CLASS/*.png for two classes or more."


@dataclass(frozen=True)
class ImageFile:
    """One file.

    Attributes:
        path: where it lies.
        name: path relative to the root, with forward slashes.
        label: index of its class.
        test: it lies under test/.
    """

    path: Path
    name: str
    label: int
    test: bool = False


@dataclass(frozen=True)
class Folder:
    """The files of a folder in sorted order; ``split`` says that it has train/ and test/."""

    classes: tuple[str, ...]
    files: tuple[ImageFile, ...]
    split: bool


def survey(root: Path) -> Folder:
    """Lists the image files below a root by name alone.

    Raises:
        DataError: missing folder, unknown layout, classes that train/ and test/ do not share, a class without images.
    """
    if not root.is_dir():
        raise DataError(f"imagefolder: {root} is not a folder. {LAYOUT} Give it by --data-root.")
    sides = [side for side in ("train", "test") if (root / side).is_dir()]
    if len(sides) == 1:
        other = "test" if sides == ["train"] else "train"
        raise DataError(f"imagefolder: {root} has {sides[0]}/ but no {other}/. {LAYOUT}")
    if not sides:
        classes = _subfolders(root)
        _enough(root, classes)
        return Folder(classes, tuple(_files(root, root, classes, test=False)), split=False)
    classes, others = _subfolders(root / "train"), _subfolders(root / "test")
    if classes != others:
        lines = [f"class '{c}' is only in {root / 'train'}" for c in classes if c not in others]
        lines += [f"class '{c}' is only in {root / 'test'}" for c in others if c not in classes]
        raise DataError(f"imagefolder: {'; '.join(lines)}. Expected the same classes in both; rename or add folders.")
    _enough(root / "train", classes)
    files = [*_files(root, root / "train", classes, test=False), *_files(root, root / "test", classes, test=True)]
    return Folder(classes, tuple(files), split=True)


def _subfolders(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")))


def _enough(folder: Path, classes: tuple[str, ...]) -> None:
    if len(classes) < 2:
        found = f"only '{classes[0]}'" if classes else "no folder"
        raise DataError(f"imagefolder: {folder} holds {found}, not two class folders or more. {LAYOUT}")


def _files(root: Path, side: Path, classes: tuple[str, ...], *, test: bool) -> list[ImageFile]:
    found: list[ImageFile] = []
    for label, name in enumerate(classes):
        mine = sorted(
            Path(folder, file)
            for folder, _, files in os.walk(side / name, followlinks=True)
            for file in files
            if file.lower().endswith(SUFFIXES) and not file.startswith(".")
        )
        if not mine:
            raise DataError(
                f"imagefolder: class '{name}' is empty: {side / name} holds no image. "
                f"Add images ({' '.join(SUFFIXES)}) or remove the folder."
            )
        found += [ImageFile(path, path.relative_to(root).as_posix(), label, test) for path in mine]
    return found
