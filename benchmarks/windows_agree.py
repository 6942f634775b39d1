#!/usr/bin/env python3
"""Do `bertsnr windows` and the published windows agree, base by base and label by label?

    python benchmarks/windows_agree.py DATA [TF …]

For every data set whose sites (BED) and published windows pair up, cuts windows around the sites from the
sparse genome and compares them with the published windows wherever both cover a base on the same strand. Prints
one line per data set.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from bertsnr_tools.io.fasta import Genome
from bertsnr_tools.io.intervals import interval_from_name, read_bed
from bertsnr_tools.sequence.encoding import encode, reverse_complement_codes
from bertsnr_tools.sequence.windows import WindowCutter
from published import data_sets, published_intervals, read_published

NOTHING = 9  # no published window covers this base


def agreement(data: Path, tf: str, genomes: dict[str, Genome]) -> dict[str, int] | None:
    """Counts of sites, windows cut, bases compared and differences; None when sites and windows do not pair up."""
    published = read_published(data, tf)
    codes, labels = published.codes[::2], published.labels[::2]
    intervals = published_intervals(data, tf, labels)
    if not intervals:
        return None
    path = data / "sites" / f"{tf}.bed.gz"
    sites = list(read_bed(str(path)))
    build = "hg38" if sites[0].name.startswith("hg38") else "hg19"
    if build not in genomes:
        genomes[build] = Genome(str(data / "genome" / f"{build}.sparse.fa.gz"))
    bases: dict[tuple[str, str, int], int] = {}  # forward letter at each published base
    spans: dict[tuple[str, str, int], set[int]] = {}  # ends of the published sites that start here
    for interval, window, row in zip(intervals, codes, labels):
        if interval.strand == "-":
            window, row = reverse_complement_codes(window), row[::-1]
        for offset, code in enumerate(window.tolist()):
            bases[interval.chrom, interval.strand, interval.start + offset] = code
        start = interval.start + int(row.argmax())
        spans.setdefault((interval.chrom, interval.strand, start), set()).add(start + int(row.sum()))
    count = Counter(sites=len(sites), windows=0, compared=0, other_base=0, other_label=0, minus=0)
    for record in WindowCutter(genomes[build], labels.shape[1]).cut(sites):
        interval = interval_from_name(record.name, len(record.sequence))
        ours = encode(record.sequence)
        mine = np.zeros(len(ours), dtype=int)
        for span in record.description.removeprefix("site=").split(","):
            a, b = map(int, span.split("-"))
            mine[a:b] = 1
        if interval.strand == "-":
            ours, mine = reverse_complement_codes(ours), mine[::-1]
        theirs = np.array(
            [bases.get((interval.chrom, interval.strand, at), NOTHING) for at in range(interval.start, interval.end)]
        )
        wanted = np.zeros(len(ours), dtype=int)
        for start in range(interval.start, interval.end):
            for end in spans.get((interval.chrom, interval.strand, start), ()):
                if end <= interval.end:
                    wanted[start - interval.start : end - interval.start] = 1
        known = theirs != NOTHING
        count.update(
            windows=1,
            minus=interval.strand == "-",
            compared=int(known.sum()),
            other_base=int((theirs != ours)[known].sum()),
            other_label=int((wanted != mine)[known].sum()),
        )
    return dict(count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("tf", nargs="*")
    arguments = parser.parse_args()
    data = arguments.data
    genomes: dict[str, Genome] = {}
    total: Counter[str] = Counter()
    poor, unpaired = [], []
    print("TF", "sites", "windows", "fraction", "minus_strand", "bases_compared", "other_base", "other_label", sep="\t")
    for tf in arguments.tf or data_sets(data):
        row = agreement(data, tf, genomes)
        if row is None:
            unpaired.append(tf)
            continue
        fraction = row["windows"] / row["sites"]
        print(
            tf,
            row["sites"],
            row["windows"],
            f"{fraction:.4f}",
            row["minus"],
            row["compared"],
            row["other_base"],
            row["other_label"],
            sep="\t",
            flush=True,
        )
        total.update(row, sets=1)
        if fraction < 0.99 or row["other_base"] or row["other_label"]:
            poor.append(tf)
    sets = f"{total['sets']} data sets pair up, {len(unpaired)} do not ({', '.join(unpaired)})"
    print(f"{sets}; {total['windows']:,} windows of {total['sites']:,} sites,")
    print(f"{total['compared']:,} bases compared, {total['other_base']} differ, {total['other_label']} labels differ")
    print(f"below 99 % or different: {', '.join(poor) or 'none'}")
    sys.exit(bool(poor))


if __name__ == "__main__":
    main()
