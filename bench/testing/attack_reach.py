"""Checks of what an attack reaches for: knowledge, queries, the target, the global generators."""

from __future__ import annotations

import ast
import inspect
import sys

import torch

from ..attack import Attack
from ..errors import KnowledgeError
from ..knowledge import AdversaryKnowledge
from .attacking import STRONGEST, TINY, Attacked, attacked, usual
from .data import SHAPE
from .edges import Passes, TooManyPasses, control_edge, with_passes
from .outcome import Check, NotApplicable, fail, require
from .randomness import global_generators_watched
from .targets import control_target, make, toy_target


def check_knowledge_is_declared(cls: type[Attack]) -> None:
    """Results are read per knowledge level: an attack may reach for what it declares and for nothing else."""
    uses = cls.uses or cls.requires
    lack = uses.lacks(cls.requires)
    require(
        lack is None,
        f"`uses` is less than `requires`: the attack {lack or ''}".replace("the level grants", "`uses` grants"),
        "`uses` names at least what `requires` names",
        "one of the two was changed alone",
    )
    for which, knowledge in (("requires", _exactly(cls.requires)), ("uses", make(cls).granted(STRONGEST))):
        try:
            attacked(cls, knowledge=knowledge, sizes=TINY)
        except KnowledgeError as exc:
            fail(
                f"with what `{which}` grants and nothing more: {exc}",
                f"the attack runs with exactly what `{which}` declares",
                "an access is missing from `requires`, or is not optional where only `uses` grants it",
            )


def check_uses_only_the_public_view(cls: type[Attack]) -> None:
    """The View's inner parts hold more than any level grants; whoever uses them has left the threat model."""
    # What the source says, taken or not, and what really happens, by whatever name.
    run = usual(cls)
    touched = sorted({*_written(cls), *(f"view.{t}" for view in run.views for t in view.trespasses)})
    require(
        not touched,
        f"the attack uses {', '.join(touched)}",
        "only public names of the View and its pairs, which ask whether they are granted and count queries",
        "a way around a KnowledgeError; declare the access in `requires` instead",
    )


def _written(cls: type[Attack]) -> set[str]:
    """Returns the inner names of ``view`` in the source of an attack's class; none where the source is not at hand."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[cls.__module__]))
    except (OSError, KeyError):
        return set()
    return {
        f"view.{node.attr} (line {node.lineno})"
        for top in ast.walk(tree)
        if isinstance(top, ast.ClassDef) and top.name == cls.__name__
        for node in ast.walk(top)
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and isinstance(node.value, ast.Name)
        and node.value.id == "view"
    }


def check_queries_are_counted(cls: type[Attack]) -> None:
    """The number of queries is part of a result: what the edge has answered must be what is counted."""
    run, passes = _run_queries(cls, None)
    counted = sum(view.queries for view in run.views)
    require(
        passes.images <= counted,
        f"the edge answered {passes.images} images, the View counted {counted} queries",
        "every image that goes through the edge is a counted query",
        "the edge is called around view.query and view.pairs",
    )


def check_query_budget_is_kept(cls: type[Attack]) -> None:
    """A level with a budget promises that the attacker asked no more; a refused query must not be asked elsewhere."""
    run, passes = _run_queries(cls, None)
    spent = sum(view.queries for view in run.views)
    if spent < 2:
        raise NotApplicable("the attack makes fewer than two queries")
    budget = spent // 2
    try:
        run, passes = _run_queries(cls, budget)
    except KnowledgeError:
        return  # the View refused and the attack gave up: the cell fails with that reason
    counted = sum(view.queries for view in run.views)
    require(
        max(passes.images, counted) <= budget,
        f"with a budget of {budget} queries the edge answered {passes.images} images",
        "no more queries than the budget, fit and reconstruct together",
        "the View's refusal is caught and the edge is asked in another way",
    )


def check_target_is_unchanged(cls: type[Attack]) -> None:
    """Batch norm in training mode, or a step on the edge's weights, attacks another target than the stored one."""
    target = toy_target()
    run = attacked(cls, target, sizes=TINY)
    for view in (v for v in run.views if v._target is not None):
        state = view._model.state_dict()
        moved = [k for k, v in target.state_dict().items() if not torch.equal(v, state[k])]
        training = [name or "the target" for name, m in view._model.named_modules() if m.training]
        require(
            not moved and not training,
            f"the attack changed {', '.join(moved)}"
            if moved
            else f"the attack put {', '.join(training[:1])} into training mode",
            "edge, defense and cloud keep their weights, buffers and eval mode",
            "view.edge.train(), or an optimiser that was given the edge's parameters",
        )


def check_global_generators_are_untouched(cls: type[Attack]) -> None:
    """Two attacks in one process must give what each gives alone."""
    likely = "a network is initialised outside seeded_globally(view.seed_for(…)), or torch.rand without a generator"
    with global_generators_watched("the attack", likely):
        attacked(cls, sizes=TINY)


def check_stops_at_its_limit(cls: type[Attack]) -> None:
    """The time left is estimated from `work`, and an attack without end blocks a run."""
    model = control_target("orthogonal")
    work = make(cls).work(TINY.private, TINY.aux_train, SHAPE, model.feature_shape)
    require(
        0 <= work.edge_passes < float("inf") and 0 <= work.gflop < float("inf"),
        f"work announces {work.edge_passes:g} passes and {work.gflop:g} GFLOP",
        "finite numbers that are not negative",
        "a quotient by a parameter that may be zero",
    )
    announced = 3 * work.edge_passes + 4 * (TINY.private + TINY.aux_train + TINY.aux_val)
    edge, passes = with_passes(control_edge("orthogonal", SHAPE), limit=4 * announced)
    try:
        attacked(cls, control_target(edge), sizes=TINY)
        stopped = True
    except TooManyPasses:
        stopped = False
    done = passes.images + 2 * passes.backward
    require(
        stopped and done <= announced,
        f"{passes.images} images went through the edge and {passes.backward} gradients came back"
        + ("" if stopped else " before the attack was stopped")
        + f"; work announces {work.edge_passes:g} passes in all",
        "at most three times what work announces (a backward pass counts as two)",
        "a loop without a step limit, or work leaves a loop out",
    )


def check_convergence_is_shown(cls: type[Attack]) -> None:
    """Who says whether the budget was enough shows its course: the report plots the curves of every cell."""
    views = usual(cls).own
    if not any(isinstance(view.notes.get("converged"), bool) for view in views):
        raise NotApplicable("the attack does not say whether it has converged")
    longest = max((len(points) for view in views for points in view.curves.values()), default=0)
    require(
        longest > 1,
        f"the attack notes `converged` and logs {longest} points of a curve",
        "a curve with view.log(name, step, value), of fit or reconstruct, of two points or more",
        "the loop that is judged does not log its loss",
    )


REACH_CHECKS: tuple[Check, ...] = (
    check_knowledge_is_declared,
    check_uses_only_the_public_view,
    check_queries_are_counted,
    check_query_budget_is_kept,
    check_target_is_unchanged,
    check_global_generators_are_untouched,
    check_stops_at_its_limit,
    check_convergence_is_shown,
)


def _exactly(knowledge: AdversaryKnowledge) -> AdversaryKnowledge:
    return knowledge.narrowed(knowledge)


def _run_queries(cls: type[Attack], budget: int | None) -> tuple[Attacked, Passes]:
    knowledge = make(cls).granted(STRONGEST)
    if knowledge.edge != "query":
        raise NotApplicable(f"the attack has edge access '{knowledge.edge}': queries are not what limits it")
    edge, passes = with_passes(control_edge("orthogonal", SHAPE))
    granted = knowledge.model_copy(update={"queries": budget})
    return attacked(cls, control_target(edge), knowledge=granted, sizes=TINY), passes
