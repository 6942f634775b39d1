import numpy as np
import pybigtools
import pytest
import torch

from bertsnr_tools.errors import DataError, UsageError
from bertsnr_tools.io.fasta import FastaChunk, Record, read_records
from bertsnr_tools.models.bertsnr import BertSNR
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.files import load_model, save_model
from bertsnr_tools.models.interface import ModelInfo
from bertsnr_tools.models.prefilter_network import PrefilterNetwork
from bertsnr_tools.models.registry import find_model
from bertsnr_tools.predict.chunks import fasta_chunks
from bertsnr_tools.predict.prefilter import check_prefilter, passing_windows, prefilter_logits
from bertsnr_tools.predict.scan import Scanner
from bertsnr_tools.predict.thresholds import CallingRule
from bertsnr_tools.sequence.encoding import encode
from bertsnr_tools.sequence.windows import Windows, read_windows
from bertsnr_tools.training.prefilter import train_prefilter
from conftest import DATA

LETTERS = np.frombuffer(b"ACGT", dtype=np.uint8)


def sites(model, sequence, prefilter, batch_size=64, signal=None):
    rules, runtime = [CallingRule(model.info.threshold)], Runtime(batch_size=batch_size)
    scanner = Scanner([model], rules, runtime, step=50, prefilter=prefilter, signal=signal)
    return [site for found in scanner.scan(fasta_chunks([FastaChunk("s", "", 0, sequence, True)])) for site in found]


@pytest.fixture
def filtered(toy_model):
    """The toy model with a prefilter of random weights."""
    torch.manual_seed(3)
    toy_model.prefilter = PrefilterNetwork(4, 10)
    toy_model.info.prefilter = {"shortest": 4, "flank": 10, "cut": 0.0}
    yield toy_model
    toy_model.prefilter, toy_model.info.prefilter = None, {}


def test_windows_pass_whatever_the_batch(filtered):
    random = np.random.default_rng(1)
    codes = random.integers(0, 4, (200, 100)).astype(np.uint8)
    cores = np.tile([0, 100], (200, 1))
    network, runtime = filtered.prefilter, Runtime()
    logits_of = network.inference_function()
    logits = [prefilter_logits(network, codes[at : at + 1], runtime, logits_of).max(axis=1) for at in range(200)]
    network.cut = float(np.sort(np.concatenate(logits))[100:102].mean())
    passing = passing_windows(filtered, codes, cores, runtime)
    assert passing.sum() == 99  # above the 101st of 200
    parts = [passing_windows(filtered, part, cores[: len(part)], runtime) for part in np.split(codes, [1, 4, 70])]
    assert np.array_equal(passing, np.concatenate(parts))
    for cut, all_or_none in ((-np.inf, True), (np.inf, False)):
        network.cut = cut
        assert (passing_windows(filtered, codes, cores, runtime) == all_or_none).all()
    assert passing_windows(filtered, codes[:, :3], cores, runtime).all()  # shorter than a site


def test_only_sites_that_overlap_the_core_count(filtered):
    net = filtered.prefilter
    codes = np.random.default_rng(2).integers(0, 4, (1, 100)).astype(np.uint8)
    logits = prefilter_logits(net, codes, Runtime(), net.inference_function())[0]
    top = int(logits.argmax())
    net.cut = float(np.sort(logits)[-2:].mean())  # one base alone is above it
    reach = filtered.info.site_width
    for core, passes in (
        ((top, top + 1), True),
        ((top + reach - 1, 100), True),
        ((top + reach, 100), False),
        ((0, top - reach + net.shortest), False),
    ):
        assert passing_windows(filtered, codes, np.array([core]), Runtime()) == passes


def test_what_passes_scores_as_without(filtered):
    sequence = LETTERS[np.random.default_rng(4).integers(0, 4, 6000)].tobytes()

    def scanned(prefilter, batch_size=64):
        pieces = []
        found = sites(
            filtered, sequence, prefilter, batch_size, lambda model, chrom, start, scores: pieces.append(scores)
        )
        return found, np.concatenate(pieces, axis=1)

    found, scores = scanned(False)
    filtered.prefilter.cut = -np.inf
    assert scanned(True)[0] == found != []
    windows = [encode(sequence[at : at + 100])[None] for at in range(0, 5900, 50)]
    logits_of = filtered.prefilter.inference_function()
    best = [prefilter_logits(filtered.prefilter, window, Runtime(), logits_of).max() for window in windows]
    filtered.prefilter.cut = float(np.median(best))
    some, some_scores = scanned(True)
    assert some and scanned(True, 7)[0] == some
    ruled_out = np.isnan(some_scores)
    assert 0.1 < ruled_out.mean() < 0.9 and np.array_equal(some_scores[~ruled_out], scores[~ruled_out])


def test_a_prefilter_is_for_thresholds_from_the_default_of_its_model_up(filtered):
    default = filtered.info.threshold
    for rule in (CallingRule(default), CallingRule(0.9), CallingRule(0.1, min_call_level=0.9)):
        check_prefilter(filtered, rule)
    for rule in (CallingRule(default - 0.1), CallingRule(0.1, min_call_level=0.2)):
        with pytest.raises(UsageError, match="the prefilter of TOY requires a threshold of at least 0.5"):
            check_prefilter(filtered, rule)


def test_learning_keeps_the_calls(monkeypatch, tmp_path):
    monkeypatch.setattr("bertsnr_tools.training.prefilter.STEPS", 1000)
    model = load_model(find_model("CTCF"))
    model.prefilter, model.info.prefilter = None, {}
    cut = [
        (record, at)
        for record in read_records(str(DATA / "genome.fa"))
        for at in range(0, len(record.sequence) - 100, 100)
    ]
    pieces = [Record(f"{record.name}:{at}", "", record.sequence[at : at + 100]) for record, at in cut]
    background = Windows.unlabelled([piece for piece in pieces if not piece.sequence.strip(b"ACGT")])
    train_prefilter(model, read_windows(str(DATA / "expected" / "windows.fa"), True, 3), background, Runtime(), 1)
    save_model(str(tmp_path / "m.pt"), model)
    again = load_model(str(tmp_path / "m.pt"))
    sequence = next(read_records(str(DATA / "region.fa"))).sequence
    calls = sites(model, sequence, False)
    kept = sites(again, sequence, True)
    assert len(calls) >= 4 and kept == sites(model, sequence, True)
    assert [(site.start, site.strand) for site in kept] == [(site.start, site.strand) for site in calls]
    codes = background.codes
    assert passing_windows(again, codes, np.tile([25, 75], (len(codes), 1)), Runtime()).mean() < 0.5


def test_command(run_here, tmp_path, toy_model_file):
    whole = run_here("predict", "-m", "CTCF", DATA / "region.fa")
    fast = run_here("predict", "--prefilter", "-m", "CTCF", "--bigwig", "p.bw", DATA / "region.fa")
    assert fast.status == 0 and fast.out == whole.out != ""
    with pybigtools.open(str(tmp_path / "p.bw")) as track:
        values = track.values("chr20", 1_000_000, 1_005_000, fillna=None)
    assert 0.5 < np.isnan(values).mean() < 1
    for words, problem in (
        (["-m", toy_model_file], "--prefilter: TOY has no prefilter; leave out --prefilter, or train"),
        (
            ["-m", "CTCF", "-t", "0.4"],
            "--prefilter: the prefilter of CTCF requires a threshold of at least 0.5 (got 0.4)",
        ),
    ):
        outcome = run_here("predict", "--prefilter", *words, DATA / "region.fa")
        assert outcome.status == 2 and outcome.out == "" and problem in outcome.err


def test_an_impossible_prefilter_is_refused(toy_model, tmp_path):
    for spoiled in (
        {"shortest": 0, "flank": 1, "cut": 0.0},
        {"shortest": 4, "flank": 10, "cut": float("nan")},
        {"shortest": 4, "flank": 10**9, "cut": 0.0},
        {"x": 1},
        {"shortest": 4, "flank": 10, "cut": 0.0},
    ):
        model = BertSNR(ModelInfo(**(vars(toy_model.info) | {"prefilter": {}})))
        model.info.prefilter = spoiled
        save_model(str(tmp_path / "m.pt"), model)
        with pytest.raises(DataError, match="model configuration cannot be used"):
            load_model(str(tmp_path / "m.pt"))


@pytest.mark.parametrize(("shortest", "flank"), [(4, 10), (10, 30), (7, 0), (1, 0)])
def test_lookups_equal_the_network(shortest, flank):
    torch.manual_seed(3)
    network = PrefilterNetwork(shortest, flank)
    codes = torch.from_numpy(np.random.default_rng(5).integers(0, 5, (9, 60)))  # with N
    with torch.inference_mode():
        assert torch.allclose(network.inference_function()(codes), network(codes), atol=1e-5)
