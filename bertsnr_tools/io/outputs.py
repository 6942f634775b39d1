"""Several outputs of one command: one that cannot be written does not affect the others."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from ..errors import DataError
from ..log import logger
from .files import BGZIP_ENDINGS, OutputStream, index_file, open_output


class Failures:
    """Logs the errors of outputs, and raises the last one when its `with` block ends.

    Parameters
    ----------
    outputs : names, None for one not requested; the error is raised at once when every output has failed
    """

    def __init__(self, *outputs: str | None):
        self._left = sum(path is not None for path in outputs)
        self._last: DataError | None = None

    def __enter__(self) -> Failures:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if self._last and not error:
            raise self._last

    def add(self, error: DataError) -> None:
        """Log the error of an output, or raise it if nothing is left to write."""
        self._left -= 1
        if not self._left:
            raise error
        if not error.logged:
            logger.error("%s", error)
        error.logged = True
        self._last = error

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep an error that is raised in this block, which writes an output."""
        try:
            yield
        except DataError as error:
            self.add(error)


class KeptStream(OutputStream):
    """An `OutputStream` that ends when it fails: its temporary file is deleted, and what follows is discarded.

    It is complete when its `with` block ends without an error.

    Parameters
    ----------
    path : see `files.open_output`
    failures : receives the error

    Attributes
    ----------
    failed : the output could not be written
    """

    def __init__(self, path: str, failures: Failures):
        self.failed = False
        self._failures, self._stack = failures, ExitStack()
        with self._ending():
            self._output = self._stack.enter_context(open_output(path))

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """End this output on an error."""
        try:
            yield
        except DataError as error:
            self.failed = True
            with suppress(DataError):
                self._stack.__exit__(type(error), error, error.__traceback__)
            self._failures.add(error)

    def __enter__(self) -> KeptStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error:
            self._stack.__exit__(kind, error, trace)
            return
        with self._ending():
            self._stack.close()

    def write(self, data: bytes) -> None:
        if not self.failed:
            with self._ending():
                self._output.write(data)

    def flush(self) -> None:
        if not self.failed:
            with self._ending():
                self._output.flush()


class SortOrder:
    """Whether intervals arrive sorted by chromosome and start, as an index requires.

    Attributes
    ----------
    sorted : they do
    reach : greatest end
    """

    def __init__(self) -> None:
        self._last_starts: dict[str, int] = {}  # by chromosome, the current one last
        self.sorted, self.reach = True, 0

    def chroms(self) -> Iterable[str]:
        """Chromosomes of the intervals."""
        return self._last_starts

    def add(self, chrom: str, start: int, end: int) -> None:
        """Take the next interval."""
        last = self._last_starts.get(chrom)
        if last is not None and (start < last or chrom != next(reversed(self._last_starts))):
            self.sorted = False
        self._last_starts[chrom] = start
        self.reach = max(self.reach, end)


def index_if_sorted(path: str, order: SortOrder, preset: str, failures: Failures) -> None:
    """Write the index of a file in bgzip or BCF, see `files.index_file`; warn if its rows are not sorted."""
    if not path.endswith((*BGZIP_ENDINGS, ".bcf")):
        return
    if not order.sorted:
        logger.warning("%s: no index, because its rows are not sorted by chromosome and start", path)
        return
    with failures.kept():
        index_file(path, preset, order.reach)


def write_json(path: str, value: Any) -> None:
    """Write plain values as JSON; NaN and infinity, which JSON lacks, become null."""
    with open_output(path) as stream:
        stream.write(json.dumps(_finite(value), indent=2, allow_nan=False).encode() + b"\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(of_key) for key, of_key in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
