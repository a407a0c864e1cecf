"""One run at a time writes to a results folder, and a killed run blocks nobody."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from splitaudit.errors import StoreError
from splitaudit.store import RunLock, Store, lock, new_record
from splitaudit.store.atomic import is_temporary

HOLDER = """
import sys
from pathlib import Path
from splitaudit.store import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""

LOOP = """
import itertools, sys
from splitaudit.store import Store, new_record
import torch
with Store.writing(sys.argv[1]) as store:
    for i in itertools.count():
        record = new_record("cell", {"i": i % 7}, artifact=True, provenance={"text": "x" * 200_000, "turn": i})
        store.write_artifact("cell", record["key"], {"z": torch.full((20_000,), float(i))})
        print(i, flush=True)
        store.write(record)
"""

STOPPED = """
import sys
from splitaudit.store import Store, atomic, new_record
with Store.writing(sys.argv[1]) as store:
    def stop(descriptor):
        print("in the middle", flush=True)
        sys.stdin.read()
    atomic.os.fsync = stop
    store.write(new_record("fit", {"i": 1}, info={"text": "x" * 1000}))
"""


def child(script: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def temporaries(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if is_temporary(p.name)]


def test_a_second_run_is_refused_at_once_and_told_which_process_holds_the_folder(tmp_path: Path) -> None:
    holder = child(HOLDER, tmp_path)
    try:
        assert first_line(holder) == "held"
        with pytest.raises(StoreError, match=rf"in use by process {holder.pid} on .*Wait .* --out"), RunLock(tmp_path):
            pass
    finally:
        kill(holder)
    with RunLock(tmp_path):  # killed, not released: the kernel dropped the lock
        assert json.loads((tmp_path / "run.lock").read_text())["pid"] == os.getpid()


def test_a_second_store_in_the_same_process_is_refused(tmp_path: Path) -> None:
    with Store.writing(tmp_path), pytest.raises(StoreError, match=f"process {os.getpid()}"), Store.writing(tmp_path):
        pass


def test_the_lock_is_free_after_the_block_also_when_the_block_raised(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), RunLock(tmp_path):
        raise KeyboardInterrupt
    with RunLock(tmp_path):
        assert (tmp_path / "run.lock").exists()
    assert (tmp_path / "run.lock").read_text() == ""


def test_what_is_written_in_the_lock_file_decides_nothing(tmp_path: Path) -> None:
    (tmp_path / "run.lock").write_text('{"pid": 1, "host": "elsewhere", "started": "2020"} and longer garbage')
    with RunLock(tmp_path):
        assert json.loads((tmp_path / "run.lock").read_text())["pid"] == os.getpid()


def test_a_holder_that_has_not_signed_yet_is_another_process(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        (tmp_path / "run.lock").write_text("{")
        with pytest.raises(StoreError, match="in use by another process"), RunLock(tmp_path):
            pass


def test_a_file_system_without_locks_is_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(descriptor: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "_take", none)
    with pytest.raises(StoreError, match=r"cannot lock files .*No locks available.* local disk"), RunLock(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_told_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot be made .*--out"), Store.writing(tmp_path / "file"):
        pass
    with pytest.raises(StoreError, match=r"cannot be written .*--out"), RunLock(tmp_path / "absent"):
        pass


def test_reading_needs_no_lock(tmp_path: Path) -> None:
    record = new_record("fit", {"a": 1})
    with Store.writing(tmp_path) as store:
        store.write(record)
        assert Store.open(tmp_path).read("fit", record["key"]) == record
        assert list(Store.open(tmp_path).status()) == [("fit", record["key"])]


def test_a_run_killed_in_the_middle_of_a_write_leaves_no_record_and_its_temporary_is_removed(tmp_path: Path) -> None:
    stopped = child(STOPPED, tmp_path)
    try:
        assert first_line(stopped) == "in the middle"
    finally:
        kill(stopped)
    assert len(temporaries(tmp_path)) == 1
    assert Store.open(tmp_path).status() == {}
    assert len(temporaries(tmp_path)) == 1, "a reader may not clean up: a run could be writing"
    with Store.writing(tmp_path) as store:
        assert temporaries(tmp_path) == []
        assert store.status() == {}


def test_opening_a_folder_for_writing_leaves_files_of_others_alone(tmp_path: Path) -> None:
    mine = tmp_path / "records" / "notes.tmp"
    mine.parent.mkdir()
    mine.write_text("keep")
    with Store.writing(tmp_path):
        pass
    assert mine.read_text() == "keep"


@pytest.mark.full
def test_runs_killed_at_any_moment_never_leave_a_damaged_record(tmp_path: Path) -> None:
    written = 0
    for lines in (1, 2, 5, 9, 14, 23):
        loop = child(LOOP, tmp_path)
        try:
            for _ in range(lines):
                assert first_line(loop)
        finally:
            kill(loop)
        with Store.writing(tmp_path) as store:
            assert temporaries(tmp_path) == []
            for entry in store.status().values():
                assert entry.status == "done"
            for record in store.records("cell"):
                turn = record["provenance"]["turn"]
                assert record["identity"] == {"i": turn % 7}
                assert record["provenance"]["text"] == "x" * 200_000
                z = store.read_artifact("cell", record["key"])["z"]
                assert z.shape == (20_000,)
                assert bool((z == z[0]).all())
                written += 1
    assert written > 6
