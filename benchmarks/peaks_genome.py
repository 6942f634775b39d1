#!/usr/bin/env python3
"""Input for timing workflow/peaks.smk: many peaks with known bases everywhere, from a genome with gaps.

    python benchmarks/peaks_genome.py GENOME PEAKS.narrowPeak ACCESSIBLE.bed OUT [--peaks 10000]
    cd OUT
    snakemake -s peaks.smk --cores 2 --config peaks=peaks.narrowPeak fasta=genome.fa matrix=jaspar:JUND atac=atac.bed

The genome of benchmarks is N outside of published sites, and scans of N take no time. This writes 10,000 peaks, those
on known bases first, and the accessible regions, with their surroundings, as a smaller genome in which random bases
replace N. It is good for timing only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from bertsnr_tools.io.fasta import Genome, fasta_text
from bertsnr_tools.io.files import open_input
from bertsnr_tools.io.intervals import Interval, read_bed
from bertsnr_tools.sequence.background import merge_intervals

AROUND = 500  # bp of the surroundings
BASES = np.frombuffer(b"ACGT", dtype=np.uint8)


def filled(sequence: bytes, random: np.random.Generator) -> bytes:
    """Sequence with random bases for N."""
    letters = np.frombuffer(sequence, dtype=np.uint8).copy()
    unknown = ~np.isin(letters, BASES)
    letters[unknown] = random.choice(BASES, int(unknown.sum()))
    return letters.tobytes()


def known(genome: Genome, row: list[str]) -> bool:
    """Whether half of the 200 bp around the summit of a narrowPeak line are known."""
    start = max(0, int(row[1]) + int(row[9]) - 100)
    return genome.fetch(row[0], start, start + 200).count(b"N") <= 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("genome", "peaks", "accessible", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--peaks", dest="count", type=int, default=10_000)
    arguments = parser.parse_args()
    arguments.out.mkdir(exist_ok=True)
    genome, random = Genome(arguments.genome), np.random.default_rng(1)
    with open_input(str(arguments.peaks)) as stream:
        every = [line.split("\t") for line in stream.read().decode().splitlines()]
    rows = sorted(
        (row for row in every if row[0] in genome.lengths), key=lambda row: (-known(genome, row), -float(row[6]))
    )
    rows = rows[: arguments.count]
    peaks = [Interval(row[0], int(row[1]), int(row[2])) for row in rows]
    accessible = [one for one in read_bed(str(arguments.accessible)) if one.chrom in genome.lengths]
    wide = [one._replace(start=max(0, one.start - AROUND), end=one.end + AROUND) for one in (*peaks, *accessible)]
    blocks = merge_intervals(wide)
    before = {
        chrom: np.cumsum(spans[:, 1] - spans[:, 0]) - (spans[:, 1] - spans[:, 0]) for chrom, spans in blocks.items()
    }

    def moved(interval: Interval) -> int:
        """The start of an interval in the smaller genome."""
        spans = blocks[interval.chrom]
        row = int(np.searchsorted(spans[:, 0], interval.start, side="right")) - 1
        return int(before[interval.chrom][row]) + interval.start - int(spans[row, 0])

    with (arguments.out / "genome.fa").open("wb") as stream:
        for chrom, spans in blocks.items():
            sequence = b"".join(
                genome.fetch(chrom, start, min(end, genome.lengths[chrom])) for start, end in spans.tolist()
            )
            stream.write(fasta_text(chrom, "", filled(sequence, random)))
    with (arguments.out / "peaks.narrowPeak").open("w") as stream:
        for row, peak in zip(rows, peaks):
            start = moved(peak)
            print(row[0], start, start + peak.end - peak.start, *row[3:], sep="\t", file=stream)
    with (arguments.out / "atac.bed").open("w") as stream:
        for one in accessible:
            start = moved(one)
            print(one.chrom, start, start + one.end - one.start, sep="\t", file=stream)


if __name__ == "__main__":
    main()
