#!/usr/bin/env python3
"""Join the shards of a scan.

gather.py sites OUT.bed.gz OUT.tsv MODEL [FACTOR ...] -- SHARD.bed ...
gather.py scores GENOME.fai OUT.bw SHARD.bw ...

OUT.tsv gets a line for the model, or for each of its factors (MODEL:FACTOR): name, number of sites, the bases in them,
and their mean score.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from bertsnr_tools.io.bigwig import read_bigwig
from bertsnr_tools.io.files import index_bed, open_output
from bertsnr_tools.io.tracks import BigWig


def main(kind: str, *arguments: str) -> None:
    if kind == "sites":
        bed, summary, *rest = arguments
        join_beds(bed, summary, rest[: rest.index("--")], rest[rest.index("--") + 1 :])
    else:
        index, bigwig, *shards = arguments
        lengths = {row.split("\t")[0]: int(row.split("\t")[1]) for row in Path(index).read_text().splitlines()}
        join_bigwigs(shards, bigwig, lengths)


class Count:
    """Number of sites, their bases and the sum of their scores."""

    def __init__(self) -> None:
        self.sites = self.bases = self.total = 0

    def add(self, bases: int, score: int) -> None:
        self.sites, self.bases, self.total = self.sites + 1, self.bases + bases, self.total + score

    def line(self, name: str) -> str:
        return f"{name}\t{self.sites}\t{self.bases}\t{self.total / self.sites if self.sites else math.nan:.1f}\n"


def join_beds(output: str, summary: str, names: Sequence[str], shards: Sequence[str]) -> None:
    """Concatenate the shards, index the result, and write the summary.

    Parameters
    ----------
    names : of the model, then of its factors; without factors, all sites count for the model
    """
    model, *factors = names
    counts, reach = {name: Count() for name in factors or names}, 0
    with open_output(output) as stream:
        for path in shards:
            text = Path(path).read_bytes()
            stream.write(text)
            for row in text.decode().splitlines():
                _, start, end, name, score, *_ = row.split("\t")
                counts[name if factors else model].add(int(end) - int(start), int(score))
                reach = max(reach, int(end))
    index_bed(output, reach)
    Path(summary).write_text(
        "".join(count.line(f"{model}:{name}" if factors else name) for name, count in counts.items())
    )


def join_bigwigs(shards: Sequence[str], output: str, lengths: dict[str, int]) -> None:
    joined = BigWig(output, lengths, merge=True)
    for path in shards:
        for chrom, rows in read_bigwig(path):
            joined.add_intervals(chrom, rows, int(rows["end"][-1]))
    joined.write()


if __name__ == "__main__":
    main(*sys.argv[1:])
