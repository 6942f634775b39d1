"""Cut sequence into overlapping windows, never across an N (`Tiler`), and join the windows' scores (`join_windows`).

Coordinates are 0-based, half-open, and count from the first base of the sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from ..sequence.encoding import OTHER

MAX_WINDOWS = 8192  # windows that are scored together; bounds the memory of a block
ScoreWindows = Callable[
    [np.ndarray, np.ndarray], Iterable[np.ndarray]
]  # codes and core intervals to rows of base scores


class Tiles(NamedTuple):
    """The windows of one piece of sequence, and the bases whose scores they complete.

    Attributes
    ----------
    start, end : bases whose scores are complete with these windows
    codes : bases that the windows lie on, uint8, shape (m,), see `encoding.encode`
    codes_start : position of `codes[0]`
    starts, lengths : of the windows, shape (n,); `starts` count from `codes_start`
    cores : core intervals of the windows, shape (n, 2), from `codes_start`: a base is scored by the window whose core
        contains it
    """

    start: int
    end: int
    codes: np.ndarray
    codes_start: int
    starts: np.ndarray
    lengths: np.ndarray
    cores: np.ndarray


class Tiler:
    """Cut a sequence into windows, each within one run of A, C, G and T.

    In every run, the first window starts with the run, others at multiples of `step`, and the last window ends with the
    run, so that every base is covered. A run shorter than `window` is a single window of its own length; a run shorter
    than `min_length` has no window. A base is scored by the window in which it lies furthest from the
    border: the core interval of a window ends in the middle of its overlap with the next window. The windows do not
    depend on the pieces in which the sequence arrives, nor, in the middle of a run, on where on the chromosome it
    begins.

    ::

        position   0    5    10   15   20   25
        sequence   NNACGTACGTACGTACGTACNNACGTN
        windows      [--------)          [--)    of 10 bp, each 5 bp
                        [--------)
                             [--------)          the last window of the run ends with it
        cores        [----)              [--)
                           [--)
                               [------)

    Parameters
    ----------
    window, step : bp; step at most window
    min_length : shorter runs are not scored (bp)
    origin : position on the chromosome of the sequence's first base
    """

    def __init__(self, window: int, step: int, min_length: int, origin: int = 0):
        self._window, self._step, self._min_length = window, step, min_length
        self._codes = np.empty(0, dtype=np.uint8)  # bases that the next windows may need
        self._start = 0  # position of _codes[0]; within a run, start of its next window
        self._origin = origin
        self._complete = 0  # bases before this position are scored by earlier windows

    def feed(self, codes: np.ndarray, last: bool) -> Tiles:
        """Cut the windows that the next piece completes.

        Parameters
        ----------
        codes : the next bases, uint8, shape (any,)
        last : the sequence ends with this piece
        """
        codes = np.concatenate([self._codes, codes])
        next_start, complete = len(codes), len(codes)  # from codes[0], as everything below
        starts, lengths, cores = [], [], []
        for run_start, run_end in _acgt_runs(codes):
            is_open = run_end == len(codes) and not last  # it may go on in the next piece
            continued = run_start == 0 and self._complete > self._start
            core_start = self._complete - self._start if continued else run_start
            begins = self._window_starts(run_start, run_end, is_open, continued)
            if is_open:
                next_start, complete = self._on_grid(int(begins[-1]) + 1) if len(begins) else run_start, core_start
            if not len(begins):
                continue
            following = np.append(begins[1:], next_start) if is_open else begins[1:]
            ends = (begins[: len(following)] + self._window + following) // 2  # middles of the overlaps
            if is_open:
                complete = int(ends[-1])
            else:
                ends = np.append(ends, run_end)
            starts.append(begins)
            lengths.append(np.full(len(begins), self._window if continued else min(self._window, run_end - run_start)))
            cores.append(np.stack([np.append(core_start, ends[:-1]), ends], axis=1))
        tiles = Tiles(
            self._complete,
            self._start + complete,
            codes,
            self._start,
            np.concatenate([np.empty(0, dtype=int), *starts]),
            np.concatenate([np.empty(0, dtype=int), *lengths]),
            np.concatenate([np.empty((0, 2), dtype=int), *cores]),
        )
        self._codes = codes[next_start:].copy()
        self._start, self._complete = self._start + next_start, tiles.end
        return tiles

    def _window_starts(self, run_start: int, run_end: int, is_open: bool, continued: bool) -> np.ndarray:
        """Starts of a run's windows; in an open run, only of windows that another at full step is sure to follow."""
        if not is_open and run_end - run_start < (self._window if continued else self._min_length):
            return np.empty(0, dtype=int)
        final = max(run_start, run_end - self._window)
        end = run_end - self._window - self._step + 1 if is_open else final
        begins = np.append(run_start, np.arange(self._on_grid(run_start + 1), end, self._step))
        begins = begins[begins < end]
        return begins if is_open else np.append(begins, final)

    def _on_grid(self, position: int) -> int:
        """The first multiple of the step, on the chromosome, from a position in the present codes on."""
        return position + -(self._origin + self._start + position) % self._step


def _acgt_runs(codes: np.ndarray) -> list[list[int]]:
    """[start, end) of the runs of A, C, G and T: sequence is cut at N and at every other letter."""
    return np.nonzero(np.diff(codes < OTHER, prepend=False, append=False))[0].reshape(-1, 2).tolist()


class WindowBatch(NamedTuple):
    """Windows of one length, of one or several sequences.

    Attributes
    ----------
    codes : uint8, shape (n, length)
    cores : core intervals, shape (n, 2), counted from each window's first base
    starts : of the windows, shape (n,), in the concatenated codes of all tiles
    tiles : number of the tiles that a window belongs to, shape (n,)
    """

    codes: np.ndarray
    cores: np.ndarray
    starts: np.ndarray
    tiles: np.ndarray


def window_batches(tiles: list[Tiles]) -> Iterator[WindowBatch]:
    """The windows of a block: windows of one length together, whatever sequence they come from."""
    sizes = [len(tile.codes) for tile in tiles]
    offsets = np.cumsum([0, *sizes[:-1]])
    codes = np.concatenate([tile.codes for tile in tiles])
    starts = np.concatenate([tile.starts + offset for tile, offset in zip(tiles, offsets)])
    cores = np.concatenate([tile.cores + offset for tile, offset in zip(tiles, offsets)])
    lengths = np.concatenate([tile.lengths for tile in tiles])
    numbers = np.repeat(np.arange(len(tiles)), [len(tile.starts) for tile in tiles])
    for length in sorted(set(lengths.tolist())):  # np.unique would import numpy.ma, at a tenth of a second
        selected = np.nonzero(lengths == length)[0]
        windows = np.lib.stride_tricks.sliding_window_view(codes, length)
        for first in range(0, len(selected), MAX_WINDOWS):
            batch = selected[first : first + MAX_WINDOWS]
            begins = starts[batch]
            yield WindowBatch(windows[begins], cores[batch] - begins[:, None], begins, numbers[batch])


def join_windows(tiles: list[Tiles], score: ScoreWindows, rows: int, unscored: float) -> list[np.ndarray]:
    """Score the windows of a block and join their core intervals to the base scores that each of the tiles completes.

    Parameters
    ----------
    score : from windows, uint8 codes of shape (n, length), and their core intervals, shape (n, 2), counted from each
        window's first base, to `rows` arrays of values, each shape (n, length)
    unscored : value of bases that lie in no window

    Returns
    -------
    for each of `tiles`, float32, shape (rows, tiles.end - tiles.start)
    """
    joined = np.full((rows, sum(len(tile.codes) for tile in tiles)), unscored, dtype=np.float32)
    for batch in window_batches(tiles):
        count, length = batch.codes.shape
        begins, sizes = batch.cores[:, 0], batch.cores[:, 1] - batch.cores[:, 0]
        offsets = np.cumsum(sizes) - sizes  # of the core intervals, concatenated
        bases = np.arange(sizes.sum())
        chosen = bases + np.repeat(np.arange(count) * length + begins - offsets, sizes)
        first, last = batch.starts[0] + begins[0], batch.starts[-1] + batch.cores[-1, 1]
        scored: slice | np.ndarray = slice(first, last)
        if last - first != len(bases):
            scored = bases + np.repeat(batch.starts + begins - offsets, sizes)
        for row, values in enumerate(score(batch.codes, batch.cores)):
            joined[row, scored] = values.ravel()[chosen]
    ends = np.cumsum([len(tile.codes) for tile in tiles]).tolist()
    bounds = [
        (end - len(tile.codes) + tile.start - tile.codes_start, end - len(tile.codes) + tile.end - tile.codes_start)
        for tile, end in zip(tiles, ends)
    ]
    return [joined[:, start:end] for start, end in bounds]
