"""Read and score ahead: keep a GPU busy while the CPU reads sequence, fills batches, calls and writes sites."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Job = TypeVar("Job")
Result = TypeVar("Result")


def prefetch(
    work: Callable[[Job], Result], jobs: Iterable[Job], threads: int
) -> Generator[tuple[Job, Result], None, None]:
    """Each job with its result, in order, while `threads` threads work on the next jobs; with 0, no job is done ahead.

    At most `threads` + 1 jobs are taken from `jobs` and not yet given back, so that memory is bounded. The exception of
    a job is raised in its turn; jobs that have not begun are cancelled when the iterator is closed.
    """
    if not threads:
        for job in jobs:
            yield job, work(job)
        return
    pool = ThreadPoolExecutor(threads)
    waiting: deque[tuple[Job, Future[Result]]] = deque()
    try:
        for job in jobs:
            waiting.append((job, pool.submit(work, job)))
            if len(waiting) > threads:
                first, future = waiting.popleft()
                yield first, future.result()
        for job, future in waiting:
            yield job, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def read_ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """The items, in order, while a thread takes the next one.

    The exception of an item is raised in its turn. When the iterator is closed, it waits for the item that is being
    read, so that `items` should not wait for another program.
    """
    end = object()
    pool = ThreadPoolExecutor(1)
    try:
        waiting = pool.submit(next, items, end)
        while (item := waiting.result()) is not end:
            waiting = pool.submit(next, items, end)
            yield item  # type: ignore[misc]
    finally:
        pool.shutdown(cancel_futures=True)
