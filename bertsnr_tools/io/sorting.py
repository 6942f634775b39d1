"""Sort more lines than memory can contain: sorted runs in a temporary file, merged."""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import DataError
from .files import error_text

RUN_LINES = 50_000  # lines that are sorted in memory
_MERGE_BYTES, _MOST_BYTES = 1 << 22, 1 << 14  # read ahead in all runs together, and in one at most


class LineSorter:
    """Sorts lines of bytes, which contain no line break; equal keys stay in the order in which they were added.

    Parameters
    ----------
    key : what a line is sorted by
    path : the output, for errors
    """

    def __init__(self, key: Callable[[bytes], Any], path: str):
        self._key, self._path = key, path
        self._spool = tempfile.TemporaryFile()
        self._runs: list[tuple[int, int]] = []  # first byte and end of each
        self._waiting: list[bytes] = []

    def add(self, line: bytes) -> None:
        """Add a line.

        Raises
        ------
        DataError : the temporary file cannot be written.
        """
        self._waiting.append(line)
        if len(self._waiting) >= RUN_LINES:
            with _spool_errors(self._path):
                self._end_run()

    def _end_run(self) -> None:
        self._waiting.sort(key=self._key)
        start = self._spool.seek(0, 2)
        for line in self._waiting:
            self._spool.write(line + b"\n")
        self._spool.flush()
        self._runs.append((start, self._spool.tell()))
        self._waiting = []

    def __iter__(self) -> Iterator[bytes]:
        """All lines in order."""
        self._waiting.sort(key=self._key)
        return heapq.merge(*(self._read(start, end) for start, end in self._runs), self._waiting, key=self._key)

    def _read(self, start: int, end: int) -> Iterator[bytes]:
        """The lines of a run; the runs take turns."""
        size = min(_MOST_BYTES, _MERGE_BYTES // len(self._runs) + 1)
        rest = b""
        while start < end:
            with _spool_errors(self._path):
                self._spool.seek(start)
                data = self._spool.read(min(size, end - start))
            start += len(data)
            *lines, rest = (rest + data).split(b"\n")
            yield from lines


@contextmanager
def _spool_errors(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        problem = f"cannot sort in {tempfile.gettempdir()} ({error_text(error)}); set TMPDIR"
        raise DataError(problem, path) from error
