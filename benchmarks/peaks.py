#!/usr/bin/env python3
"""Models trained from ChIP-seq peaks alone, beside models trained on JASPAR's sites.

    python benchmarks/peaks.py DATA FACTORS OUT [--only ARM,…] [TF.CELL …]

DATA has peaks (chip/), accessible regions (dnase/) and the genome (hg19.sparse.fa.gz, real bases around published sites
only); FACTORS is the output of workflow/factor_windows.py: JASPAR's sites as windows for training and for tests, which
lie on chr6, chr17, chr20 and chr22 or are the published test part. A peak is used if at least --bases of the 201 bp
around its summit are known. Each arm trains a model of equally many windows, at most --windows, with equal settings:

sites     JASPAR's training windows; background windows from everywhere
peaks     the strongest peaks outside of the held-out chromosomes: `predict --best` with the factor's matrix, `windows`.
          A window that has 30 bases in common with a test window is left out. Background from everywhere
within    the same windows; background from the accessible regions of the cell
half      the same windows; half of the background from accessible regions, half from elsewhere
round2    the model "peaks" calls the best sites of the same peaks, on which a new model is trained

JASPAR's sites are as wide as one of the versions of the factor's matrix; this version calls the sites in peaks, so that
the labels of both models are equally wide. Each line of OUT/peaks.tsv is a model: AUPR over bases and windows on
JASPAR's test windows and their shuffles; error of the borders of called sites (bp); the best match of its motif in
JASPAR. With --calls, each line of OUT/calls.tsv is a model, too: on held-out chromosomes, the fraction of accessible
regions without a peak of the factor that have a site, at thresholds where a fifth, or half, of its peaks have one.
Lines that exist are kept.
"""

from __future__ import annotations

import argparse
import gzip
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertsnr_tools.evaluation import evaluate
from bertsnr_tools.io.fasta import Genome, Record, fasta_text, read_records
from bertsnr_tools.io.intervals import Interval, read_bed
from bertsnr_tools.models.batching import base_probabilities
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.interface import Model
from bertsnr_tools.models.registry import load_models
from bertsnr_tools.sequence.background import merge_intervals
from bertsnr_tools.sequence.encoding import reverse_complement
from bertsnr_tools.sequence.windows import labelled_sites
from commands import bertsnr
from discover import verdict
from factors import ManyFactors
from motif_match import families

HELD = ("chr6", "chr17", "chr20", "chr22")
PEAKS = (  # the version of the matrix that is as wide as JASPAR's sites
    ("CTCF.GM12878", "MA1929.1"),
    ("GATA3.A549.no_chr1_8_21", "MA0037.3"),
    ("SRF.GM12878", "MA0083.2"),
    ("YY1.GM12878", "MA0095.2"),
    ("MAX.K562", "MA0058.2"),
    ("EBF1.GM12878", "MA0154.2"),
    ("JUND.K562", "MA0491.1"),
    ("NRF1.GM12878", "MA0506.1"),
    ("USF1.K562", "MA0093.2"),
    ("GATA2.K562", "MA0036.2"),
    ("HNF4A.HepG2.no_chr1_8_21", "MA0114.2"),
    ("ELK4.HeLa-S3", "MA0076.2"),
    ("RFX5.GM12878", "MA0510.1"),
    ("TFAP2A.HeLa-S3", "MA0003.2"),
)
TABLES = {
    "peaks": "peaks arm windows seconds nucleotide_aupr sequence_aupr border_error within_1_bp match name p verdict",
    "calls": "peaks arm bound unbound unbound_at_0.2 unbound_at_0.5",
}
COMMON = 30  # bases that a training window may not share with a test window
REACH = 100  # bp on either side of a summit
RECALLS = (0.2, 0.5)  # fractions of the bound regions that have a site
RELEASE = "jaspar2026"


def words(sequence: bytes) -> Iterator[bytes]:
    """All words of `COMMON` bases."""
    return (sequence[start : start + COMMON] for start in range(len(sequence) - COMMON + 1))


def write_windows(path: Path, records: Sequence[Record]) -> None:
    path.write_bytes(b"".join(fasta_text(*record) for record in records))


@dataclass
class Case:
    """The peaks of one factor, and the files made from them."""

    data: Path
    factors: Path
    out: Path
    name: str
    matrix: str
    limits: argparse.Namespace

    @property
    def tf(self) -> str:
        return self.name.split(".")[0]

    @property
    def genome(self) -> Genome:
        return Genome(self.data / "genome" / "hg19.sparse.fa.gz")

    def file(self, suffix: str) -> Path:
        return self.out / f"{self.name}.{suffix}"

    def accessible(self) -> list[Interval]:
        """DNase peaks of the cell."""
        return list(read_bed(str(self.data / "dnase" / f"{self.name.split('.')[1]}.hg19.bed.gz")))

    def known_regions(self) -> list[Interval]:
        """The parts of the genome without N, found once."""
        bed = self.out / "known.bed"
        if not bed.exists():
            genome = self.genome
            runs = (
                f"{chrom.chrom}\t{start + run.start()}\t{start + run.end()}\n"
                for chrom in genome.chromosomes()
                for start in range(0, chrom.end, 1 << 24)
                for run in re.finditer(b"[ACGT]+", genome.fetch(chrom.chrom, start, min(chrom.end, start + (1 << 24))))
            )
            bed.write_text("".join(runs))
        return list(read_bed(str(bed)))

    def prepare_peaks(self) -> None:
        """Write the usable peaks, the strongest first: held out, and others."""
        genome = self.genome
        with gzip.open(self.data / "chip" / f"{self.name}.hg19.narrowPeak.gz", "rt") as stream:
            rows = sorted((line.split("\t") for line in stream), key=lambda row: -float(row[6]))
        kept: dict[str, list[str]] = {"peaks": [], "held": []}
        for row in rows:
            start = int(row[1]) + int(row[9]) - REACH
            if row[0] in genome.lengths and start >= 0:
                sequence = genome.fetch(row[0], start, start + 2 * REACH + 1)
                if len(sequence) - sequence.count(b"N") >= self.limits.bases:
                    kept["held" if row[0] in HELD else "peaks"].append("\t".join(row))
        for kind, lines in kept.items():
            self.file(f"{kind}.narrowPeak").write_text("".join(lines))

    def windows(self, model: str | Path) -> list[Record]:
        """Windows around the best sites of the peaks, the strongest first; none like a test window."""
        calls = self.file("sites.bed")
        peaks = ("-b", self.file("peaks.narrowPeak"), "--summit", REACH, "--best")
        bertsnr("predict", "-q", "-@", 1, "-m", model, *peaks, "-f", self.genome.path, "-o", calls)
        bertsnr("windows", "-q", "-f", self.genome.path, "-o", self.file("windows.fa"), calls)
        tested = set()
        for record in read_records(str(self.factors / "test" / f"{self.tf}.fa.gz")):
            tested |= {*words(record.sequence), *words(reverse_complement(record.sequence))}
        found = {}
        for record in read_records(str(self.file("windows.fa"))):
            if not any(word in tested for word in words(record.sequence)):
                [(start, end), *_] = labelled_sites(record, "")
                found.setdefault(record.sequence[start - 5 : end + 5], record)  # peaks that overlap have one site
        return list(found.values())[: self.limits.windows]

    def background(self, arm: str, count: int) -> Path:
        """Background windows of an arm, outside of held-out chromosomes."""
        arm = arm if arm in ("within", "half") else "everywhere"
        path = self.file(f"background.{arm}.fa")
        if path.exists():
            return path
        allowed = [region for region in self.known_regions() if region.chrom not in HELD]
        accessible = [region for region in self.accessible() if region.chrom not in HELD]
        fraction = {"within": 1.0, "half": 0.5}.get(arm, 0.0)
        excluded = self.data / "chip" / f"{self.name}.hg19.narrowPeak.gz"
        text = b""
        for part, regions, avoid in (
            (fraction, accessible, ()),
            (1 - fraction, allowed, accessible if fraction else ()),
        ):
            if part:
                beds = [self.out / f"{self.name}.{kind}.bed" for kind in ("draw", "avoid")]
                for bed, intervals in zip(beds, (regions, avoid or [Interval("chr1", 0, 1)])):
                    bed.write_text("".join(f"{one.chrom}\t{one.start}\t{one.end}\n" for one in intervals))
                one_site = self.file("one.bed")
                one_site.write_text("".join(self.file("sites.bed").read_text().splitlines(keepends=True)[:1]))
                options = ("--background", "-c", round(part * count), "-b", beds[0])
                options += ("--exclude", beds[1], "--exclude", excluded)
                text += bertsnr("windows", "-q", *options, "-f", self.genome.path, one_site).encode()
        path.write_bytes(text)
        return path

    def records(self, arm: str) -> list[Record]:
        """Training windows of an arm."""
        peaks = self.file("peaks.fa")
        if not peaks.exists():
            self.prepare_peaks()
            write_windows(peaks, self.windows(f"jaspar:{self.matrix}"))
        from_peaks = list(read_records(str(peaks)))
        if arm == "round2":
            return self.windows(self.file("peaks.pt"))[: len(from_peaks)]
        if arm != "sites":
            return from_peaks
        sites = list(read_records(str(self.factors / "train" / f"{self.tf}.fa.gz")))
        order = np.random.default_rng(1).permutation(len(sites))[: len(from_peaks)]
        return [sites[row] for row in order]

    def train(self, arm: str) -> tuple[int, float]:
        """Train the model of an arm: number of windows, and seconds."""
        records = self.records(arm)
        if arm == "sites" and len(records) < len(list(read_records(str(self.file("peaks.fa"))))):
            print(f"{self.name}: JASPAR has only {len(records)} training windows", flush=True)
        positives = self.file(f"{arm}.train.fa")
        write_windows(positives, records)
        background = self.background(arm, 2 * self.limits.ratio * len(records))
        epochs = min(20, max(5, self.limits.steps * 32 // (len(records) * (2 + self.limits.ratio))))
        options = ("--epochs", epochs, "--background-ratio", self.limits.ratio, "--name", self.tf)
        start = time.perf_counter()
        model = self.file(f"{arm}.pt")
        bertsnr("train", "-q", "-@", 1, "-o", model, "--background", background, *options, positives)
        return len(records), time.perf_counter() - start

    def motif(self, arm: str) -> list[str]:
        """Best match in JASPAR of the motif that a model calls in the test windows: id, name, p and verdict."""
        test = self.file("test.fa")
        records = {one.name: one for one in read_records(str(self.factors / "test" / f"{self.tf}.fa.gz"))}
        write_windows(test, list(records.values())[: self.limits.tests])
        options = ("--forward", "-o", self.file(f"{arm}.meme"), "--compare", RELEASE)
        try:
            table = bertsnr("motifs", "-q", "-@", 1, "-m", self.file(f"{arm}.pt"), *options, test).splitlines()[1:]
        except subprocess.CalledProcessError:  # no site called
            table = []
        if not table:
            return ["-", "-", "-", "none"]
        _, target, factor, p, *_ = table[0].split("\t")
        known = families(RELEASE)
        return [target, factor, p, verdict(self.tf, target, known) if target in known else "other"]

    def regions(self) -> tuple[list[Interval], list[Interval]]:
        """Held out: windows of 200 bp around summits, and as wide ones in accessible regions without any peak."""
        genome = self.genome
        bound = []
        for line in self.file("held.narrowPeak").read_text().splitlines():
            row = line.split("\t")
            summit = int(row[1]) + int(row[9])
            bound.append(Interval(row[0], summit - REACH, summit + REACH))
        every = [peak for path in (self.data / "chip").glob(f"{self.tf}.*") for peak in read_bed(str(path))]
        spans = merge_intervals(every)
        unbound = []
        for region in self.accessible():
            middle = (region.start + region.end) // 2
            start, end = middle - REACH, middle + REACH
            near = spans.get(region.chrom, np.zeros((0, 2), dtype=int))
            first = np.searchsorted(near[:, 1], start, side="right")
            if region.chrom in HELD and not (first < len(near) and near[first, 0] < end):
                sequence = genome.fetch(region.chrom, start, end)
                if len(sequence) - sequence.count(b"N") >= self.limits.bases:
                    unbound.append(Interval(region.chrom, start, end))
        step = max(1, len(unbound) // self.limits.unbound)
        return bound, unbound[::step]

    def best_calls(self, arm: str, regions: Iterable[Interval]) -> np.ndarray:
        """Log odds of the best site of each region that has one."""
        bed = self.file("regions.bed")
        bed.write_text("".join(f"{region.chrom}\t{region.start}\t{region.end}\n" for region in regions))
        options = ("-t", 0.002, "--best", "--format", "narrowpeak", "-b", bed, "-f", self.genome.path)
        table = bertsnr("predict", "-q", "-@", 1, "-m", self.file(f"{arm}.pt"), *options)
        return np.array([float(line.split("\t")[6]) for line in table.splitlines()])

    def calls_at_recall(self, arm: str) -> list[str]:
        """Numbers of bound and unbound regions; fractions of the unbound with a site, see `RECALLS`."""
        bound, unbound = self.regions()
        levels, others = (self.best_calls(arm, regions) for regions in (bound, unbound))
        fractions = []
        for recall in RECALLS:
            rank = round(recall * len(bound))
            level = np.sort(levels)[-rank] if 0 < rank <= len(levels) else np.nan
            fractions.append(f"{np.mean(others >= level) * len(others) / len(unbound):.4f}" if level == level else "-")
        return [str(len(bound)), str(len(unbound)), *fractions]


def border_errors(model: Model, many: ManyFactors, tf: str, most: int) -> np.ndarray:
    """Distance (bp) of both borders of each test site from the called run of bases that overlaps it most."""
    windows = many.test_windows(tf, most)
    windows = windows.take(np.flatnonzero(windows.positive))
    called = base_probabilities(model, windows.codes, many.runtime) > model.info.threshold
    errors = []
    for label, row in zip(windows.labels, called):
        edges = np.diff(np.stack([label, row]).astype(np.int8), axis=1, prepend=0, append=0)
        start, end = (int(np.argmax(edges[0] == step)) for step in (1, -1))
        runs = list(zip(np.flatnonzero(edges[1] == 1).tolist(), np.flatnonzero(edges[1] == -1).tolist()))
        overlaps = [(min(end, last) - max(start, first), first, last) for first, last in runs]
        overlap, first, last = max(overlaps, default=(0, 0, 0))
        if overlap > 0:
            errors += [abs(first - start), abs(last - end)]
    return np.array(errors)


def measure(case: Case, arm: str) -> list[str]:
    """Train and measure a model: a line of the first table, without the names."""
    count, seconds = case.train(arm)
    runtime = Runtime()
    [model] = load_models([str(case.file(f"{arm}.pt"))], runtime)
    many = ManyFactors([model], runtime, case.factors)
    metrics = evaluate(model, many.test_windows(case.tf, case.limits.tests), runtime)
    errors = border_errors(model, many, case.tf, case.limits.tests)
    numbers = [metrics["nucleotide"]["aupr"], metrics["sequence"]["aupr"]]
    borders = [f"{np.median(errors):.1f}", f"{np.mean(errors <= 1):.3f}"] if len(errors) else ["-", "-"]
    return [str(count), f"{seconds:.0f}", *(f"{number:.4f}" for number in numbers), *borders, *case.motif(arm)]


class Table:
    """A table that gets a line for each arm, unless it has it."""

    def __init__(self, path: Path, columns: str):
        self._path = path
        if not path.exists():
            path.write_text("\t".join(columns.split()) + "\n")

    def has(self, *key: str) -> bool:
        return any(tuple(line.split("\t")[:2]) == key for line in self._path.read_text().splitlines())

    def add(self, *line: str) -> None:
        with self._path.open("a") as stream:
            print(*line, sep="\t", file=stream)
        print(*line, sep="\t", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("factors", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", metavar="TF.CELL", default=[name for name, _ in PEAKS])
    parser.add_argument("--only", default="peaks,sites", help="arms, separated by commas")
    parser.add_argument("--calls", action="store_true", help="also compare calls in accessible regions")
    parser.add_argument("--windows", type=int, default=800)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--ratio", type=int, default=2)
    parser.add_argument("--tests", type=int, default=400)
    parser.add_argument("--unbound", type=int, default=1000)
    parser.add_argument("--bases", type=int, default=120)
    arguments = parser.parse_args()
    arguments.out.mkdir(exist_ok=True)
    tables = {name: Table(arguments.out / f"{name}.tsv", columns) for name, columns in TABLES.items()}
    matrices = dict(PEAKS)
    for name in arguments.names:
        case = Case(arguments.data, arguments.factors, arguments.out, name, matrices[name], arguments)
        for arm in arguments.only.split(","):
            if not tables["peaks"].has(name, arm):
                tables["peaks"].add(name, arm, *measure(case, arm))
            if arguments.calls and not tables["calls"].has(name, arm):
                tables["calls"].add(name, arm, *case.calls_at_recall(arm))


if __name__ == "__main__":
    main()
