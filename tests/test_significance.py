import numpy as np
import pytest

from bertsnr_tools.errors import DataError, UsageError
from bertsnr_tools.io.fasta import FastaChunk, Record
from bertsnr_tools.models.interface import ModelInfo
from bertsnr_tools.predict.chunks import fasta_chunks
from bertsnr_tools.predict.scan import ScanStats, scan
from bertsnr_tools.predict.significance import NullDistribution, log_odds, window_call_levels
from bertsnr_tools.sequence.windows import Windows


def scores(count, seed):
    """Log odds with an exponential tail, as probabilities."""
    return 1 / (1 + np.exp(-np.random.default_rng(seed).gumbel(-6, 1.2, count)))


def test_p_values_of_fresh_windows_are_uniform():
    null = NullDistribution.of(scores(50_000, 1), 100)
    p = 10.0 ** -null.neg_log10_p(scores(400_000, 2))
    for level, slack in ((0.5, 0.01), (0.1, 0.03), (0.01, 0.1), (0.001, 0.25), (0.0001, 0.7)):
        assert abs((p <= level).mean() / level - 1) < slack, level
    # of a Gumbel tail the truth is known, far beyond the 50,000 windows
    far = 1 / (1 + np.exp(-(-6 - 1.2 * np.log(1e-7))))
    assert null.neg_log10_p(far) == pytest.approx(7, abs=0.8)


def test_p_falls_with_the_score_and_threshold_is_its_inverse():
    null = NullDistribution.of(scores(5000, 1), 100)
    falling = null.neg_log10_p(np.linspace(0.0001, 0.9999, 1000))
    assert np.all(np.diff(falling) >= 0) and null.neg_log10_p(0.0) == 0
    for p in (0.3, 0.05, 1e-3, 1e-6):
        assert 10.0 ** -null.neg_log10_p(null.threshold(p)) == pytest.approx(p, rel=1e-3)
    assert np.isfinite(log_odds(np.array([0.0, 1.0]))).all()
    assert null.n_tests(1_000_000) == 10_000


def test_windows_that_all_score_alike_give_a_background():
    null = NullDistribution.of(np.full(1000, 0.25, dtype=np.float32), 100)
    assert null.neg_log10_p(0.1) == 0 and null.neg_log10_p(0.9) > null.neg_log10_p(0.3) >= 0


def test_the_model_file_keeps_it_and_nonsense_is_refused():
    null = NullDistribution.of(scores(2000, 1), 100)
    info = ModelInfo("X", 3, 100, {}, 8, null=null.as_dict())
    again = NullDistribution.from_info(info)
    assert np.array_equal(again.scores, null.scores) and again.windows == 2000 and again.width == 100
    with pytest.raises(UsageError, match="X was trained without natural windows"):
        NullDistribution.from_info(ModelInfo("X", 3, 100, {}, 8))
    with pytest.raises(UsageError, match="X has no p-values: fewer than 1,000 natural windows were left"):
        NullDistribution.from_info(ModelInfo("X", 3, 100, {}, 8, training={"data": {"natural": 152}}))
    bad = {"scores": [2.0, 1.0], "logs": [1, "a"], "width": 0, "windows": None}
    for key, value in bad.items():
        with pytest.raises(DataError, match=r"m\.pt: the background of model X cannot be used"):
            NullDistribution.from_info(ModelInfo("X", 3, 100, {}, 8, null={**null.as_dict(), key: value}), "m.pt")


def test_a_window_peaks_above_a_threshold_when_a_site_is_called_at_it(toy_model):
    rng = np.random.default_rng(4)
    texts = [bytes(rng.choice(list(b"ACGT"), 100).tolist()) for _ in range(60)]
    windows = Windows.unlabelled([Record(f"r{i}", "", text) for i, text in enumerate(texts)])
    peaks = window_call_levels(toy_model, windows, "fp32", 16)
    assert np.array_equal(
        peaks,
        np.maximum(
            *(
                window_call_levels(toy_model, Windows(windows.names, codes, windows.labels), "fp32", 16, False)
                for codes in (windows.codes, windows.codes[:, ::-1] ^ 1)
            )
        ),
    )
    for threshold in (0.5, 0.9, 0.99):
        parts = fasta_chunks(FastaChunk(f"r{i}", "", 0, text, True) for i, text in enumerate(texts))
        called = {
            hit.chrom for hits in scan([toy_model], parts, [threshold], [50], 16, "fp32", ScanStats()) for hit in hits
        }
        assert called == {f"r{i}" for i, peak in enumerate(peaks) if peak > threshold}
        assert called or threshold > 0.5
