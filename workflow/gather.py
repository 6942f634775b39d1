#!/usr/bin/env python3
"""Join the shards of one model: gather.py NAME GENOME.fai OUT.bed.gz OUT.bw OUT.tsv SHARD.bed ... SHARD.bw ...

OUT.tsv gets one line: the model's name, its number of sites, the bases in them, and their mean score.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import pyBigWig

from bertsnr_tools.io.files import index_bed, open_output
from bertsnr_tools.io.tracks import BigWig

BLOCK = 1_000_000  # bases read at once


def main(name: str, index: str, bed: str, bigwig: str, summary: str, *shards: str) -> None:
    beds, bigwigs = shards[: len(shards) // 2], shards[len(shards) // 2 :]
    join_beds(beds, bed, name, summary)
    lengths = {row.split("\t")[0]: int(row.split("\t")[1]) for row in Path(index).read_text().splitlines()}
    join_bigwigs(bigwigs, bigwig, lengths)


def join_beds(shards: Sequence[str], output: str, name: str, summary: str) -> None:
    """Concatenate the shards, index the result, and write the summary line."""
    sites = bases = total = 0
    with open_output(output) as stream:
        for path in shards:
            text = Path(path).read_bytes()
            stream.write(text)
            for row in text.splitlines():
                _, start, end, _, score, *_ = row.split(b"\t")
                sites, bases, total = sites + 1, bases + int(end) - int(start), total + int(score)
    index_bed(output)
    Path(summary).write_text(f"{name}\t{sites}\t{bases}\t{total / sites if sites else math.nan:.1f}\n")


def join_bigwigs(shards: Sequence[str], output: str, lengths: dict[str, int]) -> None:
    joined = BigWig(output, lengths, merge=True)
    for path in shards:
        with pyBigWig.open(path) as shard:
            for chrom, length in shard.chroms().items():
                for start in range(0, length, BLOCK):
                    end = min(length, start + BLOCK)
                    if shard.stats(chrom, start, end, type="coverage", exact=True)[0]:  # None or 0 in other shards
                        joined.add(chrom, start, shard.values(chrom, start, end, numpy=True))
    joined.write()


if __name__ == "__main__":
    main(*sys.argv[1:])
