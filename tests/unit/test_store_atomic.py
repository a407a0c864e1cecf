"""Files of the store are whole or absent."""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from splitaudit.errors import StoreError
from splitaudit.store import atomic


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_refused_and_leaves_no_file(tmp_path: Path, number: float) -> None:
    with pytest.raises(StoreError, match=r"not plain JSON.*Store null and a reason"):
        atomic.write_json(tmp_path / "a.json", {"fine": 1, "bad": [number]})
    assert names(tmp_path) == []


def test_a_refused_value_leaves_the_old_file_alone(tmp_path: Path) -> None:
    atomic.write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(StoreError):
        atomic.write_json(tmp_path / "a.json", {"new": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_midway_leaves_the_old_file_and_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    atomic.write_text(tmp_path / "a.txt", "old")

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(atomic.os, call, full)
    with pytest.raises(OSError, match="no space left"):
        atomic.write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_file_is_synced_before_it_is_renamed_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = atomic.os.fsync, atomic.os.replace

    def note_fsync(descriptor: int) -> None:
        mode = atomic.os.fstat(descriptor).st_mode
        calls.append("sync folder" if stat.S_ISDIR(mode) else "sync file")
        fsync(descriptor)

    def note_replace(source: Path, target: Path) -> None:
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(atomic.os, "fsync", note_fsync)
    monkeypatch.setattr(atomic.os, "replace", note_replace)
    atomic.write_tensors(tmp_path / "a.safetensors", {"w": torch.ones(2)})
    atomic.write_text(tmp_path / "a.txt", "text")
    assert calls == ["sync file", "rename", "sync folder"] * 2


def test_texts_keep_their_newlines_and_letters(tmp_path: Path) -> None:
    atomic.write_text(tmp_path / "a.txt", "σ × 3\nnext\r\n")
    assert (tmp_path / "a.txt").read_bytes() == "σ × 3\nnext\r\n".encode()


def test_tensors_come_back_as_they_were_with_their_metadata(tmp_path: Path) -> None:
    weights = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    tensors = {
        "weights": weights,
        "tied": weights,
        "turned": weights.T,
        "part": weights[1:3],
        "pixels": torch.arange(6, dtype=torch.uint8).view(1, 2, 3),
        "gradient": torch.ones(2, requires_grad=True),
        "empty": torch.zeros(0, 3),
    }
    path = tmp_path / "deep" / "a.safetensors"
    atomic.write_tensors(path, tensors, {"part": "private", "count": "4"})
    back = atomic.read_tensors(path)
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(back[name], tensor), name
        assert back[name].dtype == tensor.dtype
    assert atomic.read_metadata(path) == {"part": "private", "count": "4"}
    assert names(path.parent) == ["a.safetensors"]


def test_equal_tensors_give_equal_bytes(tmp_path: Path) -> None:
    hashes = set()
    for i in range(8):
        path = tmp_path / f"{i}.safetensors"
        metadata = dict.fromkeys("abcdefgh" if i % 2 else "hgfedcba", "1")
        atomic.write_tensors(path, {"a": torch.ones(2), "b": torch.zeros(3)}, metadata)
        hashes.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(hashes) == 1


def test_a_damaged_or_missing_tensor_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(StoreError, match=r"a.safetensors: is missing. Run the suite again"):
        atomic.read_tensors(path)
    atomic.write_tensors(path, {"a": torch.ones(100)})
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(StoreError, match=r"a.safetensors: is not a whole safetensors file.*Delete it"):
        atomic.read_tensors(path)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        (".0a1b.json.4711-0123abcd.tmp", True),
        ("0a1b.json", False),
        (".hidden", False),
        ("notes.tmp", False),
        (".notes.tmp", False),
    ],
)
def test_only_files_of_unfinished_writes_are_taken_for_temporary(name: str, ours: bool) -> None:
    assert atomic.is_temporary(name) is ours


def test_temporary_names_are_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    replace = atomic.os.replace

    def note(source: Path, target: Path) -> None:
        seen.append(source.name)
        replace(source, target)

    monkeypatch.setattr(atomic.os, "replace", note)
    atomic.write_text(tmp_path / "a.json", "{}")
    atomic.write_tensors(tmp_path / "b.safetensors", {"w": torch.ones(2)})
    assert len(seen) == 2
    assert all(atomic.is_temporary(name) for name in seen)


WRITER = """
import sys
from pathlib import Path
from splitaudit.store.atomic import write_json
path, who = Path(sys.argv[1]), sys.argv[2]
for i in range(50):
    write_json(path, {"who": who, "turn": i, "text": who * 100_000, "z": [int(who), i]})
"""


def test_200_writes_of_one_file_from_4_processes_are_always_whole(tmp_path: Path) -> None:
    path = tmp_path / "shared.json"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(w)]) for w in range(4)]
    read = set()
    while any(w.poll() is None for w in writers):
        if path.exists():
            value = json.loads(path.read_text())
            assert value["text"] == value["who"] * 100_000
            assert value["z"] == [int(value["who"]), value["turn"]]
            read.add((value["who"], value["turn"]))
    assert [w.returncode for w in writers] == [0, 0, 0, 0]
    assert len(read) > 4, "the reader met too few of the writes to say anything"
    assert json.loads(path.read_text())["turn"] == 49
    assert names(tmp_path) == ["shared.json"]
