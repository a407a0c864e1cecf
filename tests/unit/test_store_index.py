"""The index may be lost, cut or wrong; the state of the records is right all the same."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from splitaudit.store import Store, index, new_record
from splitaudit.store.store import Store as StoreClass

FAILURE = {"type": "ValueError", "message": "no\nsecond line", "traceback": "Traceback ..."}


def records() -> list[dict[str, Any]]:
    found = {"key": "k1", "status": "done", "values": {"accuracy": 0.9}}
    missing = {"key": "k2", "status": "unavailable", "reason": "no weights"}
    broken = {"key": "k3", "status": "failed", "reason": "out of memory"}
    return [
        new_record("target", {"n": 0}, timing={"train": 2.0, "measure": 0.5}, measurements={"a": found, "m": missing}),
        new_record("target", {"n": 1}, measurements={"a": found, "b": broken}),
        new_record("cell", {"n": 0}, scores={"mse": {"key": "k3", "version": 3, "status": "done", "values": [1.0]}}),
        new_record("cell", {"n": 1}, status="failed", error=FAILURE),
        new_record("fit", {"n": 0}),
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Store.writing(tmp_path) as store:
        for record in records():
            store.write(record)
    return tmp_path


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of records that were opened."""
    seen: list[str] = []
    read = StoreClass.read

    def note(self: Store, kind: str, key: str) -> dict[str, Any] | None:
        seen.append(key)
        return read(self, kind, key)

    monkeypatch.setattr(StoreClass, "read", note)
    return seen


def test_the_state_of_all_records_is_known_without_opening_any(folder: Path, opened: list[str]) -> None:
    status = Store.open(folder).status()
    assert opened == []
    first, second, good, bad, fit = [status[r["kind"], r["key"]] for r in records()]
    assert (first.status, first.duration, first.measurements, first.unavailable) == (
        "done",
        2.5,
        {"a": "k1"},
        {"m": "k2"},
    )
    assert (second.measurements, second.unavailable) == ({"a": "k1"}, {})
    assert (good.status, good.error, good.scores) == ("done", None, {"mse": "k3"})
    assert (bad.status, bad.error, bad.scores) == ("failed", "ValueError: no", {})
    assert fit.status == "done"
    assert [kind for kind, _ in status] == ["target", "target", "fit", "cell", "cell"]


def lose(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_text("")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def cut_at_line_end(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))


def cut_off_the_last_newline(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def garble(path: Path) -> None:
    path.write_bytes(os.urandom(2000))


def garble_a_line(path: Path) -> None:
    lines = path.read_text().splitlines()
    lines[2] = lines[2][:40] + "\x00\ufffd" + lines[2][42:60]
    path.write_text("\n".join(lines) + "\n")


def other_json(path: Path) -> None:
    path.write_text(path.read_text() + '{"kind": "cell"}\n[1]\n7\nnull\n')


def wrong_types(path: Path) -> None:
    head, line, *rest = path.read_text().splitlines()
    bad = json.dumps(json.loads(line) | {"measurements": 3})
    path.write_text("\n".join([head, bad, *rest]) + "\n")


def another_version(path: Path) -> None:
    path.write_text(path.read_text().replace('"index_version": 1', '"index_version": 2'))


def out_of_date(path: Path) -> None:
    head, *lines = path.read_text().splitlines()
    old = [json.dumps(json.loads(line) | {"mtime_ns": 1, "status": "failed", "error": "old"}) for line in lines]
    path.write_text("\n".join([head, *old]) + "\n")


def about_records_that_are_gone(path: Path) -> None:
    line = json.loads(path.read_text().splitlines()[1])
    with path.open("a") as file:
        file.write(json.dumps(line | {"key": "0" * 20}) + "\n")


DAMAGES = [
    lose,
    empty,
    cut,
    cut_at_line_end,
    cut_off_the_last_newline,
    garble,
    garble_a_line,
    other_json,
    wrong_types,
    another_version,
    out_of_date,
    about_records_that_are_gone,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.__name__)
def test_a_damaged_index_changes_nothing_and_the_next_run_mends_it(
    folder: Path, opened: list[str], damage: Callable[[Path], None]
) -> None:
    path = folder / "index.jsonl"
    right = Store.open(folder).status()
    damage(path)
    damaged = path.read_bytes() if path.exists() else None
    assert Store.open(folder).status() == right
    assert (path.read_bytes() if path.exists() else None) == damaged, "a reader writes nothing"
    with Store.writing(folder) as store:
        assert store.status() == right
        store.write(new_record("fit", {"n": 99}))
    opened.clear()
    assert Store.open(folder).status().keys() == right.keys() | {("fit", new_record("fit", {"n": 99})["key"])}
    assert opened == []


def test_a_record_changed_behind_the_index_is_read_again_and_no_other(folder: Path, opened: list[str]) -> None:
    changed = records()[2] | {"status": "failed", "scores": {}, "error": FAILURE}
    path = Store(folder).record_path("cell", changed["key"])
    path.write_text(json.dumps(changed))
    assert Store.open(folder).status()["cell", changed["key"]].status == "failed"
    assert opened == [changed["key"]]


def test_records_added_and_removed_behind_the_index_are_seen(folder: Path) -> None:
    store = Store.open(folder)
    before = store.status()
    added, removed = new_record("fit", {"n": 5}), records()[4]
    store.record_path("fit", removed["key"]).unlink()
    store.record_path("fit", added["key"]).parent.mkdir(exist_ok=True)
    store.record_path("fit", added["key"]).write_text(json.dumps(added))
    after = store.status()
    assert after.keys() == before.keys() - {("fit", removed["key"])} | {("fit", added["key"])}


def test_a_written_record_replaces_its_line_and_a_deleted_one_is_forgotten(folder: Path, opened: list[str]) -> None:
    bad = records()[3]
    with Store.writing(folder) as store:
        store.write(bad | {"status": "done", "error": None})
        store.delete("fit", records()[4]["key"])
        store.delete("fit", records()[4]["key"])
        inside = store.status()
    assert inside["cell", bad["key"]].status == "done"
    assert ("fit", records()[4]["key"]) not in inside
    assert Store.open(folder).status() == inside
    assert opened == []


def test_the_index_is_rewritten_when_most_of_it_is_superseded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_SPARE", 5)
    path = folder / "index.jsonl"
    with Store.writing(folder) as store:
        for turn in range(20):
            store.write(records()[4] | {"warnings": ["x" * turn]})
    assert len(path.read_text().splitlines()) == 1 + 5 + 20
    with Store.writing(folder):
        pass
    assert len(path.read_text().splitlines()) == 1 + 5
