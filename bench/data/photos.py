"""Colour crops of the photographs that ship with scikit-image: the default dataset, no download."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import numpy as np
import torch
from pydantic import Field, model_validator

from ..canonical import canonical
from ..errors import DataError
from ..params import Params
from ..seeds import derive
from . import _photographs
from ._parts import per_class, resolve_sizes
from ._pixels import resized
from ._tiles import Tile, deal, detail, grid, has_detail
from .base import PARTS, DataInfo, Dataset, Part, PartName

GENERATOR = 1
"""Raised whenever the same parameters give other crops."""

_SIZES = {"client_train": 3200, "client_val": 400, "private": 128, "measure": 1600, "aux_train": 3200, "aux_val": 400}
_MOST_DRAWS = 50  # per crop; tiles are probed beforehand, so that about one draw in two succeeds at worst


class PhotosParams(Params):
    """Parameters of :class:`Photos`."""

    image_size: int = Field(32, ge=16, le=224, description="side of an image in px")
    min_scale: int = Field(40, ge=16, description="smallest side of a crop in px of the photograph")
    tile: int = Field(64, ge=16, description="smallest side of a tile in px; a crop lies inside one tile")
    flat: float = Field(
        5.0, ge=0, lt=128, description="least standard deviation of a crop about its mean colour, of 255"
    )
    seed: int = Field(0, ge=0, description="seed of the tiles' assignment and of the crops")

    @model_validator(mode="after")
    def _crops_fit(self) -> PhotosParams:
        if self.min_scale > self.tile:
            raise ValueError(f"min_scale {self.min_scale} is larger than tile {self.tile}; expected min_scale <= tile")
        return self


class Photos(Dataset):
    """Eight photographs, eight classes; an image is a square crop, at a random place and scale, of one tile.

    Images (N, 3, S, S) with S = ``image_size``, labels i mod 8. Each tile belongs to one part, so that no two parts
    share a pixel; ``groups`` holds the tile of each crop, names read ``astronaut@(top,left)+side`` in px. Crop i of a
    part depends on the parameters, the part and i alone: any size may be asked for, and a smaller one is a prefix.
    The attribute ``tone`` says whether a crop is darker or lighter than the median tile of its photograph: plain to see, and
    of no use to the task.

    The crops of one part and class go round its tiles, so a few crops meet as many tiles as there are. Crops whose
    standard deviation about their mean colour, at 16 px, is below ``flat`` (sky, black borders) are drawn again; tiles
    without detail belong to no part.
    """

    Params = PhotosParams
    version = 1
    reads_root = False
    source = "photographs in the scikit-image wheel (public domain or free licences, see skimage.data)"

    def prepare(self) -> DataInfo:
        """Checks the eight files and the sizes, and returns what is known."""
        sizes = resolve_sizes("photos", self.sizes, _SIZES)
        self.tiles  # noqa: B018  (cuts the photographs: finds missing files and parts without tiles)
        size = self.params.image_size
        return DataInfo((3, size, size), tuple(_photographs.FILES), sizes, {"tone": ("dark", "light")})

    def fingerprint(self) -> str:
        files = {name: _photographs.content_hash(name) for name in _photographs.FILES}
        text = canonical({"generator": GENERATOR, "params": self.params.dump(), "files": files})
        return hashlib.sha256(text.encode()).hexdigest()

    def load(self, part: PartName) -> Part:
        n = resolve_sizes("photos", self.sizes, _SIZES)[part]
        photos = list(self._photos.values())
        size = self.params.image_size
        images = np.empty((n, size, size, 3), np.uint8)
        groups = np.empty(n, np.int64)
        names = [""] * n
        light = np.zeros(n, np.int64)
        for label, count in enumerate(per_class(n, len(photos))):
            tiles = self.tiles[part][label]
            for turn, tile in enumerate(tiles[:count]):
                # Crop k of the class is crop k // len(tiles) of tile k % len(tiles).
                crops, where = self._crops(photos[label], tile, (count - turn + len(tiles) - 1) // len(tiles))
                at = label + len(photos) * np.arange(turn, count, len(tiles))
                images[at], groups[at] = crops, tile.id
                light[at] = crops.mean((1, 2, 3)) > self._medians[label]
                for i, (top, left, side) in zip(at, where, strict=True):
                    names[i] = f"{list(self._photos)[label]}@({top},{left})+{side}"
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        labels = torch.arange(n) % len(photos)
        return Part(pixels, labels, torch.from_numpy(groups), tuple(names), {"tone": torch.from_numpy(light)})

    @functools.cached_property
    def tiles(self) -> dict[PartName, list[list[Tile]]]:
        """Part to class to tiles, in the order in which crops go round them."""
        return _dealt(self.params, _Photographs(self._photos))

    @functools.cached_property
    def _photos(self) -> dict[str, np.ndarray]:
        return {name: _photographs.read(name) for name in _photographs.FILES}

    @functools.cached_property
    def _medians(self) -> list[float]:
        """The median, over the tiles of each photograph, of a tile's mean value."""
        photos = list(self._photos.values())
        every = [[t for part in PARTS for t in self.tiles[part][label]] for label in range(len(photos))]
        return [
            float(np.median([np.asarray(t.of(photo)).mean() for t in tiles]))
            for photo, tiles in zip(photos, every, strict=True)
        ]

    def _crops(self, photo: np.ndarray, tile: Tile, n: int) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
        """Returns the first n crops of a tile, (n, S, S, 3), and their (top, left, side) in the photograph."""
        p = self.params
        rng = np.random.default_rng(derive("photos-crops", p.seed, tile=tile.id))
        source = tile.of(photo)
        crops: list[np.ndarray] = []
        where: list[tuple[int, int, int]] = []
        for _ in range(_MOST_DRAWS * n):
            a, b, c = rng.random(3)
            side = p.min_scale + int(a * (min(tile.height, tile.width) - p.min_scale + 1))
            top, left = int(b * (tile.height - side + 1)), int(c * (tile.width - side + 1))
            cut = source.crop((left, top, left + side, top + side))
            if detail(cut) >= p.flat:
                crops.append(np.asarray(resized(cut, (p.image_size, p.image_size))))
                where.append((tile.top + top, tile.left + left, side))
                if len(crops) == n:
                    return np.stack(crops), where
        name = list(self._photos)[tile.label]
        raise DataError(f"photos: tile {tile} of '{name}' is too flat for 'flat' {p.flat}. Lower 'flat'.")

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        return {}


class _Photographs:
    """Photographs as the key of a cache: equal if they are the same arrays."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays
        self._ids = tuple(id(a) for a in arrays.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Photographs) and self._ids == other._ids

    def __hash__(self) -> int:
        return hash(self._ids)


@functools.lru_cache(maxsize=4)
def _dealt(p: PhotosParams, photographs: _Photographs) -> dict[PartName, list[list[Tile]]]:
    """Cuts the photographs and deals the tiles; kept, because looking at every tile's detail takes most of a second."""
    dealt: dict[PartName, list[list[Tile]]] = {part: [] for part in PARTS}
    first = 0
    for label, (name, photo) in enumerate(photographs.arrays.items()):
        cut = grid(photo.shape, p.tile, label, first)
        first += len(cut)
        mine = deal([t for t in cut if has_detail(t.of(photo), p.min_scale, p.flat)], p.seed)
        for part in PARTS:
            if not mine[part]:
                raise DataError(
                    f"photos: part '{part}' gets no tile of photograph '{name}' (tile {p.tile} px, flat {p.flat}). "
                    "Make the tiles smaller or lower 'flat'."
                )
            order = np.random.default_rng(derive("photos-order", p.seed, part=part, label=label))
            dealt[part].append([mine[part][k] for k in order.permutation(len(mine[part]))])
    return dealt
