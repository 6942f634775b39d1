"""The benchmarks of bound regions and of calls in contiguous sequence (benchmarks/bound.py, benchmarks/genome.py)."""

import sys

import numpy as np
import pytest

from bertsnr_tools.io.motif import Motif
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.predict.accessible import known_windows
from bertsnr_tools.predict.significance import factor_call_levels, log_odds
from bertsnr_tools.sequence.encoding import encode
from bertsnr_tools.sequence.windows import Windows
from conftest import ROOT

sys.path.append(str(ROOT / "benchmarks"))
import bound  # noqa: E402
import genome  # noqa: E402


def test_the_best_base_has_the_level_of_the_best_site(toy_factors):
    codes = np.random.default_rng(6).integers(0, 4, (4, 250)).astype(np.uint8)
    codes[1, 90:] = 4
    codes[2, 100:] = 4
    sites = bound.many_levels(toy_factors, codes, {"F8", "F21"})
    assert set(sites) == {"F8", "F21"} and (sites["F8"][1] == bound.NEVER).all()
    assert (sites["F8"][2, 100:] == bound.NEVER).all()
    for row in (0, 2, 3):
        windows = known_windows(100, codes[row])
        levels = factor_call_levels(toy_factors, Windows(["w"] * len(windows), windows, windows), Runtime())
        odds = log_odds(levels.max(axis=0)).clip(-16, 16)
        for factor, column in (("F8", 1), ("F21", 4)):
            assert sites[factor][row].max() == pytest.approx(odds[column], abs=1e-3)
            assert (sites[factor][row] == sites[factor][row].max()).sum() >= int(factor[1:]) // 2


def test_bases_of_matches():
    counts = np.full((8, 4), 0.1)
    counts[np.arange(8), [0, 1, 2, 3, 3, 0, 1, 1]] = 20  # ACGTTACC
    text = b"TTTTTTTTTACGTTACCTTTTTTTTTTTTTGGTAACGTTTTTT"
    matches = bound.match_scores(Motif("M", counts, "M"), encode(text)[None])
    inside = np.zeros(len(text), dtype=bool)
    inside[9:17] = inside[30:38] = True
    assert np.array_equal(matches.inside[0], inside) and matches.found.tolist() == [2]
    assert np.array_equal(np.isclose(matches.bits[0], matches.bits.max()), inside)
    assert np.isinf(bound.match_scores(Motif("M", counts, "M"), encode(b"NNNACGTTAC")[None]).bits).all()
    wanted, known = inside[None], np.ones((1, len(text)), dtype=bool)
    assert bound.base_auprc(bound.Method(np.zeros(1), matches.bits), wanted, known) == "1.000"
    assert bound.base_auprc(bound.Method(np.zeros(1), -matches.bits), wanted, known) < "0.3"
    assert bound.base_auprc(bound.Method(np.zeros(1)), wanted, known) == ""


def test_stretches_of_equal_distance(monkeypatch):
    monkeypatch.setattr(genome, "BLOCK", 200)
    letters = np.random.default_rng(7).choice(list(b"ACGT"), 5000).astype(np.uint8)
    letters[[999, 1499]] = list(b"AC")
    other = np.concatenate([letters[:1000], letters[1500:4000], letters[:3], letters[4000:]])  # 500 lost, then 3 gained
    known = letters.copy()
    known[400:600] = known[2000:3000] = ord("N")
    assert genome.equal_stretches(known.tobytes(), other.tobytes()) == [
        (0, 1000, 0),
        (1500, 4000, -500),
        (4000, 5000, -497),
    ]
