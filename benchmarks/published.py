#!/usr/bin/env python3
"""The data sets that the authors of BertSNR published: windows and labels, one a line, each positive followed by its shuffle.

    python benchmarks/published.py sequence.txt label.txt > windows.fa

writes such a pair (plain or gzip) as windows that `bertsnr evaluate` reads: those with a label have site=a-b in their headers.
"""

from __future__ import annotations

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
                f"line {number}: {len(sequence)} bases, and labels {label.decode()[:20]}…; needed is 0 or 1 for each base"
            )
    if len(lines[0]) != len(lines[1]):
        raise ValueError(f"{sequences} has {len(lines[0])} lines, {labels} {len(lines[1])}")
    return np.stack([encode(line) for line in lines[0]]), np.stack(
        [np.frombuffer(line, dtype=np.uint8) - ord("0") for line in lines[1]]
    )


def fasta(windows: Windows) -> Iterator[bytes]:
    """Windows as the commands read them: every run of labelled bases is a site."""
    for record, row in zip(windows.records(), windows.labels):
        borders = np.nonzero(np.diff(row.astype(np.int8), prepend=0, append=0))[0].tolist()
        sites = ",".join(f"{start}-{end}" for start, end in zip(borders[::2], borders[1::2]))
        yield fasta_text(record.name, f"site={sites}" if sites else "", record.sequence)


def read_published(data: Path, tf: str) -> Windows:
    """All windows of a data set in published order: rows 0, 2, … positive, rows 1, 3, … their shuffles."""
    codes, labels = read_pair(*(str(data / "windows" / tf / f"{name}.txt.gz") for name in ("sequence", "label")))
    places = published_places(data, tf, labels[::2])
    names = [
        f"{tf}_{i // 2}{f'::{places[i // 2]}' if places else ''}{'_shuf1' if i % 2 else ''}" for i in range(len(codes))
    ]
    return Windows(names, codes, labels)


def published_places(data: Path, tf: str, labels: np.ndarray) -> list[Interval]:
    """Where the positive windows lie, from the BED of their sites; empty when rows and windows do not pair up.

    Parameters
    ----------
    labels : of the positive windows, shape (n, window)
    """
    path = data / "sites" / f"{tf}.bed.gz"
    sites = list(read_bed(str(path))) if path.exists() else []
    if [site.end - site.start for site in sites] != labels.sum(axis=1).tolist():
        return []
    length = labels.shape[1]
    places = []
    for site, row in zip(sites, labels):
        before = int(row.argmax())  # bases of the window before the site, in the window's own direction
        start = site.start - before if site.strand == "+" else site.end + before - length
        places.append(Interval(site.chrom, start, start + length, strand=site.strand))
    return places


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


def main(sequences: str, labels: str) -> None:
    codes, marks = read_pair(sequences, labels)
    sys.stdout.buffer.writelines(fasta(Windows([f"line{number}" for number in range(1, len(codes) + 1)], codes, marks)))


if __name__ == "__main__":
    main(*sys.argv[1:])
