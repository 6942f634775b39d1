#!/usr/bin/env python3
"""CTCF calls on contiguous genomic sequence against FIMO, both judged by ENCODE ChIP-seq peaks.

    python benchmarks/genome.py DATA [--model CTCF] [--figure genome.png]

DATA contains regions/*.hg19.fa.gz and `LIFTED`, peaks/ (ENCODE CTCF and RAD21 peaks of three cell lines, JASPAR
2018's scan with MA0139.1) and genome/hg19.sparse.fa.gz. FIMO is memelite's, with MA0139.1 of JASPAR 2018. A call is
right when it lies in a CTCF or RAD21 peak of any cell line; recall is over the CTCF peaks of GM12878. Of overlapping
calls only the best counts, for both methods. For each group of regions, and for all, the output has calls, right calls
and peaks found at the number of calls that FIMO makes at p < 1e-5 there, with 95 % intervals over blocks of 50 kb, and
the number of calls that find half of the peaks; then border errors of calls that overlap a site of JASPAR's scan, and
the fractions of held-out background windows and of their shuffles with low p-values.

`LIFTED` is a region of hg38. Its sequence gets coordinates of hg19 by the 32-mers that it has once and that are known
in hg19: between two of them, if both have the same distance in both builds. The rest of it is left out.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bertsnr_tools.io.fasta import Genome, fasta_text, read_records
from bertsnr_tools.io.intervals import Interval, read_bed
from bertsnr_tools.sequence.background import merge_intervals
from bertsnr_tools.sequence.encoding import encode
from commands import bertsnr

sys.path.append(str(Path(__file__).parents[1] / "workflow"))
from sparse_genome import WORD, packed  # noqa: E402

LIFTED = "chr2_1-2333275.hg38.fa.gz"
ADDED = "chr20_42220611-42542245.hg19.fa.gz"  # no model was developed on it
LEAST = 1e-5  # FIMO's p-value at which methods are compared
BLOCK = 50_000
LEVELS = (0.1, 0.03, 0.01, 0.003, 0.001)  # p-values of the calibration
HELD = ("chr6", "chr17", "chr20", "chr22")  # held out of all shipped models


class Call(NamedTuple):
    """A called site and its score."""

    score: float
    interval: Interval


class Region(NamedTuple):
    """Contiguous sequence of hg19, and the group of regions that it is counted in."""

    group: str
    interval: Interval
    sequence: bytes


def regions(data: Path) -> Iterator[Region]:
    """The regions, each in one group."""
    for path in sorted((data / "regions").glob("*.hg19.fa.gz")):
        record = next(read_records(str(path)))
        group = "chr20:42.2-42.5 Mb" if path.name == ADDED else "development"
        yield Region(group, record.interval, record.sequence)
    record = next(read_records(str(data / "regions" / LIFTED)))
    whole = record.interval
    hg19 = Genome(str(data / "genome/hg19.sparse.fa.gz"))
    for start, end, shift in equal_stretches(hg19.fetch(whole.chrom, 0, 2 * whole.end), record.sequence):
        yield Region("chr2:0-2.3 Mb", Interval(whole.chrom, start, end), record.sequence[start + shift : end + shift])


def equal_stretches(known: bytes, sequence: bytes) -> list[tuple[int, int, int]]:
    """Start and end in `known`, N where unknown, and shift of stretches of `sequence` that are in both; see the top."""
    one, other = packed(encode(known)), packed(encode(sequence))
    words, first, count = np.unique(other.canonical[other.known], return_index=True, return_counts=True)
    where = np.flatnonzero(other.known)[first]
    starts = np.flatnonzero(one.known & np.isin(one.canonical, words[count == 1]))
    at = where[np.searchsorted(words, one.canonical[starts])]
    forward = one.reverse[starts] == other.reverse[at]
    pairs = zip(starts[forward].tolist(), (at - starts)[forward].tolist())
    stretches = []
    for shift, run in itertools.groupby(pairs, key=lambda pair: pair[1]):
        of_run = [start for start, _ in run]
        stretches.append((of_run[0], of_run[-1] + WORD, shift))
    return [(start, end, shift) for start, end, shift in stretches if end - start >= BLOCK]


def fimo(region: Region) -> list[Call]:
    """Matches of MA0139.1 with p < 1e-3; the score is -log10 p."""
    from memelite import fimo as scan
    from pyjaspar import jaspardb

    counts = jaspardb(release="JASPAR2018").fetch_motif_by_id("MA0139.1").counts
    matrix = np.array([counts[letter] for letter in "ACGT"], dtype=float)
    letters = np.frombuffer(region.sequence, dtype=np.uint8)
    one_hot = np.stack([letters == ord(letter) for letter in "ACGT"]).astype(np.int8)[None]
    found = scan({"CTCF": matrix / matrix.sum(axis=0)}, one_hot, threshold=1e-3)[0]
    rows = zip(found["start"], found["end"], found["strand"], found["p-value"])
    chrom, first = region.interval[:2]
    return [
        Call(-np.log10(max(p, 1e-300)), Interval(chrom, first + int(a), first + int(b), strand=strand))
        for a, b, strand, p in rows
    ]


def ours(model: str, scanned: Iterable[Region]) -> list[Call]:
    """Sites with p < 0.1; the score is the log odds."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "regions.fa"
        names = (f"{chrom}:{start + 1}-{end}" for _, (chrom, start, end, *_), _ in scanned)
        path.write_bytes(b"".join(fasta_text(name, "", region.sequence) for name, region in zip(names, scanned)))
        lines = bertsnr("predict", "-m", model, "-t", "p=0.1", "--format", "narrowpeak", path).splitlines()
    rows = [line.split("\t") for line in lines]
    return [Call(float(row[6]), Interval(row[0], int(row[1]), int(row[2]), strand=row[5])) for row in rows]


def best_of_overlapping(calls: Iterable[Call]) -> list[Call]:
    """Calls by falling score, without those that overlap a better one."""
    kept: list[Call] = []
    taken: dict[tuple[str, int], list[Interval]] = {}
    for call in sorted(calls, reverse=True):
        chrom, start, end = call.interval[:3]
        cells = [(chrom, cell) for cell in range(start // 1000, end // 1000 + 1)]
        if any(other.start < end and other.end > start for cell in cells for other in taken.get(cell, [])):
            continue
        kept.append(call)
        for cell in cells:
            taken.setdefault(cell, []).append(call.interval)
    return kept


def touched(interval: Interval, spans: dict[str, np.ndarray]) -> int:
    """Index of the first span on the chromosome that overlaps the interval, or -1."""
    rows = spans.get(interval.chrom, np.empty((0, 2), dtype=int))
    at = int(np.searchsorted(rows[:, 1], interval.start, side="right"))
    return at if at < len(rows) and rows[at, 0] < interval.end else -1


class Judged(NamedTuple):
    """Per call, by falling score: is it right, is it the first in a peak, and its block."""

    right: np.ndarray
    new: np.ndarray
    block: np.ndarray

    def within(self, blocks: np.ndarray) -> Judged:
        """The calls in some blocks, a bool for each."""
        return Judged(*(column[blocks[self.block]] for column in self))


def judge(
    calls: list[Call], truth: dict[str, np.ndarray], peaks: dict[str, np.ndarray], blocks: dict[tuple[str, int], int]
) -> Judged:
    seen: set[tuple[str, int]] = set()
    right, new, block = [], [], []
    for call in calls:
        peak = (call.interval.chrom, touched(call.interval, peaks))
        right.append(touched(call.interval, truth) >= 0)
        new.append(peak[1] >= 0 and peak not in seen)
        seen.add(peak)
        block.append(blocks[call.interval.chrom, call.interval.start // BLOCK])
    return Judged(*(np.array(column) for column in (right, new, block)))


def ratio_interval(one: np.ndarray, other: np.ndarray, count: int) -> str:
    """Ratio of the numbers of calls, with its 95 % bootstrap interval over blocks.

    Parameters
    ----------
    one, other : block of each call that counts, shape (calls,)
    count : number of blocks
    """
    sums = [np.bincount(blocks, minlength=count) for blocks in (one, other)]
    drawn = np.random.default_rng(1).integers(0, count, (10_000, count))
    low, high = np.quantile(sums[0][drawn].sum(axis=1) / np.maximum(1, sums[1][drawn].sum(axis=1)), (0.025, 0.975))
    return f"{sums[0].sum() / sums[1].sum():.2f} ({low:.2f} to {high:.2f})"


def border_errors(calls: list[Call], known: dict[str, np.ndarray]) -> np.ndarray:
    """Distances in bp of both borders from the borders of the JASPAR site that a call overlaps."""
    errors = []
    for call in calls:
        at = touched(call.interval, known)
        if at >= 0:
            start, end = known[call.interval.chrom][at]
            errors += [abs(call.interval.start - start), abs(call.interval.end - end)]
    return np.array(errors)


def calibration(data: Path, model: str, exclude: list[Path]) -> list[str]:
    """Fractions of held-out background windows (disjoint, sorted) and of their shuffles with low p-values."""
    genome = data / "genome/hg19.sparse.fa.gz"
    with tempfile.TemporaryDirectory() as directory:
        within, background, shuffles, site = (
            Path(directory) / name for name in ("held.bed", "background.fa", "shuffles.fa", "site.bed")
        )
        lengths = [line.split("\t")[:2] for line in Path(f"{genome}.fai").read_text().splitlines()]
        within.write_text("".join(f"{chrom}\t0\t{length}\n" for chrom, length in lengths if chrom in HELD))
        site.write_text("chr6\t0\t1\n")
        excluded = [word for path in exclude for word in ("--exclude", path)]
        bertsnr(
            "windows",
            "-q",
            "--background",
            "-c",
            "1000000",
            "-b",
            within,
            *excluded,
            "-f",
            genome,
            "-o",
            background,
            site,
        )
        bertsnr("shuffle", "-q", "-o", shuffles, background)
        return [
            f"{title}\t{low_fractions(model, path)}"
            for title, path in (("held-out background windows", background), ("their shuffles", shuffles))
        ]


def low_fractions(model: str, windows: Path) -> str:
    """Percentage of these windows with a site below each p-value of LEVELS."""
    intervals = [record.interval for record in read_records(str(windows))]
    rows = [
        line.split("\t")
        for line in bertsnr("predict", "-m", model, "-t", "p=0.2", "--format", "narrowpeak", windows).splitlines()
    ]
    spans = {chrom: np.array([interval[1:3] for interval in intervals if interval.chrom == chrom]) for chrom in HELD}
    fractions = []
    for level in LEVELS:
        low = {
            (row[0], touched(Interval(row[0], int(row[1]), int(row[2])), spans))
            for row in rows
            if float(row[7]) > -np.log10(level)
        }
        fractions.append(f"p < {level:g}: {100 * len(low) / len(intervals):.3f} %")
    return "\t".join([f"{len(intervals)} windows", *fractions])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="CTCF")
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    directory = arguments.data / "peaks"
    every = sorted(directory.glob("encode_awg.*.hg19.bed.gz"))
    truth = merge_intervals(interval for path in every for interval in read_bed(str(path)))
    gm = merge_intervals(read_bed(str(directory / "encode_awg.Gm12878.ctcf.hg19.bed.gz")))
    known = merge_intervals(read_bed(str(directory / "jaspar2018_MA0139.1_scan.hg19.bed.gz")))

    scanned = list(regions(arguments.data))
    calls = {"FIMO": [call for region in scanned for call in fimo(region)]}
    calls[arguments.model] = ours(arguments.model, scanned)
    calls = {name: best_of_overlapping(some) for name, some in calls.items()}
    peaks: dict[str, list[list[int]]] = {}
    blocks: dict[tuple[str, int], int] = {}
    groups: list[str] = []  # of the blocks
    totals: Counter[str] = Counter()  # of the peaks
    for group, (chrom, start, end, *_), _ in scanned:
        inside = [span for span in gm[chrom].tolist() if span[0] < end and span[1] > start]
        peaks.setdefault(chrom, []).extend(inside)
        totals.update({group: len(inside), "all": len(inside)})
        for cell in range(start // BLOCK, (end - 1) // BLOCK + 1):
            if blocks.setdefault((chrom, cell), len(blocks)) == len(groups):
                groups.append(group)
    spans = {chrom: np.array(sorted(rows)) for chrom, rows in peaks.items()}
    judged = {name: judge(some, truth, spans, blocks) for name, some in calls.items()}
    count = sum(call.score > -np.log10(LEAST) for call in calls["FIMO"])
    for title in (*dict.fromkeys(groups), "all"):
        chosen = np.array([title in ("all", name) for name in groups])
        of_group = {name: some.within(chosen) for name, some in judged.items()}
        print(f"{title}: {totals[title]} peaks of GM12878 in {chosen.sum()} blocks")
        compare(of_group, int(chosen[judged["FIMO"].block[:count]].sum()), totals[title])
    errors = border_errors(calls[arguments.model][:count], known)
    quantiles = f"median {np.median(errors):g} bp, 90 % at most {np.quantile(errors, 0.9):g} bp"
    print(f"border error\t{quantiles}, {len(errors)} borders")
    print(*calibration(arguments.data, arguments.model, every), sep="\n")
    if arguments.figure:
        draw(arguments.figure, judged, totals["all"])


def compare(judged: dict[str, Judged], count: int, total: int) -> None:
    """Print both methods at this number of calls, with this number of peaks to find."""
    print("method", "calls", "in a peak", "peaks found", "calls for half of the peaks", sep="\t")
    halves = []
    for name, some in judged.items():
        enough = np.nonzero(np.cumsum(some.new) * 2 >= total)[0]
        halves.append(int(enough[0]) + 1 if len(enough) else 0)
        print(name, count, some.right[:count].sum(), some.new[:count].sum(), halves[-1] or "never", sep="\t")
    other, own = judged.values()
    blocks = np.unique(np.concatenate([own.block, other.block]), return_inverse=True)[1]
    split = blocks[: len(own.block)], blocks[len(own.block) :]
    for title, column in (("calls in a peak", "right"), ("peaks found", "new")):
        one, two = (part[:count][getattr(some, column)[:count]] for part, some in zip(split, (own, other)))
        print(f"ratio of {title}", ratio_interval(one, two, int(blocks.max()) + 1), sep="\t")
    if all(halves):
        print("ratio of calls for half of the peaks", f"{halves[1] / halves[0]:.2f}", sep="\t")


def draw(path: Path, judged: dict[str, Judged], total: int) -> None:
    """Precision against the fraction of peaks found."""
    from matplotlib.figure import Figure

    figure = Figure((6, 5), layout="constrained")
    axes = figure.subplots()
    for name, some in judged.items():
        number = np.arange(1, len(some.right) + 1)
        axes.plot(np.cumsum(some.new) / total, np.cumsum(some.right) / number, label=name)
    axes.set_xlabel("peaks of GM12878 found")
    axes.set_ylabel("calls in a peak")
    axes.set_ylim(0, 1.02)
    axes.legend()
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
