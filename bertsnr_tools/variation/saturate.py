"""Score every substitution of a region (`saturation`)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..errors import DataError, UsageError
from ..io.fasta import Genome
from ..io.intervals import Interval, parse_region
from ..io.outputs import Failures
from ..io.tracks import BigWig
from ..log import logger
from ..predict.chunks import merge_overlaps
from ..predict.writers import SignalFile
from .alleles import Change, Edit
from .rows import ScoredAllele
from .scoring import VariantScorer

BASES = "ACGT"
MAX_PLOT = 2000  # bases in a heat map


class SaturatedBlock(NamedTuple):
    """Consecutive bases of a region.

    Attributes
    ----------
    region : that they belong to
    start : first base on the chromosome, 0-based
    reference : their letters
    alleles : all substitutions, in order of position and letter; none at letters other than A, C, G and T
    """

    region: Interval
    start: int
    reference: str
    alleles: list[ScoredAllele]


def regions_to_saturate(text: str, genome: Genome) -> list[Interval]:
    """The intervals of a BED file of this name, overlapping ones as one, else the region `chrom:from-to` or `chrom`.

    Regions are 1-based and inclusive.

    Raises
    ------
    UsageError, DataError : neither a file nor a region; see `intervals.parse_region` and `Genome.regions`.
    """
    if text == "-" or os.path.exists(text):
        return merge_overlaps(genome.regions(text))
    if text not in genome.lengths and ":" not in text:
        raise DataError("no such file, and no sequence of that name in the genome", text)
    region = parse_region(text, genome.lengths)
    if text not in genome.lengths and not text.rpartition(":")[2].partition("-")[2]:
        raise UsageError(f"--saturate {text}: expected chrom:from-to; for one base, from = to")
    return [region]


def saturation(regions: Iterable[Interval], genome: Genome, scorer: VariantScorer) -> Iterator[SaturatedBlock]:
    """Every substitution in the regions, in blocks."""
    size = max(1, scorer.block_bases // (4 * 3 * scorer.context))
    for region in regions:
        for start in range(region.start, region.end, size):
            letters = genome.fetch(region.chrom, start, min(region.end, start + size)).decode()
            yield SaturatedBlock(region, start, letters, _substitutions(genome, scorer, region.chrom, start, letters))


def _substitutions(genome: Genome, scorer: VariantScorer, chrom: str, start: int, letters: str) -> list[ScoredAllele]:
    substitutions = [
        (position, own, alt)
        for position, own in enumerate(letters, start)
        if own in BASES
        for alt in BASES
        if alt != own
    ]
    changes = [Change(chrom, (Edit(at, at + 1, alt.encode()),)) for at, _, alt in substitutions]
    alleles = []
    for (at, own, alt), effects in zip(substitutions, scorer.score(genome, changes)):
        found = [effect for effect in effects if effect]
        alleles.append(ScoredAllele(chrom, at, ".", own, alt, found, "" if found else "no_sequence"))
    return alleles


def change_matrix(block: SaturatedBlock, factor: str) -> np.ndarray:
    """Change of log odds by each substitution, shape (4, n), rows A, C, G, T; 0 for the base of the reference.

    NaN where nothing was scored.
    """
    changes = np.full((4, len(block.reference)), np.nan)
    for allele in block.alleles:
        for effect in allele.effects:
            if effect.factor == factor:
                column = allele.start - block.start
                changes[BASES.index(allele.ref), column] = 0
                changes[BASES.index(allele.alt), column] = effect.change
    return changes


def mean_loss(changes: np.ndarray) -> np.ndarray:
    """Mean loss of log odds over the three substitutions of each base, (4, n) to (n,); NaN where nothing was scored."""
    return -changes.sum(axis=0) / 3


class Figure(NamedTuple):
    """What `plots.mutagenesis.plot_mutagenesis` draws: file, title, letters, changes (4, n), and the first position."""

    path: str
    title: str
    reference: str
    changes: np.ndarray
    first: int


class SaturationFiles:
    """Collects the changes of a saturation for bigWig files and figures.

    Parameters
    ----------
    files : bigWig files (option "--bigwig") and figures
    names : of the models
    lengths : of the chromosomes
    failures : receives the errors of files

    Raises
    ------
    UsageError : figures of several regions, or of more than `MAX_PLOT` bases.
    """

    def __init__(
        self,
        files: Sequence[SignalFile],
        names: Sequence[str],
        regions: Sequence[Interval],
        lengths: Mapping[str, int],
        failures: Failures,
    ):
        self._names, self._failures = names, failures
        self._tracks = [(file, BigWig(file.path, lengths, merge=True)) for file in files if file.option == "--bigwig"]
        self._figures = [file for file in files if file.option != "--bigwig"]
        self._blocks: list[SaturatedBlock] = []
        self._alleles = self._unscored = self._bases = 0
        size = sum(region.end - region.start for region in regions)
        if self._figures and (len(regions) > 1 or size > MAX_PLOT):
            problem = f"{len(regions):,} regions of {size:,} bp"
            raise UsageError(f"a heat map shows one region of at most {MAX_PLOT:,} bp (got {problem})")

    def add(self, block: SaturatedBlock) -> None:
        """Take the next block."""
        self._alleles += len(block.alleles)
        self._bases += len(block.reference)
        self._unscored += sum(not allele.effects for allele in block.alleles)
        for file, track in self._tracks:
            track.add(
                block.region.chrom, block.start, mean_loss(change_matrix(block, self._names[file.model])).round(3)
            )
        if self._figures:
            self._blocks.append(block)

    def check_unscored(self, text: str, strict: bool) -> None:
        """Warn of bases and substitutions that were not scored; an error if `strict` is set."""
        unknown = self._bases - self._alleles // 3
        problems = []
        if unknown:
            problems.append(f"{unknown:,} of {self._bases:,} bases skipped: not A, C, G or T")
        if self._unscored:
            counts = f"{self._unscored:,} of {self._alleles:,} substitutions"
            problems.append(f"{counts} not scored: no run of ACGT long enough around")
        if problems and strict:
            raise DataError("; ".join(problems), text)
        for problem in problems:
            logger.warning(problem)

    def finish(self) -> Iterator[Figure]:
        """Write the tracks; the figures to draw."""
        for _, track in self._tracks:
            with self._failures.kept():
                track.write()
        for file in self._figures:
            name, region = self._names[file.model], self._blocks[0].region
            changes = np.concatenate([change_matrix(block, name) for block in self._blocks], axis=1)
            reference = "".join(block.reference for block in self._blocks)
            title = f"{name}: {region.chrom}:{region.start + 1:,}-{region.end:,}"
            yield Figure(file.path, title, reference, changes, region.start + 1)
