"""Scanning: sequence in, called sites out, streamed in blocks so that memory does not grow with the genome."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..io.fasta import CHUNK_BASES, NOT_ACGT, FastaChunk, Genome
from ..io.intervals import Interval, may_hold_interval, parse_record_name
from ..sequence.encoding import reverse_complement

EVERYWHERE = (0, sys.maxsize)
SHARD_OVERLAP = (
    10_000  # bases around a shard's piece that are read as well: more than a site and the windows that it depends on
)


class Chunk(NamedTuple):
    """A piece of a region on its way to the model.

    Attributes
    ----------
    region : what the user asked for; a site belongs to the region in which its middle lies
    start : chromosome position of the first base that is read for this region (its context included)
    sequence : the next bases, upper case
    last : the region, or the shard's piece of it, ends with this part
    core : sites are called that begin in this range of the chromosome
    """

    region: Interval
    start: int
    sequence: bytes
    last: bool
    core: tuple[int, int] = EVERYWHERE


def genome_chunks(genome: Genome, regions: Iterable[Interval], context: int) -> Iterator[Chunk]:
    """Regions of a genome, each read with `context` more bases on either side so that its border is no border to the model."""
    for region in regions:
        start, end = _with_context(genome, region, context)
        yield from _read(genome, region, start, end, EVERYWHERE)


def shard_chunks(
    genome: Genome, regions: Sequence[Interval], context: int, number: int, shards: int, steps: Sequence[int]
) -> Iterator[Chunk]:
    """One of several shards of what `genome_parts` reads: an equal share of the regions' bases, cut where it may be.

    The sites of all shards, one after the other, are those of an undivided scan: a shard's first window begins where one of the
    undivided scan does, and a site belongs to the shard in which it begins.

    Parameters
    ----------
    number, shards : which one, counted from 1, of how many
    steps : of the models' windows
    """
    sizes = np.array([region.end - region.start for region in regions])
    stride = math.lcm(*steps)
    first, last = (int(sizes.sum()) * at // shards for at in (number - 1, number))
    for region, size, at in zip(regions, sizes.tolist(), (np.cumsum(sizes) - sizes).tolist()):
        if last <= at or at + size <= first:
            continue
        start, end = _with_context(genome, region, context)
        own = (
            0 if first <= at else region.start + first - at,
            sys.maxsize if at + size <= last else region.start + last - at,
        )
        before = own[0] - SHARD_OVERLAP - stride
        if before > start:
            run = _run_start(genome, region.chrom, start, before)
            start = run + (before - run) // stride * stride
        yield from _read(genome, region, start, min(end, own[1] + SHARD_OVERLAP + stride), own)


def _with_context(genome: Genome, region: Interval, context: int) -> tuple[int, int]:
    return max(0, region.start - context), min(genome.lengths[region.chrom], region.end + context)


def _read(genome: Genome, region: Interval, start: int, end: int, own: tuple[int, int]) -> Iterator[Chunk]:
    for at in range(start, end, CHUNK_BASES):
        stop = min(end, at + CHUNK_BASES)
        yield Chunk(region, start, genome.fetch(region.chrom, at, stop), stop == end, own)


def _run_start(genome: Genome, chrom: str, start: int, at: int) -> int:
    """Where, from `start` on, the run of A, C, G and T begins that goes on to `at`."""
    for end in range(at, start, -CHUNK_BASES):
        begin = max(start, end - CHUNK_BASES)
        others = [match.end() for match in NOT_ACGT.finditer(genome.fetch(chrom, begin, end))]
        if others:
            return begin + others[-1]
    return start


def fasta_chunks(pieces: Iterable[FastaChunk]) -> Iterator[Chunk]:
    """FASTA records as regions, placed by `regions.parse_record_name`.

    Records whose name looks like an interval are held until their length is known; a window of the reverse strand is turned
    back to the forward strand.
    """
    held: list[bytes] = []
    for piece in pieces:
        if not may_hold_interval(piece.name):
            yield Chunk(Interval(piece.name, 0, sys.maxsize), 0, piece.sequence, piece.last)  # its end is not known yet
            continue
        held.append(piece.sequence)
        if piece.last:
            sequence = b"".join(held)
            held = []
            region = parse_record_name(piece.name, len(sequence))
            yield Chunk(region, region.start, reverse_complement(sequence) if region.strand == "-" else sequence, True)
