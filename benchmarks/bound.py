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
* network: the same of a model in DIR, <TF>.pt, made from the same windows by `bertsnr train --arch d-aednet`, a
  convolutional network with attention (DeepSNR often fails to train)
* PWM: the best match of the newest JASPAR matrix; of several, the best on training chromosomes
* matches: number of matches of this matrix with p < 1e-4
* GC: fraction of G and C; width: accessible bp within 500 bp of the middle, DNase peaks having 150 bp each

TABLE (TSV) has a line for each factor and cell line with at least `LEAST` bound regions, and method: AUPRC, AUROC and
recall at 10 % false discoveries, the first two with 95 % intervals over blocks of 1 Mb; for methods that call sites,
also the AUPRC of the known bases that are read. A base is positive if it lies in a match of the matrix with p < 1e-4 in
a bound region; its score is the score of the best site or match that covers it, with the binding head only of sites
with p < 0.1 by motif alone, as in `predict --accessible`. The summary leaves CTCF out of means.
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
from bertsnr_tools.metrics import Ranking, aupr
from bertsnr_tools.models.batching import FactorScorer, base_probabilities, sigmoid
from bertsnr_tools.models.binding import BindingHeads
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.interface import ModelInfo
from bertsnr_tools.models.many_factor import ManyFactorModel, general_model
from bertsnr_tools.models.pwm import DEFAULT_P, score_distribution
from bertsnr_tools.models.registry import load_models, shipped_files
from bertsnr_tools.predict.accessible import CANDIDATE_P, AccessibleBases, Surroundings, clipped, known_starts
from bertsnr_tools.predict.calling import MAX_GAP, call_levels, min_site_length
from bertsnr_tools.predict.significance import NullDistribution, log_odds
from bertsnr_tools.sequence.encoding import OTHER, bases_from_tokens, reverse_complement_codes

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "workflow"))
import accessible  # noqa: E402

import factor_motifs  # noqa: E402

LEAST = 30
BLOCK = 1_000_000  # bp
REPLICATES = 100
FALSE = 0.1  # false discoveries at which recall is measured
NEVER = -1e6  # score of a region that has none
OURS = "binding head"
Line = dict[str, str]


class Set(NamedTuple):
    """The judged regions of a cell line.

    Attributes
    ----------
    blocks : number of the block of each region, shape (n,)
    codes : of the bases that are read, shape (n, READ)
    sites : log odds of the best site on each base, for some factors, see `site_levels`
    odds : the part of the binding heads' log odds that does not depend on a site, shape (n, P)
    gc, width : see the top, shape (n,)
    """

    regions: accessible.Regions
    blocks: np.ndarray
    codes: np.ndarray
    sites: dict[str, np.ndarray]
    odds: np.ndarray
    gc: np.ndarray
    width: np.ndarray


class KnownWindows(NamedTuple):
    """The windows of regions: codes (W, window), number of the region and start in it, both (W,)."""

    codes: np.ndarray
    owner: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, window: int, regions: np.ndarray) -> KnownWindows:
        """Of the codes of regions, shape (n, READ)."""
        starts = [known_starts(window, row) for row in regions]
        owner, first = np.repeat(np.arange(len(starts)), list(map(len, starts))), np.concatenate(starts)
        return cls(regions[owner[:, None], first[:, None] + np.arange(window)], owner, first)


def read_set(data: Path, cell: str, regions: accessible.Regions, model: ManyFactorModel, factors: set[str]) -> Set:
    """What the methods need of a cell line's regions, with the sites of these factors by the many-factor model."""
    sequence, spans = accessible.KnownSequence(data), AccessibleBases(accessible.dnase_peaks(data, cell))
    codes = accessible.codes_around(sequence, regions.intervals)
    heads, odds = model.binding, np.empty((len(codes), 0))
    centers = [accessible.center(interval) for interval in regions.intervals]
    if heads:
        scores = accessible.RegionScorer(model, heads.motifs, Runtime())(codes)
        read = Surroundings(model, heads.motifs, sequence, spans, "fp32")
        scalars = np.array([read.scalars(center) for center in centers])
        odds = heads.surroundings_log_odds(np.concatenate([scores.sequence, scores.motifs, scalars], axis=1))
    blocks = np.unique([f"{chrom}:{at // BLOCK}" for chrom, at in centers], return_inverse=True)[1]
    known = (codes < OTHER).sum(axis=1)
    gc = (codes >= 2).sum(axis=1) - (codes == OTHER).sum(axis=1)
    width = [spans.before(chrom, at + 500) - spans.before(chrom, at - 500) for chrom, at in centers]
    sites = many_levels(model, codes, factors)
    return Set(regions, blocks, codes, sites, odds, gc / known, np.array(width, dtype=float))


def site_levels(
    info: ModelInfo, strands: Sequence[np.ndarray], windows: KnownWindows, shape: Sequence[int]
) -> np.ndarray:
    """Log odds of the best site on each base of regions, `NEVER` where none is known, float32, shape (n, READ).

    Parameters
    ----------
    strands : base probabilities of the windows on both strands, each as read, shape (W, window)
    """
    length = min_site_length(info.site_width, info.k)
    best = np.full(shape, NEVER, dtype=np.float32)
    columns = windows.starts[:, None] + np.arange(windows.codes.shape[1])
    for bases, direction in zip(strands, (1, -1)):
        levels = np.pad(call_levels(bases, length, MAX_GAP), ((0, 0), (length - 1, length - 1)))
        covering = np.lib.stride_tricks.sliding_window_view(levels, length, axis=1).max(axis=2)[:, ::direction]
        np.maximum.at(best, (windows.owner[:, None], columns), clipped(log_odds(covering)))
    return best


def many_levels(model: ManyFactorModel, codes: np.ndarray, factors: set[str]) -> dict[str, np.ndarray]:
    """`site_levels` of factors of a model, from one pass of the encoder."""
    windows = KnownWindows.of(model.info.window, codes)
    numbers = [number for number, info in enumerate(model.infos) if info.name in factors]
    scorer, both = FactorScorer(model, "fp32"), (windows.codes, reverse_complement_codes(windows.codes))
    logits = [
        np.concatenate(scorer(strand, 64, lambda _, __, tokens: tokens[:, :, numbers].cpu().numpy())) for strand in both
    ]
    found = {}
    for column, number in enumerate(numbers):
        strands = [bases_from_tokens(sigmoid(strand[:, :, column]), model.info.k) for strand in logits]
        found[model.infos[number].name] = site_levels(model.infos[number], strands, windows, codes.shape)
    return found


def single_levels(name: str, codes: np.ndarray) -> np.ndarray:
    """`site_levels` of a model of one factor."""
    [model] = load_models([name], Runtime())
    windows = KnownWindows.of(model.info.window, codes)
    both = (windows.codes, reverse_complement_codes(windows.codes))
    strands = [base_probabilities(model, strand, Runtime()) for strand in both]
    return site_levels(model.info, strands, windows, codes.shape)


class MatchScores(NamedTuple):
    """Of regions: bits of the best match of a matrix on each base, -inf where none fits, and whether a base lies in a
    match with p < `DEFAULT_P`, both (n, READ); number of these matches, (n,)."""

    bits: np.ndarray
    inside: np.ndarray
    found: np.ndarray


def match_scores(motif: Motif, codes: np.ndarray) -> MatchScores:
    """The matches of a matrix in each row of codes."""
    scores, p = score_distribution(motif.log_odds)
    least = scores[np.argmax(p < DEFAULT_P)] - 1e-6 if p[-1] < DEFAULT_P else np.inf
    best, count = np.full(codes.shape, -np.inf), np.zeros(len(codes))
    margin = motif.width - 1
    for oriented in (motif, motif.reverse_complement()):
        table = np.insert(oriented.log_odds[:, factor_motifs.ACGT_COLUMNS], OTHER, -np.inf, axis=1)
        columns = codes.shape[1] - margin
        bits = sum(row[codes[:, at : at + columns]] for at, row in enumerate(table))
        padded = np.pad(bits, ((0, 0), (margin, margin)), constant_values=-np.inf)
        covering = np.lib.stride_tricks.sliding_window_view(padded, motif.width, axis=1).max(axis=2)
        best, count = np.maximum(best, covering), count + (bits >= least).sum(axis=1)
    return MatchScores(best, best >= least, count)


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
            motifs = sorted(motifs, key=lambda motif: -aupr(bound, match_scores(motif, codes).bits.max(axis=1)))
        chosen[factor, cell] = motifs[0]
    return chosen


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


class Method(NamedTuple):
    """Scores of regions (n,), and of bases (n, READ) where the method calls sites."""

    regions: np.ndarray
    bases: np.ndarray | None = None


def methods(
    one: Set, factor: str, model: ManyFactorModel, matches: MatchScores, networks: Path | None
) -> dict[str, Method]:
    """The scores by each method."""
    found = {"PWM": Method(matches.bits.max(axis=1), matches.bits), "matches": Method(matches.found)}
    found |= {"GC": Method(one.gc), "width": Method(one.width)}
    sites = {"best site": one.sites[factor]}
    if factor in shipped_files():
        sites["single model"] = single_levels(factor, one.codes)
    if networks and (networks / f"{factor}.pt").exists():
        sites["network"] = single_levels(str(networks / f"{factor}.pt"), one.codes)
    found |= {name: Method(levels.max(axis=1), levels) for name, levels in sites.items()}
    if model.binding and factor in model.binding.factors:
        found[OURS] = bound_odds(model.binding, factor, next(info for info in model.infos if info.name == factor), one)
    return found


def bound_odds(heads: BindingHeads, factor: str, info: ModelInfo, one: Set) -> Method:
    """Log odds of being bound; bases have them only where `predict --accessible` scores a site."""
    row, sites = heads.factors.index(factor), one.sites[factor]
    slope, surroundings = float(heads.slope[row]), one.odds[:, row]
    least = NullDistribution.from_info(info).threshold(CANDIDATE_P)
    of_bases = np.where(sites > log_odds(np.array(least)), surroundings[:, None] + slope * sites, NEVER)
    return Method(surroundings + slope * sites.max(axis=1), of_bases)


def base_auprc(method: Method, wanted: np.ndarray, known: np.ndarray) -> str:
    """AUPRC of known bases; empty where there is none.

    Parameters
    ----------
    wanted, known : bool, as `Method.bases`
    """
    if method.bases is None or not wanted.any():
        return ""
    return f"{aupr(wanted[known], finite(method.bases[known])):.3f}"


def finite(values: np.ndarray) -> np.ndarray:
    """`NEVER` in place of what is not known."""
    return np.nan_to_num(values.astype(float), nan=NEVER, neginf=NEVER)


def lines(data: Path, model: ManyFactorModel, networks: Path | None) -> Iterator[Line]:
    """The lines of the table."""
    every = accessible.judged_regions(data, accessible.KnownSequence(data))
    motifs, names = profiles(data), {info.name for info in model.infos}
    for cell in accessible.cell_lines(data):
        regions = every.take(every.cells == cell)
        print(cell, len(regions.intervals), "regions", flush=True)
        files = [(factor, path) for factor, of_file, path in accessible.chip_files(data) if of_file == cell]
        files = [(factor, path) for factor, path in files if factor in names and (factor, cell) in motifs]
        labels = {factor: accessible.bound(path, regions.intervals) for factor, path in files}
        labels = {factor: found for factor, found in labels.items() if (found == 1).sum() >= LEAST}
        one = read_set(data, cell, regions, model, set(labels))
        for factor, found in labels.items():
            used, matches = found >= 0, match_scores(motifs[factor, cell], one.codes)
            wanted, known = matches.inside & (found == 1)[:, None], (one.codes < OTHER) & used[:, None]
            head = {"factor": factor, "cell": cell, "regions": str(used.sum()), "bound": str((found == 1).sum())}
            for name, method in methods(one, factor, model, matches, networks).items():
                values = judged((found == 1)[used], finite(method.regions)[used], one.blocks[used])
                yield head | {"method": name} | values | {"base_auprc": base_auprc(method, wanted, known)}


def summary(lines_of_table: Sequence[Mapping[str, str]]) -> None:
    """Print means, and on how many factors and cell lines the binding heads have the higher AUPRC."""
    table: dict[str, dict[tuple[str, str], Mapping[str, str]]] = {}
    for row in lines_of_table:
        table.setdefault(row["method"], {})[row["factor"], row["cell"]] = row
    ours = table.get(OURS, table["best site"])
    print("method", "pairs", "AUPRC", "AUROC", "recall", "binding head on these", "wins", "bases", "on these", sep="\t")
    for method, found in sorted(table.items()):
        pairs = [pair for pair in found if pair in ours]
        rest = [pair for pair in pairs if pair[0] != "CTCF"]
        means = [np.mean([float(found[pair][name]) for pair in rest]) for name in ("auprc", "auroc", "recall_10")]
        wins = sum(float(ours[pair]["auprc"]) > float(found[pair]["auprc"]) for pair in pairs)
        mean = np.mean([float(ours[pair]["auprc"]) for pair in rest])
        values = [f"{value:.3f}" for value in (*means, mean)] + [f"{wins}/{len(pairs)}"]
        called = [pair for pair in rest if found[pair]["base_auprc"]]
        for rows in (found, ours) if called else ():
            values.append(f"{np.mean([float(rows[pair]['base_auprc']) for pair in called]):.3f}")
        print(method, len(pairs), *values, sep="\t")


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
    model = general_model(load_models([arguments.model], Runtime())[0])
    assert model is not None, f"{arguments.model}: not a many-factor model"
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
