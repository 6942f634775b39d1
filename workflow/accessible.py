"""Accessible regions of cell lines, the sequence that is known there, and which factors are bound in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from bertsnr_tools.io.fasta import Genome, read_records
from bertsnr_tools.io.intervals import Interval, read_bed
from bertsnr_tools.models.batching import FactorScorer, sigmoid
from bertsnr_tools.models.binding import motif_scores
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.many_factor import ManyFactorModel
from bertsnr_tools.predict.accessible import READ, Center, clipped, known_windows
from bertsnr_tools.predict.significance import level_reducer, log_odds
from bertsnr_tools.sequence.encoding import encode, reverse_complement_codes
from factor_sources import HELD_CHROMS, HELD_REGION

CHROMS = [f"chr{name}" for name in (*range(1, 23), "X")]
MISSING = {"no_chr1_8_21": ("chr1", "chr8", "chr21")}  # chromosomes without peaks in files with this word in their name
NEAR = 200  # bp: an unbound region has no ChIP-seq summit that near
SCORED = 8192  # windows at a time; bounds the memory
KNOWN = 200  # bp around the middle of a judged region of the sparse genome that must be known


class Regions(NamedTuple):
    """DNase peaks.

    Attributes
    ----------
    cells : name of the cell line of each region
    intervals : of the regions
    contiguous : bool, shape (n,): in contiguous sequence
    """

    cells: np.ndarray
    intervals: list[Interval]
    contiguous: np.ndarray

    def take(self, chosen: np.ndarray) -> Regions:
        """Some of the regions, by a bool array."""
        kept = [self.intervals[row] for row in np.flatnonzero(chosen)]
        return Regions(self.cells[chosen], kept, self.contiguous[chosen])


class Scores(NamedTuple):
    """Of windows or regions: logits of sequence heads (n, F), bits of motifs (n, M), log odds of best sites (n, F)."""

    sequence: np.ndarray
    motifs: np.ndarray
    sites: np.ndarray


class KnownSequence:
    """The sparse genome (hg19), with the contiguous regions in it; reads like a genome."""

    def __init__(self, data: Path):
        self._genome = Genome(str(data / "genome/hg19.sparse.fa.gz"))
        self.lengths: Mapping[str, int] = self._genome.lengths
        self.contiguous: list[tuple[Interval, bytes]] = []
        for path in sorted((data / "regions").glob("*.hg19.fa.gz")):
            record = next(read_records(str(path)))
            self.contiguous.append((record.interval, record.sequence))

    def fetch(self, chrom: str, start: int, end: int) -> bytes:
        """Bases [start, end), N where unknown."""
        sequence = bytearray(self._genome.fetch(chrom, start, end))
        for region, known in self.contiguous:
            low, high = max(start, region.start), min(end, region.end)
            if region.chrom == chrom and low < high:
                sequence[low - start : high - start] = known[low - region.start : high - region.start]
        return bytes(sequence)

    def contains(self, chrom: str, start: int, end: int) -> bool:
        """Whether one of the contiguous regions contains all of these bases."""
        return any(
            region.chrom == chrom and region.start <= start and end <= region.end for region, _ in self.contiguous
        )


def cell_lines(data: Path) -> list[str]:
    """Cell lines with DNase peaks and ChIP-seq peaks."""
    dnase = {path.name.split(".")[0] for path in (data / "dnase").glob("*.bed.gz")}
    return sorted(dnase & {cell for _, cell, _ in chip_files(data)})


def chip_files(data: Path) -> Iterator[tuple[str, str, Path]]:
    """Factor, cell line and path of each file of ChIP-seq peaks."""
    for path in sorted((data / "chip").glob("*.narrowPeak.gz")):
        factor, cell = path.name.split(".")[:2]
        yield factor, cell, path


def dnase_peaks(data: Path, cell: str) -> list[Interval]:
    """The DNase peaks of a cell line, in order."""
    peaks = [peak for peak in read_bed(str(data / f"dnase/{cell}.hg19.bed.gz")) if peak.chrom in CHROMS]
    return sorted(peaks, key=lambda peak: (CHROMS.index(peak.chrom), peak.start))


def held_out(interval: Interval) -> bool:
    """Whether a region is on the chromosomes, or in the region, that no shipped model was trained on."""
    chrom, start, end = HELD_REGION
    return interval.chrom in HELD_CHROMS or (interval.chrom == chrom and interval.start < end and interval.end > start)


def judged_regions(data: Path, sequence: KnownSequence) -> Regions:
    """The regions that models are judged on: in contiguous sequence, or held out and known around the middle."""
    cells, intervals, contiguous = [], [], []
    for cell in cell_lines(data):
        for peak in dnase_peaks(data, cell):
            if not held_out(peak):
                continue
            middle = (peak.start + peak.end) // 2
            low, high = middle - KNOWN // 2, middle + KNOWN // 2
            inside = sequence.contains(peak.chrom, low, high)
            known = low >= 0 and high <= sequence.lengths[peak.chrom]
            if inside or known and b"N" not in sequence.fetch(peak.chrom, low, high):
                cells.append(cell)
                intervals.append(peak)
                contiguous.append(inside)
    return Regions(np.array(cells), intervals, np.array(contiguous))


def bound(path: Path, intervals: list[Interval]) -> np.ndarray:
    """Which regions contain the summit of a ChIP-seq peak: 1 yes, 0 no, 2 no, but near (`NEAR`), -1 unknown; int8."""
    summits: dict[str, list[int]] = {}
    for peak in read_bed(str(path), summits=True):
        summit = (peak.start + peak.end) // 2 if peak.summit is None else peak.summit
        summits.setdefault(peak.chrom, []).append(summit)
    ordered = {chrom: np.sort(found) for chrom, found in summits.items()}
    missing = {chrom for word, chroms in MISSING.items() if word in path.name for chrom in chroms}
    labels = np.full(len(intervals), -1, dtype=np.int8)
    for row, interval in enumerate(intervals):
        if interval.chrom in missing:
            continue
        found = ordered.get(interval.chrom, np.empty(0, dtype=int))
        inside, near = (
            np.searchsorted(found, interval.start - reach) < np.searchsorted(found, interval.end + reach)
            for reach in (0, NEAR)
        )
        labels[row] = 1 if inside else 2 if near else 0
    return labels


def center(interval: Interval) -> Center:
    """The middle of a region."""
    return Center(interval.chrom, (interval.start + interval.end) // 2)


def codes_around(sequence: KnownSequence, intervals: list[Interval], size: int = READ) -> np.ndarray:
    """Base codes around the middles of regions, shape (n, size)."""
    middles = [center(interval) for interval in intervals]
    rows = [encode(sequence.fetch(chrom, at - size // 2, at + size // 2)) for chrom, at in middles]
    return np.array(rows, dtype=np.uint8).reshape(len(rows), size)


class RegionScorer:
    """What `Surroundings` scores, but of many regions in large batches, and their best sites.

    Every window is scored once, in one pass of the encoder for each strand: regions share many windows.

    Parameters
    ----------
    motifs : see `BindingHeads`
    """

    def __init__(self, model: ManyFactorModel, motifs: torch.Tensor, runtime: Runtime):
        self._model, self._motifs, self._runtime = model, motifs, runtime
        self._scorer, self._levels = FactorScorer(model, runtime.precision), level_reducer(model)
        self._rows: dict[bytes, int] = {}  # of the scores of each window
        self._parts: list[Scores] = []

    def __call__(self, codes: np.ndarray) -> Scores:
        """Scores of regions, float32, NaN where no window is known.

        Parameters
        ----------
        codes : of the `READ` bp around the centers, shape (n, READ)
        """
        window = self._model.info.window
        keys = [[key.tobytes() for key in known_windows(window, row)] for row in codes]
        new = list(dict.fromkeys(key for of_region in keys for key in of_region if key not in self._rows))
        self._rows |= {key: len(self._rows) + number for number, key in enumerate(new)}
        for first in range(0, len(new), SCORED):
            texts = b"".join(new[first : first + SCORED])
            self._parts.append(self._scored(np.frombuffer(texts, dtype=np.uint8).reshape(-1, window)))
        self._parts = [Scores(*map(np.concatenate, zip(*self._parts)))]
        rows = [[self._rows[key] for key in of_region] for of_region in keys]
        known = np.array([bool(of_region) for of_region in rows])
        firsts = np.cumsum([0, *(len(of_region) for of_region in rows if of_region)])
        every, counts = np.concatenate(rows).astype(int), np.diff(firsts)[:, None]
        found = Scores(*(np.full((len(codes), part.shape[1]), np.nan, dtype=np.float32) for part in self._parts[0]))
        sequence, motifs, sites = (part[every] for part in self._parts[0])
        found.sequence[known] = np.add.reduceat(sequence, firsts[:-1], dtype=np.float64) / counts
        found.motifs[known] = np.maximum.reduceat(motifs, firsts[:-1])
        found.sites[known] = np.maximum.reduceat(sites, firsts[:-1])
        return found

    def _scored(self, windows: np.ndarray) -> Scores:
        """Scores of windows: of sequences the mean of the strands, of sites the maximum."""
        strands = []
        for codes in (windows, reverse_complement_codes(windows)):
            parts = self._scorer(
                codes, self._runtime.batch_size, lambda _, logits, tokens: (logits, self._levels(tokens))
            )
            strands.append([np.concatenate([np.asarray(array) for array in column]) for column in zip(*parts)])
        (one, levels), (other, other_levels) = strands
        odds = clipped(log_odds(sigmoid(np.maximum(levels, other_levels)))).astype(np.float32)
        return Scores((one + other) / 2, motif_scores(self._motifs, windows), odds)
