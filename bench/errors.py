"""Errors that a user may meet. Their text is complete: it is printed without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class SplitAuditError(Exception):
    """The base of every error that is the user's to mend; ``exit_code`` is what the command line returns."""

    exit_code = 2


class ConfigError(SplitAuditError):
    """Everything that is wrong with a config, collected and raised once.

    Args:
        problems: a line or a few each: *got, expected, what to do*.
    """

    def __init__(self, problems: Sequence[str], origin: str = "config") -> None:
        self.problems = list(problems)
        n = len(self.problems)
        head = f"{origin}: {n} problem{'s' if n > 1 else ''}"
        super().__init__("\n".join([head, *("  - " + p.strip().replace("\n", "\n    ") for p in self.problems)]))


class DataError(SplitAuditError):
    """A dataset that cannot be used; the message names the file or folder and what to do."""


class PluginError(SplitAuditError):
    """A plugin that is unknown, broken or collides with another."""


class KnowledgeError(SplitAuditError):
    """An attack reached for something that its adversary knowledge does not grant."""


class StoreError(SplitAuditError):
    """A results folder that cannot be used: locked by another run, or written by a newer program."""


class Unsupported(Exception):
    """A combination that cannot exist. The text is the reason of the skip; it is an outcome, not a failure."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns `` Did you mean 'x'?`` for the closest known word, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""
