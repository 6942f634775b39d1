#!/usr/bin/env python3
"""Join the shards of one model: gather.py NAME GENOME.fai OUT.bed.gz OUT.bw OUT.tsv SHARD.bed ... SHARD.bw ...

OUT.tsv gets one line: the model's name, its number of sites, the bases in them, and their mean score.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from bertsnr_tools.io.bigwig import read_bigwig
from bertsnr_tools.io.files import index_bed, open_output
from bertsnr_tools.io.tracks import BigWig


def main(name: str, index: str, bed: str, bigwig: str, summary: str, *shards: str) -> None:
    beds, bigwigs = shards[: len(shards) // 2], shards[len(shards) // 2 :]
    join_beds(beds, bed, name, summary)
    lengths = {row.split("\t")[0]: int(row.split("\t")[1]) for row in Path(index).read_text().splitlines()}
    join_bigwigs(bigwigs, bigwig, lengths)


def join_beds(shards: Sequence[str], output: str, name: str, summary: str) -> None:
    """Concatenate the shards, index the result, and write the summary line."""
    sites = bases = total = reach = 0
    with open_output(output) as stream:
        for path in shards:
            text = Path(path).read_bytes()
            stream.write(text)
            for row in text.splitlines():
                _, start, end, _, score, *_ = row.split(b"\t")
                sites, bases, total = sites + 1, bases + int(end) - int(start), total + int(score)
                reach = max(reach, int(end))
    index_bed(output, reach)
    Path(summary).write_text(f"{name}\t{sites}\t{bases}\t{total / sites if sites else math.nan:.1f}\n")


def join_bigwigs(shards: Sequence[str], output: str, lengths: dict[str, int]) -> None:
    joined = BigWig(output, lengths, merge=True)
    for path in shards:
        for chrom, rows in read_bigwig(path):
            joined.add_intervals(chrom, rows, int(rows["end"][-1]))
    joined.write()


if __name__ == "__main__":
    main(*sys.argv[1:])
