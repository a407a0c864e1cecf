"""Dataset photos: disjoint to the pixel, deterministic, prefixes, balanced, offline."""

from __future__ import annotations

import re
import socket
from functools import cache

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from splitaudit.data import _photographs
from splitaudit.data._tiles import SHARES, Tile, deal, grid
from splitaudit.data.base import PARTS, Part, PartName
from splitaudit.data.photos import Photos, PhotosParams
from splitaudit.errors import DataError

SIZES = {"client_train": 320, "client_val": 80, "private": 128, "measure": 160, "aux_train": 320, "aux_val": 80}


@cache
def default() -> Photos:
    return Photos(PhotosParams(), SIZES)


@cache
def part_of(name: PartName) -> Part:
    return default().load(name)


def test_prepare_tells_what_load_returns():
    info = default().prepare()
    assert info.image_shape == (3, 32, 32)
    assert len(info.classes) == 8
    assert info.classes[0] == "astronaut"
    for part in PARTS:
        loaded = part_of(part)
        assert loaded.images.shape == (info.sizes[part], 3, 32, 32)
        assert loaded.images.dtype == torch.uint8
        assert loaded.labels.dtype == torch.int64
        assert loaded.groups is not None
        assert loaded.groups.dtype == torch.int64


def test_default_sizes_are_the_quick_ones():
    assert Photos(PhotosParams()).prepare().sizes == {
        "client_train": 3200, "client_val": 400, "private": 128, "measure": 1600, "aux_train": 3200, "aux_val": 400,
    }  # fmt: skip


def test_classes_go_round_so_that_every_prefix_is_balanced():
    for part in PARTS:
        assert part_of(part).labels.tolist() == [i % 8 for i in range(SIZES[part])]


def test_no_two_parts_share_a_pixel_of_a_photograph():
    owner = {name: np.full(_photographs.read(name).shape[:2], -1) for name in _photographs.FILES}
    for number, part in enumerate(PARTS):
        for name in part_of(part).names or ():
            match = re.fullmatch(r"(\w+)@\((\d+),(\d+)\)\+(\d+)", name)
            assert match is not None, name
            top, left, side = (int(x) for x in match.groups()[1:])
            region = owner[match[1]][top : top + side, left : left + side]
            assert region.shape == (side, side), f"{name} leaves the photograph"
            assert np.isin(region, (-1, number)).all(), f"{name} of {part} reads a pixel of another part"
            region[:] = number
    assert all((pixels >= 0).any() for pixels in owner.values())


def test_pixels_outside_a_parts_own_tiles_do_not_reach_its_images():
    data = Photos(PhotosParams(), {"private": 32})
    tiles = data.tiles["private"]  # decided on the true photographs
    rng = np.random.default_rng(0)
    for label, (name, photo) in enumerate(data._photos.items()):
        poisoned = rng.integers(0, 256, photo.shape, dtype=np.uint8)
        for t in tiles[label]:
            inside = np.s_[t.top : t.top + t.height, t.left : t.left + t.width]
            poisoned[inside] = photo[inside]
        data._photos[name] = poisoned
    assert torch.equal(data.load("private").images, part_of("private").images[:32])


def test_tiles_belong_to_one_part_and_groups_name_them():
    seen: dict[int, PartName] = {}
    for part, classes in default().tiles.items():
        for tile in (t for tiles in classes for t in tiles):
            assert seen.setdefault(tile.id, part) == part
        groups = part_of(part).groups
        assert groups is not None
        assert set(groups.tolist()) <= {t.id for tiles in classes for t in tiles}
    assert len(seen) == sum(len(tiles) for classes in default().tiles.values() for tiles in classes)


def test_every_part_has_tiles_of_every_photograph():
    for classes in default().tiles.values():
        assert all(len(tiles) >= 2 for tiles in classes)


def test_private_images_meet_as_many_tiles_as_there_are():
    groups = part_of("private").groups
    assert groups is not None
    assert len(groups.unique()) == sum(min(16, len(tiles)) for tiles in default().tiles["private"])


def test_the_same_call_gives_the_same_bytes():
    again = Photos(PhotosParams(), SIZES).load("private")
    assert torch.equal(again.images, part_of("private").images)
    assert again.names == part_of("private").names


@pytest.mark.parametrize("n", [1, 7, 50])
def test_a_smaller_part_is_a_prefix(n: int):
    few, many = Photos(PhotosParams(), {"measure": n}).load("measure"), part_of("measure").first(n)
    assert torch.equal(few.images, many.images)
    assert few.groups is not None
    assert many.groups is not None
    assert few.groups.tolist() == many.groups.tolist()
    assert few.names == many.names


def test_crops_differ_from_each_other():
    images = torch.cat([part_of(part).images for part in PARTS]).flatten(1)
    assert len(images.unique(dim=0)) == len(images)


def test_scales_run_from_the_smallest_crop_to_the_tile():
    sides = [int(name.rsplit("+", 1)[1]) for name in part_of("client_train").names or ()]
    assert min(sides) == 40
    assert max(sides) >= 64


def test_a_higher_threshold_leaves_no_flat_crop():
    x = Photos(PhotosParams(flat=10.0), {"private": 64}).load("private").images.double()
    x = torch.nn.functional.avg_pool2d(x, 2)
    assert float((x - x.mean((2, 3), keepdim=True)).square().mean((1, 2, 3)).sqrt().min()) > 8.5


def test_image_size_changes_the_images_but_not_the_crops():
    small, large = (Photos(PhotosParams(image_size=s), {"private": 16}).load("private") for s in (16, 64))
    assert large.images.shape == (16, 3, 64, 64)
    assert small.names == large.names
    reduced = torch.nn.functional.avg_pool2d(large.images.float(), 4)
    assert float((reduced - small.images.float()).abs().mean()) < 4


def test_fingerprint_follows_parameters_and_photographs_but_not_sizes(monkeypatch: pytest.MonkeyPatch):
    prints = {Photos(PhotosParams(**kw)).fingerprint() for kw in ({}, {"seed": 1}, {"image_size": 64}, {"flat": 6.0})}
    assert len(prints) == 4
    assert Photos(PhotosParams(), {"private": 3}).fingerprint() == default().fingerprint()
    monkeypatch.setattr(_photographs, "content_hash", lambda name: "another file")
    assert Photos(PhotosParams()).fingerprint() not in prints


def test_no_connection_is_opened(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    Photos(PhotosParams(), {"private": 8}).load("private")


def test_a_missing_photograph_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(_photographs.FILES, "chelsea", "no_such_cat.png")
    with pytest.raises(DataError, match=r"no_such_cat\.png is missing.*Reinstall"):
        Photos(PhotosParams()).prepare()


def test_a_photograph_too_flat_for_the_threshold_is_named():
    with pytest.raises(DataError, match=r"gets no tile of photograph '\w+'.*lower 'flat'"):
        Photos(PhotosParams(flat=60.0)).prepare()


def test_sizes_are_checked():
    with pytest.raises(DataError, match=r"'privat' is not a part.*Did you mean 'private'"):
        Photos(PhotosParams(), {"privat": 3}).prepare()
    with pytest.raises(DataError, match=r"'measure': got size 0"):
        Photos(PhotosParams(), {"measure": 0}).prepare()


def test_a_crop_larger_than_the_tile_is_refused():
    with pytest.raises(ValidationError, match="min_scale 80 is larger than tile 64"):
        PhotosParams(min_scale=80)


def test_a_grid_leaves_no_pixel_out_and_covers_none_twice():
    covered = np.zeros((131, 200), int)
    for t in grid((131, 200, 3), 64, label=0, first_id=0):
        assert min(t.height, t.width) >= 64
        covered[t.top : t.top + t.height, t.left : t.left + t.width] += 1
    assert (covered == 1).all()


def test_of_every_sixteen_neighbours_each_part_gets_its_share():
    tiles = [Tile(i, 0, 0, i, 1, 1) for i in range(48)]
    dealt = deal(tiles, seed=0)
    for block in range(3):
        for part in PARTS:
            assert sum(t.id // 16 == block for t in dealt[part]) == SHARES[part]
