"""Choose what is scanned (`ScanInput`: FASTA, regions, a whole genome, a shard) and read it in chunks of bounded size.

Coordinates are 0-based, half-open.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..errors import UsageError
from ..io.fasta import CHUNK_BASES, FastaChunk, Genome, read_fasta_chunks
from ..io.intervals import Interval, interval_from_header, may_hold_interval, on_genome, parse_header
from ..log import logger
from ..sequence.encoding import reverse_complement
from ..sequence.windows import overlap_groups

Regions = Interval | Iterable[str | Interval]
EVERYWHERE = (0, sys.maxsize)
SHARD_OVERLAP = 10_000  # bases read on either side of a shard: more than a site and the windows that it depends on


class Chunk(NamedTuple):
    """Consecutive bases of a region; the chunks of a region follow each other.

    ::

        chromosome   ----------------------------------------------
        region              [------------------------)           sites with their middle here belong to it
        chunks           [-------------)[---------------)        the region and context on either side
        core         [---------------)                           of the first of two shards

    Attributes
    ----------
    region : the requested region; the end of a FASTA record may be unknown, `sys.maxsize`, before the last chunk
    start : chromosome position of the first base that is read for the region, context included; the same in all its
        chunks
    sequence : the next bases, upper case
    last : the region, or the shard's part of it, ends with this chunk
    core : core interval on the chromosome: only sites that start in it are called; limited only in shards
    """

    region: Interval
    start: int
    sequence: bytes
    last: bool
    core: tuple[int, int] = EVERYWHERE

    def scanned(self) -> tuple[int, int]:
        """Bases that the scan reports, [start, end) on the chromosome: the region without context, within the core."""
        return max(self.region.start, self.core[0]), min(self.region.end, self.core[1])

    def pieces(self, size: int) -> Iterator[Chunk]:
        """The same bases as chunks of at most `size` bases."""
        for first in range(0, max(1, len(self.sequence)), size):
            sequence = self.sequence[first : first + size]
            yield self._replace(sequence=sequence, last=self.last and first + size >= len(self.sequence))


class ScanInput:
    """The sequence to scan: the records of a FASTA file, or regions of an indexed genome.

    Parameters
    ----------
    source : FASTA file ("-" is standard input), or a genome
    bed : BED file of regions
    regions : regions as text (`chrom:from-to`, 1-based inclusive) or intervals; without them and `bed`, None, all
        chromosomes
    shard : (number, shards), number from 1: scan one of several equal parts of the regions
    summit : scan this number of bases on either side of the summits of the peaks in `bed`, see `summit_regions`
    each_region : scan each region by itself: else those that overlap are scanned once, see `merge_overlaps`, and the
        border of a shard may divide a region, see `regions_of_shard`

    Attributes
    ----------
    regions : intervals to scan, in order; empty for FASTA
    lengths : chromosome lengths (bp); None for FASTA
    bases : bases to scan, without context; None for FASTA

    Raises
    ------
    UsageError : regions without a genome, a region that is not on it, or `summit` without a BED file.
    DataError : the BED file is empty, or has an interval that is not on the genome.
    """

    def __init__(
        self,
        source: str | Genome,
        *,
        bed: str | None = None,
        regions: Regions | None = None,
        shard: tuple[int, int] | None = None,
        summit: int | None = None,
        each_region: bool = False,
    ):
        self._source, self._shard = source, shard
        if summit is not None and not bed:
            raise UsageError("--summit requires peaks; add -b BED")
        self.regions: list[Interval] = []
        self.lengths: Mapping[str, int] | None = None
        self.bases: int | None = None
        if isinstance(source, Genome):
            self.regions = regions_to_scan(source, bed, regions, summit)
            self.lengths = source.lengths
            if not each_region:
                self.regions = merge_overlaps(self.regions)
            elif shard:
                self.regions, self._shard = regions_of_shard(self.regions, shard), None
            self.bases = sum(region.end - region.start for region in self.regions)
            self.bases //= self._shard[1] if self._shard else 1
        elif bed or shard or regions is not None:
            raise UsageError(f"{source}: regions and shards require an indexed genome")

    @property
    def can_read_ahead(self) -> bool:
        """Reading does not wait for another program, as it does from a pipe, so that a scan can end at any time."""
        return isinstance(self._source, Genome) or os.path.isfile(self._source)

    def chunks(self, context: int) -> Iterator[Chunk]:
        """The sequence in order.

        Parameters
        ----------
        context : bases to read on either side of a region, see `Scanner.context`
        """
        if not isinstance(self._source, Genome):
            return fasta_chunks(read_fasta_chunks(self._source, unique=True))
        if self._shard:
            return shard_chunks(self._source, self.regions, self._shard, context)
        return genome_chunks(self._source, self.regions, context)


def regions_to_scan(
    genome: Genome, bed: str | None, regions: Regions | None, summit: int | None = None
) -> list[Interval]:
    """`regions`, then the intervals of the BED file; all chromosomes when neither is given. See `ScanInput`."""
    if regions is None and not bed:
        return genome.chromosomes()
    chosen = [regions] if isinstance(regions, Interval) else () if regions is None else regions
    found = [on_genome(region, genome.lengths) for region in chosen]
    if bed:
        found += genome.regions(bed) if summit is None else summit_regions(genome, bed, summit)
    return found


def summit_regions(genome: Genome, path: str, reach: int) -> list[Interval]:
    """The summits of peaks and `reach` bases on either side, up to the ends of the chromosome.

    The summit is in column 10 of narrowPeak; other peaks have their middle for a summit, which a message states.

    Parameters
    ----------
    path : BED file of peaks
    reach : bp
    """
    peaks = genome.regions(path, summits=True)
    regions = []
    for peak in peaks:
        summit = (peak.start + peak.end) // 2 if peak.summit is None else peak.summit
        start, end = max(0, summit - reach), min(genome.lengths[peak.chrom], summit + reach + 1)
        regions.append(peak._replace(start=start, end=end, summit=summit))
    without = sum(peak.summit is None for peak in peaks)
    if without:
        problem = "%s: %s of %s peaks have no summit (column 10 of narrowPeak); their midpoints are used"
        logger.info(problem, "standard input" if path == "-" else path, f"{without:,}", f"{len(peaks):,}")
    return regions


def merge_overlaps(regions: Sequence[Interval]) -> list[Interval]:
    """Regions that share bases as one, at the place of the first of them, so that no site is called twice."""
    groups: dict[int, list[Interval]] = {}
    for region, group in zip(regions, overlap_groups(regions)):
        groups.setdefault(group, []).append(region)
    if len(groups) < len(regions):
        repeated = f"{len(regions) - len(groups):,} of {len(regions):,}"
        logger.info("%s regions overlap others and are scanned together with them", repeated)
    return [
        group[0]._replace(start=min(region.start for region in group), end=max(region.end for region in group))
        for group in groups.values()
    ]


def regions_of_shard(regions: Sequence[Interval], shard: tuple[int, int]) -> list[Interval]:
    """The regions whose first base is in one of several equal parts of their bases; `shard`: see `ScanInput`."""
    number, shards = shard
    ends = list(itertools.accumulate(region.end - region.start for region in regions))
    first, last = (ends[-1] * at // shards for at in (number - 1, number))
    starts = [0, *ends]
    return [region for region, start in zip(regions, starts) if first <= start < last]


def genome_chunks(genome: Genome, regions: Iterable[Interval], context: int) -> Iterator[Chunk]:
    """Regions of a genome, read with `context` more bases on either side: region borders do not affect scores."""
    for region in regions:
        start, end = _with_context(genome, region, context)
        yield from _read(genome, region, start, end, EVERYWHERE)


def shard_chunks(genome: Genome, regions: Sequence[Interval], shard: tuple[int, int], context: int) -> Iterator[Chunk]:
    """One of several equal parts of the regions; borders may lie within a region.

    Concatenated, the sites of all shards equal the sites of `genome_chunks`: a site belongs to the shard in which it
    starts.

    Parameters
    ----------
    shard : (number, shards), number from 1
    """
    number, shards = shard
    sizes = np.array([region.end - region.start for region in regions])
    first, last = (int(sizes.sum()) * at // shards for at in (number - 1, number))  # counted over all regions
    for region, size, at in zip(regions, sizes.tolist(), (np.cumsum(sizes) - sizes).tolist()):
        if last <= at or at + size <= first:
            continue
        start, end = _with_context(genome, region, context)
        core_start = 0 if first <= at else region.start + first - at
        core_end = sys.maxsize if at + size <= last else region.start + last - at
        start, end = max(start, core_start - SHARD_OVERLAP), min(end, core_end + SHARD_OVERLAP)
        yield from _read(genome, region, start, end, (core_start, core_end))


def _with_context(genome: Genome, region: Interval, context: int) -> tuple[int, int]:
    return max(0, region.start - context), min(genome.lengths[region.chrom], region.end + context)


def _read(genome: Genome, region: Interval, start: int, end: int, core: tuple[int, int]) -> Iterator[Chunk]:
    for chunk_start in range(start, end, CHUNK_BASES):
        chunk_end = min(end, chunk_start + CHUNK_BASES)
        sequence = genome.fetch(region.chrom, chunk_start, chunk_end)
        yield Chunk(region, start, sequence, chunk_end == end, core)


def fasta_chunks(pieces: Iterable[FastaChunk]) -> Iterator[Chunk]:
    """FASTA records as regions; the header gives the chromosome and start (`intervals.parse_header`).

    Records whose header looks like an interval are kept in memory until their length is known, with a warning of the
    first with another length; records on the reverse strand are reverse-complemented to the forward strand.
    """
    pending: list[bytes] = []
    warned = False
    for piece in pieces:
        if not may_hold_interval(piece.name, piece.description):
            end = piece.start + len(piece.sequence) if piece.last else sys.maxsize
            yield Chunk(Interval(piece.name, 0, end), 0, piece.sequence, piece.last)
            continue
        pending.append(piece.sequence)
        if piece.last:
            sequence = b"".join(pending)
            pending = []
            header = piece.name, piece.description, len(sequence)
            region = parse_header(*header)
            if not warned and not interval_from_header(*header):
                problem = "record %r: %s bp do not fit the interval in its header, which is ignored"
                logger.warning(problem, piece.name, f"{len(sequence):,}")
                warned = True
            yield Chunk(region, region.start, reverse_complement(sequence) if region.strand == "-" else sequence, True)
