"""Make null distributions of changes from random substitutions (`change_nulls`, `pwm_null`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..models.device import Runtime
from ..models.interface import Model
from ..models.pwm import PwmModel
from ..sequence.encoding import CODE_LETTERS
from ..sequence.random_numbers import random_numbers
from .alleles import Change, Edit
from .nulls import TAIL, ChangeNull
from .scoring import DEFAULT_FLANK, VariantScorer, context_of

SUBSTITUTIONS = 5000  # random substitutions, one in each of as many background windows
SEED = 1
_LETTER_STREAM, _SEQUENCE_STREAM = 1, 2  # of `random_numbers`
_LETTERS = np.frombuffer(CODE_LETTERS, dtype=np.uint8)


class _Windows:
    """Windows as the chromosomes of a genome, named by their numbers."""

    def __init__(self, codes: np.ndarray):
        self._letters = _LETTERS[codes]
        self.lengths = {str(number): codes.shape[1] for number in range(len(codes))}

    def fetch(self, chrom: str, start: int, end: int) -> bytes:
        return self._letters[int(chrom), start:end].tobytes()


def change_nulls(
    models: Sequence[Model],
    codes: np.ndarray,
    runtime: Runtime,
    *,
    known: np.ndarray | None = None,
    flank: int = DEFAULT_FLANK,
) -> list[ChangeNull | None]:
    """The null distribution of each model, from one substitution in the middle of each window.

    Parameters
    ----------
    codes : background windows without N, uint8, shape (n, L)
    known : windows to leave out, in which a model's factor has a known site, bool, shape (n, models)
    flank : see `VariantScorer`

    Returns
    -------
    for each model, None where fewer than ten times `nulls.TAIL` changes are known
    """
    source, (count, length) = _Windows(codes), codes.shape
    middle = (length - 1) // 2
    key = np.full(count, SEED, dtype=np.uint64)
    other = 1 + (random_numbers(key, np.arange(count), _LETTER_STREAM) % np.uint64(3)).astype(np.uint8)
    letters = _LETTERS[(codes[:, middle] + other) % 4]
    scorer = VariantScorer(models, runtime, flank=flank)
    changes = [
        Change(str(number), (Edit(middle, middle + 1, letter.tobytes()),)) for number, letter in enumerate(letters)
    ]
    found = np.full((len(models), count), np.nan)
    size = max(1, scorer.block_bases // (2 * length))
    for first in range(0, count, size):
        for at, effects in enumerate(scorer.score(source, changes[first : first + size]), first):
            found[:, at] = [effect.change if effect else np.nan for effect in effects]
    if known is not None:
        found[known.T] = np.nan
    chosen = [row[np.isfinite(row)] for row in found]
    return [ChangeNull.fit(row, flank) if len(row) >= 10 * TAIL else None for row in chosen]


def pwm_null(model: PwmModel, flank: int) -> ChangeNull | None:
    """The null distribution of a PWM, from random sequence of equally frequent bases, as its p-values are."""
    length = 2 * context_of(model, flank) + 1
    counter = np.arange(SUBSTITUTIONS * length)
    numbers = random_numbers(np.full(len(counter), SEED, dtype=np.uint64), counter, _SEQUENCE_STREAM)
    codes = (numbers % np.uint64(4)).astype(np.uint8).reshape(SUBSTITUTIONS, length)
    return change_nulls([model], codes, Runtime((model.device,)), flank=flank)[0]
