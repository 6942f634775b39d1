"""Logging and progress on stderr: messages through the standard `logging`, progress bars only on a terminal."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

logger = logging.getLogger("bertsnr_tools")


def configure(command: str, verbosity: int) -> None:
    """Send messages to stderr as `command: message`; for the command line only.

    Parameters
    ----------
    command : prefix of every line, e.g. "bertsnr predict"
    verbosity : -1 errors only, 0 warnings and information, 1 details
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"{command}: %(message)s"))
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel({-1: logging.ERROR, 0: logging.INFO, 1: logging.DEBUG}[verbosity])


class Progress:
    """Progress of a loop. This base class shows nothing, so that loops need no `if`."""

    def advance(self, amount: int) -> None:
        """Count `amount` more units as done."""


class _Bar(Progress):
    def __init__(self, bar: Any, task: Any):
        self._bar, self._task = bar, task

    def advance(self, amount: int) -> None:
        self._bar.advance(self._task, amount)


@contextmanager
def progress(label: str, total: int | None, unit: str) -> Iterator[Progress]:
    """A progress bar when stderr is a terminal and messages are shown, else a `Progress` that shows nothing."""
    plain = not sys.stderr or not sys.stderr.isatty() or os.environ.get("TERM") in ("dumb", "unknown")
    if plain or logger.getEffectiveLevel() > logging.INFO:
        yield Progress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f}/s" if task.speed else "")

    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TextColumn(unit), Rate(), TimeRemainingColumn())
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _Bar(bar, bar.add_task(label, total=total))
