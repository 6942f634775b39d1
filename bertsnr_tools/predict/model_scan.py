"""Scan with one model: cut windows, score them, call sites (`ModelScan`); `ScanPart` is what a scan requires of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..models.batching import base_probabilities
from ..models.device import Runtime
from ..models.interface import Model, ModelInfo
from ..sequence.encoding import encode, reverse_complement_codes
from .calling import MAX_GAP, CalledSite, SiteCaller, min_site_length
from .chunks import Chunk
from .prefilter import passing_windows
from .thresholds import CallingRule
from .tiling import Tiler, Tiles, join_windows

SignalSink = Callable[[int, str, int, np.ndarray], None]  # takes model index, chrom, start and strand_scores (2, n)


@dataclass(frozen=True)
class ScannedModel:
    """A model, its index in the scan, and what to call with it."""

    index: int
    model: Model
    rule: CallingRule

    @property
    def min_length(self) -> int:
        """See `min_site_length`."""
        return min_site_length(self.model.info.site_width, self.model.info.k)


class Called(NamedTuple):
    """The result of a chunk.

    Attributes
    ----------
    sites : that the chunk completes, in any order
    settled : all sites that start before this position have been returned; counted from `Chunk.start`
    any_window : whether any window was scored
    """

    sites: list[CalledSite]
    settled: int
    any_window: bool


class ScoredChunk(NamedTuple):
    """Base scores that a chunk completes, (2, any), NaN where there are none; and whether any window was scored."""

    strand_scores: np.ndarray
    any_window: bool


class ScanPart(ABC):
    """One or several models that read the same windows. Windows are cut and scored ahead of the calls.

    Parameters
    ----------
    info : with the window and k of the models
    step : distance between window starts (bp)
    """

    def __init__(self, info: ModelInfo, step: int, runtime: Runtime):
        self._runtime = runtime
        self._tiling = (info.window, step, info.k)
        self._tiler: Tiler | None = None  # of a region whose end has not been cut

    def cut(self, block: list[Chunk]) -> list[Tiles]:
        """The windows that each chunk of a block completes."""
        tiles = []
        for chunk in block:
            tiler = self._tiler or Tiler(*self._tiling, chunk.start)
            tiles.append(tiler.feed(encode(chunk.sequence), chunk.last))
            self._tiler = None if chunk.last else tiler
        return tiles

    @abstractmethod
    def score(self, tiles: list[Tiles]) -> Any:
        """Scores of both strands for the windows of a block; several blocks may be scored at the same time."""

    @abstractmethod
    def call(self, block: list[Chunk], scores: Any, signal: SignalSink | None) -> list[Called]:
        """Call the sites that each chunk completes; pass on base scores. Blocks must come in order."""


class ModelScan(ScanPart):
    """A scan with one model.

    Parameters
    ----------
    step : distance between window starts (bp)
    prefilter : score only windows that pass the model's prefilter
    """

    def __init__(self, scanned: ScannedModel, step: int, runtime: Runtime, *, prefilter: bool = False):
        super().__init__(scanned.model.info, step, runtime)
        self._scanned, self._prefilter = scanned, prefilter
        self._begin_region()

    def _begin_region(self) -> None:
        scanned = self._scanned
        cuts = scanned.rule.base_threshold, scanned.min_length, MAX_GAP
        self._caller = SiteCaller(*cuts, by_level=scanned.model.info.is_pwm)
        self._scored = 0  # bases of the region that have scores

    def score(self, tiles: list[Tiles]) -> list[ScoredChunk]:
        model, runtime = self._scanned.model, self._runtime

        def score_windows(windows: np.ndarray, cores: np.ndarray) -> list[np.ndarray]:
            both = np.concatenate([windows, reverse_complement_codes(windows)])
            if self._prefilter:
                mirrored = windows.shape[1] - cores[:, ::-1]
                passing = passing_windows(model, both, np.concatenate([cores, mirrored]), runtime)
                scores = np.full(both.shape, np.nan, dtype=np.float32)
                scores[passing] = base_probabilities(model, both[passing], runtime)
            else:
                scores = base_probabilities(model, both, runtime)
            return [scores[: len(windows)], scores[len(windows) :, ::-1]]

        joined = join_windows(tiles, score_windows, 2, np.nan)
        return [ScoredChunk(scores, len(tile.starts) > 0) for scores, tile in zip(joined, tiles)]

    def call(self, block: list[Chunk], scores: list[ScoredChunk], signal: SignalSink | None) -> list[Called]:
        called = []
        for chunk, scored in zip(block, scores):
            if signal:
                self._emit_signal(signal, chunk, scored.strand_scores)
            self._scored += scored.strand_scores.shape[1]
            called.append(Called(self._sites(chunk, scored.strand_scores), self._caller.settled, scored.any_window))
            if chunk.last:
                self._begin_region()
        return called

    def _sites(self, chunk: Chunk, strand_scores: np.ndarray) -> list[CalledSite]:
        name, min_call_level = self._scanned.model.info.name, self._scanned.rule.min_call_level
        sites = []
        for site in self._caller.feed(np.fmax(strand_scores, 0), chunk.last):  # 0 for NaN
            start, end = chunk.start + site.start, chunk.start + site.end
            in_region = chunk.region.start <= (start + end) // 2 < chunk.region.end
            in_core = chunk.core[0] <= start < chunk.core[1]
            if in_region and in_core and site.call_level > min_call_level:
                bed = (chunk.region.chrom, start, end, name, site.score, site.strand)
                sites.append(CalledSite(*bed, site.call_level, site.summit, self._scanned.index))
        return sites

    def _emit_signal(self, signal: SignalSink, chunk: Chunk, strand_scores: np.ndarray) -> None:
        """Pass on the base scores of the region, without its context."""
        start = chunk.start + self._scored
        first, last = chunk.scanned()
        first, last = max(start, first), min(start + strand_scores.shape[1], last)
        if first < last:
            signal(self._scanned.index, chunk.region.chrom, first, strand_scores[:, first - start : last - start])
