"""Scanning: sequence in, called sites out, streamed in blocks so that memory does not grow with the genome."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from ..errors import UsageError
from ..io.fasta import Record
from ..models.batching import base_probabilities
from ..models.bertsnr import BertSNR
from ..models.device import Runtime
from ..models.interface import ModelInfo
from ..sequence.encoding import encode, reverse_complement_codes
from .calling import MAX_GAP, Site, SiteCaller, min_site_length
from .chunks import EVERYWHERE, Chunk
from .prefilter import passing_windows
from .tiling import Tiler, Tiles

BLOCK_BASES = 1 << 20  # bases that are scored together
BLOCKS_AHEAD = 2  # that are scored on a GPU while sites are called in the one before
ScoreWindows = Callable[[np.ndarray, np.ndarray], Iterable[np.ndarray]]
SignalSink = Callable[
    [int, str, int, np.ndarray], None
]  # takes the model's number, chromosome, start and base probabilities (2, n)
Sequenced = TypeVar("Sequenced", Chunk, Record)
Job = TypeVar("Job")
Result = TypeVar("Result")


class CalledSite(NamedTuple):
    """A site on a chromosome, called by the model with this name and number; the rest as of `scores.Site`."""

    chrom: str
    start: int
    end: int
    name: str
    score: float
    strand: str
    call_level: float
    summit: int
    model: int


@dataclass
class ScanStats:
    """What a scan has seen, for the report.

    Attributes
    ----------
    regions, bases : read, with context
    acgt_bases : A, C, G and T in the regions, without context
    unscored : regions without a run of ACGT as long as a token
    """

    regions: int = 0
    bases: int = 0
    acgt_bases: int = 0
    unscored: int = 0


class _ModelState:
    """One model on its way through the regions. The tiler is ahead of the caller by at most a block."""

    def __init__(self, model: BertSNR, threshold: float, step: int, prefilter: bool):
        self.model, self.threshold, self.step, self.prefilter = model, threshold, step, prefilter
        self.tiler = self.new_tiler()
        self.begin_region()

    def new_tiler(self) -> Tiler:
        return Tiler(self.model.info.window, self.step, self.model.info.k)

    def tiles(self, block: list[Chunk]) -> list[Tiles]:
        tiles = []
        for part in block:
            tiles.append(self.tiler.feed(encode(part.sequence), part.last))
            if part.last:
                self.tiler = self.new_tiler()
        return tiles

    def begin_region(self) -> None:
        info = self.model.info
        self.caller = SiteCaller(self.threshold, min_site_length(info.site_width, info.k), MAX_GAP)
        self.waiting: list[CalledSite] = []
        self.scored = False
        self.at = 0  # bases of the region that are scored


def window_step(asked: int | None, info: ModelInfo) -> int:
    """Distance of window starts: as asked for, else half a window, so that a base is never nearer to a border than a quarter window.

    Raises
    ------
    UsageError : it is longer than the window, so that bases would be left out.
    """
    if asked and asked > info.window:
        raise UsageError(f"-s {asked} is longer than the window of {info.name}, {info.window} bp")
    return asked or max(1, info.window // 2)


def scan(
    models: Sequence[BertSNR],
    parts: Iterable[Chunk],
    thresholds: Sequence[float],
    steps: Sequence[int],
    runtime: Runtime,
    tally: ScanStats,
    signal: SignalSink | None = None,
    prefilter: bool = False,
) -> Iterator[list[CalledSite]]:
    """Sites of all models, in the order of the regions and, within a region, of start, end, name and strand.

    Both strands are scored. Neither `batch_size` nor the sizes of the parts change the result.

    Parameters
    ----------
    parts : as from `genome_parts` or `fasta_parts`
    thresholds, steps : for each model, the base probability to call at and the distance of window starts
    tally : counts what was read
    signal : is given the base probabilities of every region, piece by piece, NaN where there are none
    prefilter : score only the windows that the models' prefilters let pass; the others have no base probabilities

    Yields
    ------
    the sites that became certain with each block of about `BLOCK` bases; coordinates are 0-based, half-open
    """
    lanes = [_ModelState(*settings, prefilter) for settings in zip(models, thresholds, steps)]
    at = 0  # bases of the region before this part
    jobs = ((block, [lane.tiles(block) for lane in lanes]) for block in _blocks(parts))
    score = lambda job: [_score_tiles(lane, tiles, runtime) for lane, tiles in zip(lanes, job[1])]
    for (block, _), tracks in prefetch(
        score, jobs, BLOCKS_AHEAD if any(model.device.type != "cpu" for model in models) else 0
    ):
        hits: list[CalledSite] = []
        for number, part in enumerate(block):
            for which, (lane, lane_tracks) in enumerate(zip(lanes, tracks)):
                track, scored = lane_tracks[number]
                lane.scored |= scored
                if signal:
                    _emit_signal(signal, which, part, part.start + lane.at, track)
                lane.at += track.shape[1]
                lane.waiting += _on_chromosome(
                    lane.caller.feed(np.nan_to_num(track), part.last), part, lane.model.info.name, which
                )
            hits += _take_settled(lanes, part)
            tally.bases += len(part.sequence)
            first, last = (max(0, place - part.start - at) for place in _core(part))
            own = part.sequence[first:last]
            tally.acgt_bases += len(own) - len(own.translate(None, b"ACGT"))
            at = 0 if part.last else at + len(part.sequence)
            if part.last:
                tally.regions += 1
                tally.unscored += part.core == EVERYWHERE and not any(lane.scored for lane in lanes)
                for lane in lanes:
                    lane.begin_region()
        yield hits


def _blocks(items: Iterable[Sequenced]) -> Iterator[list[Sequenced]]:
    """Parts or records in groups of about `BLOCK` bases."""
    block: list[Sequenced] = []
    size = 0
    for item in items:
        block.append(item)
        size += len(item.sequence)
        if size >= BLOCK_BASES:
            yield block
            block, size = [], 0
    if block:
        yield block


def prefetch(work: Callable[[Job], Result], jobs: Iterable[Job], threads: int) -> Iterator[tuple[Job, Result]]:
    """Each job and its result, in their order, while so many threads work on the next ones; with 0 threads, one after the other.

    So a GPU has work while the processor reads sequence, fills batches and calls sites. No more jobs are taken than there are threads, and
    one: memory is bounded.
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


def _score_tiles(lane: _ModelState, tiles: list[Tiles], runtime: Runtime) -> list[tuple[np.ndarray, bool]]:
    """Base probabilities on both strands that the tiles of a block complete, each (2, any), and whether any window was scored in it."""

    def both_strands(windows: np.ndarray, owns: np.ndarray) -> list[np.ndarray]:
        both = np.concatenate([windows, reverse_complement_codes(windows)])
        scores = np.full(both.shape, np.nan, dtype=np.float32)
        keep = (
            passing_windows(lane.model, both, np.concatenate([owns, windows.shape[1] - owns[:, ::-1]]), runtime)
            if lane.prefilter
            else slice(None)
        )
        scores[keep] = base_probabilities(lane.model, both[keep], runtime)
        return [scores[: len(windows)], scores[len(windows) :, ::-1]]

    return list(zip(_assemble(tiles, both_strands, 2, np.nan), [len(tile.begins) > 0 for tile in tiles]))


def _assemble(tiles: list[Tiles], score: ScoreWindows, rows: int, unscored: float) -> list[np.ndarray]:
    """The tracks that these tiles complete, each shape (rows, any).

    Parameters
    ----------
    score : from windows, uint8 shape (n, length), and those of their bases that are wanted, shape (n, 2), half-open, to `rows`
        arrays of values for each of their bases
    unscored : value of bases that lie in no window
    """
    offsets = np.cumsum([0, *(len(tile.codes) for tile in tiles)])
    codes = np.concatenate([tile.codes for tile in tiles])
    begins = np.concatenate([tile.begins + offset for tile, offset in zip(tiles, offsets)])
    owns = np.concatenate([tile.owns + offset for tile, offset in zip(tiles, offsets)])
    lengths = np.concatenate([tile.lengths for tile in tiles])
    # what earlier windows own at the front of `codes` was given out then
    track = np.full((rows, len(codes)), unscored, dtype=np.float32)
    for length in np.unique(lengths):
        chosen = np.nonzero(lengths == length)[0]
        starts = begins[chosen]
        views = np.lib.stride_tricks.sliding_window_view(codes, length)
        for first in range(0, len(chosen), 8192):  # bounds the memory of a block
            some = slice(first, first + 8192)
            windows = views[starts[some]]
            position = starts[some, None] + np.arange(length)
            own = owns[chosen[some]]
            owned = (position >= own[:, :1]) & (position < own[:, 1:])
            for row, values in enumerate(score(windows, own - starts[some, None])):
                track[row, position[owned]] = values[owned]
    return [
        track[:, offset + tile.start - tile.codes_start : offset + tile.end - tile.codes_start]
        for tile, offset in zip(tiles, offsets)
    ]


def score_records(
    model: BertSNR, records: Iterable[Record], step: int, forward: bool, runtime: Runtime
) -> Iterator[tuple[Record, np.ndarray]]:
    """Base probabilities of every record in its own direction and on the other strand, shape (2, n); 0 in N.

    With `forward`, the other strand is not scored and is 0.
    """

    def score(windows: np.ndarray, owns: np.ndarray) -> Iterator[np.ndarray]:
        yield base_probabilities(model, windows, runtime)
        if not forward:
            yield base_probabilities(model, reverse_complement_codes(windows), runtime)[:, ::-1]

    return assemble_records(model, records, step, score, 2, 0)


def assemble_records(
    model: BertSNR, records: Iterable[Record], step: int, score: ScoreWindows, rows: int, unscored: float
) -> Iterator[tuple[Record, np.ndarray]]:
    for block in _blocks(records):
        tiles = [Tiler(model.info.window, step, model.info.k).feed(encode(record.sequence), True) for record in block]
        for record, track in zip(block, _assemble(tiles, score, rows, unscored)):
            yield record, track if rows > 1 else track[0]


def _core(part: Chunk) -> tuple[int, int]:
    """The bases of the region, without context, that a scan of this part is for."""
    return max(part.region.start, part.core[0]), min(part.region.end, part.core[1])


def _emit_signal(signal: SignalSink, model: int, part: Chunk, start: int, track: np.ndarray) -> None:
    """Pass on the part of a track that lies between the part's borders."""
    first, last = _core(part)
    first, last = max(start, first), min(start + track.shape[1], last)
    if first < last:
        signal(model, part.region.chrom, first, track[:, first - start : last - start])


def _on_chromosome(sites: list[Site], part: Chunk, name: str, model: int) -> Iterator[CalledSite]:
    """Sites of a part on its chromosome, without those whose middle lies in the context of the region or that another shard has."""
    for site in sites:
        start, end = part.start + site.start, part.start + site.end
        if part.region.start <= (start + end) // 2 < part.region.end and part.core[0] <= start < part.core[1]:
            yield CalledSite(
                part.region.chrom, start, end, name, site.score, site.strand, site.call_level, site.summit, model
            )


def _take_settled(lanes: list[_ModelState], part: Chunk) -> list[CalledSite]:
    """Take out the sites before the position that every model has passed."""
    if part.last:
        ready = [hit for lane in lanes for hit in lane.waiting]
    else:
        settled = part.start + min(lane.caller.settled for lane in lanes)
        ready = [hit for lane in lanes for hit in lane.waiting if hit.start < settled]
        for lane in lanes:
            lane.waiting = [hit for hit in lane.waiting if hit.start >= settled]
    return sorted(ready, key=lambda hit: (hit.start, hit.end, hit.name, hit.strand))
