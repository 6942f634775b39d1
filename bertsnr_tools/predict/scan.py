"""Scan sequence with models: `Scanner` for sites, `scan_sites` and `base_scores` for use from Python.

Sequence is processed in blocks of about `BLOCK_BASES`, so that memory does not grow with the genome. Results depend
neither on the batch size nor on the sizes of chunks and blocks. Coordinates are 0-based, half-open.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from ..errors import DataError, UsageError
from ..io.fasta import Genome, Record, as_records
from ..io.intervals import Interval
from ..log import logger
from ..models.batching import base_probabilities
from ..models.device import Runtime, choose_precision
from ..models.interface import Model, ModelInfo
from ..sequence.encoding import encode, reverse_complement_codes
from .calling import MAX_GAP, CalledSite, SiteCaller, min_site_length
from .chunks import EVERYWHERE, Chunk, ScanInput
from .prefetch import prefetch
from .prefilter import check_prefilter, passing_windows
from .significance import RankedSite, known_null, rank_sites
from .thresholds import CallingRule, parse_threshold
from .tiling import ScoreWindows, Tiler, Tiles, join_windows

BLOCK_BASES = 1 << 20  # bases that are scored together
BLOCKS_AHEAD = 2  # blocks that a GPU scores while the CPU calls sites in the block before
SignalSink = Callable[[int, str, int, np.ndarray], None]  # takes model index, chrom, start and strand_scores (2, n)
WithSequence = TypeVar("WithSequence", Chunk, Record)


def window_step(step: int | None, info: ModelInfo) -> int:
    """Distance between window starts: `step`, or half a window: scores come from the middle half of a window.

    Raises
    ------
    UsageError : `step` is longer than the window and would leave out bases.
    """
    if step and step > info.window:
        raise UsageError(f"-s {step} is longer than the window of {info.name} ({info.window} bp)")
    return step or max(1, info.window // 2)


@dataclass
class ScanStats:
    """Counts of a scan, final once all its sites have been yielded.

    Attributes
    ----------
    regions, bases : read, context included
    acgt_bases : A, C, G and T in the regions, without context
    unscored : regions without a run of A, C, G and T as long as a token
    """

    regions: int = 0
    bases: int = 0
    acgt_bases: int = 0
    unscored: int = 0

    def count(self, chunk: Chunk, offset: int) -> None:
        """Add the bases of a chunk, `offset` bases after the first base of its region."""
        self.bases += len(chunk.sequence)
        first, last = (max(0, position - chunk.start - offset) for position in chunk.scanned())
        scanned = chunk.sequence[first:last]
        self.acgt_bases += len(scanned) - len(scanned.translate(None, b"ACGT"))

    def check_unscored(self, path: str, strict: bool) -> None:
        """Warn of unscored regions.

        Raises
        ------
        DataError : there are any, and `strict` is set.
        """
        problem = f"{self.unscored:,} of {self.regions:,} regions skipped: no run of ACGT as long as a token"
        if self.unscored and strict:
            raise DataError(problem, path)
        if self.unscored:
            logger.warning(problem)


class _ScoredChunk(NamedTuple):
    """Base scores that a chunk completes, (2, any), NaN where there are none; and whether any window was scored."""

    strand_scores: np.ndarray
    any_window: bool


class _ModelScan:
    """State of one model during a scan. Windows are cut and scored ahead of the chunk whose sites are called."""

    def __init__(self, index: int, model: Model, rule: CallingRule, step: int, prefilter: bool):
        self.index, self.model, self.rule, self.step, self.prefilter = index, model, rule, step, prefilter
        self.tiler = self._new_tiler()
        self.begin_region()

    def _new_tiler(self) -> Tiler:
        return Tiler(self.model.info.window, self.step, self.model.info.k)

    def begin_region(self) -> None:
        info = self.model.info
        self.caller = SiteCaller(self.rule.base_threshold, min_site_length(info.site_width, info.k), MAX_GAP)
        self.pending: list[CalledSite] = []  # not yet in order with the sites of other models
        self.any_window = False
        self.scored = 0  # bases of the region that have scores

    def cut(self, block: list[Chunk]) -> list[Tiles]:
        """The windows that each chunk of a block completes."""
        tiles = []
        for chunk in block:
            tiles.append(self.tiler.feed(encode(chunk.sequence), chunk.last))
            if chunk.last:
                self.tiler = self._new_tiler()
        return tiles

    def score(self, tiles: list[Tiles], runtime: Runtime) -> list[_ScoredChunk]:
        """Base scores of both strands for the windows of a block."""

        def score_windows(windows: np.ndarray, cores: np.ndarray) -> list[np.ndarray]:
            both = np.concatenate([windows, reverse_complement_codes(windows)])
            scores = np.full(both.shape, np.nan, dtype=np.float32)
            selected: np.ndarray | slice = slice(None)
            if self.prefilter:
                mirrored = windows.shape[1] - cores[:, ::-1]
                selected = passing_windows(self.model, both, np.concatenate([cores, mirrored]), runtime)
            scores[selected] = base_probabilities(self.model, both[selected], runtime)
            return [scores[: len(windows)], scores[len(windows) :, ::-1]]

        joined = join_windows(tiles, score_windows, 2, np.nan)
        return [_ScoredChunk(scores, len(tile.starts) > 0) for scores, tile in zip(joined, tiles)]

    def call(self, chunk: Chunk, scored: _ScoredChunk, signal: SignalSink | None) -> None:
        """Call the sites that a chunk completes, and pass on its base scores."""
        strand_scores = scored.strand_scores
        if signal:
            self._emit_signal(signal, chunk, strand_scores)
        self.any_window |= scored.any_window
        self.scored += strand_scores.shape[1]
        for site in self.caller.feed(np.nan_to_num(strand_scores), chunk.last):
            start, end = chunk.start + site.start, chunk.start + site.end
            in_region = chunk.region.start <= (start + end) // 2 < chunk.region.end
            in_core = chunk.core[0] <= start < chunk.core[1]
            if in_region and in_core and site.call_level > self.rule.min_call_level:
                bed = (chunk.region.chrom, start, end, self.model.info.name, site.score, site.strand)
                self.pending.append(CalledSite(*bed, site.call_level, site.summit, self.index))

    def _emit_signal(self, signal: SignalSink, chunk: Chunk, strand_scores: np.ndarray) -> None:
        """Pass on the base scores of the region, without its context."""
        start = chunk.start + self.scored
        first, last = chunk.scanned()
        first, last = max(start, first), min(start + strand_scores.shape[1], last)
        if first < last:
            signal(self.index, chunk.region.chrom, first, strand_scores[:, first - start : last - start])


class Scanner:
    """Scan sequence for the sites of several models, on both strands.

    Parameters
    ----------
    models, rules : models and what to call with each
    step : distance between window starts, see `window_step`
    prefilter : score only windows that pass the models' prefilters; other windows have no base scores
    signal : called with the base scores of every region, piece by piece, NaN where there are none

    Attributes
    ----------
    stats : counts of everything scanned so far
    context : bases to read on either side of a region
    stride : common multiple of the models' steps

    Raises
    ------
    UsageError : see `window_step` and `prefilter.check_prefilter`.
    """

    def __init__(
        self,
        models: Sequence[Model],
        rules: Sequence[CallingRule],
        runtime: Runtime,
        *,
        step: int | None = None,
        prefilter: bool = False,
        signal: SignalSink | None = None,
    ):
        self.models, self.rules, self.stats = models, rules, ScanStats()
        self._runtime, self._prefilter, self._signal = runtime, prefilter, signal
        self._steps = [window_step(step, model.info) for model in models]
        if prefilter:
            for model, rule in zip(models, rules):
                check_prefilter(model, rule)
        self.context = max(model.info.window for model in models)
        self.stride = math.lcm(*self._steps)

    def scan(self, chunks: Iterable[Chunk]) -> Iterator[list[CalledSite]]:
        """Sites of all models, in the order of the regions and, within a region, of start, end, name and strand.

        Yields
        ------
        for each block, the sites that no later sequence can change
        """
        settings = zip(self.models, self.rules, self._steps)
        states = [_ModelScan(index, *setting, self._prefilter) for index, setting in enumerate(settings)]

        def score(job: tuple[list[Chunk], list[list[Tiles]]]) -> list[list[_ScoredChunk]]:
            return [state.score(tiles, self._runtime) for state, tiles in zip(states, job[1])]

        jobs = ((block, [state.cut(block) for state in states]) for block in _blocks(chunks))
        on_gpu = any(model.device.type != "cpu" for model in self.models)
        offset = 0  # bases of the region before the chunk
        for (block, _), scores in prefetch(score, jobs, BLOCKS_AHEAD if on_gpu else 0):
            sites: list[CalledSite] = []
            for chunk, *scores_of_models in zip(block, *scores):
                for state, scored in zip(states, scores_of_models):
                    state.call(chunk, scored, self._signal)
                sites += _take_settled(states, chunk)
                self.stats.count(chunk, offset)
                offset += len(chunk.sequence)
                if chunk.last:
                    self._end_region(states, chunk)
                    offset = 0
            yield sites

    def _end_region(self, states: list[_ModelScan], chunk: Chunk) -> None:
        self.stats.regions += 1
        self.stats.unscored += chunk.core == EVERYWHERE and not any(state.any_window for state in states)
        for state in states:
            state.begin_region()

    def scan_ranked(self, chunks: Iterable[Chunk], *, with_q: bool) -> Iterator[list[RankedSite]]:
        """`scan` with p-values.

        Parameters
        ----------
        with_q : keep the sites until everything is scanned, then yield those with a q-value of at most the rules'
            `max_q`; the lists of all blocks are empty
        """
        nulls = [known_null(model) for model in self.models]
        kept: list[CalledSite] = []
        for sites in self.scan(chunks):
            if with_q:
                kept += sites
            yield [] if with_q else rank_sites(sites, nulls)
        if with_q:
            max_q = min(rule.max_q for rule in self.rules)
            yield rank_sites(kept, nulls, bases=self.stats.acgt_bases, max_q=max_q)


def _blocks(items: Iterable[WithSequence]) -> Iterator[list[WithSequence]]:
    """Chunks or records in groups of about `BLOCK_BASES`."""
    block: list[WithSequence] = []
    size = 0
    for item in items:
        block.append(item)
        size += len(item.sequence)
        if size >= BLOCK_BASES:
            yield block
            block, size = [], 0
    if block:
        yield block


def _take_settled(states: list[_ModelScan], chunk: Chunk) -> list[CalledSite]:
    """Take out the sites before the position that every model has passed, in order."""
    settled = math.inf if chunk.last else chunk.start + min(state.caller.settled for state in states)
    ready = [site for state in states for site in state.pending if site.start < settled]
    for state in states:
        state.pending = [site for site in state.pending if site.start >= settled]
    return sorted(ready, key=lambda site: (site.start, site.end, site.name, site.strand))


def assemble_records(
    model: Model, records: Iterable[Record], step: int, score: ScoreWindows, rows: int, unscored: float
) -> Iterator[tuple[Record, np.ndarray]]:
    """Each record with the scores of its windows, joined as in a scan.

    Parameters
    ----------
    step : distance between window starts
    score, rows, unscored : see `tiling.join_windows`

    Yields
    ------
    record, and its values in the record's direction, float32, shape (rows, n), or (n,) where `rows` is 1
    """
    for block in _blocks(records):
        tiles = [Tiler(model.info.window, step, model.info.k).feed(encode(record.sequence), True) for record in block]
        for record, values in zip(block, join_windows(tiles, score, rows, unscored)):
            yield record, values if rows > 1 else values[0]


def score_records(
    model: Model, records: Iterable[Record], step: int, forward: bool, runtime: Runtime, unscored: float = 0
) -> Iterator[tuple[Record, np.ndarray]]:
    """Each record with its base scores, shape (2, n): on the given strand and on the other strand.

    Parameters
    ----------
    forward : do not score the other strand, whose scores are then `unscored`
    unscored : score of N, and of runs of A, C, G and T shorter than a token
    """

    def score(windows: np.ndarray, cores: np.ndarray) -> Iterator[np.ndarray]:
        yield base_probabilities(model, windows, runtime)
        if not forward:
            yield base_probabilities(model, reverse_complement_codes(windows), runtime)[:, ::-1]

    return assemble_records(model, records, step, score, 2, unscored)


def base_scores(model: Model, sequences: Iterable[str | bytes], *, runtime: Runtime | None = None) -> list[np.ndarray]:
    """Base probabilities of sequences of any length, cut into overlapping windows as in a scan.

    Parameters
    ----------
    sequences : IUPAC letters in either case
    runtime : precision and batch size; by default as `bertsnr predict` chooses them for the model's device

    Returns
    -------
    for each sequence, float32, shape (2, length): forward and reverse strand, both in forward order, as `bertsnr
    predict --bedgraph` writes them before rounding; NaN at N and in runs of A, C, G and T shorter than a token
    """
    step, runtime = window_step(None, model.info), runtime or _default_runtime(model)
    scored = score_records(model, as_records(sequences), step, False, runtime, np.nan)
    return [strand_scores for _, strand_scores in scored]


def scan_sites(
    models: Model | Sequence[Model],
    source: str | os.PathLike[str] | Genome,
    *,
    regions: str | os.PathLike[str] | Sequence[str | Interval] | None = None,
    threshold: str | float | None = None,
    step: int | None = None,
    prefilter: bool = False,
    runtime: Runtime | None = None,
) -> Iterator[RankedSite]:
    """Sites of one or several models in a FASTA file or a genome, in order, as `bertsnr predict` calls them.

    Parameters
    ----------
    source : FASTA file ("-" is standard input), or an indexed genome
    regions : of a genome: a BED file, or a list of `chrom:from-to` (1-based inclusive) and intervals; default: all
        chromosomes
    threshold : base probability, "p=1e-4", "q=0.05" or "score=12" (bits, for PWMs); default: each model's own
    step : distance between window starts (bp); default: half a window
    prefilter : score only windows that pass the models' prefilters
    runtime : precision and batch size; by default as `bertsnr predict` chooses them for the models' device

    Returns
    -------
    iterator of sites with chrom, start, end, name, score, strand, p and q; q is known only with a threshold "q=…", for
    which everything is scanned before the first site is yielded

    Raises
    ------
    UsageError, DataError : a threshold, region or input that cannot be used; see `CallingRule.for_model` and
        `ScanInput`.
    """
    models = list(models) if isinstance(models, Sequence) else [models]
    asked = parse_threshold(threshold)
    rules = [CallingRule.for_model(model, asked) for model in models]
    scanner = Scanner(models, rules, runtime or _default_runtime(models[0]), step=step, prefilter=prefilter)
    path = source if isinstance(source, Genome) else os.fspath(source)
    if isinstance(regions, (str, os.PathLike)):
        scan_input = ScanInput(path, bed=os.fspath(regions))
    else:
        scan_input = ScanInput(path, regions=regions or ())
    chunks = scan_input.chunks(scanner.context, scanner.stride)
    with_q = any(rule.max_q < 1 for rule in rules)
    return itertools.chain.from_iterable(scanner.scan_ranked(chunks, with_q=with_q))


def _default_runtime(model: Model) -> Runtime:
    return Runtime((model.device,), choose_precision("auto", model.device))
