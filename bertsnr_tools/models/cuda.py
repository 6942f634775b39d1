"""Score windows on GPUs: base codes go in, probabilities come out; the CPU only launches and copies.

CPU and GPU give the same token ids; probabilities differ as far as the logits do.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import max_pool1d, pad

from ..sequence.encoding import CLS, OTHER, SEP, SPECIAL, UNK
from .device import autocast
from .interface import InferenceFunction, Model

# On an H100, matrix products of fewer rows round differently in fp32, so a smaller batch is filled up. Batches of 8192
# windows of 100 tokens once gave other bits in bf16, with no difference in the products, so a larger batch is cut.
MIN_TOKENS, MAX_TOKENS = 25_600, 409_600
IN_FLIGHT = 3  # batches on each GPU whose results the CPU has not read


def device_token_ids(codes: torch.Tensor, k: int) -> torch.Tensor:
    """As `bertsnr.token_ids`, on the device of the codes.

    Parameters
    ----------
    codes : base codes, uint8, shape (B, L)

    Returns
    -------
    int64, shape (B, L - k + 3)
    """
    kmers = codes.long().unfold(1, k, 1)
    powers = 4 ** torch.arange(k - 1, -1, -1, device=codes.device)
    ids = torch.where((kmers == OTHER).any(-1), UNK, (kmers * powers).sum(-1) + len(SPECIAL))
    return torch.cat([ids.new_full((len(ids), 1), CLS), ids, ids.new_full((len(ids), 1), SEP)], dim=1)


def device_probabilities(
    function: InferenceFunction, codes: torch.Tensor, k: int, *, of_bases: bool, precision: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities of the sequences, (B,), and of their tokens, (B, L - k + 1), or bases, (B, L): float32.

    Parameters
    ----------
    codes : base codes, uint8, shape (B, L), on the device of the model
    """
    ids, count = device_token_ids(codes, k), len(codes)
    filled = -(-MIN_TOKENS // ids.shape[1])
    if count < filled:
        ids = ids[torch.arange(filled, device=ids.device) % count]
    with autocast(ids.device, precision):
        sequences, tokens = (torch.sigmoid(logits[:count].double()).float() for logits in function(ids))
    if of_bases:  # the maximum over the tokens that cover a base
        tokens = max_pool1d(pad(tokens, (k - 1, k - 1), value=-torch.inf), k, stride=1)
    return sequences, tokens


class _Launched(NamedTuple):
    """A batch that a GPU works on: its rows, results in pinned memory, and the event that says they are there."""

    rows: slice
    results: tuple[torch.Tensor, ...]
    done: torch.cuda.Event


class CudaScorer:
    """A model, and its replicas on other GPUs, as a function from base codes to probabilities.

    Parameters
    ----------
    of_bases : give probabilities of bases, not of tokens
    """

    def __init__(self, model: Model, precision: str, *, of_bases: bool):
        self._k, self._precision, self._of_bases = model.info.k, precision, of_bases
        self._functions = []
        for replica in (model, *model.replicas):
            replica.eval()
            self._functions.append((replica.device, replica.inference_function(precision)))

    def __call__(self, codes: np.ndarray, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities as `device_probabilities`, of any number of windows, in batches of at most `batch_size`."""
        length = codes.shape[1]
        sequences = np.empty(len(codes), dtype=np.float32)
        values = np.empty((len(codes), length if self._of_bases else length - self._k + 1), dtype=np.float32)
        batch_size = max(1, min(batch_size, MAX_TOKENS // length))
        launched: deque[_Launched] = deque()

        def read_first() -> None:
            rows, results, done = launched.popleft()
            done.synchronize()
            sequences[rows], values[rows] = (result.numpy() for result in results)

        for number, start in enumerate(range(0, len(codes), batch_size)):
            if len(launched) == IN_FLIGHT * len(self._functions):
                read_first()
            rows = slice(start, start + batch_size)
            launched.append(self._launch(rows, codes[rows], *self._functions[number % len(self._functions)]))
        while launched:
            read_first()
        return sequences, values

    def _launch(self, rows: slice, codes: np.ndarray, device: torch.device, function: InferenceFunction) -> _Launched:
        with torch.inference_mode(), torch.cuda.device(device):
            staged = torch.empty(codes.shape, dtype=torch.uint8, pin_memory=True)
            staged.numpy()[:] = codes
            there = staged.to(device, non_blocking=True)
            results = device_probabilities(function, there, self._k, of_bases=self._of_bases, precision=self._precision)
            fetched = tuple(result.to("cpu", non_blocking=True) for result in results)  # into pinned memory
            done = torch.cuda.Event()
            done.record()
        return _Launched(rows, fetched, done)
