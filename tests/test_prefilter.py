import numpy as np
import pybigtools
import pytest
import torch

from bertsnr_tools.errors import DataError
from bertsnr_tools.io.fasta import FastaChunk, Record, read_records
from bertsnr_tools.models.bertsnr import BertSNR
from bertsnr_tools.models.files import load_model, save_model
from bertsnr_tools.models.interface import ModelInfo
from bertsnr_tools.models.prefilter_network import PrefilterNetwork
from bertsnr_tools.models.registry import find_model
from bertsnr_tools.predict.chunks import fasta_chunks
from bertsnr_tools.predict.prefilter import _logits, passing_windows
from bertsnr_tools.predict.scan import ScanStats, scan
from bertsnr_tools.sequence.encoding import encode
from bertsnr_tools.sequence.windows import Windows, read_windows
from bertsnr_tools.train.prefilter import train_prefilter
from conftest import DATA

LETTERS = np.frombuffer(b"ACGT", dtype=np.uint8)


def sites(model, sequence, prefilter, **options):
    settings = {"thresholds": [model.info.threshold], "steps": [50], "batch_size": 64, "precision": "fp32"} | options
    return [
        hit
        for hits in scan(
            [model],
            fasta_chunks([FastaChunk("s", "", 0, sequence, True)]),
            tally=ScanStats(),
            prefilter=prefilter,
            **settings,
        )
        for hit in hits
    ]


@pytest.fixture
def filtered(toy_model):
    """The toy model with a prefilter of random weights."""
    torch.manual_seed(3)
    toy_model.prefilter = PrefilterNetwork(4, 10)
    yield toy_model
    toy_model.prefilter = None


def test_windows_pass_whatever_the_batch(filtered):
    random = np.random.default_rng(1)
    codes = random.integers(0, 4, (200, 100)).astype(np.uint8)
    owns = np.tile([0, 100], (200, 1))
    best = np.sort(
        np.concatenate([_logits(filtered.prefilter, codes[at : at + 1], "fp32").max(axis=1) for at in range(200)])
    )
    filtered.prefilter.cut = float(best[100:102].mean())
    keep = passing_windows(filtered, codes, owns, "fp32")
    assert keep.sum() == 99  # above the 101st of 200
    assert np.array_equal(
        keep,
        np.concatenate(
            [passing_windows(filtered, part, owns[: len(part)], "fp32") for part in np.split(codes, [1, 4, 70])]
        ),
    )
    for cut, all_or_none in ((-np.inf, True), (np.inf, False)):
        filtered.prefilter.cut = cut
        assert (passing_windows(filtered, codes, owns, "fp32") == all_or_none).all()
    assert passing_windows(filtered, codes[:, :3], owns, "fp32").all()  # shorter than a site


def test_only_sites_that_touch_the_wanted_bases_count(filtered):
    net = filtered.prefilter
    codes = np.random.default_rng(2).integers(0, 4, (1, 100)).astype(np.uint8)
    logits = _logits(net, codes, "fp32")[0]
    top = int(logits.argmax())
    net.cut = float(np.sort(logits)[-2:].mean())  # one base alone is above it
    reach = filtered.info.site_width
    for own, wanted in (
        ((top, top + 1), True),
        ((top + reach - 1, 100), True),
        ((top + reach, 100), False),
        ((0, top - reach + net.shortest), False),
    ):
        assert passing_windows(filtered, codes, np.array([own]), "fp32") == wanted


def test_what_passes_scores_as_without(filtered):
    sequence = LETTERS[np.random.default_rng(4).integers(0, 4, 6000)].tobytes()

    def scanned(prefilter, batch_size=64):
        pieces = []
        hits = sites(
            filtered,
            sequence,
            prefilter,
            batch_size=batch_size,
            signal=lambda model, chrom, start, track: pieces.append(track),
        )
        return hits, np.concatenate(pieces, axis=1)

    hits, track = scanned(False)
    filtered.prefilter.cut = -np.inf
    assert scanned(True)[0] == hits != []
    best = [
        _logits(filtered.prefilter, encode(sequence[at : at + 100])[None], "fp32").max() for at in range(0, 5900, 50)
    ]
    filtered.prefilter.cut = float(np.median(best))
    some, known = scanned(True)
    assert some and scanned(True, 7)[0] == some
    ruled_out = np.isnan(known)  # what is ruled out has no probability
    assert 0.1 < ruled_out.mean() < 0.9 and np.array_equal(known[~ruled_out], track[~ruled_out])


def test_learning_keeps_the_calls(monkeypatch, tmp_path):
    monkeypatch.setattr("bertsnr_tools.train.prefilter.STEPS", 1000)
    model = load_model(find_model("CTCF"))
    model.prefilter, model.info.prefilter = None, {}
    cut = [
        (record, at)
        for record in read_records(str(DATA / "genome.fa"))
        for at in range(0, len(record.sequence) - 100, 100)
    ]
    pieces = [Record(f"{record.name}:{at}", "", record.sequence[at : at + 100]) for record, at in cut]
    natural = Windows.unlabelled([piece for piece in pieces if not piece.sequence.strip(b"ACGT")])
    train_prefilter(model, read_windows(str(DATA / "expected" / "windows.fa"), True, 3), natural, "fp32", 1)
    save_model(str(tmp_path / "m.pt"), model)
    again = load_model(str(tmp_path / "m.pt"))
    sequence = next(read_records(str(DATA / "region.fa"))).sequence
    calls = sites(model, sequence, False)
    kept = sites(again, sequence, True)
    assert len(calls) >= 4 and kept == sites(model, sequence, True)
    assert [(hit.start, hit.strand) for hit in kept] == [(hit.start, hit.strand) for hit in calls]
    codes = natural.codes
    assert passing_windows(again, codes, np.tile([25, 75], (len(codes), 1)), "fp32").mean() < 0.5


def test_command(run_here, tmp_path, toy_model_file):
    whole = run_here("predict", "-m", "CTCF", DATA / "region.fa")
    fast = run_here("predict", "--prefilter", "-m", "CTCF", "--bigwig", "p.bw", DATA / "region.fa")
    assert fast.status == 0 and fast.out == whole.out != ""
    with pybigtools.open(str(tmp_path / "p.bw")) as track:
        values = track.values("chr20", 1_000_000, 1_005_000, fillna=None)
    assert 0.5 < np.isnan(values).mean() < 1
    for words, problem in (
        (["-m", toy_model_file], "--prefilter: TOY has none; train it with --prefilter"),
        (
            ["-m", "CTCF", "-t", "0.4"],
            "--prefilter of CTCF keeps what has a probability above 0.5, 0.4 is asked for: leave out -t or --prefilter",
        ),
    ):
        outcome = run_here("predict", "--prefilter", *words, DATA / "region.fa")
        assert outcome.status == 2 and outcome.out == "" and problem in outcome.err


def test_a_prefilter_that_makes_no_sense(toy_model, tmp_path):
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
