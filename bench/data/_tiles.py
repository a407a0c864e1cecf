"""Photographs cut into tiles, each of which belongs to exactly one part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..seeds import derive
from ._pixels import resized
from .base import PARTS, PartName

SHARES: dict[PartName, int] = {
    "client_train": 5, "aux_train": 4, "private": 3, "measure": 2, "client_val": 1, "aux_val": 1,
}  # fmt: skip
"""Tiles of each part among 16 neighbours. ``private`` has many for its few crops: crops of one tile are dependent."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of a photograph, in pixels.

    Attributes:
        id: unique over all photographs.
        label: index of the photograph.
        top, left, height, width: the rectangle.
    """

    id: int
    label: int
    top: int
    left: int
    height: int
    width: int

    def of(self, photo: np.ndarray) -> Image.Image:
        """Returns the tile's pixels.

        Crops are made from this copy: Pillow's resize of a box of a larger image reads pixels beyond the box.
        """
        return Image.fromarray(photo[self.top : self.top + self.height, self.left : self.left + self.width])


def detail(crop: Image.Image) -> float:
    """Returns the standard deviation of a crop about its mean colour, 0 to 127.5, after a reduction to 16 px.

    The reduction removes sensor noise and makes the choice of crops independent of the size of the images.
    """
    x = np.asarray(resized(crop, (16, 16)), np.float32)
    return float(np.sqrt(((x - x.mean((0, 1))) ** 2).mean()))


def grid(shape: tuple[int, ...], side: int, label: int, first_id: int) -> list[Tile]:
    """Cuts a photograph of (H, W, ...) into near-equal tiles of at least ``side`` px that leave no pixel out.

    Rows are walked to and fro, so that tiles that follow each other are neighbours.
    """
    rows, columns = (np.linspace(0, n, max(1, n // side) + 1).round().astype(int) for n in shape[:2])
    tiles = []
    for r in range(len(rows) - 1):
        walk = range(len(columns) - 1)
        for c in walk if r % 2 == 0 else reversed(walk):
            height, width = int(rows[r + 1] - rows[r]), int(columns[c + 1] - columns[c])
            tiles.append(Tile(first_id + len(tiles), label, int(rows[r]), int(columns[c]), height, width))
    return tiles


def has_detail(tile: Image.Image, side: int, threshold: float) -> bool:
    """Says whether at least three of five probes of ``side`` px (corners and centre) have detail."""
    right, bottom = tile.width - side, tile.height - side
    corners = [(0, 0), (right, 0), (0, bottom), (right, bottom), (right // 2, bottom // 2)]
    return sum(detail(tile.crop((x, y, x + side, y + side))) >= threshold for x, y in corners) >= 3


def deal(tiles: list[Tile], seed: int) -> dict[PartName, list[Tile]]:
    """Deals tiles in the order of their walk: of every 16, each part gets its share, in shuffled places."""
    deck = [part for part in PARTS for _ in range(SHARES[part])]
    dealt: dict[PartName, list[Tile]] = {part: [] for part in PARTS}
    rng = np.random.default_rng(derive("photos-deal", seed, label=tiles[0].label if tiles else -1))
    for start in range(0, len(tiles), len(deck)):
        places = rng.permutation(len(deck))
        for tile, place in zip(tiles[start : start + len(deck)], places, strict=False):
            dealt[deck[place]].append(tile)
    return dealt
