#!/usr/bin/env python3
"""Put the shards of one model together: gather.py NAME GENOME.fai OUT.bed.gz OUT.bw OUT.tsv SHARD.bed … SHARD.bw …

The line in OUT.tsv holds the model's name, its sites, the bases in them, and their mean score.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pyBigWig

from bertsnr_tools.io.files import index_bed, open_output
from bertsnr_tools.io.tracks import BigWig

PIECE = 1_000_000


def main(name: str, index: str, bed: str, bigwig: str, line: str, *shards: str) -> None:
    sites = bases = total = 0
    with open_output(bed) as stream:
        for path in shards[: len(shards) // 2]:
            text = Path(path).read_bytes()
            stream.write(text)
            for row in text.splitlines():
                _, start, end, _, score, *_ = row.split(b"\t")
                sites, bases, total = sites + 1, bases + int(end) - int(start), total + int(score)
    index_bed(bed)
    lengths = {row.split("\t")[0]: int(row.split("\t")[1]) for row in Path(index).read_text().splitlines()}
    whole = BigWig(bigwig, lengths, merge=True)
    for path in shards[len(shards) // 2 :]:
        with pyBigWig.open(path) as part:
            for chrom, length in part.chroms().items():
                for start in range(0, length, PIECE):
                    end = min(length, start + PIECE)
                    if part.stats(chrom, start, end, type="coverage", exact=True)[
                        0
                    ]:  # most of the genome is in other shards
                        whole.add(chrom, start, part.values(chrom, start, end, numpy=True))
    whole.write()
    Path(line).write_text(f"{name}\t{sites}\t{bases}\t{total / sites if sites else math.nan:.1f}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
