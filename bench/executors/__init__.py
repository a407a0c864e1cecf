"""Where jobs run. An executor takes plain jobs and gives plain results back in the order in which they finish."""

from __future__ import annotations

from .base import Executor, Result
from .processes import ProcessExecutor
from .serial import SerialExecutor

__all__ = ["Executor", "ProcessExecutor", "Result", "SerialExecutor"]
