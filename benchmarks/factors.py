#!/usr/bin/env python3
"""The many-factor model on held-out windows: accuracy, p-values, cross-tests and motifs of all factors.

    python benchmarks/factors.py table FACTORS [--model human]
    python benchmarks/factors.py singles FACTORS
    python benchmarks/factors.py background FACTORS
    python benchmarks/factors.py motifs FACTORS
    python benchmarks/factors.py cross FACTORS [--figure figures/factors_cross.png]

FACTORS is the output of workflow/factor_windows.py. Test windows are its test/<TF>.fa.gz with one shuffle each: the
published one where test/<TF>.shuf.fa.gz exists, else a new dinucleotide shuffle. At most `MOST` positives of a factor
are used, evenly spaced, except in the 24 sets of paper.tsv, which are used whole: they are the test parts of the models
in paper.tsv. All commands but the last write their columns of factors.tsv, one line for each factor, and print a
summary.

`singles` trains, with default options, models of a single factor for the sets of which only the training part is
published (its first fifth is their test part here), unless FACTORS/single/<TF>.pt exists, and measures them on the
windows of `table`.

`background` counts p-values of windows in held-out regions, without windows in which a site or a peak of the factor is
known; neither the training nor the null distributions use these regions. Their GC content differs from the GC content
of the other background windows, so it also counts with windows weighted to the GC content of the latter.

`motifs` finds a motif in the bases that a factor's head calls in its test windows, shuffles included, and compares it
by TOMTOM with JASPAR's vertebrate motifs. The best match is "own" if it has the factor's JASPAR id or name, "family" if
it shares a JASPAR family with the factor's own matrix, "class" if only a class. Families of zinc fingers that have no
motif in common (`BROAD`) do not count.

`cross` tests the heads of eleven families on each other's test windows, read on the strand that suits the head better,
because the direction of a JASPAR matrix is arbitrary.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bertsnr_tools.errors import DataError
from bertsnr_tools.evaluation import evaluate
from bertsnr_tools.io.intervals import read_bed
from bertsnr_tools.io.motif import Motif
from bertsnr_tools.metrics import aupr
from bertsnr_tools.models.batching import probabilities_of_models
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.interface import Model
from bertsnr_tools.models.many_factor import shared_model
from bertsnr_tools.models.registry import load_models
from bertsnr_tools.motifs.comparison import compare, jaspar_motifs
from bertsnr_tools.motifs.model_source import find_motif
from bertsnr_tools.predict.significance import NullDistribution, factor_call_levels
from bertsnr_tools.sequence.encoding import CODE_LETTERS, bases_from_tokens, reverse_complement_codes
from bertsnr_tools.sequence.shuffle import shuffled_records
from bertsnr_tools.sequence.windows import Windows, known_sites, read_windows
from commands import bertsnr
from paper import SETS, read_table

HERE = Path(__file__).parent
TABLE = HERE / "factors.tsv"
MOST = 300  # positive test windows of a factor; of the sets of paper.tsv, all
MOST_CROSS = 200
RELEASE = "jaspar2026"
TRAINING_PART = "published windows, training part"  # a source of factor_windows.py
OTHERS = {"default": "single_factor", "D-AEDNet": "d_aednet", "DeepSNR": "deepsnr", "Matching": "pwm"}
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
COLUMNS = (
    "factor positives nucleotide_aupr sequence_aupr single_factor d_aednet deepsnr pwm "
    "background_windows p_0.01 p_0.001 p_0.01_gc instances best_match match_name match_p match"
).split()  # fmt: skip
BROAD = {
    "More than 3 adjacent zinc fingers",
    "Factors with multiple dispersed zinc fingers",
    "Other factors with up to three adjacent zinc fingers",
}
FAMILIES = {
    "GATA": "GATA2 GATA3 GATA4 GATA6",
    "ETS": "ELF1 ELK4 FLI1 GABPA",
    "AP-1": "FOS FOSL2 JUNB JUND",
    "bHLH": "MAX MYC USF1 USF2",
    "KLF/SP": "KLF4 KLF5 SP1 SP2",
    "FOX": "FOXA1 FOXA3 FOXK1 FOXP2",
    "NFY": "NFYA NFYB NFYC",
    "RFX": "RFX1 RFX2 RFX5",
    "STAT": "STAT1 STAT3 STAT5A",
    "IRF": "IRF1 IRF4",
    "NR": "HNF4A HNF4G NR2F2",
}
Rows = Mapping[str, Mapping[str, str]]


class ManyFactors(NamedTuple):
    """The models of all factors, how they run, and the directory with their data."""

    models: Sequence[Model]
    runtime: Runtime
    data: Path

    def test_windows(self, name: str, most: int | None) -> Windows:
        """At most `most` positive test windows of a factor, and a shuffle of each."""
        positives = read_windows(self.data / "test" / f"{name}.fa.gz", True)
        rows = np.arange(len(positives))
        if most and len(rows) > most:
            rows = np.linspace(0, len(rows) - 1, most).round().astype(int)
        positives = positives.take(rows)
        published = self.data / "test" / f"{name}.shuf.fa.gz"
        if published.exists():
            shuffles = read_windows(published, False).take(rows)
        else:
            shuffles = Windows.unlabelled(list(shuffled_records(positives.records())))
        return Windows.joined([positives, shuffles])


def read_rows(path: Path) -> list[dict[str, str]]:
    """The lines of a table, by column."""
    with path.open() as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def update_table(rows: Rows) -> None:
    """Set columns of the table; other columns stay."""
    table = {row["factor"]: row for row in read_rows(TABLE)} if TABLE.exists() else {}
    for name, row in rows.items():
        table[name] = {"factor": name} | table.get(name, {}) | row
    with TABLE.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(table[name] for name in sorted(table))


def show(name: str, row: Mapping[str, str]) -> None:
    print(name, *row.values(), sep="\t", flush=True)


def quantiles(values: Iterable[float], digits: int) -> str:
    """Mean and quantiles as text."""
    numbers = list(values)
    parts = (f"{100 * q:.0f} % {value:.{digits}f}" for q, value in zip(QUANTILES, np.quantile(numbers, QUANTILES)))
    return f"mean {np.mean(numbers):.{digits}f}; quantiles {', '.join(parts)}"


def measure(many: ManyFactors) -> None:
    """AUPR over bases and windows of every factor on its test windows, beside the models of paper.tsv."""
    earlier = {(row["data"], row["variant"]): row["nucleotide_aupr"] for row in read_table(HERE / "paper.tsv")}
    rows = {}
    for model in many.models:
        name = model.info.name
        windows = many.test_windows(name, None if name in SETS else MOST)
        metrics = evaluate(model, windows, many.runtime)
        rows[name] = {
            "positives": str(len(windows) // 2),
            "nucleotide_aupr": f"{metrics['nucleotide']['aupr']:.4f}",
            "sequence_aupr": f"{metrics['sequence']['aupr']:.4f}",
            **{column: earlier[name, variant] for variant, column in OTHERS.items() if (name, variant) in earlier},
        }
        show(name, rows[name])
    update_table(rows)
    summarize_accuracy({name: {key: float(text) for key, text in row.items()} for name, row in rows.items()})


def summarize_accuracy(rows: Mapping[str, Mapping[str, float]]) -> None:
    """Print what the table comes to."""
    for level in ("nucleotide_aupr", "sequence_aupr"):
        print(f"{level}, {len(rows)} factors: {quantiles((row[level] for row in rows.values()), 3)}")
    weakest = sorted(rows, key=lambda name: rows[name]["nucleotide_aupr"])[:10]
    print("weakest:", ", ".join(f"{name} {rows[name]['nucleotide_aupr']:.3f}" for name in weakest))
    sets = [rows[name] for name in SETS if name in rows]
    for column in ("nucleotide_aupr", *OTHERS.values()):
        print(f"{column}, {len(sets)} sets of paper.tsv: mean {np.mean([row[column] for row in sets]):.3f}")
    near = sum(row["nucleotide_aupr"] >= row["single_factor"] - 0.02 for row in sets)
    above = sum(row["nucleotide_aupr"] > max(row["d_aednet"], row["deepsnr"]) for row in sets)
    print(f"at most 0.02 below the single-factor model: {near}; above DeepSNR and D-AEDNet: {above}")


def train_singles(many: ManyFactors) -> None:
    """AUPR over bases of single-factor models of the sets of which only the training part is published."""
    sources = {row["name"]: row["source"] for row in read_rows(many.data / "factors.tsv")}
    names = [model.info.name for model in many.models if sources[model.info.name] == TRAINING_PART]
    single = many.data / "single"
    single.mkdir(exist_ok=True)
    shared = {row["factor"]: float(row["nucleotide_aupr"]) for row in read_rows(TABLE)}
    rows, pairs = {}, []
    for name in names:
        path = single / f"{name}.pt"
        if not path.exists():
            bertsnr("train", "--resume", "-o", path, many.data / "train" / f"{name}.fa.gz")
        windows = many.test_windows(name, MOST)
        value = evaluate(load_models([str(path)], many.runtime)[0], windows, many.runtime)["nucleotide"]["aupr"]
        rows[name] = {"single_factor": f"{value:.4f}"}
        pairs.append((shared[name], value))
        print(name, len(windows) // 2, f"{shared[name]:.4f}", f"{value:.4f}", sep="\t", flush=True)
    update_table(rows)
    means = np.mean(pairs, axis=0)
    near = sum(own >= other - 0.02 for own, other in pairs)
    print(f"{len(pairs)} sets: mean {means[0]:.3f}, single {means[1]:.3f}; at most 0.02 below: {near}")


def gc_weights(windows: Windows, like: Windows) -> np.ndarray:
    """Weights that give windows the GC content of others, shape (windows,); by number of G and C."""
    gc = np.array([letter in b"GC" for letter in CODE_LETTERS + b"N"])
    size = windows.codes.shape[1] + 1
    own, wanted = (gc[part.codes].sum(axis=1) for part in (windows, like))
    counts, target = (np.bincount(part, minlength=size) / len(part) for part in (own, wanted))
    return target[own] / counts[own]


def calibrate(many: ManyFactors) -> None:
    """Fractions of background windows in held-out regions with low p-values, by factor."""
    windows, trained = (read_windows(many.data / f"{name}.fa.gz", False) for name in ("background_held", "background"))
    weights = gc_weights(windows, trained)
    names = [model.info.name for model in many.models]
    known = known_sites(windows, names, list(read_bed(str(many.data / "known.bed.gz"))))
    network = shared_model(many.models[0])
    assert network is not None, "not a many-factor model"
    levels = factor_call_levels(network, windows, many.runtime)
    rows, fractions = {}, []
    for name, model, free, of_factor in zip(names, many.models, ~known.T, levels.T):
        neg_log10_p = NullDistribution.from_info(model.info).neg_log10_p(of_factor[free])
        low, lower = (float(np.mean(neg_log10_p >= exponent)) for exponent in (2, 3))
        weighted = float(np.average(neg_log10_p >= 2, weights=weights[free]))
        fractions.append((low, lower, weighted))
        numbers = (f"{value:.5f}" for value in fractions[-1])
        rows[name] = {"background_windows": str(free.sum())} | dict(zip(("p_0.01", "p_0.001", "p_0.01_gc"), numbers))
        show(name, rows[name])
    update_table(rows)
    summarize_calibration(100 * np.array(fractions))


def summarize_calibration(percent: np.ndarray) -> None:
    """Print what the fractions come to: in %, shape (factors, 3)."""
    labels = "p < 0.01", "p < 0.001", "p < 0.01, weighted to the GC content of the other background windows"
    for p, label, column in zip((1.0, 0.1, 1.0), labels, percent.T):
        inside = int(((column >= 0.8 * p) & (column <= 1.2 * p)).sum())
        print(f"{label}: {inside} of {len(column)} factors at {0.8 * p:g} to {1.2 * p:g} %; {quantiles(column, 3)}")


class Profile(NamedTuple):
    """Factors, families and classes of a JASPAR matrix."""

    factors: set[str]
    families: set[str]
    classes: set[str]


def profiles() -> dict[str, Profile]:
    """By JASPAR id without version."""
    from pyjaspar import jaspardb

    records = jaspardb(release=RELEASE.upper()).fetch_motifs(collection="CORE", tax_group=["vertebrates"])
    return {
        record.base_id: Profile(
            set(record.name.upper().split("::")), set(record.tf_family or ()) - BROAD, set(record.tf_class or ())
        )
        for record in records
    }


def verdict(name: str, own: str, match: str, known: Mapping[str, Profile]) -> str:
    """ "own", "family", "class" or "other".

    Parameters
    ----------
    own, match : JASPAR ids of the factor and of the best match, without version
    """
    target = known[match]
    kin = [profile for base, profile in known.items() if base == own or name in profile.factors]
    if match == own or name in target.factors:
        return "own"
    if any(profile.families & target.families for profile in kin):
        return "family"
    return "class" if any(profile.classes & target.classes for profile in kin) else "other"


def discover(many: ManyFactors) -> None:
    """The motif of every factor and its best match in JASPAR."""
    found: dict[str, Motif] = {}
    for model in many.models:
        name = model.info.name
        try:
            found[name] = find_motif(model, many.test_windows(name, MOST).records(), forward=True, runtime=many.runtime)
        except DataError as error:
            print(name, error, sep="\t", flush=True)
    known, matrices = profiles(), {model.info.name: model.info.matrix for model in many.models}
    rows = {name: {"instances": "0", "match": "none"} for name in matrices}
    for (name, motif), (best, *_) in zip(found.items(), compare(list(found.values()), jaspar_motifs(RELEASE))):
        own, match = (text.partition(".")[0] for text in (matrices[name], best.target.id))
        rows[name] = {
            "instances": str(motif.sites),
            "best_match": best.target.id,
            "match_name": best.target.name,
            "match_p": f"{best.p:.2g}",
            "match": verdict(name, own, match, known),
        }
        show(name, rows[name])
    update_table(rows)
    verdicts = [row["match"] for row in rows.values()]
    counts = {kind: verdicts.count(kind) for kind in ("own", "family", "class", "other", "none")}
    right = counts["own"] + counts["family"]
    print(f"own or family: {right} of {len(rows)} ({100 * right / len(rows):.0f} %); {counts}")
    print("others:", ", ".join(f"{name} {row['match_name']}" for name, row in rows.items() if row["match"] == "other"))


def head_auprs(models: Sequence[Model], codes: np.ndarray, labels: np.ndarray, runtime: Runtime) -> list[float]:
    """AUPR over bases of several heads on the same windows."""
    scored = probabilities_of_models(models, codes, runtime)
    return [aupr(labels, bases_from_tokens(tokens, models[0].info.k)) for _, tokens in scored]


def cross(many: ManyFactors, path: Path) -> None:
    """AUPR over bases of the heads of eleven families on each other's test windows."""
    by_name = {model.info.name: model for model in many.models}
    families = {family: text.split() for family, text in FAMILIES.items()}
    names = [name for members in families.values() for name in members]
    models = [by_name[name] for name in names]
    columns = []
    for name in names:
        windows = many.test_windows(name, MOST_CROSS)
        strands = (windows.codes, windows.labels), (reverse_complement_codes(windows.codes), windows.labels[:, ::-1])
        columns.append(np.max([head_auprs(models, *strand, many.runtime) for strand in strands], axis=0))
        print(name, *(f"{value:.2f}" for value in columns[-1]), sep="\t", flush=True)
    values = np.array(columns).T
    family = np.repeat(np.arange(len(families)), [len(members) for members in families.values()])
    inside = family[:, None] == family
    own = np.eye(len(names), dtype=bool)
    parts = {"own": own, "same family": inside & ~own, "other families": ~inside}
    for label, part in parts.items():
        print(f"{label}: mean {values[part].mean():.3f}, median {np.median(values[part]):.3f}, {part.sum()} pairs")
    for number, label in enumerate(families):
        block = (family[:, None] == number) & (family == number) & ~own
        print(
            f"{label}: own {values[own][family == number].mean():.3f}, others of the family {values[block].mean():.3f}"
        )
    draw_cross(path, names, families, values)


def draw_cross(path: Path, names: Sequence[str], families: Mapping[str, Sequence[str]], values: np.ndarray) -> None:
    """Draw the heat map, families marked by squares (as the paper's section 3.4)."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure((9.5, 8.5), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(values, vmin=0, vmax=1, cmap="viridis")
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set(xlabel="test windows", ylabel="head")
    start = 0
    for label, members in families.items():
        size = len(members)
        square = Rectangle((start - 0.5, start - 0.5), size, size, fill=False, edgecolor="#D55E00", linewidth=1.5)
        axes.add_patch(square)
        axes.text(start + size / 2 - 0.5, -1, label, ha="center", va="bottom", fontsize=8)
        start += size
    figure.colorbar(image, ax=axes, label="AUPR over bases", shrink=0.8)
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = {"table": measure, "singles": train_singles, "background": calibrate, "motifs": discover}
    parser.add_argument("command", choices=[*commands, "cross"])
    parser.add_argument("factors", type=Path)
    parser.add_argument("--model", default="human")
    parser.add_argument("--figure", type=Path, default=HERE / "figures" / "factors_cross.png")
    arguments = parser.parse_args()
    runtime = Runtime.choose()
    many = ManyFactors(load_models([arguments.model], runtime), runtime, arguments.factors)
    if arguments.command == "cross":
        cross(many, arguments.figure)
    else:
        commands[arguments.command](many)


if __name__ == "__main__":
    main()
