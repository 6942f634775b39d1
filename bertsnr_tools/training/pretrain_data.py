"""Windows for pretraining: streamed from FASTA files, epoch after epoch, in random order; and their masked tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..errors import DataError
from ..io.fasta import read_fasta_chunks
from ..sequence.encoding import MASK, OTHER, SPECIAL, encode, reverse_complement_codes

POOL_WINDOWS = 16384  # windows among which a batch is drawn
IGNORED = -100  # target of tokens that are not masked


def windows(paths: Sequence[str], length: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """Read FASTA files once: adjacent windows from a random phase in every record, each on a random strand.

    Windows with letters other than ACGT are left out. A record of any length is read in pieces.

    Yields
    ------
    uint8 codes, shape (length,)
    """
    random = np.random.default_rng([seed, 4, epoch])
    for path in paths:
        rest = np.empty(0, dtype=np.uint8)
        new_record = True
        for chunk in read_fasta_chunks(path):
            codes = encode(chunk.sequence)
            if new_record:
                codes = codes[int(random.integers(0, max(1, min(length, len(codes) - length)))) :]
            rest = np.concatenate([rest, codes])
            new_record = chunk.last
            complete = rest[: len(rest) // length * length].reshape(-1, length)
            rest = np.empty(0, dtype=np.uint8) if chunk.last else rest[complete.size :]
            complete = complete[(complete != OTHER).all(axis=1)]
            reverse = random.random(len(complete)) < 0.5
            yield from np.where(reverse[:, None], reverse_complement_codes(complete), complete)


def batches(paths: Sequence[str], length: int, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Endless batches, drawn from a pool of windows that is refilled epoch after epoch.

    Yields
    ------
    uint8 codes, shape (batch_size, length)

    Raises
    ------
    DataError : the files do not contain a window.
    """
    random = np.random.default_rng([seed, 5])
    pool: list[np.ndarray] = []
    epoch = 0
    while True:
        found = 0
        for window in windows(paths, length, seed, epoch):
            found += 1
            pool.append(window)
            if len(pool) >= POOL_WINDOWS + batch_size:
                yield _draw(pool, batch_size, random)
        if not found:
            raise DataError(
                f"no {length} consecutive bases of ACGT; give longer sequences or a smaller -w", ", ".join(paths)
            )
        while len(pool) >= max(batch_size, POOL_WINDOWS // 2):
            yield _draw(pool, batch_size, random)
        epoch += 1


def _draw(pool: list[np.ndarray], count: int, random: np.random.Generator) -> np.ndarray:
    """Remove random windows from the pool: the first steps of a Fisher-Yates shuffle, from the end."""
    for position in range(len(pool) - 1, len(pool) - 1 - count, -1):
        other = int(random.integers(0, position + 1))
        pool[position], pool[other] = pool[other], pool[position]
    drawn = np.stack(pool[-count:])
    del pool[-count:]
    return drawn


def mask_tokens(ids: np.ndarray, k: int, fraction: float, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mask contiguous spans of k tokens, because the neighbours of a single k-mer contain all its bases.

    Parameters
    ----------
    ids : token ids, [CLS] first and [SEP] last, shape (B, T + 2)
    fraction : expected fraction of the k-mers that are masked

    Returns
    -------
    input ids: of the masked tokens, 80 % are [MASK], 10 % a random k-mer, 10 % unchanged; targets: the original ids of
    the masked tokens, `IGNORED` elsewhere
    """
    inner = ids[:, 1:-1]
    count = inner.shape[1]
    # a token is masked when one of the k span starts that reach it is drawn
    starts = random.random((len(ids), count + k - 1)) < 1 - (1 - fraction) ** (1 / k)
    hidden = np.lib.stride_tricks.sliding_window_view(starts, k, axis=1).any(axis=2)
    targets = np.full(ids.shape, IGNORED, dtype=np.int64)
    targets[:, 1:-1] = np.where(hidden, inner, IGNORED)
    fate = random.random(inner.shape)
    other = random.integers(len(SPECIAL), len(SPECIAL) + 4**k, inner.shape)
    masked = ids.copy()
    masked[:, 1:-1] = np.where(hidden & (fate < 0.8), MASK, np.where(hidden & (fate < 0.9), other, inner))
    return masked, targets
