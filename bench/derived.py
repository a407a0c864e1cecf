"""The derived files of a run folder (tables, plots, report): built from records, and only when something has changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from . import __version__
from .canonical import key_of
from .config import Suite
from .data.base import DataContext
from .errors import SplitAuditError, StoreError
from .options import Options
from .plan import Plan
from .planner import open_datasets
from .store import Store, write_json
from .store.layout import stored_records


def derive(
    folder: Path, store: Store, made: Plan, options: Options, suite: Suite, *, always: bool = False
) -> list[Path]:
    """Writes the derived files of a folder, unless they are up to date."""
    stamp = _stamp(store, made, options.images)
    at = folder / "derived.json"
    if not always and at.is_file() and (folder / "report.html").is_file():
        try:
            if json.loads(at.read_text()).get("stamp") == stamp:
                return []
        except ValueError:
            pass  # a damaged stamp is no stamp
    from .report import write_derived

    private = _private_pictures(made, suite, options.context(folder)) if options.images else None
    written = write_derived(folder, made, store, private, no_images=not options.images)
    write_json(at, {"stamp": stamp})
    return written


def _private_pictures(made: Plan, suite: Suite, context: DataContext) -> dict[str, Any] | None:
    """Returns the private images by dataset label, or None if the dataset is not there any more or has changed."""
    try:
        opened = open_datasets(suite, context)
    except SplitAuditError:
        return None
    found = {}
    for label, key in made.references.items():
        dataset = opened[label][0]
        if dataset.fingerprint() == made.nodes["reference", key].identity["dataset"]["fingerprint"]:
            found[label] = dataset.load("private").images
    return found or None


def stored_plan(folder: Path) -> tuple[Plan, Suite]:
    """Returns the plan of a folder and its suite, as they were resolved then: plugins need not be there any more."""
    at = folder / "plan.json"
    try:
        made = Plan.load(json.loads(at.read_text(encoding="utf-8")))
        return made, Suite.model_validate(made.suite)
    except FileNotFoundError:
        raise StoreError(f"{at}: is missing, so the folder holds no run. Run the suite with --out {folder}.") from None
    except (ValueError, KeyError, TypeError) as exc:
        raise StoreError(f"{at}: cannot be read ({exc}). Run the suite again: it does only what is left.") from exc


def _stamp(store: Store, made: Plan, images: bool) -> str:
    """Returns a hash of everything that the derived files are made from."""
    records = {f"{k}/{key}": list(s) for (k, key), s in stored_records(store.folder).items()}
    return key_of({"records": records, "plan": made.dump(), "images": images, "version": __version__})
