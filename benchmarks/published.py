#!/usr/bin/env python3
"""The published data sets of BertSNR: windows and labels, one per line, each positive followed by its shuffle.

    python benchmarks/published.py sequence.txt label.txt > windows.fa

converts such a pair (plain or gzip) to windows for `bertsnr evaluate`, with site=a-b in the headers of labelled
ones.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bertsnr_tools.io.fasta import fasta_text
from bertsnr_tools.io.files import open_input
from bertsnr_tools.io.intervals import Interval, read_bed
from bertsnr_tools.sequence.encoding import encode
from bertsnr_tools.sequence.windows import Windows


def read_pair(sequences: str, labels: str) -> tuple[np.ndarray, np.ndarray]:
    """Codes and labels of a pair of files, both uint8, shape (lines, window).

    Raises
    ------
    ValueError : the files do not pair up, or a label is neither 0 nor 1.
    """
    lines = []
    for path in (sequences, labels):
        with open_input(path) as stream:
            lines.append(stream.read().split())
    for number, (sequence, label) in enumerate(zip(*lines), 1):
        if len(sequence) != len(label) or label.strip(b"01"):
            raise ValueError(
                f"line {number}: {len(sequence)} bases, labels {label.decode()[:20]}...; expected 0 or 1 for each base"
            )
    if len(lines[0]) != len(lines[1]):
        raise ValueError(f"{sequences} has {len(lines[0])} lines, {labels} {len(lines[1])}")
    return np.stack([encode(line) for line in lines[0]]), np.stack(
        [np.frombuffer(line, dtype=np.uint8) - ord("0") for line in lines[1]]
    )


def fasta(windows: Windows) -> Iterator[bytes]:
    """Windows as FASTA for the commands: every run of labelled bases is a site."""
    for record, row in zip(windows.records(), windows.labels):
        borders = np.nonzero(np.diff(row.astype(np.int8), prepend=0, append=0))[0].tolist()
        sites = ",".join(f"{start}-{end}" for start, end in zip(borders[::2], borders[1::2]))
        yield fasta_text(record.name, f"site={sites}" if sites else "", record.sequence)


def read_published(data: Path, tf: str) -> Windows:
    """All windows of a data set in published order: rows 0, 2, … positive, rows 1, 3, … their shuffles."""
    codes, labels = read_pair(*(str(data / "windows" / tf / f"{name}.txt.gz") for name in ("sequence", "label")))
    intervals = published_intervals(data, tf, labels[::2])
    origins = [f"::{interval}" for interval in intervals] or [""] * (len(codes) // 2)
    names = [f"{tf}_{row // 2}{origins[row // 2]}{'_shuf1' if row % 2 else ''}" for row in range(len(codes))]
    return Windows(names, codes, labels)


def published_intervals(data: Path, tf: str, labels: np.ndarray) -> list[Interval]:
    """Intervals of the positive windows, from the BED of their sites; empty when rows and windows do not pair up.

    Parameters
    ----------
    labels : of the positive windows, shape (n, window)
    """
    path = data / "sites" / f"{tf}.bed.gz"
    sites = list(read_bed(str(path))) if path.exists() else []
    if [site.end - site.start for site in sites] != labels.sum(axis=1).tolist():
        return []
    length = labels.shape[1]
    intervals = []
    for site, row in zip(sites, labels):
        before = int(row.argmax())  # bases of the window before the site, in the window's own direction
        start = site.start - before if site.strand == "+" else site.end + before - length
        intervals.append(Interval(site.chrom, start, start + length, strand=site.strand))
    return intervals


def data_sets(data: Path) -> list[str]:
    """Names of all published data sets, in order."""
    return sorted(path.name for path in (data / "windows").iterdir())


class Split(NamedTuple):
    """The published division: the first fifth of the lines is the test part."""

    train: Windows
    test: Windows


def published_split(data: Path, tf: str) -> Split:
    """Training and test windows of a data set, positives and shuffles in turn."""
    windows = read_published(data, tf)
    border = len(windows) // 5 // 2 * 2
    return Split(windows.take(np.arange(border, len(windows))), windows.take(np.arange(border)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sequences")
    parser.add_argument("labels")
    arguments = parser.parse_args()
    codes, labels = read_pair(arguments.sequences, arguments.labels)
    names = [f"line{number}" for number in range(1, len(codes) + 1)]
    sys.stdout.buffer.writelines(fasta(Windows(names, codes, labels)))


if __name__ == "__main__":
    main()
