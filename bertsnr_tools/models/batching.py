"""Scores of many windows, in batches: base codes in, probabilities of both tasks out."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch

from ..log import logger
from ..sequence.encoding import bases_from_tokens
from .bertsnr import token_ids
from .device import Runtime, autocast
from .interface import InferenceFunction, Model

CACHE_TOKENS = 3200  # in a forward pass on a CPU: what fits into its cache
# matrix products of fewer rows round differently, so a smaller batch is filled up
MIN_TOKENS = 256
_serial_operators = threading.RLock()


class Batch(NamedTuple):
    """Windows of one forward pass.

    Attributes
    ----------
    rows : of the window codes
    size : number of windows; further rows of `ids` only fill the batch up
    ids : token ids, int64, shape (B, T + 2), B at least `size`
    """

    rows: slice
    size: int
    ids: torch.Tensor


def token_probabilities(model: Model, codes: np.ndarray, runtime: Runtime) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of both tasks for windows of one length, on the strand given.

    The result does not depend on the batch size: windows of one length are never padded.

    Parameters
    ----------
    codes : base codes of `sequence.encoding.encode`, shape (n, L), L at least k

    Returns
    -------
    sequence probabilities (n,), token probabilities (n, L - k + 1), float32
    """
    sequences = np.empty(len(codes), dtype=np.float32)
    tokens = np.empty((len(codes), codes.shape[1] - model.info.k + 1), dtype=np.float32)
    functions = [
        (replica.device, replica.inference_function(runtime.precision)) for replica in (model, *model.replicas)
    ]

    def score(item: tuple[int, Batch]) -> None:
        number, batch = item
        logits = _run(*functions[number % len(functions)], batch, runtime.precision)
        sequences[batch.rows], tokens[batch.rows] = (_sigmoid(part) for part in logits)

    def score_all(batch_size: int) -> None:
        run_parallel(score, enumerate(batches(model, codes, batch_size)), model)

    halve_on_oom(model, runtime.batch_size, score_all)
    return sequences, tokens


def _run(device: torch.device, function: InferenceFunction, batch: Batch, precision: str) -> list[np.ndarray]:
    """Sequence and token logits of a batch."""
    ids = batch.ids.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else batch.ids.to(device)
    with torch.inference_mode(), autocast(device, precision):
        return [logits[: batch.size].cpu().numpy() for logits in function(ids)]


def halve_on_oom(model: Model, batch_size: int, work: Callable[[int], None]) -> None:
    """Work in batches of this size, or of half of it, and so on, until they fit into the device's memory."""
    try:
        return work(batch_size)
    except torch.OutOfMemoryError:
        if batch_size == 1:
            raise
    logger.debug("batches of %d windows exceed the memory of %s: halving them", batch_size, model.device)
    torch.cuda.empty_cache()
    halve_on_oom(model, batch_size // 2, work)


def run_parallel(work: Callable[[Any], None], items: Iterable[Any], model: Model) -> None:
    """Do it with every item, one at a time on each GPU, or in each CPU thread: faster than all threads on one item."""
    cpu = model.device.type == "cpu"
    workers = torch.get_num_threads() if cpu else 1 + len(model.replicas)
    if workers == 1:
        for item in items:
            work(item)
    elif cpu:
        _run_in_cpu_threads(work, items)
    else:
        _consume(_device_workers(workers).map(work, items))


def _run_in_cpu_threads(work: Callable[[Any], None], items: Iterable[Any]) -> None:
    """torch's thread count is partly the process's own: one caller at a time sets it to 1, and sets it back."""
    with _serial_operators:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            _consume(_cpu_workers(threads).map(work, items))
        finally:
            torch.set_num_threads(threads)


def _consume(results: Iterable[None]) -> None:
    """Wait for all, and raise what one of them raised."""
    for _ in results:
        pass


@functools.cache  # new threads would take new memory from the system each time
def _device_workers(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count)


@functools.cache
def _cpu_workers(count: int) -> ThreadPoolExecutor:
    """Threads in which an operator of torch runs in one thread."""
    pool, all_started = ThreadPoolExecutor(count), threading.Barrier(count)

    def start(_: int) -> None:
        torch.set_num_threads(1)
        all_started.wait()

    _consume(pool.map(start, range(count)))
    return pool


def batches(model: Any, codes: np.ndarray, batch_size: int) -> Iterator[Batch]:
    """Cut windows into batches of at most this size, and put the model into evaluation.

    A small batch is filled up with repeats of its rows, and so is the last of several: torch's libraries keep memory
    for each size of batch.

    Parameters
    ----------
    codes : base codes, shape (n, L)
    """
    model.eval()
    if model.device.type == "cpu":
        batch_size = max(1, min(batch_size, CACHE_TOKENS // codes.shape[1]))
    for start in range(0, len(codes), batch_size):
        rows = slice(start, start + batch_size)
        ids = token_ids(codes[rows], model.info.k)
        count, filled = len(ids), max(-(-MIN_TOKENS // ids.shape[1]), batch_size if start else 0)
        if count < filled:
            ids = ids[torch.arange(filled) % count]
        yield Batch(rows, count, ids)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    """In numpy, because torch rounds the last few elements of an array differently from the others."""
    return (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)


def base_probabilities(model: Model, codes: np.ndarray, runtime: Runtime) -> np.ndarray:
    """As `token_probabilities`, but of the bases: shape (n, L), float32."""
    return bases_from_tokens(token_probabilities(model, codes, runtime)[1], model.info.k)


_batches, _halve_on_oom = batches, halve_on_oom
