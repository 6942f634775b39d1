#!/usr/bin/env python3
"""What background windows cost and bring: models of one factor, by the weight of background windows in the loss.

    python benchmarks/background_weight.py FACTORS MODELS [--weights 0,0.1,1,4] TF …

FACTORS is the output of workflow/factor_windows.py. MODELS/<weight>/<TF>.pt is trained unless it exists: as `human` is,
but for one factor, from the shipped encoder, without the windows of chr8 and chr10. Those are the test here; `human`
was not trained on them either. AUPR over bases of the positive windows, once with their shuffles as negatives, as in
the published test, and once with `RATIO` genomic background windows for each, in which no site or peak of the factor is
known.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from bertsnr_tools.evaluation import evaluate
from bertsnr_tools.io.fasta import fasta_text
from bertsnr_tools.io.intervals import read_bed
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.registry import load_one
from bertsnr_tools.sequence.shuffle import shuffled_records
from bertsnr_tools.sequence.windows import Windows, loci, read_windows
from bertsnr_tools.training.factors import known_sites
from commands import bertsnr

HELD_OUT = ("chr8", "chr10")
RATIO = 10
TRAINING_WINDOWS = 16_000  # background windows of a training, which draws 2,000 to 15,000


def held_out(windows: Windows) -> Windows:
    """The windows on the held-out chromosomes, of any genome."""
    return windows.take(np.nonzero([chrom.rpartition(".")[2] in HELD_OUT for chrom in loci(windows)[1]])[0])


def train(path: Path, name: str, weight: str, factors: Path, background: Path, known: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options: list[object] = ["--batch-size", 32, "--epochs", 30, "--patience", 6, "--val-chroms", ",".join(HELD_OUT)]
    if float(weight):
        options += ["--background", background, "--background-ratio", weight, "--exclude", known]
    bertsnr("train", "-o", path, *options, f"{name}={factors / 'train' / name}.fa.gz")


def negatives(positives: Windows, background: Windows, free: np.ndarray) -> dict[str, Windows]:
    """Windows without a site by what they are: shuffles, and background windows."""
    rows = np.random.default_rng(1).choice(np.nonzero(free)[0], RATIO * len(positives), replace=False)
    shuffles = Windows.unlabelled(list(shuffled_records(positives.records())))
    return {"shuffles": shuffles, "background": background.take(rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("factors", type=Path)
    parser.add_argument("models", type=Path)
    parser.add_argument("names", nargs="+", metavar="TF")
    parser.add_argument("--weights", default="0,0.02,0.1,1,4,16")
    given = parser.parse_args()
    runtime, weights = Runtime.choose(), given.weights.split(",")
    every = read_windows(given.factors / "background.fa.gz", False)
    background, sites = held_out(every), list(read_bed(str(given.factors / "known.bed.gz")))
    some = given.models / "background.fa"
    given.models.mkdir(parents=True, exist_ok=True)
    rows = np.sort(np.random.default_rng(1).choice(len(every), min(len(every), TRAINING_WINDOWS), replace=False))
    some.write_bytes(b"".join(fasta_text(record.name, "", record.sequence) for record in every.take(rows).records()))
    columns = [f"{kind}_{model}" for model in (*weights, "human") for kind in ("shuffles", "background")]
    print("factor", "windows", *columns, sep="\t")
    table = []
    for name in given.names:
        own = [site for site in sites if site.name == name]
        known = given.models / f"{name}.bed"
        known.write_text("".join(f"{site.chrom}\t{site.start}\t{site.end}\t{name}\n" for site in own))
        positives = held_out(read_windows(given.factors / "train" / f"{name}.fa.gz", True))
        sets = negatives(positives, background, ~known_sites(background, [name], own)[:, 0])
        paths = [given.models / weight / f"{name}.pt" for weight in weights]
        for path, weight in zip(paths, weights):
            if not path.exists():
                train(path, name, weight, given.factors, some, known)
        values = []
        for model in (load_one(file, runtime) for file in (*map(str, paths), f"human:{name}")):
            for windows in sets.values():
                values.append(evaluate(model, Windows.joined([positives, windows]), runtime)["nucleotide"]["aupr"])
        table.append(values)
        print(name, len(positives), *(f"{value:.3f}" for value in values), sep="\t", flush=True)
    print("mean", "", *(f"{value:.3f}" for value in np.mean(table, axis=0)), sep="\t")


if __name__ == "__main__":
    main()
