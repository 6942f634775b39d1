"""Memory and threads. Limits (ulimit) are checked early: libraries that meet them crash, hang or exit on their own."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import threading

from ..errors import DeviceError

INFERENCE_MB, TRAINING_MB, MB_PER_CPU = 700, 950, 40  # address space below which torch or OpenBLAS fail or hang
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)


def usable_cpus() -> int:
    """Number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_address_space(*, training: bool) -> None:
    """Check the limit of the address space (ulimit -v) before torch is imported.

    Raises
    ------
    DeviceError : the limit is lower than what a command with a model needs.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    needed = (TRAINING_MB if training else INFERENCE_MB) + MB_PER_CPU * usable_cpus()
    if limit != resource.RLIM_INFINITY and limit >> 20 < needed:
        found = f"the address space is limited to {limit >> 20:,} MB (ulimit -v)"
        raise DeviceError(f"{found}; at least {needed:,} MB are necessary on {usable_cpus()} CPUs")


def check_threads(count: int) -> None:
    """Start threads and end them.

    Raises
    ------
    RuntimeError : one of them cannot be started; libgomp would exit.
    """
    done = threading.Event()
    threads = [threading.Thread(target=done.wait) for _ in range(count if count > 1 else 0)]
    try:
        for thread in threads:
            thread.start()
    finally:
        done.set()
        for thread in threads:
            with contextlib.suppress(RuntimeError):  # not started
                thread.join()


def limit_blas_threads() -> None:
    """Give OpenBLAS, which numpy imports, one thread where it could not start one per CPU: it would interrupt."""
    try:
        check_threads(usable_cpus())
    except RuntimeError:
        os.environ["OPENBLAS_NUM_THREADS"] = "1"


def keep_freed_memory() -> None:
    """Have malloc keep freed memory for later use, pieces of up to 32 MB; without effect outside glibc.

    By default it returns most of it to the system after every batch, which then supplies new pages again: threads that
    train wait for each other meanwhile, and two lose a quarter of their speed.
    """
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(MMAP_THRESHOLD, 32 << 20)
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
