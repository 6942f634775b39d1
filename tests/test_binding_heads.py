"""The training of binding heads (workflow/binding_heads.py), on made regions."""

import gzip
import sys

import numpy as np
import pytest
import torch

from bertsnr_tools.io.intervals import Interval
from bertsnr_tools.io.motif import Motif
from bertsnr_tools.models.binding import motif_scores
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.predict.accessible import READ, AccessibleBases, Center, Surroundings, known_windows
from bertsnr_tools.predict.significance import factor_call_levels, log_odds
from bertsnr_tools.sequence.encoding import encode
from bertsnr_tools.sequence.windows import Windows
from conftest import ROOT

sys.path.append(str(ROOT / "workflow"))
import accessible  # noqa: E402
import binding_heads  # noqa: E402


@pytest.fixture(scope="module")
def data():
    """3,000 regions, bound by A where its best site and feature 3 are high, by B where feature 0 is low."""
    rng = np.random.default_rng(1)
    features, sites = rng.normal(2, 3, (3000, 8)).astype(np.float32), rng.normal(-3, 2, (3000, 2)).astype(np.float32)
    bound = np.stack([sites[:, 0] / 2 + features[:, 3] / 3 > 0, features[:, 0] < 0], axis=1).astype(np.int8)
    bound[rng.random((3000, 2)) < 0.2] = -1
    chroms = np.array(["chr1", "chr2", "chr3"])[rng.integers(0, 3, 3000)]
    return binding_heads.Data(
        chroms, features, sites, bound, ["A", "B"], np.array([3, -1]), rng.random(3000) < 0.7, np.array([0.2, 0.1])
    )


def test_heads_learn_and_are_the_mean_of_their_networks(data, monkeypatch):
    monkeypatch.setattr(binding_heads, "EPOCHS", 60)
    rows = np.flatnonzero(data.chroms != "chr1")
    fitted = binding_heads.fit(data, rows, units=16)
    held = np.flatnonzero(data.chroms == "chr1")
    found = binding_heads.scores(data, held, fitted)
    auprc, auroc = binding_heads.accuracy(data, held, found)
    assert auprc > 0.9 and auroc > 0.9
    heads = binding_heads.joined(fitted, data, torch.zeros(1, 4, 3))
    odds = heads.surroundings_log_odds(data.features[held]) + heads.slope.numpy() * data.sites[held]
    assert np.allclose(odds, found, atol=1e-3)


def test_the_best_threshold_has_the_highest_f1():
    labels, odds = np.array([1, 1, 0, 1, 0, 0]), np.array([3.0, 2, 1, 0.5, -1, -2])
    assert binding_heads.best_threshold(labels, odds, np.ones(6)) == pytest.approx(1 / (1 + np.exp(-0.5)))
    rare = np.where(labels == 1, 1, 20)
    assert binding_heads.best_threshold(labels, odds, rare) == pytest.approx(1 / (1 + np.exp(-2)))


def test_heads_are_calibrated_to_the_rate_of_all_peaks(data, monkeypatch):
    monkeypatch.setattr(binding_heads, "EPOCHS", 20)
    monkeypatch.setattr(binding_heads, "FOLDS", (("chr1",), ("chr2",)))
    heads = binding_heads.heads(data, torch.zeros(1, 4, 3))
    assert len(heads.thresholds) == len(heads.nulls) == 2 and all(0 < level < 1 for level in heads.thresholds)
    odds = heads.surroundings_log_odds(data.features) + heads.slope.numpy() * data.sites
    for of_factor, labels, rate in zip(1 / (1 + np.exp(-odds.T)), data.bound.T, data.rates):
        mean = rate * of_factor[labels == 1].mean() + (1 - rate) * of_factor[labels == 0].mean()
        assert mean == pytest.approx(rate, abs=0.03)


def test_motifs_keep_their_scores():
    counts = np.array([[9, 1, 1, 1], [1, 1, 9, 1], [1, 1, 1, 9], [4, 4, 1, 1]], dtype=float)
    motifs = [Motif("M1", counts, "M1"), Motif("M2", counts[:3], "M2")]
    tensor = binding_heads.motif_tensor(motifs)
    assert tensor.shape == (2, 4, 5)
    wanted = [motif.log_odds.max(axis=1).sum() for motif in motifs]
    assert np.allclose(
        motif_scores(tensor, encode(b"CCAGTCCCC")[None])[0], [wanted[0] + np.log2(1), wanted[1]], atol=0.2
    )


def test_regions_are_bound_where_a_summit_lies(tmp_path):
    rows = [("chr2", 100, 300, 40), ("chr2", 1000, 1400, -1), ("chr8", 5, 50, 7)]
    lines = [f"{chrom}\t{start}\t{end}\t.\t0\t.\t1\t-1\t-1\t{summit}\n" for chrom, start, end, summit in rows]
    path = tmp_path / "A.cell.no_chr1_8_21.hg19.narrowPeak.gz"
    path.write_bytes(gzip.compress("".join(lines).encode()))
    starts = [("chr2", 0), ("chr2", 140), ("chr2", 141), ("chr2", 1060), ("chr2", 5000), ("chr3", 0), ("chr8", 0)]
    intervals = [Interval(chrom, start, start + 150) for chrom, start in starts]
    assert accessible.bound(path, intervals).tolist() == [1, 1, 2, 1, 0, 0, -1]


class Text:
    """A genome of one chromosome."""

    def __init__(self, text):
        self.text, self.lengths = text, {"a": len(text)}

    def fetch(self, chrom, start, end):
        return self.text[start:end]


def test_regions_have_the_scores_of_surroundings_and_the_best_sites(toy_factors, monkeypatch):
    monkeypatch.setattr(accessible, "SCORED", 3)
    letters = np.random.default_rng(4).choice(list(b"ACGT"), 2000).astype(np.uint8)
    letters[700:1100] = ord("N")
    genome, motifs = Text(letters.tobytes()), torch.from_numpy(np.random.default_rng(5).normal(size=(2, 4, 5))).float()
    centers = [Center("a", at) for at in (300, 301, 680, 900, 1500)]
    codes = np.array([encode(genome.fetch("a", at - READ // 2, at + READ // 2)) for _, at in centers])
    scorer = accessible.RegionScorer(toy_factors, motifs, Runtime())
    scorer(codes[:2])
    found = scorer(codes)
    wanted = Surroundings(toy_factors, motifs, genome, AccessibleBases([]), "fp32")(centers)
    assert np.isnan(found.sites[3]).all() and np.isfinite(found.sites[[0, 1, 2, 4]]).all()
    columns = np.concatenate([found.sequence, found.motifs], axis=1)
    assert np.allclose(columns, wanted[:, : columns.shape[1]], atol=1e-4, equal_nan=True)
    for row in (0, 2, 4):
        windows = known_windows(100, codes[row])
        levels = factor_call_levels(toy_factors, Windows(["w"] * len(windows), windows, windows), Runtime())
        assert np.allclose(found.sites[row], log_odds(levels.max(axis=0)).clip(-16, 16), atol=1e-3)
