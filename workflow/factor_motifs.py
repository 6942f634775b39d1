"""JASPAR's matrices of factors, and their matches in ChIP-seq peaks."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bertsnr_tools.io.intervals import Interval
from bertsnr_tools.io.motif import Motif
from bertsnr_tools.models.pwm import DEFAULT_P, score_distribution
from bertsnr_tools.motifs.comparison import jaspar_motifs
from bertsnr_tools.sequence.encoding import CODE_LETTERS, OTHER
from sparse_genome import SparseGenome

RELEASE = "jaspar2024"
AROUND_SUMMIT, PEAK_HALF = 100, 150  # bp: where a match is sought, and what counts as the peak
MARGIN = 6  # bp on both sides of a site in which a matrix may match
DIMERS = {
    "BATFJUN": ("BATF", "JUN"),
    "GATA1TAL1": ("GATA1", "TAL1"),
    "MAFGNFE2L1": ("MAFG", "NFE2L1"),
    "MAFNFE2": ("MAF", "NFE2"),
    "STAT1STAT2": ("STAT1", "STAT2"),
}
ACGT_COLUMNS = ["ACGT".index(letter) for letter in CODE_LETTERS.decode()]


def parts_of(name: str) -> tuple[str, ...]:
    """The factors of a dimer, or the factor itself."""
    return DIMERS.get(name, (name,))


def motifs_by_factor(release: str = RELEASE) -> dict[str, list[Motif]]:
    """Matrices of a release in the order of their ids, by upper-case name; a dimer's name is written as in the data."""
    dimers = {"::".join(parts): name for name, parts in DIMERS.items()}
    motifs: dict[str, list[Motif]] = {}
    for motif in jaspar_motifs(release):
        name = motif.name.upper()
        motifs.setdefault(dimers.get(name, name), []).append(motif)
    return motifs


class Matches(NamedTuple):
    """The best match in each of several sequences.

    Attributes
    ----------
    scores : bits; -inf where a matrix fits nowhere
    starts : first bases
    reverse : bool, whether on the reverse strand
    """

    scores: np.ndarray
    starts: np.ndarray
    reverse: np.ndarray


def best_matches(motif: Motif, codes: np.ndarray) -> Matches:
    """The best match of a matrix in each row of codes, shape (n, length), on either strand, on known bases."""
    count = max(1, codes.shape[1] - motif.width + 1)
    padded = np.pad(codes, ((0, 0), (0, max(0, motif.width - codes.shape[1]))), constant_values=OTHER)
    strands = []
    for oriented in (motif, motif.reverse_complement()):
        table = np.insert(oriented.log_odds[:, ACGT_COLUMNS], OTHER, -np.inf, axis=1)
        strands.append(sum(row[padded[:, position : position + count]] for position, row in enumerate(table)))
    scores = np.concatenate(strands, axis=1)
    best = scores.argmax(axis=1)
    return Matches(scores[np.arange(len(codes)), best], best % count, best >= count)


def best_motif(motifs: Sequence[Motif], codes: np.ndarray, spans: np.ndarray) -> Motif:
    """The matrix with the highest mean score at labelled sites.

    Parameters
    ----------
    codes : windows, shape (n, window)
    spans : a site in each window, shape (n, 2)
    """
    if len(motifs) == 1 or not len(codes):
        return motifs[-1]
    size = min(codes.shape[1], int(np.median(spans[:, 1] - spans[:, 0])) + 2 * MARGIN)
    starts = np.clip((spans.sum(axis=1) - size) // 2, 0, codes.shape[1] - size)
    around = np.take_along_axis(codes, starts[:, None] + np.arange(size), axis=1)
    return max(motifs, key=lambda motif: float(best_matches(motif, around).scores.mean()))


class Peaks(NamedTuple):
    """ChIP-seq peaks as keys and sizes, see `SparseGenome`: around the summit, or the whole peak if it has none."""

    keys: np.ndarray
    sizes: np.ndarray
    summits: np.ndarray


def chip_factors(chip: Path) -> list[str]:
    """Factors with ChIP-seq peaks."""
    return sorted({path.name.split(".")[0] for path in chip.glob("*.narrowPeak.gz")})


def read_peaks(chip: Path, names: Sequence[str], genome: SparseGenome) -> Peaks:
    """The peaks of these factors that touch known bases, the strongest first."""
    columns = [(np.zeros(0, dtype=int),) * 4]
    for path in (path for name in names for path in sorted(chip.glob(f"{name}.*"))):
        table = [line.split("\t") for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
        starts, ends, summits = (np.array([int(row[column]) for row in table]) for column in (1, 2, 9))
        rank = np.argsort(np.argsort([-float(row[6]) for row in table], kind="stable"))
        lows = np.where(summits < 0, starts, np.maximum(0, starts + summits - PEAK_HALF))
        sizes = np.where(summits < 0, ends, starts + summits + PEAK_HALF) - lows
        keys = genome.keys([row[0] for row in table], lows)
        middles = keys - lows + np.where(summits < 0, (starts + ends) // 2, starts + summits)
        kept = genome.touches(keys, sizes)
        columns.append((keys[kept], sizes[kept], middles[kept], rank[kept]))
    keys, sizes, summits, rank = (np.concatenate(parts) for parts in zip(*columns))
    order = np.argsort(rank, kind="stable")
    return Peaks(keys[order], sizes[order], summits[order])


def matched_sites(name: str, motif: Motif, peaks: Peaks, genome: SparseGenome) -> list[Interval]:
    """The best match within `AROUND_SUMMIT` of each summit, if its p-value is below `DEFAULT_P`; each site once."""
    first = peaks.summits - AROUND_SUMMIT
    index = genome.index(first[:, None] + np.arange(2 * AROUND_SUMMIT))
    matches = best_matches(motif, np.where(index < 0, OTHER, genome.codes[index]))
    scores, p = score_distribution(motif.log_odds)
    least = scores[np.argmax(p < DEFAULT_P)] - 1e-6 if p[-1] < DEFAULT_P else np.inf
    sites = {}
    for row in np.flatnonzero(matches.scores >= least):
        chrom, start = genome.position(int(first[row] + matches.starts[row]))
        sites[chrom, start] = Interval(chrom, start, start + motif.width, name, "-" if matches.reverse[row] else "+")
    return list(sites.values())
