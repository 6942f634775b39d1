#!/usr/bin/env python3
"""The paper's comparison on its published windows: BertSNR with two tasks and one, k = 3 to 6, two networks, and a
PWM.

    python benchmarks/paper.py encoders DATA TABLE
    python benchmarks/paper.py run DATA TABLE [--variants a,b] [--sets TF,TF]
    python benchmarks/paper.py report TABLE FIGURES
    python benchmarks/paper.py cross DATA TABLE FIGURE TF TF ... [--variant k3]
    python benchmarks/paper.py misses DATA TABLE TF TF ... [--variant k3]

Of each data set the first fifth of the lines is the test part, as published; it is used only for the final
measurement. A tenth of the loci of the rest is the validation part, for early stopping, for the choice of the
epoch, and for the choice among several starts. All networks train on the same positives, with the same
augmentation, and on the same new shuffles. `encoders` trains a model of other factors for each of k = 3 to 6, on
the same windows, for one epoch of about 3,000 steps; the variants k3 to k6 start from their encoders and train
half as long as the default. `run` adds a line to TABLE for each variant and data set that it
lacks; several runs may share a table, and TABLE.<TF>.<variant>.ckpt continues an interrupted training. Models
are kept as TABLE.<TF>.<variant>.pt. `report` prints the tables and draws the paper's figures. `cross` tests the
models of some factors on each other's test parts. `misses` counts unlabelled matches of the test part that
score as well as labelled sites under the PWM of the training sites, and how much of a model's errors they
explain.

Rows of the variant `encoder-0.1.0` were made as `default`, with the encoder of release 0.1.0, which `plain` started
from, too. They are reported, but cannot be made again.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from bertsnr_tools.cli.options import usable_cpus
from bertsnr_tools.evaluation import evaluate
from bertsnr_tools.io.motif_files import Motif
from bertsnr_tools.metrics import NAMES, aupr
from bertsnr_tools.models.batching import base_probabilities
from bertsnr_tools.models.bertsnr import BertSNR
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.files import load_model, save_model
from bertsnr_tools.models.pretrained import Pretrained, model_encoder, shipped_encoder
from bertsnr_tools.models.pwm import PwmModel
from bertsnr_tools.motifs.instances import letter_counts
from bertsnr_tools.sequence.windows import Windows, site_width
from bertsnr_tools.training.checkpoint import Checkpoint, digest
from bertsnr_tools.training.config import ModelDesign, Recipe, default_epochs, default_swap_fraction
from bertsnr_tools.training.data import TrainingInputs, split_data
from bertsnr_tools.training.fit import fit
from commands import bertsnr
from published import fasta, published_split

SETS = (
    "NR1H4 TEAD2 ZNF85 ZNF528 STAT1STAT2 ZBTB33 KLF4 HIF1A E2F1 RUNX2 SIX1 TP53 IRF1 EHF "
    "MEF2A CDX2 E2F4 TFDP1 SRF E2F6 STAT1 GATA3 YY1 AR"
).split()  # fmt: skip
SMALL = SETS[:6]  # fewer than 1,000 sites
LEVELS = ("nucleotide", "sequence")


class Variant(NamedTuple):
    """How one column of the tables is made.

    Attributes
    ----------
    arch : "bertsnr", "d-aednet", "deepsnr", or "matrix" for a PWM
    encoder : "shipped", "short" for a result of `encoders` with the same k, or "new"
    starts : random initializations, of which the best on validation is measured; those that fail to train (validation
        AUPR below 0.5, frequent with DeepSNR) are repeated, up to four times this number
    options : fields of the recipe
    """

    arch: str = "bertsnr"
    k: int = 3
    encoder: str = "shipped"
    starts: int = 1
    options: dict = {}


VARIANTS = {
    "default": Variant(),
    "D-AEDNet": Variant("d-aednet", 1, "new", 1, {"task_weight": 0.0}),
    "DeepSNR": Variant("deepsnr", 1, "new", 2, {"task_weight": 0.0, "epochs": 100, "patience": 20}),
    "Matching": Variant("matrix", 1),
    "k3": Variant(encoder="short"),
    "k3-single": Variant(encoder="short", options={"task_weight": 0.0}),
    "k4": Variant(k=4, encoder="short"),
    "k5": Variant(k=5, encoder="short"),
    "k6": Variant(k=6, encoder="short"),
    "plain": Variant(options={"swap_fraction": 0.0}),
    "new": Variant(encoder="new"),
    "new-plain": Variant(encoder="new", options={"swap_fraction": 0.0}),
}
EARLIER = "encoder-0.1.0"
PAIRS = [
    *(("k3", other) for other in ("k3-single", "k4", "k5", "k6")),
    *(("default", other) for other in ("D-AEDNet", "DeepSNR", "Matching", EARLIER)),
    *((EARLIER, other) for other in ("k3", "plain", "new")),
    ("new", "new-plain"),
]
COLUMNS = [
    "data",
    "sites",
    "variant",
    "epochs",
    "seconds",
    "validation",
    *(f"{level}_{name}" for level in LEVELS for name in NAMES),
]


def site_motif(name: str, positives: Windows) -> Motif:
    """The PWM of the labelled sites."""
    width = site_width(positives)
    whole = positives.take(np.flatnonzero(positives.labels.sum(axis=1) == width))
    columns = whole.labels.argmax(axis=1)[:, None] + np.arange(width)
    return Motif(name, letter_counts(np.take_along_axis(whole.codes, columns, axis=1)))


def encoders(data: Path, table: Path) -> None:
    """Train the models of other factors that do not exist yet, TABLE.encoder3.pt to TABLE.encoder6.pt."""
    pooled = f"{table}.pooled"
    subprocess.run(
        [sys.executable, Path(__file__).with_name("pooled_windows.py"), data, pooled],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    for k in (3, 4, 5, 6):
        if not Path(f"{table}.encoder{k}.pt").exists():
            options = f"--encoder new -k {k} --epochs 1 --batch-size 64 --lr 0.0015 --resume".split()
            bertsnr("train", *options, "-o", f"{table}.encoder{k}.pt", pooled)


def initial_encoder(variant: Variant, windows: int, table: Path) -> tuple[Pretrained | None, int]:
    """The encoder to start from, and the number of epochs for this number of windows."""
    if variant.encoder == "short":
        return model_encoder(f"{table}.encoder{variant.k}.pt"), min(20, max(4, -(-750 * 32 // windows)))
    encoder = shipped_encoder(variant.k) if variant.encoder == "shipped" else None
    return encoder, default_epochs(windows, 32, encoder is not None)


def trained(tf: str, variant: Variant, positives: Windows, table: Path, checkpoint: str) -> tuple[BertSNR, float, int]:
    """The best model of several starts, its validation AUPR, and its epochs."""
    results: list[tuple[float, int, BertSNR]] = []
    seed = 0
    while seed < 4 * variant.starts and sum(result[0] > 0.5 for result in results) < variant.starts:
        seed += 1
        data = split_data(TrainingInputs(positives), Recipe())
        encoder, epochs = initial_encoder(variant, 2 * len(data.positives), table)
        swap = default_swap_fraction(len(data.positives))
        recipe = Recipe(epochs, swap_fraction=swap, seed=seed, precision="bf16")
        recipe = replace(recipe, **variant.options)
        kept = Checkpoint(
            f"{checkpoint}.{seed}.ckpt",
            digest(data.positives, recipe=recipe, k=variant.k, encoder=encoder and encoder.digest()),
            True,
        )
        result = fit(tf, ModelDesign(variant.arch, variant.k, encoder), recipe, data, torch.device("cpu"), kept)
        results.append((max(row["aupr"] for row in result.history), len(result.history), result.model))
        kept.remove()
    best, epochs, model = max(results, key=lambda result: result[0])
    return model, best, epochs


def measure(data: Path, tf: str, name: str, table: Path) -> dict[str, str]:
    """A line of the table."""
    train, test = published_split(data, tf)
    positives = train.take(np.arange(0, len(train), 2))
    checkpoint = f"{table}.{tf}.{name}"
    start = time.time()
    if VARIANTS[name].arch == "matrix":
        model, best, epochs = PwmModel(site_motif(tf, positives)), float("nan"), 0
    else:
        model, best, epochs = trained(tf, VARIANTS[name], positives, table, checkpoint)
        save_model(f"{checkpoint}.pt", model)
    seconds = time.time() - start
    metrics = evaluate(model, test, Runtime())
    values = [f"{metrics[level][metric]:.4f}" for level in LEVELS for metric in NAMES]
    sites = str(len(positives) + len(test) // 2)
    return dict(zip(COLUMNS, [tf, sites, name, str(epochs), f"{seconds:.0f}", f"{best:.4f}", *values]))


def read_table(path: Path) -> list[dict[str, str]]:
    """The lines of the table, which is created if it does not exist."""
    if not path.exists():
        path.write_text("\t".join(COLUMNS) + "\n")
    with path.open() as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def run(data: Path, table: Path, names: list[str], sets: list[str]) -> None:
    """Measure what the table lacks."""
    for name in names:
        for tf in sets:
            if any(row["data"] == tf and row["variant"] == name for row in read_table(table)):
                continue
            row = measure(data, tf, name, table)
            with table.open("a") as stream:  # one short line is written at once, also when two runs share the table
                stream.write("\t".join(row[column] for column in COLUMNS) + "\n")
            print(tf, name, row["nucleotide_aupr"], sep="\t", flush=True)


def paired(rows: dict[tuple[str, str], dict[str, str]], one: str, other: str, metric: str) -> str:
    """A line of a paired comparison over the data sets."""
    from scipy.stats import wilcoxon

    both = [tf for tf in SETS if (tf, one) in rows and (tf, other) in rows]
    differences = np.array([float(rows[tf, one][metric]) - float(rows[tf, other][metric]) for tf in both])
    p = wilcoxon(differences).pvalue if np.any(differences) else 1.0
    average = f"{differences.mean():+.4f}\t{np.median(differences):+.4f}"
    return f"{one}\t{other}\t{metric}\t{len(both)}\t{average}\t{np.sum(differences > 0)}\t{p:.2g}"


def report(table: Path, figures: Path) -> None:
    """Print AUPR by data set, means, and paired comparisons; draw the figures."""
    rows = {(row["data"], row["variant"]): row for row in read_table(table)}
    names = [name for name in (*VARIANTS, EARLIER) if any(key[1] == name for key in rows)]
    print("data", "sites", *names, sep="\t")
    for tf in SETS:
        here = [rows.get((tf, name)) for name in names]
        if any(here):
            areas = (row["nucleotide_aupr"] if row else "-" for row in here)
            print(tf, next(row["sites"] for row in here if row), *areas, sep="\t")
    for title, chosen in (("mean", SETS), ("mean of the small", SMALL), ("mean of the others", SETS[len(SMALL) :])):
        values = [[float(rows[tf, name]["nucleotide_aupr"]) for tf in chosen if (tf, name) in rows] for name in names]
        print(title, len(chosen), *(f"{np.mean(part):.4f} ({len(part)})" if part else "-" for part in values), sep="\t")
    print("\none\tother\tmetric\tsets\tmean difference\tmedian\tone is better\tWilcoxon p")
    for one, other in PAIRS:
        if one in names and other in names:
            for metric in ("nucleotide_aupr", "nucleotide_f1", "sequence_aupr"):
                print(paired(rows, one, other, metric))
    figures.mkdir(exist_ok=True)
    violins(rows, names, figures / "violins.png")
    if "k3-single" in names:
        scatter(rows, figures / "tasks.png")


def violins(rows: dict[tuple[str, str], dict[str, str]], names: list[str], path: Path) -> None:
    """The six metrics over bases, one violin for each variant (as the paper's Fig. 2)."""
    from matplotlib.figure import Figure

    figure = Figure((12, 7), layout="constrained")
    for axes, metric in zip(figure.subplots(2, 3).flat, NAMES):
        values = [
            [float(rows[tf, name][f"nucleotide_{metric}"]) for tf in SETS if (tf, name) in rows] for name in names
        ]
        axes.violinplot(values, showmedians=True)
        axes.set_xticks(range(1, len(names) + 1), names, rotation=60, ha="right")
        axes.set_ylabel(metric)
    figure.savefig(path, dpi=100)


def scatter(rows: dict[tuple[str, str], dict[str, str]], path: Path) -> None:
    """Two tasks against one, a point for each data set (as the paper's Fig. 3)."""
    from matplotlib.figure import Figure

    figure = Figure((12, 7), layout="constrained")
    both = [tf for tf in SETS if (tf, "k3") in rows and (tf, "k3-single") in rows]
    for axes, metric in zip(figure.subplots(2, 3).flat, NAMES):
        one, other = ([float(rows[tf, name][f"nucleotide_{metric}"]) for tf in both] for name in ("k3", "k3-single"))
        ends = [min(one + other), max(one + other)]
        axes.plot(ends, ends, color="grey", linewidth=0.8)
        axes.scatter(other, one, s=12)
        axes.set_title(metric)
        axes.set_xlabel("token task alone")
        axes.set_ylabel("two tasks")
    figure.savefig(path, dpi=100)


def cross(data: Path, table: Path, figure: Path, sets: list[str], variant: str) -> None:
    """AUPR of every model on every data set, by `bertsnr evaluate`."""
    with tempfile.TemporaryDirectory() as directory:
        files = [Path(directory) / f"{tf}.fa" for tf in sets]
        for tf, path in zip(sets, files):
            path.write_bytes(b"".join(fasta(published_split(data, tf).test)))
        models = [word for tf in sets for word in ("-m", f"{table}.{tf}.{variant}.pt")]
        lines = bertsnr("evaluate", *models, "--heatmap", figure, *files).splitlines()
    rows = {(row["model"], row["data"]): row["nucleotide_aupr"] for row in csv.DictReader(lines, delimiter="\t")}
    print("model", *sets, sep="\t")
    for tf in sets:
        print(tf, *(rows[tf, other] for other in sets), sep="\t")


def misses(data: Path, table: Path, sets: list[str], variant: str) -> None:
    """AUPR with and without look-alikes: unlabelled matches of the PWM, as good as 95 % of the labelled sites."""
    columns = "data", "sites", "called", "look-alikes in their windows", "in shuffles", "nucleotide_aupr"
    print(*columns, "without look-alikes", sep="\t")
    for tf in sets:
        train, test = published_split(data, tf)
        motif = site_motif(tf, train.take(np.arange(0, len(train), 2)))
        letters = np.array([["ACGT".index(letter) for letter in record.sequence.decode()] for record in test.records()])
        starts = letters.shape[1] - motif.width + 1
        matches = sum(row[letters[:, i : i + starts]] for i, row in enumerate(motif.log_odds))
        probabilities = base_probabilities(load_model(f"{table}.{tf}.{variant}.pt"), test.codes, Runtime(batch_size=64))
        labels = test.labels.astype(bool)
        positive = labels.any(axis=1)
        labelled = matches[positive, labels.argmax(axis=1)[positive]]
        unlabelled = ~np.lib.stride_tricks.sliding_window_view(labels, motif.width, axis=1).any(axis=2)
        alike = (matches >= np.percentile(labelled, 5)) & unlabelled
        kept = np.ones_like(labels)
        for row, start in np.argwhere(alike):
            kept[row, start : start + motif.width] = False
        called = sum(values[label].mean() > 0.5 for values, label in zip(probabilities[positive], labels[positive]))
        counts = len(labelled), called, alike[positive].sum(), alike[~positive].sum()
        areas = (f"{aupr(labels[part], probabilities[part]):.4f}" for part in (np.ones_like(kept), kept))
        print(tf, *counts, *areas, sep="\t", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run")
    runner.add_argument("data", type=Path)
    runner.add_argument("table", type=Path)
    runner.add_argument("--variants", default=list(VARIANTS), type=lambda text: text.split(","))
    runner.add_argument("--sets", default=SETS, type=lambda text: text.split(","))
    reporter = commands.add_parser("report")
    reporter.add_argument("table", type=Path)
    reporter.add_argument("figures", type=Path)
    maker = commands.add_parser("encoders")
    maker.add_argument("data", type=Path)
    maker.add_argument("table", type=Path)
    crosser = commands.add_parser("cross")
    for name in ("data", "table", "figure"):
        crosser.add_argument(name, type=Path)
    seeker = commands.add_parser("misses")
    for name in ("data", "table"):
        seeker.add_argument(name, type=Path)
    for one in (crosser, seeker):
        one.add_argument("sets", nargs="+")
        one.add_argument("--variant", default="default")
    arguments = parser.parse_args()
    if arguments.command == "cross":
        cross(arguments.data, arguments.table, arguments.figure, arguments.sets, arguments.variant)
        return
    if arguments.command == "misses":
        misses(arguments.data, arguments.table, arguments.sets, arguments.variant)
        return
    if arguments.command == "report":
        report(arguments.table, arguments.figures)
        return
    if arguments.command == "encoders":
        encoders(arguments.data, arguments.table)
        return
    torch.set_num_threads(usable_cpus())
    run(arguments.data, arguments.table, arguments.variants, arguments.sets)


if __name__ == "__main__":
    main()
