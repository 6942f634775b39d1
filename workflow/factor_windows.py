#!/usr/bin/env python3
"""Training data of the model for many factors: factor_windows.py DATA OUT

DATA contains windows/ (published by BertSNR's authors), sites/<TF>.bed.gz (JASPAR sites, BED6), chip/ (narrowPeak,
hg19) and genome/{hg19,hg38}.sparse.fa.gz (bgzip, indexed, N wherever no base is known). Needs the extra jaspar.

OUT/train/<TF>.fa.gz   windows of 100 bp around sites; chromosomes have the build as prefix (hg38.chr8)
OUT/test/<TF>.fa.gz    held-out windows in published order; <TF>.shuf.fa.gz: their published shuffles
OUT/background.fa.gz   background windows of hg19; background_held.fa.gz: in the held-out regions
OUT/known.bed.gz       possible sites on the known bases of hg19: JASPAR sites and ChIP-seq peaks
OUT/factors.tsv        sources and numbers

The test part is the first fifth of a factor's windows, as published; for sites from ChIP-seq peaks, their windows in
the held-out regions. Training windows do not touch these regions, contain only A, C, G and T, and share no 32-mer that
is unique in each genome with these regions or a test window of another factor.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from bertsnr_tools.io.fasta import fasta_text
from bertsnr_tools.sequence.background import NAME as BACKGROUND
from bertsnr_tools.sequence.encoding import OTHER, reverse_complement_codes
from factor_motifs import DIMERS, chip_factors, parts_of, read_peaks
from factor_sources import LETTERS, WINDOW, Factor, Source, Windows, held_out, window_name
from sparse_genome import WORD, SparseGenome, packed

FEWEST = 300  # training windows of a factor; with fewer, sites are sought in ChIP-seq peaks
BACKGROUND_WINDOWS, HELD_BACKGROUND_WINDOWS, BACKGROUND_TILINGS = 120_000, 40_000, 4


class HeldOutWords:
    """32-mers of test windows and held-out regions that occur at most once in each genome, and their factor."""

    def __init__(self, tests: dict[str, np.ndarray], genomes: Sequence[SparseGenome]):
        self._names = list(tests)
        parts = []
        for codes in tests.values():
            words = packed(codes)
            parts.append(np.unique(words.canonical[words.known]))
        for genome in genomes:
            words = packed(genome.codes)
            held = held_out(genome, genome.key_of(np.arange(len(words.known))), WORD)
            parts.append(np.unique(words.canonical[words.known & held]))
        sizes = [len(part) for part in parts]
        owners = np.repeat([*range(len(tests)), *(-1 for _ in genomes)], sizes)
        values, first, count = np.unique(np.concatenate(parts), return_index=True, return_counts=True)
        owners = np.where(count > 1, -1, owners[first])
        once = np.all([genome.copies(values) <= 1 for genome in genomes], axis=0)
        self._words, self._owners = values[once], owners[once]

    def shared(self, codes: np.ndarray, own: str = "") -> np.ndarray:
        """Whether windows contain one of the 32-mers, except the ones that only the factor `own` has."""
        number = self._names.index(own) if own in self._names else -2
        words = packed(codes)
        unique, inverse = np.unique(words.canonical, return_inverse=True)
        row = np.minimum(np.searchsorted(self._words, unique), len(self._words) - 1)
        hit = (self._words[row] == unique) & (self._owners[row] != number)
        return (hit[inverse.reshape(words.canonical.shape)] & words.known).any(axis=1)


def write_gzip(path: Path, text: bytes) -> None:
    path.write_bytes(gzip.compress(text, 9, mtime=0))


def training_rows(factor: Factor, windows: Windows, first: int, words: HeldOutWords, own: str = "") -> np.ndarray:
    """Rows from `first` on that may be used for training; the factor counts the others."""
    rows = np.arange(first, len(windows.codes))
    for reason, wrong in (
        ("letters", (windows.codes == OTHER).any(axis=1)),
        ("held", windows.held),
        ("overlap", words.shared(windows.codes, own)),
    ):
        dropped = int(wrong[rows].sum())
        setattr(factor, f"dropped_{reason}", getattr(factor, f"dropped_{reason}") + dropped)
        if reason == "overlap" and dropped > len(rows) / 2:
            factor.note = "most windows overlap tests of other factors"
        rows = rows[~wrong[rows]]
    return rows


def write_factor(
    out: Path, source: Source, words: HeldOutWords, factor: Factor, windows: Windows, shuffles: Windows | None = None
) -> bool:
    """Write a factor's windows, with those from its ChIP-seq peaks if there are few. False if there are too few."""
    border = len(windows.codes) // 5
    rows = training_rows(factor, windows, border, words, factor.name)
    train, test = windows.fasta(rows), windows.fasta(np.arange(border))
    factor.train, factor.test = len(rows), border
    extra = source.from_peaks(factor) if factor.train < FEWEST else None
    if extra is not None:
        rows = training_rows(factor, extra, 0, words)
        factor.from_peaks, factor.train = len(rows), factor.train + len(rows)
        train += extra.fasta(rows)
        if shuffles is None:  # a published test part stays as it is
            factor.test += int(extra.held.sum())
            test += extra.fasta(np.flatnonzero(extra.held))
    if not border and factor.train < FEWEST:
        return False
    write_gzip(out / "train" / f"{factor.name}.fa.gz", train)
    write_gzip(out / "test" / f"{factor.name}.fa.gz", test)
    if shuffles is not None:
        write_gzip(out / "test" / f"{factor.name}.shuf.fa.gz", shuffles.fasta(np.arange(border)))
    return True


def write_background(out: Path, source: Source, words: HeldOutWords) -> None:
    """Write background windows, at random positions of hg19 and on random strands."""
    genome, other, random = source.builds["hg19"], source.builds["hg38"], np.random.default_rng(1)
    starts = np.concatenate([genome.tiles(WINDOW, random) for _ in range(BACKGROUND_TILINGS)])
    starts = starts[np.sort(np.unique(starts, return_index=True)[1])]
    codes = genome.codes[starts[:, None] + np.arange(WINDOW)]
    known, held = (codes != OTHER).all(axis=1), held_out(genome, genome.key_of(starts))
    index = other.locate(codes).index
    free = ~held & ~words.shared(codes) & ~((index >= 0) & held_out(other, other.key_of(index)))
    for name, rows, most in (
        ("background", np.flatnonzero(known & free), BACKGROUND_WINDOWS),
        ("background_held", np.flatnonzero(known & held), HELD_BACKGROUND_WINDOWS),
    ):
        rows = rows[:most][np.argsort(starts[rows[:most]])]
        reverse = random.random(len(rows)) < 0.5
        letters = LETTERS[np.where(reverse[:, None], reverse_complement_codes(codes[rows]), codes[rows])]
        keys = genome.key_of(starts[rows]).tolist()
        records = [window_name(BACKGROUND, "hg19", genome, *pair) for pair in zip(keys, reverse.tolist())]
        text = b"".join(fasta_text(record, "", row.tobytes()) for record, row in zip(records, letters))
        write_gzip(out / f"{name}.fa.gz", text)


def write_known(out: Path, source: Source) -> None:
    """Write possible sites on the known bases of hg19; for a dimer also the peaks of its parts."""
    genome, chip = source.builds["hg19"], source.data / "chip"
    for name in (*chip_factors(chip), *DIMERS):
        peaks = read_peaks(chip, parts_of(name), genome)
        source.add_known(name, peaks.keys, peaks.sizes)
    lines = []
    for name, parts in source.known.items():
        for key, end in merged(np.concatenate(parts)).tolist():
            chrom, start = genome.position(key)
            lines.append((key, f"hg19.{chrom}\t{start}\t{start + end - key}\t{name}\n"))
    write_gzip(out / "known.bed.gz", "".join(line for _, line in sorted(lines)).encode())


def merged(spans: np.ndarray) -> np.ndarray:
    """Join overlapping [start, end), shape (n, 2)."""
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    reach = np.maximum.accumulate(spans[:, 1])
    first = np.flatnonzero(np.append(True, spans[1:, 0] >= reach[:-1])[: len(spans)])
    return np.stack([spans[first, 0], reach[np.append(first, len(spans))[1:] - 1]], axis=1)


def write_table(path: Path, factors: Sequence[Factor]) -> None:
    with path.open("w", newline="") as stream:
        columns = [column.name for column in fields(Factor)]
        writer = csv.DictWriter(stream, columns, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(factor) for factor in factors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    for name in ("train", "test"):
        (arguments.out / name).mkdir(parents=True, exist_ok=True)
    source = Source(arguments.data)
    entries = [source.collected(name) for name in source.names()]
    tests = {factor.name: windows.codes[: len(windows.codes) // 5] for factor, windows, _ in entries}
    words = HeldOutWords(tests, list(source.builds.values()))
    entries += [source.collected(name) for name in chip_factors(arguments.data / "chip") if name not in tests]
    factors = [entry[0] for entry in entries if write_factor(arguments.out, source, words, *entry)]
    write_table(arguments.out / "factors.tsv", factors)
    write_background(arguments.out, source, words)
    write_known(arguments.out, source)


if __name__ == "__main__":
    main()
