"""The exceptions of bertsnr_tools, one hierarchy; each is shown as one line and sets the exit status.

Library functions raise these errors; only `bertsnr_tools.cli` turns them into a line on stderr and a status.
"""

from __future__ import annotations


class BertsnrError(Exception):
    """Base of every error that this package raises on purpose. Exit status 1."""

    exit_status = 1


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


def is_out_of_device_memory(error: BaseException) -> bool:
    """Whether a GPU ran out of memory: torch has an exception for this, CUDA libraries only a message."""
    texts = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return type(error).__name__ == "OutOfMemoryError" or any(text in str(error) for text in texts)
