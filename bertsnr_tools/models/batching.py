"""Scores of many windows, in batches: base codes in, probabilities of both tasks out."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch

from ..errors import is_out_of_device_memory
from ..log import logger
from ..sequence.encoding import bases_from_tokens
from . import cuda
from .bertsnr import BertSNR, token_ids
from .cuda import CudaScorer
from .device import Runtime, autocast
from .interface import InferenceFunction, Model
from .many_factor import ManyFactorModel, shared_model
from .threads import run_in_threads

CACHE_TOKENS = 3200  # in a forward pass on a CPU: what fits into its cache
# matrix products of fewer rows round differently, so a smaller batch is filled up
MIN_TOKENS = 256
MAX_PROBABILITIES = 1 << 25  # of tokens, of several factors; bounds the memory
Result = TypeVar("Result")


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
    if model.device.type == "cuda":
        return _cuda_probabilities(model, codes, runtime, of_bases=False)
    sequences = np.empty(len(codes), dtype=np.float32)
    tokens = np.empty((len(codes), codes.shape[1] - model.info.k + 1), dtype=np.float32)
    functions = [
        (replica.device, replica.inference_function(runtime.precision)) for replica in (model, *model.replicas)
    ]

    def score(item: tuple[int, Batch]) -> None:
        number, batch = item
        logits = _run(*functions[number % len(functions)], batch, runtime.precision)
        sequences[batch.rows], tokens[batch.rows] = (sigmoid(part) for part in logits)

    def score_all(batch_size: int) -> None:
        run_parallel(score, enumerate(batches(model, codes, batch_size)), model)

    halve_on_oom(model, runtime.batch_size, score_all)
    return sequences, tokens


def _run(device: torch.device, function: InferenceFunction, batch: Batch, precision: str) -> list[np.ndarray]:
    """Sequence and token logits of a batch."""
    with torch.inference_mode(), autocast(device, precision):
        return [logits[: batch.size].cpu().numpy() for logits in function(batch.ids.to(device))]


def _cuda_probabilities(
    model: Model, codes: np.ndarray, runtime: Runtime, *, of_bases: bool
) -> tuple[np.ndarray, np.ndarray]:
    """`token_probabilities` and `base_probabilities` on a GPU."""
    results = []

    def score(batch_size: int) -> None:
        results.append(CudaScorer(model, runtime.precision, of_bases=of_bases)(codes, batch_size))

    halve_on_oom(model, runtime.batch_size, score)
    return results[0]


class _MemoryGate:
    """Threads share the memory of a GPU until it was too small; from then on, one at a time has all of it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self.narrow = False

    def __enter__(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not (self.narrow and self._inside))
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()


_gate = _MemoryGate()
_fitting_size: WeakKeyDictionary[Any, int] = WeakKeyDictionary()  # of each encoder whose larger batches do not fit


def halve_on_oom(model: Any, batch_size: int, work: Callable[[int], None]) -> None:
    """Work in batches of this size, or halve it until they fit into the GPU's memory; later calls start from there.

    Parameters
    ----------
    model : a network with a `device`
    """
    network = getattr(model, "encoder", model)  # of many factors, each call has a model of its own
    size = min(batch_size, _fitting_size.get(network, batch_size))
    while True:
        alone = _gate.narrow
        try:
            with _gate:
                return work(size)
        except RuntimeError as error:
            if not is_out_of_device_memory(error) or (size == 1 and alone):
                raise
        logger.debug("batches of %d windows exceed the memory of %s: halving them", size, model.device)
        _gate.narrow = True
        _fitting_size[network] = size = max(1, min(size // 2, _fitting_size.get(network, size)))
        torch.cuda.empty_cache()


def run_parallel(work: Callable[[Any], None], items: Iterable[Any], model: Model | ManyFactorModel) -> None:
    """Do it with every item: on a CPU one at a time in each thread, faster than all threads on one item."""
    run = run_in_threads if model.device.type == "cpu" else map
    for _ in run(work, items):
        pass  # wait for all, and raise what one of them raised


def batches(model: Any, codes: np.ndarray, batch_size: int, min_tokens: int = MIN_TOKENS) -> Iterator[Batch]:
    """Cut windows into batches of at most this size, and put the model into evaluation.

    A small batch is filled up with repeats of its rows, and so is the last of several: torch's libraries keep memory
    for each size of batch.

    Parameters
    ----------
    codes : base codes, shape (n, L)
    min_tokens : in a batch, at least
    """
    model.eval()
    if model.device.type == "cpu":
        batch_size = max(1, min(batch_size, CACHE_TOKENS // codes.shape[1]))
    for start in range(0, len(codes), batch_size):
        rows = slice(start, start + batch_size)
        ids = token_ids(codes[rows], model.info.k)
        count, filled = len(ids), max(-(-min_tokens // ids.shape[1]), batch_size if start else 0)
        if count < filled:
            ids = ids[torch.arange(filled) % count]
        yield Batch(rows, count, ids)


class FactorScorer:
    """Logits of all factors of a model, for windows of one length: one pass of the encoder serves all factors.

    The logits of many windows and factors exceed any memory, so each batch is reduced at once, on the model's device.

    Parameters
    ----------
    precision : see `Runtime`; the model's present weights are used
    """

    def __init__(self, model: ManyFactorModel, precision: str):
        self._model, self._precision = model, precision
        replicas = (model, *model.replicas)
        self._functions = [(replica.device, replica.inference_function(precision)) for replica in replicas]

    def __call__(
        self, codes: np.ndarray, batch_size: int, reduce: Callable[[slice, torch.Tensor, torch.Tensor], Result]
    ) -> list[Result]:
        """What `reduce` makes of each batch, in order.

        Parameters
        ----------
        codes : base codes, shape (n, L)
        batch_size : windows in a batch, at most
        reduce : takes the rows of `codes`, their sequence logits (B, F) and token logits (B, L - k + 1, F), float32;
            on a CPU, it runs in several threads
        """
        on_gpu = self._model.device.type == "cuda"
        size = min(batch_size, max(1, cuda.MAX_TOKENS // codes.shape[1]))
        min_tokens = cuda.MIN_TOKENS if on_gpu else MIN_TOKENS
        results: dict[int, Result] = {}

        def score(item: tuple[int, Batch]) -> None:
            number, batch = item
            device, function = self._functions[number % len(self._functions)]
            with torch.inference_mode(), autocast(device, self._precision):
                sequences, tokens = function(batch.ids.to(device))
            with torch.inference_mode():
                results[number] = reduce(batch.rows, sequences[: batch.size], tokens[: batch.size])

        def score_all(batch_size: int) -> None:
            results.clear()
            run_parallel(score, enumerate(batches(self._model, codes, batch_size, min_tokens)), self._model)

        halve_on_oom(self._model, size, score_all)
        return [results[number] for number in sorted(results)]


def factor_probabilities(
    models: Sequence[BertSNR], codes: np.ndarray, runtime: Runtime
) -> tuple[np.ndarray, np.ndarray]:
    """As `token_probabilities`, of several factors of one many-factor model: one pass of the encoder serves all.

    Returns
    -------
    sequence probabilities (F, n), token probabilities (F, n, L - k + 1), float32
    """
    heads = [model.shared for model in models if model.shared]
    numbers = [head.number for head in heads]
    model = heads[0].model.for_factors(numbers)
    sequences = np.empty((len(heads), len(codes)), dtype=np.float32)
    tokens = np.empty((*sequences.shape, codes.shape[1] - model.info.k + 1), dtype=np.float32)

    def fill(rows: slice, of_sequences: torch.Tensor, of_tokens: torch.Tensor) -> None:
        sequences[:, rows] = sigmoid(of_sequences.cpu().numpy()[:, numbers].T)
        tokens[:, rows] = sigmoid(of_tokens.cpu().numpy()[:, :, numbers].transpose(2, 0, 1))

    FactorScorer(model, runtime.precision)(codes, runtime.batch_size, fill)
    return sequences, tokens


def probabilities_of_models(
    models: Sequence[Model], codes: np.ndarray, runtime: Runtime
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`token_probabilities` of each model, in order; neighbours that share an encoder also share its passes."""
    at_once = max(1, MAX_PROBABILITIES // max(1, codes.size))
    for many, group in itertools.groupby(models, lambda model: shared_model(model)):
        while many and (factors := list(itertools.islice(group, at_once))):
            yield from zip(*factor_probabilities(factors, codes, runtime))  # type: ignore[arg-type]
        for model in group:
            yield token_probabilities(model, codes, runtime)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Logits to probabilities, float32: in numpy, because torch rounds an array's last elements differently."""
    return (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)


def base_probabilities(model: Model, codes: np.ndarray, runtime: Runtime) -> np.ndarray:
    """As `token_probabilities`, but of the bases: shape (n, L), float32."""
    if model.device.type == "cuda":
        return _cuda_probabilities(model, codes, runtime, of_bases=True)[1]
    return bases_from_tokens(token_probabilities(model, codes, runtime)[1], model.info.k)
