"""How long a plan of about 10,000 cells takes, and what is left of it to do."""

from __future__ import annotations

from typing import Any

from splitaudit.config import load_suite
from splitaudit.planner import make_plan
from splitaudit.state import chosen_nodes, find_todo

SUITE = {
    "name": "big",
    "dataset": {"name": "photos"},
    "backbone": {"name": "cnn4", "cut": ["block1", "block2", "block3"], "params": {"width": 32}},
    "defenses": [{"name": "noise", "params": {"sigma": [i / 10 for i in range(1, 31)]}}, "none", "nopeek", "dropout"],
    "attacks": ["prior", {"name": "rmle", "params": {"steps": [50, 100, 150]}}, "decoder"],
    "knowledge": ["white-box", "query"],
    "seeds": list(range(10)),
}


def test_bench_plan_of_10000_cells(benchmark: Any) -> None:
    suite = load_suite(SUITE)
    plan = benchmark.pedantic(lambda: make_plan(suite), rounds=3)
    assert len(plan.cells) == 3 * 33 * 5 * 2 * 10


def test_bench_what_is_left_of_10000_cells(benchmark: Any) -> None:
    plan = make_plan(load_suite(SUITE))
    todo = benchmark.pedantic(lambda: find_todo(plan, {}, chosen_nodes(plan, {})), rounds=3)
    assert len(todo.jobs) > 5000
