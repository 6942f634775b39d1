"""Scoring with a model: sequences in, probabilities of both tasks or attention out, in batches that do not show in the result."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from ..log import logger
from ..sequence.encoding import bases_from_tokens
from .bertsnr import BertSNR, token_ids
from .device import Runtime, autocast

CACHE_TOKENS = 3200  # in a forward pass on a processor: what its cache holds
MIN_TOKENS = (
    256  # in a forward pass: matrix products of fewer rows are rounded differently, so a small batch is filled up
)


def token_probabilities(model: BertSNR, codes: np.ndarray, runtime: Runtime) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of both tasks for equally long sequences, read in the direction given.

    The result does not depend on `batch_size`: sequences of one length are never padded.

    Parameters
    ----------
    codes : output of `kmers.encode`, shape (n, L), L at least k
    precision : as of `choose_precision`

    Returns
    -------
    sequence probabilities (n,), token probabilities (n, L - k + 1), float32
    """
    sequences = np.empty(len(codes), dtype=np.float32)
    tokens = np.empty((len(codes), codes.shape[1] - model.info.k + 1), dtype=np.float32)
    readers = [(copy.device, copy.inference_function(runtime.precision)) for copy in (model, *model.replicas)]

    def score(item: tuple[int, tuple[slice, int, torch.Tensor]]) -> None:
        number, (batch, count, ids) = item
        device, read = readers[number % len(readers)]
        ids = ids.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else ids.to(device)
        with torch.inference_mode(), autocast(device, runtime.precision):
            sequences[batch], tokens[batch] = (_sigmoid(values[:count].cpu().numpy()) for values in read(ids))

    _halve_on_oom(
        model, runtime.batch_size, lambda size: run_parallel(score, enumerate(_batches(model, codes, size)), model)
    )
    return sequences, tokens


def _halve_on_oom(model: BertSNR, batch_size: int, work: Callable[[int], None]) -> None:
    """Work in batches of this size, or of half of it, and so on, as the device's memory has it."""
    try:
        return work(batch_size)
    except torch.OutOfMemoryError:
        if batch_size == 1:
            raise
    logger.debug(
        "batches of %d windows do not fit into the memory of %s, trying half of that", batch_size, model.device
    )
    torch.cuda.empty_cache()
    _halve_on_oom(model, batch_size // 2, work)


def run_parallel(work: Callable[[Any], None], items: Iterable[Any], model: BertSNR) -> None:
    """Do it with every item: on a processor one in each thread, which is faster than all threads on one; else one on each device."""
    threads = torch.get_num_threads()
    workers = threads if model.device.type == "cpu" else 1 + len(model.replicas)
    if workers == 1:
        for item in items:
            work(item)
        return
    torch.set_num_threads(1)  # a part of the setting is the thread's, a part the whole process's
    try:
        for _ in _workers(workers).map(work, items):
            pass
    finally:
        torch.set_num_threads(threads)


@functools.cache
def _workers(count: int) -> ThreadPoolExecutor:
    """Kept, because new threads would take new memory from the system each time."""
    return ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))


def _batches(model: BertSNR, codes: np.ndarray, batch_size: int) -> Iterator[tuple[slice, int, torch.Tensor]]:
    """Rows, their number, and their token ids.

    A small batch is filled up with repeats of its rows, and so is the last of several, because the libraries below keep memory for each
    size of batch that they have met.
    """
    model.eval()
    if model.device.type == "cpu":
        batch_size = max(1, min(batch_size, CACHE_TOKENS // codes.shape[1], -(-len(codes) // torch.get_num_threads())))
    for start in range(0, len(codes), batch_size):
        batch = slice(start, start + batch_size)
        ids = token_ids(codes[batch], model.info.k)
        count, fill = len(ids), max(-(-MIN_TOKENS // ids.shape[1]), batch_size if start else 0)
        if count < fill:
            ids = ids[torch.arange(fill) % count]
        yield batch, count, ids


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    """In numpy, because torch rounds the last few elements of an array differently from the others."""
    return (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)


def base_probabilities(model: BertSNR, codes: np.ndarray, runtime: Runtime) -> np.ndarray:
    """As `token_probabilities`, but of the bases: shape (n, L), float32."""
    return bases_from_tokens(token_probabilities(model, codes, runtime)[1], model.info.k)
