"""The exceptions of bertsnr_tools, one hierarchy; each is shown as one line and sets the exit status.

Library functions raise these errors; only `bertsnr_tools.cli` turns them into a line on stderr and a status.
"""

from __future__ import annotations

from collections.abc import Iterable

_NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "Cannot allocate memory",
    "failed to map segment from shared object",
    "bad_alloc",
)
_NO_THREADS = ("can't start new thread", "Resource temporarily unavailable")


class BertsnrError(Exception):
    """Base of every error that this package raises on purpose. Exit status 1."""

    exit_status = 1
    logged = False  # the user has seen the message


class DataError(BertsnrError, ValueError):
    """Input that cannot be used, shown as `file:line: what is wrong (value seen); what to do`.

    Parameters
    ----------
    problem : what is wrong and what to do, without a final full stop
    path : name of the file ("-" is shown as "standard input")
    line : 1-based line number in that file
    """

    def __init__(self, problem: str, path: str | None = None, line: int | None = None):
        shown = "standard input" if path == "-" else path
        where = ":".join(str(part) for part in (shown, line) if part is not None)
        super().__init__(f"{where}: {problem}" if where else problem)


class UsageError(BertsnrError):
    """Options that contradict each other or are missing. Exit status 2."""

    exit_status = 2


class DeviceError(BertsnrError, RuntimeError):
    """A device that this machine does not have, or that does not support the request."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question for the end of an error: `; did you mean SOX2 or SOX9?`; empty without a similar name.

    Case is ignored.
    """
    import difflib

    by_upper = {other.upper(): other for other in known}
    near = difflib.get_close_matches(name.upper(), by_upper, 3)
    if near[:1] == [name.upper()]:
        near = near[:1]
    return f"; did you mean {' or '.join(by_upper[other] for other in near)}?" if near else ""


def is_out_of_device_memory(error: BaseException) -> bool:
    """Whether a GPU ran out of memory: torch has an exception for this, CUDA libraries only a message."""
    texts = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return type(error).__name__ == "OutOfMemoryError" or any(text in str(error) for text in texts)


def system_limit(error: BaseException) -> str | None:
    """The limit of memory or threads that stopped an operation, or None; torch has no exceptions for them, only texts.

    The errors that led to this one are examined too: a reader takes a failed allocation for a damaged file.
    """
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, (RuntimeError, ImportError, OSError, MemoryError)):
            if isinstance(link, MemoryError) or any(text in str(link) for text in _NO_MEMORY):
                return "out of memory"
            if isinstance(link, RuntimeError) and any(text in str(link) for text in _NO_THREADS):
                return "cannot start a thread: a limit of threads, processes or memory is reached; reduce -@"
        link = link.__cause__ or link.__context__
    return None
