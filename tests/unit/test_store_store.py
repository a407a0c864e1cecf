"""The store of a run folder: records imply their artifacts, and one process writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from splitaudit.errors import StoreError
from splitaudit.store import Store, new_record

FAILURE = {"type": "ValueError", "message": "no", "traceback": "Traceback ..."}
CELL = new_record("cell", {"a": 1}, artifact=True)
NAME = ("cell", CELL["key"])
TENSORS = {"guess": torch.arange(6, dtype=torch.uint8)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Store.writing(tmp_path) as store:
        store.write_artifact(*NAME, TENSORS, {"part": "private"})
        store.write(CELL)
    return tmp_path


def test_records_and_artifacts_lie_where_the_layout_says(folder: Path) -> None:
    key = CELL["key"]
    assert (folder / "records" / "cell" / key[:2] / f"{key}.json").is_file()
    assert (folder / "artifacts" / "cell" / key[:2] / f"{key}.safetensors").is_file()
    store = Store.open(folder)
    assert store.read(*NAME) == CELL
    assert torch.equal(store.read_artifact(*NAME)["guess"], TENSORS["guess"])
    assert store.artifact_metadata(*NAME) == {"part": "private"}


def test_what_is_not_there_reads_as_none(folder: Path) -> None:
    assert Store.open(folder).read("cell", "0" * 20) is None
    assert list(Store.open(folder).records("fit")) == []


def test_tuples_are_stored_as_the_lists_that_they_come_back_as(folder: Path) -> None:
    record = new_record("fit", {"shape": [3, 8, 8]})
    with Store.writing(folder) as store:
        store.write(record | {"identity": {"shape": (3, 8, 8)}, "info": {"curve": (1.0, 0.5)}})
        assert store.read("fit", record["key"]) == record | {"info": {"curve": [1.0, 0.5]}}


def test_a_number_that_is_not_finite_is_refused_and_leaves_nothing(folder: Path) -> None:
    record = new_record("fit", {"a": 1}) | {"info": {"loss": float("nan")}}
    with Store.writing(folder) as store, pytest.raises(StoreError, match="not plain JSON"):
        store.write(record)
    assert [p.name for p in folder.rglob("*.json")] == [f"{CELL['key']}.json"]


def test_a_record_is_refused_before_its_artifact_is_there(tmp_path: Path) -> None:
    with Store.writing(tmp_path) as store:
        with pytest.raises(StoreError, match=r"artifact .* is missing. Write artifacts first"):
            store.write(CELL)
        assert store.status() == {}


def test_a_done_record_without_its_artifact_is_not_done(folder: Path) -> None:
    store = Store.open(folder)
    assert store.status()[NAME].status == "done"
    store.artifact_path(*NAME).unlink()
    assert store.status()[NAME].status == "incomplete"
    assert Store.open(folder).status()[NAME].error == "its artifact is missing"
    with Store.writing(folder) as writer:
        assert writer.status()[NAME].status == "incomplete"
        writer.write_artifact(*NAME, TENSORS)
        assert writer.status()[NAME].status == "done"


def test_a_record_that_never_had_an_artifact_is_done_without(tmp_path: Path) -> None:
    record = new_record("reference", {"a": 1}, prior_mse=[0.02])
    with Store.writing(tmp_path) as store:
        store.write(record)
        assert store.status()["reference", record["key"]].status == "done"


def test_a_failed_record_leaves_no_artifact_of_an_earlier_success(folder: Path) -> None:
    with Store.writing(folder) as store:
        store.write(CELL | {"status": "failed", "error": FAILURE, "artifact": False})
        assert not store.artifact_path(*NAME).exists()
        assert store.status()[NAME].status == "failed"


def test_deleting_removes_record_and_artifact(folder: Path) -> None:
    with Store.writing(folder) as store:
        store.delete(*NAME)
        store.delete(*NAME)
        assert store.status() == {}
    assert list(folder.rglob(f"{CELL['key']}*")) == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"kind": "cell"}', b"[1]"])
def test_a_damaged_record_is_named_with_what_to_do(folder: Path, content: bytes) -> None:
    path = Store(folder).record_path(*NAME)
    path.write_bytes(content)
    for look in (lambda s: s.read(*NAME), lambda s: s.status(), lambda s: list(s.records("cell"))):
        with pytest.raises(StoreError, match=f"{CELL['key']}.json: .*Delete the file"):
            look(Store.open(folder))
    with pytest.raises(StoreError, match=f"{CELL['key']}.json"), Store.writing(folder):
        pass


def test_all_damaged_records_are_named_at_once_and_a_dozen_suffices(folder: Path) -> None:
    paths = []
    for i in range(13):
        path = Store(folder).record_path("fit", new_record("fit", {"i": i})["key"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{")
        paths.append(path)
    with pytest.raises(StoreError) as caught:
        Store.open(folder).status()
    assert sum(path.name in str(caught.value) for path in paths) == 10
    assert "and 3 more" in str(caught.value)


def test_a_record_under_another_name_is_refused(folder: Path) -> None:
    store = Store(folder)
    other = store.record_path("cell", CELL["key"][:2] + "0" * 18)
    store.record_path(*NAME).rename(other)
    with pytest.raises(StoreError, match="expected what its name says"):
        store.read("cell", other.stem)


def test_files_of_other_names_are_no_records(folder: Path) -> None:
    shelf = Store(folder).record_path(*NAME).parent
    for name in ("notes.json", f"{CELL['key']}.json~", f".{CELL['key']}.json.1-0123abcd.tmp", "DS_Store"):
        (shelf / name).write_text("{")
    (shelf.parent / "stray.json").write_text("{")
    (shelf.parent / "zz").mkdir()
    (shelf.parent / "zz" / f"{CELL['key']}.json").write_text("{")
    assert list(Store.open(folder).status()) == [NAME]


@pytest.mark.parametrize(("kind", "key"), [("cell", "../../../x"), ("cell", "A" * 20), ("row", "0" * 20), ("cell", "")])
def test_what_is_no_kind_or_key_reaches_no_file(tmp_path: Path, kind: str, key: str) -> None:
    with pytest.raises(StoreError, match="20 hex digits"):
        Store(tmp_path).read(kind, key)


def test_a_folder_without_results_is_said_to_have_none(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(StoreError, match="holds no results"):
            Store.open(path)


def test_a_store_opened_for_reading_does_not_write_records(folder: Path) -> None:
    with Store.writing(folder) as late:
        pass
    for store in (Store(folder), Store.open(folder), late):
        with pytest.raises(StoreError, match="opened for reading"):
            store.write(new_record("fit", {"a": 1}))
        with pytest.raises(StoreError, match="opened for reading"):
            store.delete(*NAME)


def test_records_that_a_plan_lacks_are_listed_as_outdated(folder: Path) -> None:
    fit = new_record("fit", {"a": 1})
    with Store.writing(folder) as store:
        store.write(fit)
        assert store.outdated([NAME]) == [("fit", fit["key"])]
        assert store.outdated([NAME, ("fit", fit["key"]), ("fit", "0" * 20)]) == []


def test_records_come_in_the_order_of_their_keys(tmp_path: Path) -> None:
    with Store.writing(tmp_path) as store:
        for i in range(20):
            store.write(new_record("fit", {"i": i}))
    keys = [r["key"] for r in Store.open(tmp_path).records("fit")]
    assert len(keys) == 20
    assert keys == sorted(keys)


def test_importing_the_store_loads_neither_torch_nor_pandas() -> None:
    code = "import splitaudit.store, sys; print([m for m in ('torch', 'pandas', 'numpy') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
