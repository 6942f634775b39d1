"""Work in threads in which an operator of torch runs in one thread: faster than all threads on one operator."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

_serial_operators = threading.RLock()
Item = TypeVar("Item")
Result = TypeVar("Result")


def run_in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The result of every item, in order; in as many threads as an operator of torch has.

    torch's thread count is partly the process's own: one caller at a time sets it to 1, and sets it back.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        yield from map(work, items)
        return
    with _serial_operators:
        torch.set_num_threads(1)
        try:
            yield from _workers(threads).map(work, items)
        finally:
            torch.set_num_threads(threads)


@functools.cache  # new threads would take new memory from the system each time
def _workers(count: int) -> ThreadPoolExecutor:
    pool, all_started = ThreadPoolExecutor(count), threading.Barrier(count)

    def start(_: int) -> None:
        torch.set_num_threads(1)
        all_started.wait()

    try:
        list(pool.map(start, range(count)))
    except RuntimeError:  # a thread could not start; the others must not wait for it
        all_started.abort()
        raise
    return pool
