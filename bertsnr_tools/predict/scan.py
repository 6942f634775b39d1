"""Scan sequence with models: `Scanner` for sites, `scan_sites` and `base_scores` for use from Python.

Sequence is processed in blocks of about `BLOCK_BASES`, so that memory does not grow with the genome. Results depend
neither on the batch size nor on the sizes of chunks and blocks. Coordinates are 0-based, half-open.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from numbers import Integral
from operator import attrgetter
from typing import Any

import numpy as np

from ..errors import DataError, UsageError
from ..io.fasta import Genome, Record, as_records
from ..log import logger
from ..models.batching import base_probabilities
from ..models.device import Runtime, choose_precision
from ..models.interface import Model, ModelInfo
from ..models.many_factor import ManyFactorModel, shared_model
from ..sequence.blocks import in_blocks
from ..sequence.encoding import encode, reverse_complement_codes
from .accessible import AccessibleSites
from .best_sites import BestSites
from .calling import CalledSite
from .chunks import EVERYWHERE, Chunk, Regions, ScanInput
from .factor_scan import FactorScan, FactorSignalScan, block_bases
from .model_scan import ModelScan, ScannedModel, ScanPart, SignalSink
from .prefetch import prefetch, read_ahead
from .prefilter import check_prefilter
from .significance import RankedSite, known_null, rank_sites
from .thresholds import CallingRule, parse_threshold
from .tiling import ScoreWindows, Tiler, Tiles, join_windows

BLOCK_BASES = 1 << 20  # bases that are scored together
MIN_CONTEXT, MATCHES_IN_A_ROW = 200, 10  # of a PWM, see `context_bases`
BLOCKS_AHEAD = 4  # blocks that a GPU scores while the CPU calls sites in the block before
OUTPUT_ORDER = attrgetter("start", "end", "name", "strand", "model")  # of sites in a region


def window_step(step: int | None, info: ModelInfo) -> int:
    """Distance between window starts: `step`, or half a window: scores come from the middle half of a window.

    Raises
    ------
    UsageError : `step` is less than 1, or longer than the window and would leave out bases.
    """
    if step is not None and not (isinstance(step, Integral) and step >= 1):
        raise UsageError(f"the step is {step}; expected at least 1 bp")
    if step and step > info.window:
        raise UsageError(f"-s {step} is longer than the window of {info.name} ({info.window} bp)")
    return step or max(1, info.window // 2)


def context_bases(info: ModelInfo) -> int:
    """Bases to read on either side of a region, whose calls depend on them.

    The scores of a network depend on its whole window. The score of a base of a PWM depends on the matches that cover
    it, and only a site of many matches in a row reaches further.
    """
    return max(MIN_CONTEXT, MATCHES_IN_A_ROW * info.site_width) if info.is_pwm else info.window


@dataclass
class ScanStats:
    """Counts of a scan, final once all its sites have been yielded.

    Attributes
    ----------
    regions, bases : read, context included
    acgt_bases : A, C, G and T in the regions, without context
    unscored : regions without a run of A, C, G and T as long as a token or PWM
    with_sites : regions with a site; with q, known only with `best` or if there is none
    """

    regions: int = 0
    bases: int = 0
    acgt_bases: int = 0
    unscored: int = 0
    with_sites: int = 0

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
        problem = f"{self.unscored:,} of {self.regions:,} regions skipped: no run of ACGT as long as a token or PWM"
        if self.unscored and strict:
            raise DataError(problem, path)
        if self.unscored:
            logger.warning(problem)

    def report_empty(self) -> None:
        """Report regions without a site."""
        if self.with_sites < self.regions:
            without = f"{self.regions - self.with_sites:,} of {self.regions:,}"
            logger.info("%s regions have no called site; a looser threshold (-t) calls more", without)


class Scanner:
    """Scan sequence for the sites of several models, on both strands.

    The factors of a many-factor model are scored together.

    Parameters
    ----------
    models, rules : models and what to call with each
    step : distance between window starts, see `window_step`
    prefilter : score only windows that pass the models' prefilters; other windows have no base scores
    signal : called with the base scores of every region, piece by piece, NaN where there are none
    best : call only the best sites of each region and model, at most this number, see `BestSites`

    Attributes
    ----------
    stats : counts of everything scanned so far
    context : bases to read on either side of a region

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
        best: int | None = None,
    ):
        self.models, self.rules, self.stats = models, rules, ScanStats()
        self._runtime, self._prefilter, self._signal = runtime, prefilter, signal
        self._best = None if best is None else BestSites(best)
        self._steps = [window_step(step, model.info) for model in models]
        if prefilter:
            for model, rule in zip(models, rules):
                check_prefilter(model, rule)
        self.context = max(context_bases(model.info) for model in models)
        self._on_gpu = any(model.device.type != "cpu" for model in models)
        many_factors = any(shared_model(model) for model in models)  # calling takes long, in one thread
        self._blocks_ahead = BLOCKS_AHEAD if self._on_gpu else int(many_factors)

    def scan(
        self, chunks: Iterable[Chunk], *, accessible: AccessibleSites | None = None, ahead: bool = False
    ) -> Iterator[list[CalledSite]]:
        """Sites of all models, in the order of the regions and, within a region, of start, end, name and strand.

        Parameters
        ----------
        accessible : scores the sites, and leaves out those outside of its regions
        ahead : read chunks in a thread of its own where blocks are scored ahead, see `ScanInput.can_read_ahead`

        Yields
        ------
        for each block, the sites that no later sequence can change
        """
        parts = self._new_parts()

        def score(job: tuple[list[Chunk], list[list[Tiles]]]) -> list[Any]:
            return [part.score(tiles) for part, tiles in zip(parts, job[1])]

        blocks = ((block, [part.cut(block) for part in parts]) for block in self._blocks(chunks))
        jobs = read_ahead(blocks) if ahead and self._blocks_ahead else blocks
        pending: list[CalledSite] = []  # not yet in order with the sites of other models
        offset, any_window, any_site = 0, False, False  # bases of the region before the chunk; of the region so far
        with closing(jobs), closing(prefetch(score, jobs, self._blocks_ahead)) as scored_blocks:
            for (block, _), scores in scored_blocks:
                called = [part.call(block, scored, self._signal) for part, scored in zip(parts, scores)]
                if accessible:
                    called = [accessible.rescored(of_part) for of_part in called]
                sites: list[CalledSite] = []
                for chunk, *of_parts in zip(block, *called):
                    pending += itertools.chain.from_iterable(result.sites for result in of_parts)
                    settled = math.inf if chunk.last else chunk.start + min(result.settled for result in of_parts)
                    ready = [site for site in pending if site.start < settled]
                    pending = [site for site in pending if site.start >= settled]
                    if self._best:
                        best = self._best.add(ready, chunk.region, chunk.last)
                        ready = [site._replace(region=self.stats.regions) for site in best]
                    sites += sorted(ready, key=OUTPUT_ORDER)
                    any_site |= bool(ready)
                    any_window |= any(result.any_window for result in of_parts)
                    self.stats.count(chunk, offset)
                    offset += len(chunk.sequence)
                    if chunk.last:
                        self.stats.regions += 1
                        self.stats.unscored += chunk.core == EVERYWHERE and not any_window
                        self.stats.with_sites += any_site
                        offset, any_window, any_site = 0, False, False
                yield sites

    def _new_parts(self) -> list[ScanPart]:
        """The models in groups that read windows together: the factors of a many-factor model are one group."""
        parts: list[ScanPart] = []
        groups: dict[ManyFactorModel, list[ScannedModel]] = {}
        for index, (model, rule, step) in enumerate(zip(self.models, self.rules, self._steps)):
            scanned, shared = ScannedModel(index, model, rule), shared_model(model)
            if shared is None:
                parts.append(ModelScan(scanned, step, self._runtime, prefilter=self._prefilter))
            else:
                groups.setdefault(shared, []).append(scanned)
        for group in groups.values():
            step = self._steps[group[0].index]
            parts.append((FactorSignalScan if self._signal else FactorScan)(group, step, self._runtime))
        return parts

    def _blocks(self, chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
        """Chunks in blocks; smaller chunks in smaller blocks for many-factor models, see `factor_scan.block_bases`."""
        fast = self._on_gpu and not self._signal
        sizes = [
            block_bases(model.info, step, fast) for model, step in zip(self.models, self._steps) if shared_model(model)
        ]
        if not sizes:
            return in_blocks(chunks, BLOCK_BASES)
        size = min(BLOCK_BASES, *sizes)
        return in_blocks(itertools.chain.from_iterable(chunk.pieces(size) for chunk in chunks), size)

    def scan_ranked(
        self,
        chunks: Iterable[Chunk],
        *,
        with_q: bool,
        accessible: AccessibleSites | None = None,
        ahead: bool = False,
    ) -> Iterator[list[RankedSite]]:
        """`scan` with p-values.

        Parameters
        ----------
        with_q : keep the sites until everything is scanned, then yield those with a q-value of at most the rules'
            `max_q`; the lists of all blocks are empty
        accessible, ahead : see `scan`
        """
        nulls = accessible.nulls if accessible else [known_null(model) for model in self.models]
        kept: list[CalledSite] = []
        others: Sequence[CalledSite] = ()
        if self._best:
            self._best.keep_others, others = with_q, self._best.others
        for sites in self.scan(chunks, accessible=accessible, ahead=ahead):
            if with_q:
                kept += sites
            yield [] if with_q else rank_sites(sites, nulls)
        if with_q:
            max_q, scanned = min(rule.max_q for rule in self.rules), self.stats
            ranked = rank_sites(
                kept, nulls, bases=scanned.acgt_bases, regions=scanned.regions, max_q=max_q, others=others
            )
            if self._best or not ranked:
                self.stats.with_sites = len({site.site.region for site in ranked})
            yield ranked


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
    for block in in_blocks(records, BLOCK_BASES):
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
    for each sequence, float32, shape (2, length): forward and reverse strand, both in forward order, to about 1e-6 as
    `bertsnr predict --bedgraph` rounds them; NaN at N and in runs of A, C, G and T shorter than a token
    """
    step, runtime = window_step(None, model.info), runtime or _default_runtime(model)
    scored = score_records(model, as_records(sequences), step, False, runtime, np.nan)
    return [strand_scores for _, strand_scores in scored]


def scan_sites(
    models: Model | Sequence[Model],
    source: str | os.PathLike[str] | Genome,
    *,
    regions: str | os.PathLike[str] | Regions | None = None,
    threshold: str | float | None = None,
    step: int | None = None,
    prefilter: bool = False,
    best: int | None = None,
    runtime: Runtime | None = None,
) -> Iterator[RankedSite]:
    """Sites of one or several models in a FASTA file or a genome, in order, as `bertsnr predict` calls them.

    Parameters
    ----------
    source : FASTA file ("-" is standard input), or an indexed genome
    regions : of a genome: a BED file, an interval, or a list of intervals and `chrom:from-to` (1-based inclusive);
        default: all chromosomes
    threshold : base probability, "p=1e-4", "q=0.05" or "score=12" (bits, for PWMs); default: each model's own
    step : distance between window starts (bp); default: half a window
    prefilter : score only windows that pass the models' prefilters
    best : yield only the best sites of each region and model, at most this number, see `BestSites`
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
    chosen_runtime = runtime or _default_runtime(models[0])
    scanner = Scanner(models, rules, chosen_runtime, step=step, prefilter=prefilter, best=best)
    path = source if isinstance(source, Genome) else os.fspath(source)
    if isinstance(regions, (str, os.PathLike)):
        scan_input = ScanInput(path, bed=os.fspath(regions), each_region=best is not None)
    else:
        scan_input = ScanInput(path, regions=regions, each_region=best is not None)
    chunks = scan_input.chunks(scanner.context)
    with_q = any(rule.max_q < 1 for rule in rules)
    blocks = scanner.scan_ranked(chunks, with_q=with_q, ahead=scan_input.can_read_ahead)
    return (site for block in blocks for site in block)  # unlike a chain, it can be closed


def _default_runtime(model: Model) -> Runtime:
    return Runtime((model.device,), choose_precision("auto", model.device))
