#!/usr/bin/env python3
"""Join the shards of a scan.

gather.py sites GENOME.fai OUT.bed.gz OUT.bb OUT.tsv MODEL [FACTOR ...] -- SHARD.bb ...
gather.py scores GENOME.fai OUT.bw SHARD.bw ...

Sites are bigBed, as `bertsnr predict -o SHARD.bb` writes it. In OUT.bed.gz, chromosomes have the order of the genome.
OUT.tsv gets a line for the model, or for each of its factors (MODEL:FACTOR): name, number of sites, the bases in them,
and their mean score.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from bertsnr_tools.io.bigbed import BigBed, read_bigbed
from bertsnr_tools.io.bigwig import read_bigwig
from bertsnr_tools.io.files import index_file, open_output
from bertsnr_tools.io.tracks import BigWig, site_schema


def main(kind: str, index: str, *arguments: str) -> None:
    lengths = {row.split("\t")[0]: int(row.split("\t")[1]) for row in Path(index).read_text().splitlines()}
    if kind == "sites":
        bed, bigbed, summary, *rest = arguments
        join_bigbeds(rest[rest.index("--") + 1 :], bigbed, lengths)
        write_bed(bigbed, bed, list(lengths))
        summarise(bigbed, summary, rest[: rest.index("--")])
    else:
        bigwig, *shards = arguments
        join_bigwigs(shards, bigwig, lengths)


class Count:
    """Number of sites, their bases and the sum of their scores."""

    def __init__(self) -> None:
        self.sites = self.bases = self.total = 0

    def add(self, bases: int, score: int) -> None:
        self.sites, self.bases, self.total = self.sites + 1, self.bases + bases, self.total + score

    def line(self, name: str) -> str:
        return f"{name}\t{self.sites}\t{self.bases}\t{self.total / self.sites if self.sites else math.nan:.1f}\n"


def join_bigbeds(shards: Sequence[str], output: str, lengths: dict[str, int]) -> None:
    joined = BigBed(output, site_schema(True), lengths)
    for path in shards:
        for line in read_bigbed(path).lines:
            chrom, start, end, rest = line.split("\t", 3)
            joined.add(chrom, int(start), int(end), rest)
    joined.write()


def write_bed(bigbed: str, output: str, chroms: Sequence[str]) -> None:
    """Write the sites as BED6 with an index, chromosomes in this order."""
    reach = 0
    with open_output(output) as stream:
        for line in read_bigbed(bigbed, chroms).lines:
            fields = line.split("\t", 6)[:6]
            stream.write(("\t".join(fields) + "\n").encode())
            reach = max(reach, int(fields[2]))
    index_file(output, "bed", reach)


def summarise(bigbed: str, output: str, names: Sequence[str]) -> None:
    """Count sites.

    Parameters
    ----------
    names : of the model, then of its factors; without factors, all sites count for the model
    """
    model, *factors = names
    counts = {name: Count() for name in factors or names}
    for line in read_bigbed(bigbed).lines:
        _, start, end, name, score, *_ = line.split("\t", 5)
        counts[name if factors else model].add(int(end) - int(start), int(score))
    lines = (count.line(f"{model}:{name}" if factors else name) for name, count in counts.items())
    Path(output).write_text("".join(lines))


def join_bigwigs(shards: Sequence[str], output: str, lengths: dict[str, int]) -> None:
    joined = BigWig(output, lengths, merge=True)
    for path in shards:
        for chrom, rows in read_bigwig(path):
            joined.add_intervals(chrom, rows, int(rows["end"][-1]))
    joined.write()


if __name__ == "__main__":
    main(*sys.argv[1:])
