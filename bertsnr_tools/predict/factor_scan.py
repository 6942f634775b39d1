"""Scan with the factors of one many-factor model: the encoder reads each window once for all of them.

Base scores of all factors would fill the memory: 188 factors on both strands have 376 of them per base. `FactorScan`
keeps only those from which a site may be called, as soon as a batch is scored; `FactorSignalScan`, for base scores as
output, keeps all of a small block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from ..models.batching import FactorScorer, Result, sigmoid
from ..models.device import Runtime
from ..models.interface import ModelInfo
from ..models.many_factor import ManyFactorModel
from ..sequence.encoding import bases_from_tokens, reverse_complement_codes
from .calling import MAX_GAP, STRANDS, CalledSite
from .chunks import Chunk
from .model_scan import Called, ModelScan, ScannedModel, ScanPart, ScoredChunk, SignalSink
from .sparse_calling import BaseScores, FoundSites, SparseCaller, base_keys
from .tiling import Tiles, WindowBatch, join_windows, window_batches

BLOCK_BASES = 50_000  # bases in all windows of a block, which overlap: bounds the scores that are in memory
CUDA_BLOCK_BASES = 4 * BLOCK_BASES  # a GPU scores larger blocks faster
Reduce = Callable[[slice, int, torch.Tensor], Result]  # see `_Factors.score`
REACH = (MAX_GAP + 1) // 2  # bases from a base in a bridged gap to the closer called base
CUTOFF_MARGIN = 1e-6  # of a logit; rounding a probability changes it by less


def block_bases(info: ModelInfo, step: int, on_gpu: bool) -> int:
    """Bases of a block in which windows every `step` bp have `BLOCK_BASES` bases."""
    return max(1, (CUDA_BLOCK_BASES if on_gpu else BLOCK_BASES) // info.window) * step


class _Factors:
    """Scores of the scanned factors of a many-factor model, on both strands."""

    def __init__(self, models: Sequence[ScannedModel], runtime: Runtime):
        heads = [model.model.shared for model in models]  # type: ignore[attr-defined]
        self._columns = np.array([head.number for head in heads])
        self.model: ManyFactorModel = heads[0].model.for_factors(self._columns.tolist())
        self.k = self.model.info.k
        self._runtime = runtime
        self._scorer = FactorScorer(self.model, runtime.precision)

    def score(self, codes: np.ndarray, cores: np.ndarray, reduce: Reduce[Result]) -> list[Result]:
        """See `FactorScorer`.

        Parameters
        ----------
        codes, cores : windows on the forward strand and their core intervals, see `tiling.WindowBatch`
        reduce : takes the rows of the windows (those on the reverse strand follow the others), the first token, and
            logits from this token on, (B, any, F), which include all tokens that cover a core
        """
        mirrored = codes.shape[1] - cores[:, ::-1]
        lows, highs = np.concatenate([cores, mirrored]).T

        def reduce_cores(rows: slice, _: torch.Tensor, logits: torch.Tensor) -> Result:
            first = max(0, int(lows[rows].min()) - self.k + 1)
            logits = logits[:, first : int(highs[rows].max())]
            # all factors are computed, so that scores do not depend on which of them are scanned
            if not np.array_equal(self._columns, np.arange(logits.shape[2])):
                logits = logits.index_select(2, torch.from_numpy(self._columns).to(logits.device))
            return reduce(rows, first, logits)

        both = np.concatenate([codes, reverse_complement_codes(codes)])
        return self._scorer(both, self._runtime.batch_size, reduce_cores)


class _SparseScores(NamedTuple):
    """Scores of a block from which sites may be called.

    Attributes
    ----------
    bases : their scores; positions as in the tiles of `FactorScan.cut`
    ends : for each chunk, the position before which all bases are scored
    any_window : for each chunk, whether any window was scored
    """

    bases: BaseScores
    ends: np.ndarray
    any_window: list[bool]


class FactorScan(ScanPart):
    """A scan with several factors of one many-factor model.

    A base is called if its score is above its factor's threshold, and uncalled bases belong to a site only in gaps of
    at most `MAX_GAP` bases between called bases. So of each window, strand and factor, it suffices to keep

    * cores with a called base, and cores of at most `MAX_GAP` bases. Any other core is part of a longer gap.
    * in these cores, called bases and the `REACH` bases beside them, and the first and last `REACH` bases of the core.
      A base in a gap of at most `MAX_GAP` bases is within `REACH` of a called base, in its own core or the next one.

    Parameters
    ----------
    models : of one `shared_model`
    step : distance between window starts (bp)
    """

    def __init__(self, models: Sequence[ScannedModel], step: int, runtime: Runtime):
        self._factors = _Factors(models, runtime)
        super().__init__(models[0].model.info, step, runtime)
        self._models = models
        self._caller = SparseCaller(models)
        self._cutoffs = _logit_cutoffs([model.rule.base_threshold for model in models])
        self._cut_offset = self._call_offset = 0  # of the current region's positions

    def cut(self, block: list[Chunk]) -> list[Tiles]:
        """As `ScanPart.cut`, but positions continue from region to region, with a wide gap between regions."""
        placed = []
        for chunk, tile in zip(block, super().cut(block)):
            start, end, codes_start = (at + self._cut_offset for at in (tile.start, tile.end, tile.codes_start))
            placed.append(tile._replace(start=start, end=end, codes_start=codes_start))
            if chunk.last:
                self._cut_offset = _next_region(end)
        return placed

    def score(self, tiles: list[Tiles]) -> _SparseScores:
        shifts = np.array([tile.codes_start for tile in tiles])
        shifts -= np.cumsum([0, *(len(tile.codes) for tile in tiles)])[:-1]
        parts: list[BaseScores] = []
        for batch in window_batches(tiles):
            parts += self._factors.score(batch.codes, batch.cores, self._reduction(batch, shifts))
        ends = np.array([tile.end for tile in tiles])
        return _SparseScores(BaseScores.joined(parts), ends, [len(tile.starts) > 0 for tile in tiles])

    def _reduction(self, batch: WindowBatch, shifts: np.ndarray) -> Reduce[BaseScores]:
        """From logits to the scores that are kept; `shifts` lead from concatenated codes to positions, tile by tile."""
        count, length = batch.codes.shape
        starts = np.tile(batch.starts + shifts[batch.tiles], 2)
        cores = np.concatenate([batch.cores, length - batch.cores[:, ::-1]])
        k = self._factors.k

        def reduce(rows: slice, first: int, logits: torch.Tensor) -> BaseScores:
            of_rows = cores[rows] - first
            windows, factors, tokens = self._kept_cores(logits, of_rows)
            lows, highs = of_rows[windows, :, None].transpose(1, 0, 2)
            bases = bases_from_tokens(tokens, k)
            at = np.arange(bases.shape[1])
            in_core = (at >= lows) & (at < highs)
            called = in_core & (bases > self._cutoffs[factors][:, None])
            at_border = (at < lows + REACH) | (at >= highs - REACH)
            core, base = np.nonzero(in_core & (at_border | _dilated(called)))
            window = rows.start + windows[core]
            offsets = np.where(window < count, first + base, length - 1 - first - base)
            keys = base_keys(factors[core], window >= count, starts[window] + offsets)
            return BaseScores(keys, sigmoid(bases[core, base]))

        return reduce

    def _kept_cores(self, logits: torch.Tensor, cores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Window and factor of the cores that are kept, shape (n,), and their token logits, shape (n, tokens).

        Parameters
        ----------
        logits : shape (B, tokens, F)
        cores : core intervals, shape (B, 2), from the first base of the first token
        """
        tokens = np.arange(logits.shape[1])
        outside = (tokens <= cores[:, :1] - self._factors.k) | (tokens >= cores[:, 1:])  # cover no base of the core
        near = logits
        if outside.any():
            near = logits.masked_fill(torch.from_numpy(outside).to(logits.device)[:, :, None], -torch.inf)
        kept = near.amax(1) > torch.from_numpy(self._cutoffs).to(logits.device)
        short = cores[:, 1] - cores[:, 0] <= MAX_GAP
        if short.any():
            kept |= torch.from_numpy(short).to(logits.device)[:, None]
        windows, factors = kept.nonzero(as_tuple=True)
        found = logits[windows, :, factors]
        return windows.cpu().numpy(), factors.cpu().numpy(), found.cpu().numpy()

    def call(self, block: list[Chunk], scores: _SparseScores, signal: SignalSink | None) -> list[Called]:
        ends = scores.ends
        found, settled = self._caller.feed(scores.bases, None if block[-1].last else int(ends[-1]))
        settled_ends = ends if settled is None else np.minimum(ends, settled)
        offsets = []
        for chunk, end in zip(block, ends.tolist()):
            offsets.append(self._call_offset)
            if chunk.last:
                self._call_offset = _next_region(end)
        sites = self._sites_by_chunk(block, offsets, settled_ends, found)
        settled_of_chunks = (settled_ends - offsets).tolist()
        return [Called(*of_chunk) for of_chunk in zip(sites, settled_of_chunks, scores.any_window)]

    def _sites_by_chunk(
        self, block: list[Chunk], offsets: list[int], settled_ends: np.ndarray, found: FoundSites
    ) -> list[list[CalledSite]]:
        """Sites on the chromosome, each with the first chunk by whose settled end it starts."""
        numbers = np.minimum(np.searchsorted(settled_ends, found.starts, side="right"), len(block) - 1)
        shifts = np.array([chunk.start - offset for chunk, offset in zip(block, offsets)])
        bounds = np.array([(chunk.region.start, chunk.region.end, *chunk.core) for chunk in block])
        starts, ends = found.starts + shifts[numbers], found.ends + shifts[numbers]
        region_starts, region_ends, core_starts, core_ends = bounds[numbers].T
        middles = (starts + ends) // 2
        kept = (middles >= region_starts) & (middles < region_ends) & (starts >= core_starts) & (starts < core_ends)
        columns = [numbers, found.factors, starts, ends, found.scores, found.reverse, found.call_levels, found.summits]
        sites: list[list[CalledSite]] = [[] for _ in block]
        for row in zip(*(column[kept].tolist() for column in columns)):
            number, factor, start, end, score, reverse, level, summit = row
            scanned, chrom = self._models[factor], block[number].region.chrom
            bed = (chrom, start, end, scanned.model.info.name, score, STRANDS[reverse])
            sites[number].append(CalledSite(*bed, level, summit, scanned.index))
        return sites


def _next_region(end: int) -> int:
    """Position of the region after one that ends at `end`: no site reaches across."""
    return end + MAX_GAP + 1


def _dilated(called: np.ndarray) -> np.ndarray:
    """True also for the `REACH` bases on either side, along the last axis."""
    near = called.copy()
    for distance in range(1, REACH + 1):
        near[:, distance:] |= called[:, :-distance]
        near[:, :-distance] |= called[:, distance:]
    return near


def _logit_cutoffs(thresholds: list[float]) -> np.ndarray:
    """Logits that every base above these thresholds exceeds, float32, shape (F,)."""
    probabilities = np.array(thresholds, dtype=np.float32).astype(np.float64)  # scores are compared as float32
    with np.errstate(divide="ignore"):
        logits = np.log(probabilities) - np.log1p(-probabilities)
    return (logits - CUTOFF_MARGIN * np.clip(np.abs(logits), 1, 1000)).astype(np.float32)


class FactorSignalScan(ScanPart):
    """As `FactorScan`, with the base scores of all factors, each called by a `ModelScan`."""

    def __init__(self, models: Sequence[ScannedModel], step: int, runtime: Runtime):
        self._factors = _Factors(models, runtime)
        super().__init__(models[0].model.info, step, runtime)
        self._scans = [ModelScan(model, step, runtime) for model in models]

    def score(self, tiles: list[Tiles]) -> list[list[ScoredChunk]]:
        """For each factor, the scores of each chunk."""
        joined = join_windows(tiles, self._score_windows, 2 * len(self._scans), np.nan)
        any_window = [len(tile.starts) > 0 for tile in tiles]
        return [
            [ScoredChunk(rows[row : row + 2], scored) for rows, scored in zip(joined, any_window)]
            for row in range(0, 2 * len(self._scans), 2)
        ]

    def _score_windows(self, windows: np.ndarray, cores: np.ndarray) -> Iterator[np.ndarray]:
        """Base scores of each factor on both strands, shape (n, L); only the scores of the cores are complete."""
        count, length = windows.shape
        scores = np.zeros((len(self._scans), 2 * count, length), dtype=np.float32)

        def reduce(rows: slice, first: int, logits: torch.Tensor) -> None:
            bases = bases_from_tokens(logits.transpose(1, 2).contiguous().cpu().numpy(), self._factors.k)
            scores[:, rows, first : first + bases.shape[2]] = sigmoid(bases).transpose(1, 0, 2)

        self._factors.score(windows, cores, reduce)
        for of_factor in scores:
            yield of_factor[:count]
            yield of_factor[count:, ::-1]

    def call(self, block: list[Chunk], scores: list[list[ScoredChunk]], signal: SignalSink | None) -> list[Called]:
        of_factors = [scan.call(block, scored, signal) for scan, scored in zip(self._scans, scores)]
        return [
            Called(
                [site for part in parts for site in part.sites],
                min(part.settled for part in parts),
                parts[0].any_window,
            )
            for parts in zip(*of_factors)
        ]
