"""What a check found, and how a check says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

Check = Callable[[Any], None]
"""A public function ``check_*`` that takes a plugin class and raises :class:`CheckFailed` or :class:`NotApplicable`."""

Size = Literal["fast", "full", "all"]
"""Which checks: those of about a second, those that take longer, or both."""


class CheckFailed(AssertionError):
    """A plugin breaks its contract; the text says what was found, what is required and the likely cause."""


class NotApplicable(Exception):
    """A check has nothing to say about this plugin (or on this machine); the text is the reason."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one check of one plugin.

    Attributes:
        check: name of the function.
        passed: whether the contract is kept; True too where the check does not apply.
        message: what was found where it is not kept, the reason where the check does not apply, else empty.
        applies: whether the check had something to say.
        expected_failure: the declared reason why this check fails, or None.
    """

    check: str
    passed: bool
    message: str = ""
    applies: bool = True
    expected_failure: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the outcome is the expected one: a declared failure that does not happen is not."""
        return self.passed if self.expected_failure is None else not self.passed


def require(condition: object, found: str, required: str, likely: str) -> None:
    """Raises a :class:`CheckFailed` that teaches, unless the condition holds.

    Args:
        condition: what has to be true.
        found: what was found, without a full stop.
        required: what the contract asks for.
        likely: the most likely cause.
    """
    if not condition:
        fail(found, required, likely)


def fail(found: str, required: str, likely: str) -> NoReturn:
    """Raises a :class:`CheckFailed`: *found; required. Most likely ….*"""
    raise CheckFailed(f"{found}; required: {required}. Most likely {likely}.")


def takes_long(check: Check) -> Check:
    """Marks a check that belongs to size ``full``."""
    check.size = "full"  # type: ignore[attr-defined]
    return check


def is_long(check: Check) -> bool:
    """Says whether a check belongs to size ``full``."""
    return getattr(check, "size", "fast") == "full"
