"""Each check of how a defended target is stored finds the toy that breaks it, and says how."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import pytest
import torch
from kit_toys import Broken, ToyDefense, by_size, collector

from splitaudit.split import Split

TOYS: list[Broken] = []
breaks = collector(TOYS)


def made_in_a_function() -> type[ToyDefense]:
    class Local(ToyDefense):
        """Cannot be imported by name."""

    return Local


breaks("check_picklable", "the class cannot be pickled", "top level of a module", "inside a function")(
    made_in_a_function()
)


@breaks("check_picklable", "the trained target cannot be pickled", "a lambda")
class KeepsAFunction(ToyDefense):
    """Keeps a function without a name."""

    def prepare(self, split: Split) -> None:
        self.act = lambda z: z

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return self.act(z)


@breaks("check_picklable", "a pickled copy of the target gives other logits", "loses state")
class PicklesHalf(ToyDefense):
    """Leaves its factor out of what is pickled; a copy in memory has it."""

    factor = 1.0

    def prepare(self, split: Split) -> None:
        self.factor = 2.0

    def __reduce__(self) -> Any:
        return type(self), (self.params,)

    def __deepcopy__(self, memo: dict[int, Any]) -> PicklesHalf:
        copied = type(self)(self.params)
        copied.factor = self.factor
        return copied

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z * self.factor


@breaks("check_copyable", "the trained target cannot be copied", "carries a graph")
class KeepsTheGraph(ToyDefense):
    """Keeps the last batch with its graph."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if self.training:
            self.last = 2 * z
        return z


@breaks("check_copyable", "the trained target cannot be copied", "a lock", also=["check_picklable"])
class KeepsALock(ToyDefense):
    """Keeps what exists once in a process."""

    def prepare(self, split: Split) -> None:
        self.lock = threading.Lock()


@breaks(
    "check_stored_state_restores",
    "the restored target gives other logits",
    "register_buffer",
    also=["check_restores_in_a_new_process"],
)
class ForgetsItsScale(ToyDefense):
    """Keeps what it has learnt as a plain attribute."""

    scale: Any = 1.0

    def calibrate(self, features: Callable[[], Iterable[torch.Tensor]]) -> None:
        self.scale = torch.cat(list(features())).std()

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z * self.scale


@breaks(
    "check_stored_state_restores",
    "do not fit a fresh target",
    "defense.scale",
    "wrap and prepare",
    also=["check_restores_in_a_new_process"],
)
class RegistersLate(ToyDefense):
    """Makes its buffer when it is calibrated."""

    def calibrate(self, features: Callable[[], Iterable[torch.Tensor]]) -> None:
        self.register_buffer("scale", torch.cat(list(features())).std())


@breaks("check_restores_in_a_new_process", "a new process gets other logits", "a class or module attribute")
class KeepsItsScaleOnTheClass(ToyDefense):
    """Shares what it has learnt with every target of this process, and with none of another."""

    scale: ClassVar[Any] = 1.0

    def calibrate(self, features: Callable[[], Iterable[torch.Tensor]]) -> None:
        type(self).scale = 2.0

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z if self.training else z * type(self).scale


@pytest.mark.parametrize("toy", by_size(TOYS, "fast"), ids=str)
def test_a_defense_that_stores_wrongly_is_found_with_words_that_help(toy: Broken) -> None:
    toy.is_found()


@pytest.mark.full
@pytest.mark.parametrize("toy", by_size(TOYS, "full"), ids=str)
def test_a_defense_that_depends_on_its_process_is_found_with_words_that_help(toy: Broken) -> None:
    toy.is_found()


@pytest.mark.full
@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_a_defense_that_stores_wrongly_fails_no_other_check(toy: Broken) -> None:
    toy.fails_nothing_else("all")
