#!/usr/bin/env python3
"""Allele-specific binding, and speed: how well and how fast `bertsnr variants` scores changes.

    benchmarks/variants.py asb GENOME ASB.tsv.gz          # chrom, pos, ref, alt, tf, ref_reads, alt_reads, label
    benchmarks/variants.py snvs GENOME COUNT > snvs.vcf   # random substitutions of bases with 60 bases of ACGT around
    benchmarks/variants.py speed GENOME snvs.vcf -m CTCF [OPTIONS]

`asb` takes every factor with a model and at least ten rows labelled ASB. Its SNPs are scored by the factor's own
shipped model, if any, by the factor of `human`, and by the best PWM of JASPAR of its name. AUROC and AUPRC judge the
absolute change of ASB against other SNPs; "sign" is the fraction of ASB SNPs whose change has the direction of the
reads, and "sign_p" the same among the ASB SNPs whose change has p <= 0.05; their number and the number of other SNPs
with such a change follow. The PWM is judged by the change of -log10 p of its best match as well; the better of its two
AUPRCs counts.
"""

from __future__ import annotations

import csv
import gzip
import os
import resource
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

import bertsnr_tools as bt
from bertsnr_tools.metrics import Ranking
from bertsnr_tools.variation.alleles import Change, minimal_edit
from bertsnr_tools.variation.run import new_scorer
from bertsnr_tools.variation.scoring import Effect

MIN_ASB, MAX_P = 10, 0.05
ACGT_AROUND = 60


class Judged(NamedTuple):
    """How well changes tell allele-specific binding."""

    auroc: float
    auprc: float
    sign: float
    sign_p: float
    asb_p: int
    other_p: int


def judge(rows: list[dict[str, str]], effects: list[Effect | None], changes: np.ndarray) -> Judged:
    """Compare changes, shape (n,), with the reads."""
    label = np.array([row["label"] == "ASB" for row in rows])
    reads = np.array([int(row["alt_reads"]) - int(row["ref_reads"]) for row in rows])
    agree = np.sign(changes) == np.sign(reads)
    significant = np.array([effect is not None and effect.p is not None and effect.p <= MAX_P for effect in effects])
    size, both = np.abs(changes), label & significant
    ranking = Ranking(label, size, 0.5).six_metrics()
    signs = agree[both].mean() if both.any() else np.nan
    counts = int(both.sum()), int((significant & ~label).sum())
    return Judged(ranking["auc"], ranking["aupr"], agree[label].mean(), signs, *counts)


def judge_model(name: str, genome: bt.Genome, rows: list[dict[str, str]]) -> Judged:
    """Score the SNPs of a factor with a model; a PWM also by its -log10 p."""
    model = bt.load_model(name)
    changes = [Change(row["chrom"], (minimal_edit(int(row["pos"]) - 1, row["ref"], row["alt"]),)) for row in rows]
    scorer = new_scorer([model.network], model.runtime)
    effects = [found[0] for found in scorer.score(genome, changes)]
    odds = np.array([effect.change if effect else 0.0 for effect in effects])
    judged = judge(rows, effects, odds)
    if name.startswith("jaspar:"):
        levels = np.array([(effect.ref_score, effect.alt_score) if effect else (0, 0) for effect in effects])
        p = 4 * levels / (1 - levels)
        judged = max(judged, judge(rows, effects, p[:, 1] - p[:, 0]), key=lambda one: one.auprc)
    return judged


def asb(genome_path: str, table: str) -> None:
    genome = bt.Genome(genome_path)
    by_factor: dict[str, list[dict[str, str]]] = defaultdict(list)
    with gzip.open(table, "rt") as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            by_factor[row["tf"]].append(row)
    shipped = bt.shipped_models()
    print("factor\tsnps\tasb\tmodel", *Judged._fields, sep="\t")
    summary: dict[str, list[Judged]] = defaultdict(list)
    for factor, rows in sorted(by_factor.items()):
        count = sum(row["label"] == "ASB" for row in rows)
        if count < MIN_ASB or factor not in shipped:
            continue
        best: Judged | None = None
        for name in model_names(factor):
            judged = judge_model(name, genome, rows)
            print(factor, len(rows), count, name, *(f"{value:.3f}" for value in judged[:4]), *judged[4:], sep="\t")
            kind = name.partition(":")[0] if ":" in name else "own"
            summary[kind].append(judged)
            if kind != "jaspar":
                best = best or judged  # the factor's own model comes first
        if best:
            summary["own, else human"].append(best)
    for kind, found in summary.items():
        means = np.nanmean([one[:3] for one in found], axis=0)
        agree, asb_p = sum(one.sign_p * one.asb_p for one in found if one.asb_p), sum(one.asb_p for one in found)
        counts = f"{agree / asb_p:.3f}", asb_p, sum(one.other_p for one in found)
        print(f"mean of {len(found)}", "", "", kind, *(f"{mean:.3f}" for mean in means), *counts, sep="\t")


def model_names(factor: str) -> list[str]:
    """The models of a factor: its own, the factor of `human`, and JASPAR's PWM."""
    weights = Path(bt.__file__).parent / "weights"
    own = [factor] if (weights / f"{factor}.pt").exists() else []
    return [*own, f"human:{factor}", f"jaspar:{factor}"]


def snvs(genome_path: str, count: str) -> None:
    genome, rng = bt.Genome(genome_path), np.random.default_rng(1)
    found: list[tuple[str, int, str, str]] = []
    chroms = [chrom for chrom in genome.lengths if "_" not in chrom]
    weights = np.array([genome.lengths[chrom] for chrom in chroms], dtype=float)
    while len(found) < int(count):
        chrom = chroms[rng.choice(len(chroms), p=weights / weights.sum())]
        start = int(rng.integers(0, max(1, genome.lengths[chrom] - (1 << 20))))
        sequence = genome.fetch(chrom, start, min(genome.lengths[chrom], start + (1 << 20))).decode()
        known = np.frombuffer(sequence.encode(), dtype=np.uint8) != ord("N")
        runs = np.convolve(known, np.ones(2 * ACGT_AROUND + 1), mode="same") == 2 * ACGT_AROUND + 1
        for at in rng.permutation(np.nonzero(runs)[0])[:500].tolist():
            own = sequence[at]
            if own in "ACGT":
                found.append((chrom, start + at + 1, own, str(rng.choice([base for base in "ACGT" if base != own]))))
    order = {chrom: number for number, chrom in enumerate(genome.lengths)}
    chosen = sorted(set(found[: int(count)]), key=lambda one: (order[one[0]], one[1]))
    print("##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO")
    for chrom, pos, ref, alt in chosen:
        print(chrom, pos, ".", ref, alt, ".", ".", ".", sep="\t")


def speed(genome_path: str, vcf: str, *options: str) -> None:
    load = os.getloadavg()[0]
    began = time.monotonic()
    line = [sys.executable, "-m", "bertsnr_tools", "variants", "-f", genome_path, *options, "-o", os.devnull, vcf]
    subprocess.run(line, check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print("options\tseconds\tcpu_seconds\tpeak_mb\tload_before")
    cpu = used.ru_utime + used.ru_stime
    print(" ".join(options), f"{time.monotonic() - began:.1f}", f"{cpu:.1f}", used.ru_maxrss >> 10, load, sep="\t")


if __name__ == "__main__":
    commands = {"asb": asb, "snvs": snvs, "speed": speed}
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])
