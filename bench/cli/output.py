"""Standard output: a console for people, and what happens when the reader of a pipe has left."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from rich.console import Console


class Output(Console):
    """Prints on stdout; a reader that leaves (``splitaudit list | head``) is an error to catch, not an exit code.

    Args:
        width: columns where stdout is no terminal: a file has no width.
    """

    def __init__(self, width: int = 120) -> None:
        super().__init__(highlight=False)
        if not self.is_terminal:
            self.width = width

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


def caused_by(error: BaseException, kind: type[BaseException]) -> bool:
    """Says whether an error is of a kind or was raised while one of that kind was handled."""
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, kind):
            return True
        at = at.__context__
    return False


def drop(*descriptors: int) -> None:
    """Sends what is still to be written to stdout (1) or stderr (2) nowhere."""
    for descriptor in descriptors:
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def flush() -> None:
    """Writes out what is buffered, so that an error comes here and not at Python's end."""
    sys.stdout.flush()
