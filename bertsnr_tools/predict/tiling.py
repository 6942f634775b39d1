"""From windows to one track of base scores, and from a track to sites; both work piece by piece through a sequence.

Coordinates count from the first base of the sequence. Row 0 of a track is the forward strand, row 1 the reverse strand;
both are indexed by forward position.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..sequence.encoding import OTHER


class Tiles(NamedTuple):
    """The windows of one piece, and the part of the track that they complete.

    Attributes
    ----------
    start, end : the completed part of the track
    codes : uint8, shape (m,): the bases that the windows lie on; letters as in `kmers.encode`
    codes_start : position of `codes[0]`
    begins, lengths : of each window, shape (n,); `begins` counts from `codes_start`
    owns : shape (n, 2), half-open, counts from `codes_start`: the bases whose score is taken from this window
    """

    start: int
    end: int
    codes: np.ndarray
    codes_start: int
    begins: np.ndarray
    lengths: np.ndarray
    owns: np.ndarray


class Tiler:
    """Cut a sequence into overlapping windows, each within one run of A, C, G and T.

    In every run, windows start each `step` bases and the last ends with the run, so that no base is left out; a run shorter
    than the window is one window of its own length, one shorter than `shortest` has none. Where two windows overlap,
    each base is scored by the one in which it lies further from the border. The tiles do not depend on how the sequence was
    cut into pieces.

    Parameters
    ----------
    window, step : bases; step at most window
    shortest : runs below this length are not scored
    """

    def __init__(self, window: int, step: int, shortest: int):
        self._window, self._step, self._shortest = window, step, shortest
        self._codes = np.empty(0, dtype=np.uint8)
        self._start = 0  # position of _codes[0]; when a run is open, where its next window begins
        self._owned = 0  # the track is complete up to here

    def feed(self, codes: np.ndarray, last: bool) -> Tiles:
        """Take the next piece, uint8 shape (any,); `last` says that the sequence ends with it."""
        codes = np.concatenate([self._codes, codes])
        known = codes < OTHER
        edges = np.nonzero(np.diff(known, prepend=False, append=False))[0].reshape(-1, 2)
        begins, lengths, owns = [], [], []
        rest, owned = len(codes), self._start + len(codes)
        for a, b in edges.tolist():
            open_end = b == len(codes) and not last
            continued = a == 0 and self._owned > self._start
            first_own = self._owned - self._start if continued else a
            starts = self._starts(a, b, open_end, continued)
            if open_end:
                rest, owned = a + len(starts) * self._step, first_own + self._start
            if not len(starts):
                continue
            follow = np.append(starts[1:], rest) if open_end else starts[1:]
            cuts = (starts[: len(follow)] + self._window + follow) // 2
            stops = cuts if open_end else np.append(cuts, b)
            if open_end:
                owned = int(stops[-1]) + self._start
            begins.append(starts)
            lengths.append(np.full(len(starts), min(self._window, b - a) if not continued else self._window))
            owns.append(np.stack([np.append(first_own, stops[:-1]), stops], axis=1))
        tiles = Tiles(
            self._owned,
            owned,
            codes,
            self._start,
            _joined(begins),
            _joined(lengths),
            np.concatenate([np.empty((0, 2), dtype=int), *owns]),
        )
        self._codes, self._start, self._owned = codes[rest:].copy(), self._start + rest, owned
        return tiles

    def _starts(self, a: int, b: int, open_end: bool, continued: bool) -> np.ndarray:
        if open_end:  # only windows after which another regular one is sure to fit
            return np.arange(a, b - self._window - self._step + 1, self._step)
        if b - a < (self._window if continued else self._shortest):
            return np.empty(0, dtype=int)
        return np.append(np.arange(a, max(a, b - self._window), self._step), max(a, b - self._window))


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype=int), *parts])
