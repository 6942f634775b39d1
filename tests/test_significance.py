from dataclasses import replace

import numpy as np
import pytest

from bertsnr_tools.errors import DataError, UsageError
from bertsnr_tools.io.fasta import FastaChunk, Record
from bertsnr_tools.io.motif_files import Motif
from bertsnr_tools.models.bertsnr import BertSNR
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.interface import ModelInfo
from bertsnr_tools.models.pwm import PwmModel
from bertsnr_tools.predict.calling import CalledSite
from bertsnr_tools.predict.chunks import fasta_chunks
from bertsnr_tools.predict.scan import Scanner
from bertsnr_tools.predict.significance import (
    NullDistribution,
    factor_call_levels,
    log_odds,
    rank_sites,
    window_call_levels,
)
from bertsnr_tools.predict.thresholds import CallingRule, parse_threshold
from bertsnr_tools.sequence.windows import Windows


def scores(count, seed):
    """Log odds with an exponential tail, as probabilities."""
    return 1 / (1 + np.exp(-np.random.default_rng(seed).gumbel(-6, 1.2, count)))


def test_p_values_of_fresh_windows_are_uniform():
    null = NullDistribution.fit(scores(50_000, 1), 100)
    p = 10.0 ** -null.neg_log10_p(scores(400_000, 2))
    for level, slack in ((0.5, 0.01), (0.1, 0.03), (0.01, 0.1), (0.001, 0.25), (0.0001, 0.7)):
        assert abs((p <= level).mean() / level - 1) < slack, level
    # of a Gumbel tail the truth is known, far beyond the 50,000 windows
    far = 1 / (1 + np.exp(-(-6 - 1.2 * np.log(1e-7))))
    assert null.neg_log10_p(far) == pytest.approx(7, abs=0.8)


def test_p_falls_with_the_score_and_threshold_is_its_inverse():
    null = NullDistribution.fit(scores(5000, 1), 100)
    falling = null.neg_log10_p(np.linspace(0.0001, 0.9999, 1000))
    assert np.all(np.diff(falling) >= 0) and null.neg_log10_p(0.0) == 0
    for p in (0.3, 0.05, 1e-3, 1e-6):
        assert 10.0 ** -null.neg_log10_p(null.threshold(p)) == pytest.approx(p, rel=1e-3)
    assert np.isfinite(log_odds(np.array([0.0, 1.0]))).all()
    assert null.n_tests(1_000_000) == 10_000


def test_a_null_distribution_of_equal_scores():
    null = NullDistribution.fit(np.full(1000, 0.25, dtype=np.float32), 100)
    assert null.neg_log10_p(0.1) == 0 and null.neg_log10_p(0.9) > null.neg_log10_p(0.3) >= 0


def test_scores_that_are_equal_in_a_model_file():
    null = NullDistribution.fit(np.linspace(1e-4, 1e-4 + 1e-9, 2000), 100).as_dict()
    stored = {**null, "scores": np.float32(null["scores"]).tolist(), "logs": np.float32(null["logs"]).tolist()}
    assert NullDistribution.from_dict(stored, "X").neg_log10_p(0.9) > 3


def test_the_model_file_keeps_it_and_nonsense_is_refused():
    null = NullDistribution.fit(scores(2000, 1), 100)
    info = ModelInfo("X", 3, 100, {}, 8, null=null.as_dict())
    again = NullDistribution.from_info(info)
    assert np.array_equal(again.scores, null.scores) and again.windows == 2000 and again.width == 100
    with pytest.raises(UsageError, match="X does not report p-values: it was trained without genomic background"):
        NullDistribution.from_info(ModelInfo("X", 3, 100, {}, 8))
    for key in ("background", "natural"):  # now, and in files of earlier releases
        with pytest.raises(UsageError, match="X does not report p-values: it was trained with fewer than 1,000"):
            NullDistribution.from_info(ModelInfo("X", 3, 100, {}, 8, training={"data": {key: 152}}))
    bad = {"scores": [2.0, 1.0], "logs": [1, "a"], "width": 0, "windows": None}
    for key, value in bad.items():
        with pytest.raises(DataError, match="the null distribution of model X is invalid"):
            NullDistribution.from_info(ModelInfo("X", 3, 100, {}, 8, null={**null.as_dict(), key: value}))


def test_the_call_level_of_a_window_is_above_a_threshold_when_a_site_is_called_at_it(toy_model):
    rng = np.random.default_rng(4)
    texts = [bytes(rng.choice(list(b"ACGT"), 100).tolist()) for _ in range(60)]
    windows = Windows.unlabelled([Record(f"r{i}", "", text) for i, text in enumerate(texts)])
    runtime = Runtime(batch_size=16)
    levels = window_call_levels(toy_model, windows, runtime)
    strands = [Windows(windows.names, codes, windows.labels) for codes in (windows.codes, windows.codes[:, ::-1] ^ 1)]
    single = [window_call_levels(toy_model, strand, runtime, both_strands=False) for strand in strands]
    assert np.array_equal(levels, np.maximum(*single))
    for threshold in (0.5, 0.9, 0.99):
        chunks = fasta_chunks(FastaChunk(f"r{i}", "", 0, text, True) for i, text in enumerate(texts))
        blocks = Scanner([toy_model], [CallingRule(threshold)], runtime).scan(chunks)
        called = {site.chrom for sites in blocks for site in sites}
        assert called == {f"r{i}" for i, level in enumerate(levels) if level > threshold}
        assert called or threshold > 0.5


@pytest.mark.parametrize("length", [40, 100])
def test_call_levels_of_all_factors_equal_those_of_each(toy_factors, length):
    codes = np.random.default_rng(5).integers(0, 4, (150, length)).astype(np.uint8)
    windows = Windows(list(map(str, range(150))), codes, np.zeros_like(codes))
    levels = factor_call_levels(toy_factors, windows, Runtime())
    each = [window_call_levels(toy_factors.factor(number), windows, Runtime()) for number in range(6)]
    assert levels.dtype == np.float32 and levels.shape == (150, 6)
    np.testing.assert_allclose(levels, np.stack(each, axis=1), rtol=1e-4, atol=1e-6)
    assert np.array_equal(levels, factor_call_levels(toy_factors, windows, Runtime(batch_size=7)))


def called_site(call_level, model=0):
    return CalledSite("chr1", 10, 20, "X", 0.9, "+", call_level, 5, model)


def test_sites_are_ranked_by_the_null_distribution_of_their_model():
    null = NullDistribution.fit(scores(5000, 1), 100)
    sites = [called_site(0.3), called_site(0.9, model=1), called_site(0.05), called_site(0.6)]
    streamed = rank_sites(sites, [null, None])
    assert [ranked.site for ranked in streamed] == sites and all(ranked.q is None for ranked in streamed)
    assert [ranked.p is None for ranked in streamed] == [False, True, False, False]
    assert streamed[0].p == pytest.approx(10.0 ** -null.neg_log10_p(0.3))
    assert streamed[1].log_odds == pytest.approx(np.log(9)) and streamed[1].summit == 5
    finished = rank_sites(sites, [null, None], bases=2000)
    p = [streamed[at].p for at in (3, 0, 2)]  # rising: 20 windows were tested
    q = [min(20 * p[rank] / (rank + 1) for rank in range(first, 3)) for first in range(3)]
    assert [finished[at].q for at in (3, 0, 2)] == pytest.approx(np.minimum(q, 1))
    assert finished[1].q is None
    kept = rank_sites(sites, [null, None], bases=2000, max_q=finished[0].q * 1.001)
    assert [ranked.site for ranked in kept] == [sites[0], sites[3]]  # sites without q are left out
    assert rank_sites([], [null, None], bases=2000) == []


@pytest.mark.parametrize("bases, regions", [(400, 40), (400, 4), (40_000, 3)])
def test_q_is_never_below_p(bases, regions):
    """Also in regions shorter than a window, and where a window has several sites."""
    null = NullDistribution.fit(np.random.default_rng(2).random(5000).astype(np.float32) ** 3, 100)
    levels = np.random.default_rng(3).random(40)
    sites = [CalledSite("c", 20 * i, 20 * i + 9, "X", 0.5, "+", level, 4, 0) for i, level in enumerate(levels)]
    ranked = rank_sites(sites, [null], bases=bases, regions=regions)
    assert all(site.p <= site.q for site in ranked)
    p, order = np.array([site.p for site in ranked]), np.argsort([site.p for site in ranked])
    tests = max(bases / 100, regions, 40)
    for rank, row in enumerate(order.tolist(), 1):
        expected = min(1, *(p[other] * tests / (rank + at) for at, other in enumerate(order[rank - 1 :].tolist())))
        assert ranked[row].q == pytest.approx(expected)
    by_q = rank_sites(sites, [null], bases=bases, regions=regions, max_q=0.5)
    assert [site.site for site in by_q] == [site.site for site in ranked if site.q <= 0.5]


def test_calling_rules_of_a_network(toy_model):
    null = NullDistribution.fit(scores(5000, 1), 100)
    model = BertSNR(replace(toy_model.info, null=null.as_dict()))
    assert CallingRule.for_model(model) == CallingRule(0.5)
    assert CallingRule.for_model(model, ("probability", 0.8)) == CallingRule(0.8)
    low, high = null.threshold(0.2), null.threshold(1e-5)
    assert low < 0.5 < high
    # a low p-value selects sites and does not narrow them; a high one calls more bases
    assert CallingRule.for_model(model, ("p", 1e-5)) == CallingRule(0.5, high)
    assert CallingRule.for_model(model, ("p", 0.2)) == CallingRule(low, low)
    assert CallingRule.for_model(model, ("q", 0.2)) == CallingRule(low, low, 0.2)
    assert CallingRule(0.5, high).lowest_call_level == high
    with pytest.raises(UsageError, match="TOY is not a PWM; expected a probability or p=P"):
        CallingRule.for_model(model, ("score", 9.0))
    with pytest.raises(UsageError, match="TOY does not report p-values"):
        CallingRule.for_model(toy_model, ("q", 0.1))


def test_calling_rules_of_a_pwm():
    pytest.importorskip("lightmotif")
    pwm = PwmModel(Motif("M", np.eye(4)[[0, 1, 2, 3, 0, 1, 2, 3, 0, 1]] * 96 + 1))
    assert CallingRule.for_model(pwm) == CallingRule(pwm.info.threshold)
    assert CallingRule.for_model(pwm, ("q", 0.1)) == CallingRule(pwm.info.threshold, max_q=0.1)
    assert CallingRule.for_model(pwm, ("p", 1e-3)) == CallingRule(pwm.threshold("p", 1e-3))
    assert CallingRule.for_model(pwm, ("score", 8.0)) == CallingRule(pwm.threshold("score", 8.0))


def test_thresholds_as_text():
    assert parse_threshold(None) is None and parse_threshold(0.9) == ("probability", 0.9)
    assert [parse_threshold(text) for text in ("0.9", "p=1e-4", "q=0.05", "score=-2")] == [
        ("probability", 0.9),
        ("p", 1e-4),
        ("q", 0.05),
        ("score", -2.0),
    ]
    for text in ("1", "=0.9", "p=0", "q=nan", "score=inf", "x=0.5", "p=", ""):
        with pytest.raises(UsageError, match="expected P, p=P, q=Q"):
            parse_threshold(text)
