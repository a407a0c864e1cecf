"""Making, checking and upgrading records."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from ..canonical import KEY_VERSION, key_of
from ..errors import StoreError
from .schema import FORMAT_VERSION, RECORDS, Kind

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]

UPGRADES: dict[int, Upgrade] = {}
"""Format version to the function that turns a record of that version into one of the next."""


def new_record(kind: Kind, identity: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Returns a complete record: versions and key are filled in, missing fields have their defaults.

    Args:
        kind: what was done.
        identity: everything that may change a number.
        fields: the other fields of the schema; ``status`` is ``done`` and ``artifact`` false unless given.

    Raises:
        StoreError: for a field or value that the schema does not have.
    """
    head = {"format_version": FORMAT_VERSION, "key_version": KEY_VERSION, "kind": kind, "key": key_of(identity)}
    return validate({"status": "done", "artifact": False, "identity": identity, **fields, **head})


def validate(record: Any, where: str = "record") -> dict[str, Any]:
    """Returns a record of the current format with defaults filled in, once it has the shape that the schema says.

    Args:
        record: plain JSON values: lists, no tuples.
        where: what messages begin with.

    Raises:
        StoreError: naming every field that is wrong, or a key that is not the identity's.
    """
    kind = record.get("kind") if isinstance(record, dict) else None
    if kind not in RECORDS:
        raise StoreError(f"{where}: is not a record: got kind {_short(kind)}, expected one of {', '.join(RECORDS)}.")
    try:
        complete = RECORDS[kind].model_validate(record).model_dump()
    except ValidationError as exc:
        lines = [_problem(e) for e in exc.errors(include_url=False, include_context=False)]
        raise StoreError("\n".join([f"{where}: does not have the shape of a {kind} record", *lines])) from exc
    # Keys of another KEY_VERSION cannot be made again; such records match no plan and are listed as outdated.
    if complete["key_version"] == KEY_VERSION and complete["key"] != key_of(complete["identity"]):
        raise StoreError(
            f"{where}: its key {_short(complete['key'])} is not that of its identity, expected "
            f"{key_of(complete['identity'])}. The record was changed by hand or by something else: delete it, the next "
            "run does it again."
        )
    return complete


def upgrade(
    record: dict[str, Any],
    where: str = "record",
    upgrades: Mapping[int, Upgrade] = UPGRADES,
    current: int = FORMAT_VERSION,
) -> dict[str, Any]:
    """Returns a record in the current format, version by version.

    Raises:
        StoreError: the record is newer than the program, names no version, or no upgrade is known.
    """
    version = record.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise StoreError(f"{where}: got format_version {_short(version)}, expected a whole number. Delete the file.")
    if version > current:
        raise StoreError(
            f"{where}: has format {version}, this program knows formats up to {current}. Update splitaudit to read it."
        )
    while version < current:
        if version not in upgrades:
            raise StoreError(
                f"{where}: has format {version}, which this program can no longer read (it writes {current}). "
                "Read it with an older splitaudit, or choose another folder with --out."
            )
        version += 1
        record = upgrades[version - 1](record) | {"format_version": version}
    return record


def parse(text: str, where: str) -> dict[str, Any]:
    """Returns the record that a text holds: upgraded, checked, complete.

    Raises:
        StoreError: naming the file and what to do.
    """
    try:
        record = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise StoreError(f"{where}: is not whole JSON ({exc}). Delete the file: the next run does it again.") from exc
    if not isinstance(record, dict):
        raise StoreError(
            f"{where}: got {_short(record)}, expected a record. Delete the file: the next run does it again."
        )
    return validate(upgrade(record, where), where)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number that a record may hold")


def _problem(error: Any) -> str:
    place = ".".join(str(p) for p in error["loc"]) or "record"
    if error["type"] == "missing":
        return f"  - {place}: is missing"
    return f"  - {place}: got {_short(error['input'])}. {error['msg']}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
