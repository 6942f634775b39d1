"""Open inputs and outputs: standard streams, compression, and files that are replaced atomically."""

from __future__ import annotations

import errno
import gzip
import io
import itertools
import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from ..errors import DataError, UsageError
from .bgzip import CUT, END, GZIP_MAGIC, HEADER_BYTES, BgzipWriter, TailKeeper, is_bgzip
from .fields import decoded_text

BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors and spreadsheets begin UTF-8 text with it
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
UTF_16 = "is UTF-16 text; convert it with: iconv -f UTF-16 -t UTF-8"
CR_ALONE = r"has line ends of CR alone; convert them with: tr '\r' '\n'"
BINARY_TRACKS = {
    b"\xeb\xf2\x89\x87": "is bigBed; convert it with UCSC's bigBedToBed",
    b"\x26\xfc\x8f\x88": "is bigWig, not BED or text",
}
BGZIP_ENDINGS = (".gz", ".bgz")
INDEX_ENDINGS = (".tbi", ".csi", ".fai", ".gzi")
MAX_TBI_POSITION = 1 << 29  # bases that a .tbi index covers; .csi has no such limit
_PARTS_PER_WRITE = 512


def error_text(error: BaseException) -> str:
    """The operating system's message for an error, without path and number."""
    return getattr(error, "strerror", None) or str(error)


@contextmanager
def open_input(path: str) -> Iterator[BinaryIO]:
    """Open a file, or standard input for "-", for reading; recognise gzip and bgzip by content, skip a byte order mark.

    Raises
    ------
    DataError : the file cannot be opened or read, its compressed data are damaged or truncated, or it is UTF-16 text.
    """
    try:
        with _raw_input(path) as raw:
            stream = _decompressed(raw, path)
            mark = stream.peek(3)[:3]
            if mark == BYTE_ORDER_MARK:
                stream.read(3)
            if mark.startswith(UTF_16_MARKS):
                raise DataError(UTF_16, path)
            yield stream
    except BrokenPipeError:
        raise
    except EOFError as error:
        raise DataError(CUT if CUT in error.args else "compressed data are truncated", path) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"compressed data are damaged ({error})", path) from error


def _decompressed(raw: Any, path: str) -> Any:
    """The stream, or what it contains if it is gzip; a cut bgzip file is found at once, a cut pipe when it ends."""
    head = raw.peek(HEADER_BYTES)[:HEADER_BYTES]
    if not is_bgzip(head):
        return gzip.GzipFile(fileobj=raw) if head[:2] == GZIP_MAGIC else raw
    if not raw.seekable():
        return gzip.GzipFile(fileobj=TailKeeper(raw))  # type: ignore[call-overload]
    begin = raw.tell()
    end = raw.seek(0, os.SEEK_END)
    raw.seek(max(begin, end - len(END)))
    if raw.read() != END:
        raise DataError(CUT, path)
    raw.seek(begin)
    return gzip.GzipFile(fileobj=raw)


@contextmanager
def _raw_input(path: str) -> Iterator[Any]:
    if path == "-":
        if sys.stdin is None:
            raise DataError("is closed", path)
        yield sys.stdin.buffer
        return
    with _os_errors(path):
        stream = open(path, "rb")
    with stream:
        with _os_errors(path):
            stream.peek(1)  # some systems open a directory and fail on the first read
        yield stream


def check_inputs(*paths: str | None) -> None:
    """Check that input files exist, before anything slow is loaded; None is an input that was not given.

    Raises
    ------
    DataError, UsageError : a file does not exist, or its directory cannot be read; two of them are standard input.
    """
    if paths.count("-") > 1:
        raise UsageError("standard input (-) is given twice, but can be read only once")
    for path in paths:
        if path and path != "-":
            with _os_errors(path):
                os.stat(path)


def check_rereadable(*paths: str) -> None:
    """Reject a pipe, such as `<(command)` of a shell or "-", where a file is read more than once or not in order.

    Raises
    ------
    DataError : one of `paths` is neither a file nor a directory.
    """
    for path in paths:
        if path == "-" or os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
            raise DataError("is a pipe or device, which can be read only once; save it to a file", path)


def check_regular(path: str, what: str) -> None:
    """Reject an output that is a pipe or device where the file of that name would be replaced.

    Raises
    ------
    UsageError : `path` exists and is not a regular file.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise UsageError(f"{path}: {what} must be a regular file; give another file name")


def check_output(path: str, inputs: Iterable[str | None], *, directory: bool = False) -> None:
    """Reject an output that is an input or its index, or that cannot be written, before any work is done.

    Parameters
    ----------
    directory : the output is a directory, which may exist

    Raises
    ------
    UsageError : `path` names the same file as one of `inputs` or its index.
    DataError : `path` is a directory or cannot be written, or its directory does not exist.
    """
    if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        raise DataError("output directory does not exist", path)
    for name in inputs:
        if not name or "-" in (name, path):
            continue
        if _same_file(name, path):
            raise UsageError(f"{path}: is also an input; choose another output")
        if any(_same_file(index, path) or _same_name(index, path) for index in map(name.__add__, INDEX_ENDINGS)):
            raise UsageError(f"{path}: is the index of an input, {name}; choose another output")
    if path != "-" and not (directory and os.path.isdir(path)):
        _check_writable(path)


def _check_writable(path: str) -> None:
    """Check that `open_output` can create its temporary file, or open what is not a regular file."""
    with _os_errors(path):
        if os.path.isdir(os.path.realpath(path)):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not os.path.exists(path) or os.path.isfile(path):
            os.unlink(_create_beside(os.path.realpath(path)))
        elif not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _create_beside(path: str) -> str:
    """Create an empty temporary file; an unpredictable name and O_EXCL: neither another file nor a link is opened."""
    temporary = f"{path}.{os.urandom(8).hex()}.tmp"
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    return temporary


def _same_file(one: str, other: str) -> bool:
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def _same_name(one: str, other: str) -> bool:
    """Whether two names mean one file, which may not exist yet."""
    return os.path.realpath(one) == os.path.realpath(other)


def files_in(path: str) -> list[str]:
    """A file, or a directory and the files in it; nothing if it is neither."""
    if os.path.isdir(path):
        return [path, *(os.path.join(path, name) for name in os.listdir(path))]
    return [path] if os.path.isfile(path) else []


def check_outputs(outputs: Iterable[str | None], inputs: Iterable[str | None]) -> None:
    """Check several outputs, which must also differ from each other; None is an output that was not requested.

    Raises
    ------
    UsageError : a file is given twice, or is also an input.
    DataError : a directory does not exist.
    """
    seen: set[str] = set()
    inputs = list(inputs)
    for path in outputs:
        if path is None:
            continue
        check_output(path, inputs)
        if os.path.realpath(path) in seen:
            raise UsageError(f"{path}: is given for two outputs; choose different files")
        seen.add(os.path.realpath(path))


@contextmanager
def open_output(path: str) -> Iterator[OutputStream]:
    """Open a file, or standard output for "-", for writing.

    A regular file is written atomically, see `replace_atomically`, and as bgzip when its name ends in `.gz` or `.bgz`;
    indexes of the file that it replaces are deleted. Anything else (`/dev/stdout`, a named pipe) is written directly.

    Raises
    ------
    DataError : the file cannot be created, written or renamed.
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
        yield from _write_to(stream, path)
    else:
        with _replacing(path) as temporary:
            stream = open(temporary, "wb")
            yield from _write_to(BgzipWriter(stream) if path.endswith(BGZIP_ENDINGS) else stream, path)
        delete_indexes(path)


def delete_indexes(path: str) -> None:
    with _os_errors(path):
        for ending in INDEX_ENDINGS:
            with suppress(FileNotFoundError):
                os.unlink(path + ending)


def _write_to(stream: Any, path: str) -> Iterator[OutputStream]:
    """Yield the stream and close it, so that an error on closing (a full disk) names this file."""
    try:
        yield OutputStream(stream, path)
    except BaseException:
        with suppress(OSError):
            stream.close()
        raise
    with _os_errors(path):
        stream.close()


class OutputStream:
    """A binary stream whose errors name its file."""

    def __init__(self, stream: Any, path: str):
        self._stream, self._path = stream, path

    def write(self, data: bytes) -> None:
        with _os_errors(self._path):
            self._stream.write(data)

    def write_all(self, parts: Iterable[bytes]) -> int:
        """Write many small parts, some hundred at a time, and return their number."""
        parts = iter(parts)
        count = 0
        while some := list(itertools.islice(parts, _PARTS_PER_WRITE)):
            self.write(b"".join(some))
            count += len(some)
        return count

    def flush(self) -> None:
        with _os_errors(self._path):
            self._stream.flush()


@contextmanager
def _os_errors(path: str) -> Iterator[None]:
    """Turn an OSError into a DataError that names the file; a closed pipe passes."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, RuntimeError, zlib.error) as error:
        cause = error if isinstance(error, OSError) else error.__context__  # torch and zlib hide it behind their own
        if not isinstance(cause, OSError):
            raise
        full = cause.errno is None and _is_on_full_disk(path)  # htslib does not give the number
        raise DataError(os.strerror(errno.ENOSPC) if full else error_text(cause), path) from error


def _is_on_full_disk(path: str) -> bool:
    try:
        return os.statvfs(os.path.dirname(os.path.realpath(path))).f_bavail == 0
    except OSError:
        return False


@contextmanager
def quiet_htslib() -> Iterator[None]:
    """Silence htslib's own messages: its errors are exceptions as well."""
    import pysam

    before = pysam.set_verbosity(0)
    try:
        yield
    finally:
        pysam.set_verbosity(before)


def index_file(path: str, preset: str, reach: int = 0) -> None:
    """Write the index of a sorted file in bgzip: .tbi, or .csi for BCF and where positions exceed what .tbi covers.

    Parameters
    ----------
    preset : "bed", "vcf" or "bcf"
    reach : the greatest end of an interval

    Raises
    ------
    DataError : the index cannot be written.
    """
    import pysam

    csi = preset == "bcf" or reach > MAX_TBI_POSITION
    delete_indexes(path)
    with replace_atomically(f"{path}.csi" if csi else f"{path}.tbi") as temporary, quiet_htslib():
        kind: Any = preset
        pysam.tabix_index(path, preset=kind, force=True, keep_original=True, csi=csi, index=temporary)


@contextmanager
def replace_atomically(path: str) -> Iterator[str]:
    """Yield the name of a temporary file beside `path`; rename it to `path` on success, delete it otherwise.

    So `path` is either untouched or complete. A link stays a link: its target is replaced. The target keeps its mode.

    Raises
    ------
    DataError : the file cannot be created, written (an OSError in the block) or renamed.
    """
    with _replacing(path) as temporary, _os_errors(path):
        yield temporary


@contextmanager
def _replacing(path: str) -> Iterator[str]:
    """Do the same for a block whose errors may have other causes."""
    target = os.path.realpath(path)
    if os.path.exists(target) and not os.path.isfile(target):
        raise DataError("is not a regular file; give another file name", path)
    with _os_errors(path):
        temporary = _create_beside(target)
    try:
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


def file_stem(path: str) -> str:
    """The name of a file without its directory, .gz and the ending before."""
    return os.path.splitext(os.path.basename(path).removesuffix(".gz"))[0]


def text_lines(stream: BinaryIO, path: str) -> Iterator[tuple[int, str]]:
    """The lines of a stream as (1-based number, text without its line end), in UTF-8 or else Latin-1.

    Raises
    ------
    DataError : a line contains a null byte, or its ends are CR alone.
    """
    head, null, _ = stream.peek(512)[:512].partition(b"\0")  # type: ignore[attr-defined]
    if null and head[:4] in BINARY_TRACKS:
        raise DataError(BINARY_TRACKS[head[:4]], path)
    if null:  # the first line of /dev/zero does not end
        raise DataError("is not text", path, head.count(b"\n") + 1)
    wrapper = io.TextIOWrapper(stream, "utf-8", "surrogateescape", newline="\n")
    try:
        for number, line in enumerate(wrapper, 1):
            text = line.rstrip("\r\n")
            if "\0" in text:
                raise DataError("is not text", path, number)
            if "\r" in text:
                raise DataError(CR_ALONE, path, number)
            yield number, text if text.isascii() else decoded_text(text.encode("utf-8", "surrogateescape"))
    finally:
        with suppress(ValueError):  # the stream is closed
            wrapper.detach()  # or it would close the stream
