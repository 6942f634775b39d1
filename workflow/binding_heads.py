#!/usr/bin/env python3
"""Train the binding heads of a many-factor model: binding_heads.py DATA MODEL OUT.pt [--cache FILE] [--ablation]

DATA contains dnase/ (DNase peaks of cell lines, hg19), chip/ (narrowPeak, hg19), genome/hg19.sparse.fa.gz (bgzip,
indexed, N wherever no base is known) and regions/ (contiguous sequence, which is left out). MODEL is a many-factor
model file, whose encoder and heads stay as they are.

The heads learn which DNase peaks contain the summit of a ChIP-seq peak, from peaks outside of the held-out regions of
which the model can read a window; peaks of several cell lines are pooled. Factors with fewer than `FEWEST` bound peaks
get no head. Null distributions, thresholds and calibration are of scores in folds of chromosomes that a network was not
trained on, and of regions whose sequence is mostly known. Known sequence is rich in sites: these regions are weighted
as if the fraction of bound ones were the fraction of all DNase peaks of the same cell lines.
`--ablation` prints, instead of training the shipped heads, what each part contributes in the first of these folds.
--cache FILE (.npz) keeps the features, which take longer than the training. Needs the extra jaspar: the heads contain
JASPAR's matrices. The heads of the shipped model were trained on windows from a grid common to all regions, which
differ from the windows of `Surroundings` at the borders of known sequence (log odds by 0.03 in the median).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accessible import (
    CHROMS,
    KNOWN,
    KnownSequence,
    RegionScorer,
    bound,
    cell_lines,
    center,
    chip_files,
    codes_around,
    dnase_peaks,
    held_out,
)
from torch import nn

from bertsnr_tools.io.intervals import Interval
from bertsnr_tools.io.jaspar import jaspar_motifs
from bertsnr_tools.io.motif import Motif
from bertsnr_tools.metrics import Ranking, aupr
from bertsnr_tools.models.binding import CLIPPED, BindingHeads
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.files import load_factors, save_model
from bertsnr_tools.models.many_factor import ManyFactorModel, shared_model
from bertsnr_tools.predict.accessible import CENTER_DISTANCE, COMPOSITION, REACHES, AccessibleBases, Surroundings
from bertsnr_tools.predict.significance import NullDistribution
from bertsnr_tools.sequence.encoding import OTHER
from factor_motifs import ACGT_COLUMNS

LOWEST = -8.0  # bits of a base in a matrix
FEWEST = 100
MOST = 15_000  # peaks of each cell line but `MAIN`, which have the most ChIP-seq files
MAIN = ("GM12878", "K562")
MOSTLY = 0.9  # known fraction of the bases around the middle of a region that is used for calibration
COUNTED = 5000  # peaks of a cell line, known or not, of which the bound ones are counted
FOLDS = (("chr1", "chr8", "chr15", "chrX"), ("chr2", "chr9", "chr12", "chr19"))
NETWORKS, UNITS, DROPOUT = 2, 128, 0.2  # networks that differ in their seed; the heads are their mean
EPOCHS, BATCH, RATE, DECAY = 12, 256, 2e-3, 1e-2


class Data(NamedTuple):
    """Accessible regions.

    Attributes
    ----------
    chroms : of the regions, shape (n,)
    features : see `Surroundings`, float32, shape (n, D)
    sites : log odds of the best site of each factor, float32, shape (n, P)
    bound : of each factor, 1, 0, or -1 where unknown, int8, shape (n, P)
    factors : names of the P factors
    own : for each factor, the column of its matrix in `features`; -1 if it has none; shape (P,)
    known : whether most bases around the middle are known, bool, shape (n,)
    rates : fraction of all DNase peaks that each factor binds, shape (P,)
    """

    chroms: np.ndarray
    features: np.ndarray
    sites: np.ndarray
    bound: np.ndarray
    factors: list[str]
    own: np.ndarray
    known: np.ndarray
    rates: np.ndarray

    @property
    def matches(self) -> np.ndarray:
        """Bits of the best match of each factor's matrix, shape (n, P)."""
        return np.where(self.own < 0, 0, self.features[:, self.own])


def head_motifs(data: Path) -> list[Motif]:
    """The newest JASPAR matrices of all factors with ChIP-seq peaks in these cell lines."""
    cells = cell_lines(data)
    factors = {factor for factor, cell, _ in chip_files(data) if cell in cells}
    return [motif for motif in jaspar_motifs("jaspar") if motif.name.upper() in factors]


def motif_tensor(motifs: Sequence[Motif]) -> torch.Tensor:
    """PWMs in the form of `BindingHeads.motifs`."""
    width = max(motif.width for motif in motifs) // 2 * 2 + 1
    tensor = torch.zeros(len(motifs), 4, width)
    for row, motif in zip(tensor, motifs):
        first = (width - motif.width) // 2
        odds = motif.log_odds[:, ACGT_COLUMNS].T.clip(LOWEST)
        row[:, first : first + motif.width] = torch.from_numpy(odds)
    return tensor.half().float()  # as in the model file


def collect(data: Path, model: ManyFactorModel, motifs: torch.Tensor) -> dict[str, np.ndarray]:
    """The features of the regions of all cell lines, the best sites in them, and where they are."""
    sequence, parts = KnownSequence(data), []
    scorer = RegionScorer(model, motifs, Runtime.choose("cpu"))
    for number, cell in enumerate(cell_lines(data)):
        peaks = dnase_peaks(data, cell)
        read = Surroundings(model, motifs, sequence, AccessibleBases(peaks), "fp32")
        peaks = [peak for peak in peaks if not held_out(peak) and not sequence.contains(*peak[:3])]
        peaks = [peak for peak in peaks if known(sequence, *peak[:3])]
        if cell not in MAIN and len(peaks) > MOST:
            rows = np.sort(np.random.default_rng(number).permutation(len(peaks))[:MOST])
            peaks = [peaks[row] for row in rows.tolist()]
        scores = scorer(codes_around(sequence, peaks))
        scalars = np.array([read.scalars(center(peak)) for peak in peaks], dtype=np.float32)
        kept = ~np.isnan(scores.sites[:, 0])
        features = np.concatenate([scores.sequence, scores.motifs, scalars], axis=1)[kept]
        peaks = [peaks[row] for row in np.flatnonzero(kept).tolist()]
        spans = np.array([(CHROMS.index(peak.chrom), peak.start, peak.end) for peak in peaks])
        around = codes_around(sequence, peaks, KNOWN)
        whole = (around < OTHER).mean(axis=1) >= MOSTLY
        parts.append((np.full(len(peaks), cell), spans, features, scores.sites[kept], whole))
        print(cell, len(peaks), flush=True)
    return dict(
        zip(("cells", "spans", "features", "sites", "known"), (np.concatenate(column) for column in zip(*parts)))
    )


def known(sequence: KnownSequence, chrom: str, start: int, end: int) -> bool:
    """Whether half of the bases of a region are known: fewer leave no window to read."""
    text = sequence.fetch(chrom, start, end)
    return 2 * text.count(b"N") <= len(text)


def labelled(data: Path, model: ManyFactorModel, motifs: Sequence[Motif], arrays: dict[str, np.ndarray]) -> Data:
    """The regions with labels from all ChIP-seq files; regions near a summit are left out of a factor's training."""
    names = [info.name for info in model.infos]
    intervals = [Interval(CHROMS[number], start, end) for number, start, end in arrays["spans"].tolist()]
    labels = np.full((len(intervals), len(names)), -1, dtype=np.int8)
    for factor, cell, path in chip_files(data):
        rows = np.flatnonzero(arrays["cells"] == cell)
        if factor in names and len(rows):
            found = bound(path, [intervals[row] for row in rows.tolist()])
            labels[rows, names.index(factor)] = np.where(found == 2, -1, found)
    chosen = np.flatnonzero((labels == 1).sum(axis=0) >= FEWEST)
    labels, factors = labels[:, chosen], [names[column] for column in chosen]
    own = []
    for factor, of_factor in zip(factors, labels.T):
        columns = [len(names) + row for row, motif in enumerate(motifs) if motif.name.upper() == factor]
        used = of_factor >= 0
        own.append(
            max(columns, key=lambda column: aupr(of_factor[used] == 1, arrays["features"][used, column]), default=-1)
        )
    chroms = np.array([interval.chrom for interval in intervals])
    rates = bound_rates(data, factors)
    sites = arrays["sites"][:, chosen]
    return Data(chroms, arrays["features"], sites, labels, factors, np.array(own), arrays["known"], rates)


def bound_rates(data: Path, factors: Sequence[str]) -> np.ndarray:
    """Fraction of DNase peaks, outside of the held-out regions, that contain a summit of each factor."""
    counts = np.zeros((len(factors), 2))
    sampled: dict[str, list[Interval]] = {}
    for cell in cell_lines(data):
        peaks = [peak for peak in dnase_peaks(data, cell) if not held_out(peak)]
        rows = np.random.default_rng(0).permutation(len(peaks))[:COUNTED].tolist()
        sampled[cell] = [peaks[row] for row in rows]
    for factor, cell, path in chip_files(data):
        if factor in factors and cell in sampled:
            found = bound(path, sampled[cell])
            counts[factors.index(factor)] += (found == 1).sum(), (found >= 0).sum()
    return counts[:, 0] / counts[:, 1]


class Network(nn.Module):
    """Standardized features (B, D), motif matches and best sites (B, P) to log odds (B, P)."""

    def __init__(self, features: int, factors: int, units: int):
        super().__init__()
        self.dropout = nn.Dropout(DROPOUT if units else 0)
        self.hidden = nn.Linear(features, units) if units else None
        self.out = nn.Linear(units or features, factors)
        self.slopes = nn.Parameter(torch.full((2, factors), 0.3))

    def forward(self, x: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        x = self.dropout(x)
        if self.hidden:
            x = self.dropout(nn.functional.gelu(self.hidden(x)))
        return self.out(x) + (self.slopes * own).sum(1)


class Scale(NamedTuple):
    """Mean and standard deviation of values, by column."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> Scale:
        return cls(values.mean(axis=0), values.std(axis=0) + 1e-6)

    def standardized(self, values: np.ndarray) -> torch.Tensor:
        clipped = np.clip((values - self.mean) / self.deviation, -CLIPPED, CLIPPED)
        return torch.from_numpy(clipped.astype(np.float32))


class Fitted(NamedTuple):
    """Trained networks, and what their inputs were standardized with."""

    networks: list[Network]
    features: Scale
    matches: Scale
    sites: Scale

    def inputs(self, data: Data, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        own = (self.matches.standardized(data.matches[rows]), self.sites.standardized(data.sites[rows]))
        return self.features.standardized(data.features[rows]), torch.stack(own, dim=1)


def fit(data: Data, rows: np.ndarray, units: int = UNITS, networks: int = NETWORKS) -> Fitted:
    """Train on some of the regions."""
    fitted = Fitted([], *(Scale.of(values[rows]) for values in (data.features, data.matches, data.sites)))
    x, own = fitted.inputs(data, rows)
    labels = torch.from_numpy(data.bound[rows].astype(np.float32))
    for seed in range(networks):
        torch.manual_seed(seed)
        fitted.networks.append(trained(Network(x.shape[1], len(data.factors), units), x, own, labels))
    return fitted


def trained(network: Network, x: torch.Tensor, own: torch.Tensor, labels: torch.Tensor) -> Network:
    """Train a network; `labels` are 1, 0, or -1 where unknown."""
    rate = (labels == 1).sum(0) / (labels >= 0).sum(0).clamp(min=1)
    network.out.bias.data = torch.logit(rate.clamp(1e-4, 1 - 1e-4))
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    steps = len(x) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * steps + 1)
    for _ in range(EPOCHS):
        order = torch.randperm(len(x))
        for first in range(0, steps * BATCH, BATCH):
            batch = order[first : first + BATCH]
            wanted = labels[batch]
            logits = network(x[batch], own[batch])
            loss = nn.functional.binary_cross_entropy_with_logits(logits, wanted.clamp(min=0), reduction="none")
            loss = (loss * (wanted >= 0)).sum() / (wanted >= 0).sum().clamp(min=1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def scores(data: Data, rows: np.ndarray, fitted: Fitted) -> np.ndarray:
    """Log odds of being bound, the mean over networks, shape (rows, P)."""
    with torch.no_grad():
        inputs = fitted.inputs(data, rows)
        return torch.stack([network(*inputs) for network in fitted.networks]).mean(0).numpy()


def out_of_fold(
    data: Data, folds: Sequence[Sequence[str]] = FOLDS, units: int = UNITS, networks: int = NETWORKS
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the folds, and their log odds from networks that were trained on all other regions."""
    rows, found = [], []
    for fold in folds:
        within = np.isin(data.chroms, fold)
        rows.append(np.flatnonzero(within))
        found.append(scores(data, rows[-1], fit(data, np.flatnonzero(~within), units, networks)))
    return np.concatenate(rows), np.concatenate(found)


def accuracy(data: Data, rows: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Mean AUPRC and AUROC of the factors."""
    values = []
    for labels, odds in zip(data.bound[rows].T, found.T):
        used = labels >= 0
        if (labels == 1).sum() >= FEWEST // 4:
            ranking = Ranking(labels[used] == 1, odds[used])
            values.append((ranking.aupr(), ranking.auc()))
    low, high = np.mean(values, axis=0).tolist()
    return low, high


def best_threshold(labels: np.ndarray, odds: np.ndarray, weights: np.ndarray) -> float:
    """The probability of being bound with the highest F1 score."""
    order = np.argsort(-odds, kind="stable")
    true, called = np.cumsum(((labels == 1) * weights)[order]), np.cumsum(weights[order])
    f1 = 2 * true / (called + true[-1])
    return float(1 / (1 + np.exp(-odds[order][f1.argmax()])))


def calibrating_shift(odds: np.ndarray, weights: np.ndarray, rate: float) -> float:
    """What to add to log odds so that the mean probability is `rate`, by bisection."""
    low, high = -20.0, 20.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        mean = np.average(1 / (1 + np.exp(-odds - middle)), weights=weights)
        low, high = (middle, high) if mean < rate else (low, middle)
    return low


def heads(data: Data, motifs: torch.Tensor) -> BindingHeads:
    """The heads trained on all regions, calibrated by `out_of_fold`."""
    rows, found = out_of_fold(data)
    print("cross-validation: AUPRC {:.4f}, AUROC {:.4f}".format(*accuracy(data, rows, found)), flush=True)
    result = joined(fit(data, np.arange(len(data.chroms))), data, motifs)
    rows, found = rows[data.known[rows]], found[data.known[rows]].astype(np.float64)
    for number, (labels, odds, rate) in enumerate(zip(data.bound[rows].T, found.T, data.rates)):
        labels, odds = labels[labels >= 0], odds[labels >= 0]
        weights = np.where(labels == 1, rate / (labels == 1).mean(), (1 - rate) / (labels == 0).mean())
        shift = calibrating_shift(odds, weights, rate)
        result.bias[number] += shift
        result.thresholds.append(best_threshold(labels, odds + shift, weights))
        unbound = 1 / (1 + np.exp(-odds[labels == 0] - shift))
        result.nulls.append(NullDistribution.fit(unbound, CENTER_DISTANCE).as_dict())
    return result


@torch.no_grad()
def joined(fitted: Fitted, data: Data, motifs: torch.Tensor) -> BindingHeads:
    """The networks as one, whose hidden units are the units of all; without thresholds and null distributions."""
    networks = fitted.networks
    hidden = [network.hidden for network in networks if network.hidden]
    match_slopes, site_slopes = torch.stack([network.slopes for network in networks]).mean(0)
    sites_mean, sites_deviation = (torch.from_numpy(values) for values in fitted.sites)
    slope = site_slopes / sites_deviation
    skip = torch.zeros(len(data.factors), data.features.shape[1])
    for row, column in enumerate(data.own.tolist()):
        if column >= 0:
            skip[row, column] = match_slopes[row]  # its match is standardized like the feature
    mean, scale = (torch.from_numpy(values.astype(np.float32)) for values in fitted.features)
    return BindingHeads(
        factors=data.factors,
        thresholds=[],
        nulls=[],
        motifs=motifs,
        mean=mean,
        scale=scale,
        hidden_weight=torch.cat([layer.weight for layer in hidden]),
        hidden_bias=torch.cat([layer.bias for layer in hidden]),
        weight=torch.cat([network.out.weight for network in networks], dim=1) / len(networks),
        skip=skip,
        bias=torch.stack([network.out.bias for network in networks]).mean(0) - slope * sites_mean,
        slope=slope,
    )


def ablation(data: Data, motifs: int) -> None:
    """Print AUPRC and AUROC, in the first fold, of the motif alone and with parts of the features."""
    fold = FOLDS[:1]
    rows = np.flatnonzero(np.isin(data.chroms, fold[0]))
    parts = {"motif matches": motifs, "composition": 2 * len(COMPOSITION), "accessibility": len(REACHES)}
    parts = {"sequence heads": data.features.shape[1] - sum(parts.values())} | parts

    def show(name: str, found: np.ndarray) -> None:
        print(name, *(f"{value:.3f}" for value in accuracy(data, rows, found)), sep="\t", flush=True)

    show("best match of the matrix", data.matches[rows])
    show("best site", data.sites[rows])
    show("heads", out_of_fold(data, fold, networks=1)[1])
    show("heads, two networks", out_of_fold(data, fold)[1])
    show("heads, linear", out_of_fold(data, fold, units=0, networks=1)[1])
    show("heads, twice the units", out_of_fold(data, fold, units=2 * UNITS, networks=1)[1])
    end = 0
    for name, size in parts.items():
        features = data.features.copy()
        features[:, end : end + size] = 0
        end += size
        show(f"heads, without {name}", out_of_fold(data._replace(features=features), fold, networks=1)[1])
    show("heads, without the best site", out_of_fold(data._replace(sites=0 * data.sites), fold, networks=1)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--ablation", action="store_true")
    arguments = parser.parse_args()
    whole = shared_model(load_factors(arguments.model)[0])
    if whole is None:
        parser.error(f"{arguments.model}: expected a many-factor model")
    model = whole.group[0]
    motifs = head_motifs(arguments.data)
    if arguments.cache and arguments.cache.exists():
        arrays = dict(np.load(arguments.cache))
    else:
        arrays = collect(arguments.data, model, motif_tensor(motifs))
        if arguments.cache:
            np.savez(arguments.cache, **arrays)  # type: ignore[arg-type]
    data = labelled(arguments.data, model, motifs, arrays)
    if arguments.ablation:
        ablation(data, len(motifs))
    else:
        model.binding = heads(data, motif_tensor(motifs))
        save_model(arguments.out, whole)


if __name__ == "__main__":
    main()
