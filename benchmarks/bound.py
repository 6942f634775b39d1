#!/usr/bin/env python3
"""Bound or not: which accessible regions contain a ChIP-seq peak's summit, for every factor and cell line.

    python benchmarks/bound.py DATA TABLE [--model human] [--networks DIR] [--figure bound.png]

DATA is laid out as workflow/binding_heads.py describes. Regions are the DNase peaks of a cell line in contiguous
sequence (regions/*.hg19.fa.gz) and, on held-out chromosomes, of the sparse genome, where the `KNOWN` bp around the
middle are known. A region is bound if the summit of a ChIP-seq peak of the factor lies in it. Every method has one
score for a region, from the same `READ` bp around its middle:

* binding head: the log odds of being bound, from `predict --accessible`'s heads
* best site: the log odds of the best site of the factor's head in the many-factor model
* single model: the same of the shipped model of one factor, where there is one
* network: the same of a model in DIR, <TF>.pt, such as `bertsnr train --arch deepsnr` makes from the same windows
* PWM: the best match of the newest JASPAR matrix; of several, the best on training chromosomes
* matches: number of matches of this matrix with p < 1e-4
* GC: fraction of G and C; width: accessible bp within 500 bp of the middle, DNase peaks having 150 bp each

TABLE (TSV) has a line for each factor and cell line with at least `LEAST` bound regions, and method: AUPRC, AUROC and
recall at 10 % false discoveries, the first two with 95 % intervals over blocks of 1 Mb. The summary leaves CTCF out of
means.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bertsnr_tools.io.motif import Motif
from bertsnr_tools.metrics import Ranking
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.many_factor import ManyFactorModel
from bertsnr_tools.models.pwm import DEFAULT_P, score_distribution
from bertsnr_tools.models.registry import load_models, shipped_files
from bertsnr_tools.predict.accessible import AccessibleBases, Surroundings, known_windows
from bertsnr_tools.predict.significance import log_odds, window_call_levels
from bertsnr_tools.sequence.encoding import OTHER
from bertsnr_tools.sequence.windows import Windows

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "workflow"))
import accessible  # noqa: E402

import factor_motifs  # noqa: E402

LEAST = 30
BLOCK = 1_000_000  # bp
REPLICATES = 100
FALSE = 0.1  # false discoveries at which recall is measured
NEVER = -1e6  # score of a region that has none
OURS, RIVALS = "binding head", ("best site", "single model", "network", "PWM", "matches", "GC", "width")
Line = dict[str, str]


class Set(NamedTuple):
    """The judged regions of a cell line: intervals, blocks, base codes (n, READ), and scores that all factors need."""

    regions: accessible.Regions
    blocks: np.ndarray
    codes: np.ndarray
    sites: np.ndarray
    odds: np.ndarray
    gc: np.ndarray
    width: np.ndarray


def read_set(data: Path, cell: str, regions: accessible.Regions, model: ManyFactorModel) -> Set:
    """Scores of a cell line's regions by the many-factor model: of sites and, with binding heads, of being bound."""
    sequence, spans = accessible.KnownSequence(data), AccessibleBases(accessible.dnase_peaks(data, cell))
    codes = accessible.codes_around(sequence, regions.intervals)
    sites = accessible.best_sites(model, codes)
    heads, odds = model.binding, np.empty((len(codes), 0))
    centers = [accessible.center(interval) for interval in regions.intervals]
    if heads:
        features = Surroundings(model, heads.motifs, sequence, spans, "fp32")(centers)
        names = [info.name for info in model.infos]
        own = sites[:, [names.index(factor) for factor in heads.factors]]
        odds = heads.surroundings_log_odds(features) + heads.slope.double().numpy() * own
    blocks = np.unique([f"{chrom}:{at // BLOCK}" for chrom, at in centers], return_inverse=True)[1]
    known = (codes < OTHER).sum(axis=1)
    gc = (codes >= 2).sum(axis=1) - (codes == OTHER).sum(axis=1)
    width = [spans.before(chrom, at + 500) - spans.before(chrom, at - 500) for chrom, at in centers]
    return Set(regions, blocks, codes, sites, odds, gc / known, np.array(width, dtype=float))


def match_scores(motif: Motif, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bits of the best match of a matrix, and the number of matches with p < `DEFAULT_P`, in each row of codes."""
    scores, p = score_distribution(motif.log_odds)
    least = scores[np.argmax(p < DEFAULT_P)] - 1e-6 if p[-1] < DEFAULT_P else np.inf
    best, count = np.full(len(codes), -np.inf), np.zeros(len(codes))
    for oriented in (motif, motif.reverse_complement()):
        table = np.insert(oriented.log_odds[:, factor_motifs.ACGT_COLUMNS], OTHER, -np.inf, axis=1)
        columns = codes.shape[1] - motif.width + 1
        bits = sum(row[codes[:, at : at + columns]] for at, row in enumerate(table))
        best, count = np.maximum(best, bits.max(axis=1)), count + (bits >= least).sum(axis=1)
    return best, count


def profiles(data: Path, most: int = 3000) -> dict[tuple[str, str], Motif]:
    """The JASPAR matrix of each factor and cell line: of several, the best by AUPRC in training regions."""
    choices = factor_motifs.motifs_by_factor("jaspar")
    chosen, sequence, drawn = {}, accessible.KnownSequence(data), {}
    cells = accessible.cell_lines(data)
    for factor, cell, path in accessible.chip_files(data):
        motifs = choices.get(factor, [])
        if not motifs or cell not in cells:
            continue
        if len(motifs) > 1 and cell not in drawn:
            peaks = [peak for peak in accessible.dnase_peaks(data, cell) if not accessible.held_out(peak)]
            order = np.random.default_rng(1).permutation(len(peaks))[: 10 * most].tolist()
            codes = accessible.codes_around(sequence, [peaks[row] for row in order])
            known = np.flatnonzero((codes < OTHER).sum(axis=1) >= 150)[:most].tolist()
            drawn[cell] = [peaks[order[row]] for row in known], codes[known]
        if len(motifs) > 1:
            intervals, codes = drawn[cell]
            bound = accessible.bound(path, intervals) == 1
            motifs = sorted(motifs, key=lambda motif: -Ranking(bound, match_scores(motif, codes)[0]).aupr())
        chosen[factor, cell] = motifs[0]
    return chosen


def best_of_model(name: str, codes: np.ndarray) -> np.ndarray:
    """Log odds of the best site of a model of one factor in each row of codes."""
    [model] = load_models([name], Runtime())
    parts = [known_windows(model, row) for row in codes]
    owner, windows = np.repeat(np.arange(len(parts)), list(map(len, parts))), np.concatenate(parts)
    levels = window_call_levels(model, Windows(["."] * len(windows), windows, np.zeros_like(windows)), Runtime())
    best = np.full(len(codes), NEVER)
    np.maximum.at(best, owner, log_odds(levels))
    return best


def judged(labels: np.ndarray, values: np.ndarray, blocks: np.ndarray) -> Line:
    """AUPRC and AUROC with intervals, and recall at `FALSE`."""
    ranking, random = Ranking(labels, values), np.random.default_rng(1)
    precision, recall = ranking.precision_recall_curve()
    enough = recall[precision >= 1 - FALSE]
    draws = []
    for _ in range(REPLICATES):
        weights = np.bincount(random.integers(0, blocks.max() + 1, blocks.max() + 1), minlength=blocks.max() + 1)[
            blocks
        ]
        draws.append((ranking.aupr(weights), ranking.auc(weights)))
    line = {"auprc": ranking.aupr(), "auroc": ranking.auc(), "recall_10": float(enough.max())}
    for name, column in zip(("auprc", "auroc"), np.array(draws).T):
        low, high = np.nanquantile(column, (0.025, 0.975))
        line |= {f"{name}_low": low, f"{name}_high": high}
    return {name: f"{value:.3f}" for name, value in line.items()}


def methods(
    one: Set, factor: str, model: ManyFactorModel, motif: Motif, networks: Path | None
) -> dict[str, np.ndarray]:
    """The scores of the regions by each method."""
    best, count = match_scores(motif, one.codes)
    names = [info.name for info in model.infos]
    found = {"best site": one.sites[:, names.index(factor)], "PWM": best, "matches": count}
    found |= {"GC": one.gc, "width": one.width}
    if model.binding and factor in model.binding.factors:
        found[OURS] = one.odds[:, model.binding.factors.index(factor)]
    if factor in shipped_files():
        found["single model"] = best_of_model(factor, one.codes)
    if networks and (networks / f"{factor}.pt").exists():
        found["network"] = best_of_model(str(networks / f"{factor}.pt"), one.codes)
    return {name: np.nan_to_num(values.astype(float), nan=NEVER, neginf=NEVER) for name, values in found.items()}


def lines(data: Path, model: ManyFactorModel, networks: Path | None) -> Iterator[Line]:
    """The lines of the table."""
    every = accessible.judged_regions(data, accessible.KnownSequence(data))
    motifs, names = profiles(data), [info.name for info in model.infos]
    for cell in accessible.cell_lines(data):
        regions = every.take(every.cells == cell)
        print(cell, len(regions.intervals), "regions", flush=True)
        one = read_set(data, cell, regions, model)
        for factor, cell_of_file, path in accessible.chip_files(data):
            if cell_of_file != cell or factor not in names or (factor, cell) not in motifs:
                continue
            found = accessible.bound(path, regions.intervals)
            used, labels = found >= 0, found == 1
            if labels[used].sum() < LEAST:
                continue
            for method, values in methods(one, factor, model, motifs[factor, cell], networks).items():
                head = {"factor": factor, "cell": cell, "regions": str(used.sum()), "bound": str(labels[used].sum())}
                yield head | {"method": method} | judged(labels[used], values[used], one.blocks[used])


def summary(rows: Sequence[Mapping[str, str]]) -> None:
    """Print means, and on how many factors and cell lines the binding heads have the higher AUPRC."""
    table: dict[str, dict[tuple[str, str], Mapping[str, str]]] = {}
    for row in rows:
        table.setdefault(row["method"], {})[row["factor"], row["cell"]] = row
    ours = table.get(OURS, table["best site"])
    print("method", "pairs", "AUPRC", "AUROC", "recall", "binding head on these", "wins", sep="\t")
    for method, found in sorted(table.items()):
        pairs = [pair for pair in found if pair in ours]
        rest = [pair for pair in pairs if pair[0] != "CTCF"]
        means = [np.mean([float(found[pair][name]) for pair in rest]) for name in ("auprc", "auroc", "recall_10")]
        wins = sum(float(ours[pair]["auprc"]) > float(found[pair]["auprc"]) for pair in pairs)
        mean = np.mean([float(ours[pair]["auprc"]) for pair in rest])
        print(method, len(pairs), *(f"{value:.3f}" for value in (*means, mean)), f"{wins}/{len(pairs)}", sep="\t")


def draw(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """AUPRC of every method, a row for each factor and cell line."""
    from matplotlib.figure import Figure

    ours = [row for row in rows if row["method"] == OURS]
    ours.sort(key=lambda row: float(row["auprc"]))
    at = {(row["factor"], row["cell"]): number for number, row in enumerate(ours)}
    figure = Figure((7, 0.16 * len(ours) + 1), layout="constrained")
    axes = figure.subplots()
    for number, row in enumerate(ours):
        axes.plot([float(row["auprc_low"]), float(row["auprc_high"])], [number] * 2, color="0.8", linewidth=3)
    for method, marker in zip((OURS, "best site", "PWM", "network", "GC"), "osD^|"):
        points = [row for row in rows if row["method"] == method and (row["factor"], row["cell"]) in at]
        rows_of_points = [at[row["factor"], row["cell"]] for row in points]
        axes.scatter(
            [float(row["auprc"]) for row in points], rows_of_points, s=12, marker=marker, label=method, zorder=3
        )
    axes.set_yticks(range(len(ours)), [f"{row['factor']} {row['cell']}" for row in ours], fontsize=6)
    axes.set_ylim(-1, len(ours))
    axes.set_xlim(0, 1)
    axes.set_xlabel("AUPRC (grey: 95 % interval of the binding head)")
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("--model", default="human")
    parser.add_argument("--networks", type=Path)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    model = load_models([arguments.model], Runtime())[0].shared.model  # type: ignore[attr-defined]
    rows = list(lines(arguments.data, model, arguments.networks))
    with arguments.table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    summary(rows)
    if arguments.figure:
        draw(arguments.figure, rows)


if __name__ == "__main__":
    main()
