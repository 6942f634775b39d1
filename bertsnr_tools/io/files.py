"""Opening what is read and what is written: standard streams, compression, and files that are replaced only whole."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from ..errors import DataError, UsageError

GZIP_MAGIC = b"\x1f\x8b"


def error_text(error: BaseException) -> str:
    """The operating system's words for an error, without path and number."""
    return getattr(error, "strerror", None) or str(error)


@contextmanager
def open_input(path: str) -> Iterator[BinaryIO]:
    """Open a file, or standard input for "-", for reading; gzip and bgzip are recognised by content.

    Raises
    ------
    DataError : the file cannot be opened or read, or its compressed data are damaged or cut short.
    """
    try:
        with _raw_input(path) as raw:
            compressed = raw.peek(2)[:2] == GZIP_MAGIC  # type: ignore[attr-defined]
            yield gzip.GzipFile(fileobj=raw) if compressed else raw  # type: ignore[misc]
    except BrokenPipeError:
        raise
    except EOFError as error:
        raise DataError("compressed data end too early: the file was cut short", path) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"compressed data are damaged ({error})", path) from error


@contextmanager
def _raw_input(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        if sys.stdin is None:
            raise DataError("is closed", path)
        yield sys.stdin.buffer
        return
    try:
        stream = open(path, "rb")
    except OSError as error:
        raise DataError(error_text(error), path) from error
    with stream:
        try:
            stream.peek(1)  # a directory opens on some systems and fails on the first read
        except OSError as error:
            raise DataError(error_text(error), path) from error
        yield stream


def check_output(path: str, inputs: Iterable[str | None]) -> None:
    """Refuse an output that is one of the inputs or has no folder, before any work is done.

    Raises
    ------
    UsageError : `path` names the same file as one of `inputs`.
    DataError : the folder of `path` is not there.
    """
    if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        raise DataError("its folder is not there", path)
    for name in inputs:
        if (
            name
            and "-" not in (name, path)
            and os.path.exists(name)
            and os.path.exists(path)
            and os.path.samefile(name, path)
        ):
            raise UsageError(f"{path}: is an input too; name another output")


def check_outputs(outputs: Iterable[str | None], inputs: Iterable[str | None]) -> None:
    """`check_output` for several files, which must differ from each other too; None is an output that nobody asked for.

    Raises
    ------
    UsageError : a file is named twice.
    DataError : a folder is not there.
    """
    seen: set[str] = set()
    inputs = list(inputs)
    for path in outputs:
        if path is None:
            continue
        check_output(path, inputs)
        if os.path.realpath(path) in seen:
            raise UsageError(f"{path}: is named for two outputs")
        seen.add(os.path.realpath(path))


@contextmanager
def open_output(path: str) -> Iterator[OutputStream]:
    """Open a file, or standard output for "-", for writing.

    A file is written under a temporary name in its own folder and renamed when the block ends without an error, so the
    target is either untouched or whole. A name that ends in `.gz` or `.bgz` is written as bgzip. What is not a regular
    file (`/dev/stdout`, a named pipe) is written in place.

    Raises
    ------
    DataError : the file cannot be made, written or renamed.
    """
    if path == "-":
        if sys.stdout is None:
            raise DataError("is closed", "standard output")
        output = OutputStream(sys.stdout.buffer, "standard output")
        yield output
        output.flush()
    elif os.path.exists(path) and not os.path.isfile(path):
        with _os_errors(path):
            stream = open(path, "wb")
        yield from _written(stream, path)
    else:
        with replace_atomically(path) as temporary:
            yield from _written(_create(temporary, packed=path.endswith((".gz", ".bgz"))), path)


def _create(path: str, packed: bool):
    if packed:
        import pysam

        return pysam.BGZFile(path, "wb")  # type: ignore[call-arg]  # its stub asks for an index
    return open(path, "wb")


def _written(stream, path: str) -> Iterator[OutputStream]:
    """Hand out the stream and close it, so that what only shows on closing (a full disk) is an error of this file."""
    try:
        yield OutputStream(stream, path)
    except BaseException:
        with suppress(OSError):
            stream.close()
        raise
    with _os_errors(path):
        stream.close()


class OutputStream:
    """A binary stream whose failures carry the name of the file."""

    def __init__(self, stream, path: str):
        self._stream, self._path = stream, path

    def write(self, data: bytes) -> None:
        with _os_errors(self._path):
            self._stream.write(data)

    def write_all(self, parts: Iterable[bytes]) -> None:
        """Write many small parts, some hundred at a time."""
        parts = iter(parts)
        while some := b"".join(itertools.islice(parts, 512)):
            self.write(some)

    def flush(self) -> None:
        with _os_errors(self._path):
            self._stream.flush()


@contextmanager
def _os_errors(path: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise DataError(error_text(error), path) from error


def index_bed(path: str) -> None:
    """Make the tabix index of a sorted BED file in bgzip.

    Raises
    ------
    DataError : it cannot be made.
    """
    import pysam

    with _os_errors(path):
        pysam.tabix_index(path, preset="bed", force=True, keep_original=True)


@contextmanager
def replace_atomically(path: str) -> Iterator[str]:
    """Give a temporary name beside `path`; rename it to `path` when the block ends well, delete it otherwise.

    Raises
    ------
    DataError : the file cannot be made or renamed.
    """
    target = os.path.realpath(path)
    temporary = f"{target}.{os.getpid()}.tmp"
    try:
        with _os_errors(path):
            open(temporary, "wb").close()
        yield temporary
        with _os_errors(path):
            if os.path.exists(target):
                os.chmod(temporary, os.stat(target).st_mode & 0o7777)
            with open(temporary, "rb") as done:
                os.fsync(done.fileno())
            os.replace(temporary, target)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def text_lines(stream: BinaryIO, path: str) -> Iterator[tuple[int, str]]:
    """The lines of a stream as (1-based number, text without its line end).

    Raises
    ------
    DataError : a line is not UTF-8 text.
    """
    number = 0
    try:
        for number, line in enumerate(io.TextIOWrapper(stream, "utf-8", newline="\n"), 1):
            yield number, line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError("is not text", path, number + 1) from error
