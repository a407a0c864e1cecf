"""The pool of worker processes: one that dies fails its own job and no other."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
from pool_jobs import begin, work

from splitaudit.executors import ProcessExecutor, processes
from splitaudit.executors.pool import Pool, _deaf_to_ctrl_c
from splitaudit.work import Surroundings


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool(2, begin, work, ())
    yield made
    made.close(at_once=True)


def answers(pool: Pool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    while pool.pending():
        found.update(pool.wait())
    return found


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("does", ["dies", "dies once"])
def test_a_worker_that_dies_fails_its_own_job_only_and_only_if_it_dies_again_alone(
    pool: Pool, tmp_path: Path, does: str
) -> None:
    # "beside" is running when the worker of "bad" dies; the pool has to end it, and run it again.
    for name, what in (("bad", does), ("beside", "hangs"), ("later", "returns")):
        pool.submit(name, {"folder": str(tmp_path), "name": name, "does": what, "beside": "beside"})
    found = answers(pool)
    bad = found.pop("bad")
    assert isinstance(bad, BrokenProcessPool) if does == "dies" else bad == ({"name": "bad"}, 0.0)
    assert found == {name: ({"name": name}, 0.0) for name in ("beside", "later")}


def test_a_job_whose_worker_died_has_failed_with_words_that_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = ProcessExecutor(Surroundings(folder="."), 1)
    monkeypatch.setattr(executor._pool, "wait", lambda: [("t", BrokenProcessPool("gone"))])
    result = executor.wait()[0]
    assert (result.ticket, result.value["ok"]) == ("t", False)
    assert "lack of memory" in result.value["error"]["message"]
    executor.close()


def test_a_worker_whose_plugin_file_fails_there_fails_every_job_with_that_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "only_at_home.py"
    path.write_text("raise OSError('no such drive')\n")
    monkeypatch.setattr(processes, "_worker", None)
    monkeypatch.setattr(processes.signal, "signal", lambda *_: None)
    processes._start(Surroundings(folder=str(tmp_path), plugins=(str(path),)))
    value, _ = processes._run({"task": "target"})
    assert value["ok"] is False
    assert "no such drive" in value["error"]["message"]


@pytest.mark.usefixtures("ctrl_c_is_heard")
def test_ctrl_c_while_processes_start_waits_and_is_not_lost() -> None:
    """Fails where it is ignored meanwhile: a run went on for ten minutes although it had been interrupted."""
    reached: list[bool] = []

    def start() -> None:
        with _deaf_to_ctrl_c():
            # To this thread: one that is sent to the process may reach another thread (the test runner's own), where nothing
            # blocks it, and is then heard at once.
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            reached.append(True)

    with pytest.raises(KeyboardInterrupt):
        start()
    assert reached
