"""Records have the shape that the schema says, and their key is that of their identity."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitaudit.canonical import KEY_VERSION, key_of
from splitaudit.errors import StoreError
from splitaudit.store import FORMAT_VERSION, new_record, records, validate
from splitaudit.store.schema import KINDS, RECORDS, Failure, Measured, Score, describe

FAILURE = {"type": "ValueError", "message": "no", "traceback": "Traceback ..."}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(identity=st.dictionaries(st.text(), JSON, max_size=4), kind=st.sampled_from(KINDS))
def test_the_key_of_any_identity_survives_being_stored(identity: dict[str, Any], kind: Any) -> None:
    record = new_record(kind, identity)
    stored = records.parse(json.dumps(record, allow_nan=False), "file")
    assert stored == record
    assert key_of(stored["identity"]) == stored["key"] == key_of(identity)


def test_a_new_record_is_complete() -> None:
    record = new_record("cell", {"a": 1}, status="failed", error=FAILURE)
    assert set(record) == {name for name, _, _ in describe(RECORDS["cell"])}
    assert record["format_version"] == FORMAT_VERSION
    assert record["key_version"] == KEY_VERSION
    assert record["scores"] == {}


def cell(**changes: Any) -> dict[str, Any]:
    return new_record("cell", {"a": 1}) | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "row"}, "got kind 'row', expected one of target, fit, cell, reference"),
        ({"status": "running"}, "status: got 'running'"),
        ({"colour": "red"}, "colour: got 'red'. Extra inputs are not permitted"),
        ({"status": "failed"}, "status 'failed' needs an 'error'"),
        ({"error": FAILURE}, "status 'done' has none"),
        ({"status": "failed", "error": FAILURE, "artifact": True}, "a failed record has no artifact"),
        ({"status": "failed", "error": {"type": "E"}}, "error.message: is missing"),
        ({"timing": {"train": "3 s"}}, "timing.train: got '3 s'"),
        ({"timing": {"train": float("nan")}}, "timing.train: got nan"),
        ({"attack": {"curve": [1.0, float("inf")]}}, "attack.curve.*finite number"),
        ({"attack": {"when": object()}}, "attack.when.*not a valid JSON value"),
        ({"identity": {1: 2}}, "identity.*valid string"),
        ({"measurements": {}}, "measurements: got {}"),
        (
            {"scores": {"mse": {"key": "k", "version": 1, "status": "done", "values": [1.0, None]}}},
            "scores.mse.*'reason' is null",
        ),
        ({"scores": {"lpips": {"key": "k", "version": 1, "status": "unavailable"}}}, "scores.lpips.*'reason' is null"),
        ({"scores": {"mse": {"key": "k", "status": "done"}}}, "scores.mse.version: is missing"),
        ({"identity": {"a": 2}}, "is not that of its identity, expected"),
        ({"key": "0" * 20}, "its key '0{20}' is not that of its identity"),
    ],
)
def test_a_record_of_another_shape_is_refused_and_the_field_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StoreError, match=f"(?s)^here: .*{message}"):
        validate(cell(**changes), "here")


def test_every_wrong_field_is_named_at_once() -> None:
    with pytest.raises(StoreError) as caught:
        validate(cell(status=3, warnings="none", colour=1))
    assert all(f"- {name}: got" in str(caught.value) for name in ("status", "warnings", "colour"))


def test_messages_do_not_print_whole_values() -> None:
    with pytest.raises(StoreError) as caught:
        validate(cell(warnings="x" * 10_000))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("value", [None, 3, [], "text"])
def test_what_is_no_object_is_no_record(value: object) -> None:
    with pytest.raises(StoreError, match=r"is not a record|expected a record"):
        validate(value)
    with pytest.raises(StoreError, match=r"file: .*expected a record"):
        records.parse(json.dumps(value), "file")


def test_missing_values_are_fine_beside_a_reason() -> None:
    score = {"key": "k", "version": 1, "status": "done", "values": [1.0, None], "reason": "1 of 2 images is flat"}
    assert cell(scores={"ssim": score}) == validate(cell(scores={"ssim": score})) | {"scores": {"ssim": score}}


def test_a_record_of_another_key_version_is_read_and_matches_no_plan() -> None:
    old = cell(key_version=KEY_VERSION - 1, key="ab" * 10)
    assert validate(old)["key"] == "ab" * 10


@pytest.mark.parametrize("text", ["", "{", '{"a": NaN}', '{"a": Infinity}', "\x00\x00", "[" * 100_000])
def test_a_text_that_is_not_whole_json_is_refused_and_the_file_named(text: str) -> None:
    with pytest.raises(StoreError, match=r"^a\.json: is not whole JSON .* Delete the file"):
        records.parse(text, "a.json")


def test_a_newer_format_is_refused_with_what_to_do() -> None:
    newer = json.dumps(cell(format_version=FORMAT_VERSION + 1, a_field_of_the_future=1))
    with pytest.raises(StoreError, match=f"has format {FORMAT_VERSION + 1}.*Update splitaudit"):
        records.parse(newer, "a.json")


@pytest.mark.parametrize("version", [None, "1", 1.0, True])
def test_a_format_version_that_is_no_number_is_refused(version: object) -> None:
    with pytest.raises(StoreError, match=r"got format_version .*expected a whole number"):
        records.upgrade(cell(format_version=version))


def test_an_older_format_goes_through_every_upgrade_in_order() -> None:
    upgrades = {
        5: lambda r: {k: v for k, v in r.items() if k != "seconds"} | {"timing": {"all": r["seconds"]}},
        6: lambda r: r | {"timing": {f"{k}_s": v for k, v in r["timing"].items()}},
    }
    old = {"format_version": 5, "seconds": 3.0}
    assert records.upgrade(old, "a.json", upgrades, current=7) == {"format_version": 7, "timing": {"all_s": 3.0}}
    assert old == {"format_version": 5, "seconds": 3.0}
    with pytest.raises(StoreError, match=r"a.json: has format 4, which this program can no longer read"):
        records.upgrade({"format_version": 4}, "a.json", upgrades, current=7)


def test_an_upgrade_is_used_when_a_record_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    old = cell(format_version=0)
    old["notes"] = old.pop("warnings")
    monkeypatch.setitem(records.UPGRADES, 0, lambda r: {("warnings" if k == "notes" else k): v for k, v in r.items()})
    assert records.parse(json.dumps(old), "a.json") == cell()


@pytest.mark.parametrize("model", [*RECORDS.values(), Score, Measured, Failure], ids=lambda m: m.__name__)
def test_every_stored_field_has_a_type_and_a_meaning(model: Any) -> None:
    rows = describe(model)
    assert len(rows) == len(model.model_fields)
    assert all(kind and meaning for _, kind, meaning in rows)
