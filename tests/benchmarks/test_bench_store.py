"""How fast the state of 10,000 records is known (docs/measurements.md holds the figures that were seen)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from splitaudit.store import Store, new_record

COUNT = 10_000


@pytest.fixture(scope="session")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with 10,000 small records, their artifacts and an intact index."""
    store = Store(tmp_path_factory.mktemp("crowded"))
    score = {"key": "0" * 20, "version": 1, "status": "done", "values": [0.5] * 16}
    for i in range(COUNT):
        scores = dict.fromkeys(("mse", "psnr", "ssim"), score)
        record = new_record("cell", {"i": i}, artifact=True, scores=scores, timing={"attack": 1.5})
        # Written plainly: 10,000 durable writes would measure the disk.
        for path, text in (
            (store.record_path("cell", record["key"]), json.dumps(record)),
            (store.artifact_path("cell", record["key"]), ""),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    with Store.writing(store.folder):
        pass
    return store.folder


def test_bench_status_with_an_intact_index(benchmark: Any, crowded: Path) -> None:
    status = benchmark.pedantic(lambda: Store.open(crowded).status(), rounds=5, warmup_rounds=1)
    assert len(status) == COUNT
    assert {entry.status for entry in status.values()} == {"done"}


def test_bench_status_without_an_index(benchmark: Any, crowded: Path) -> None:
    index = crowded / "index.jsonl"
    kept = index.read_bytes()
    index.unlink()
    try:
        status = benchmark.pedantic(lambda: Store.open(crowded).status(), rounds=2)
    finally:
        index.write_bytes(kept)
    assert len(status) == COUNT


def test_bench_write_of_a_record_with_1000_images(benchmark: Any, tmp_path: Path) -> None:
    score = {"key": "0" * 20, "version": 1, "status": "done", "values": [i / 7 for i in range(1000)]}
    record = new_record("cell", {"i": 1}, scores={f"metric{m}": score for m in range(6)})
    with Store.writing(tmp_path) as store:
        benchmark(lambda: store.write(record))
        assert store.read("cell", record["key"]) == record
