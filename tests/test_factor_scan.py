"""One pass for all factors calls the sites that each factor calls alone."""

import random
import tracemalloc
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bertsnr_tools.errors import UsageError
from bertsnr_tools.io.fasta import FastaChunk, Genome
from bertsnr_tools.io.intervals import Interval
from bertsnr_tools.models.batching import FactorScorer, sigmoid
from bertsnr_tools.models.bertsnr import BertSNR, token_ids
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.encoder import compact_config
from bertsnr_tools.models.interface import ModelInfo
from bertsnr_tools.models.many_factor import ManyFactorModel
from bertsnr_tools.predict import factor_scan
from bertsnr_tools.predict.calling import MAX_GAP, SiteCaller
from bertsnr_tools.predict.chunks import fasta_chunks, genome_chunks, shard_chunks
from bertsnr_tools.predict.model_scan import ScannedModel
from bertsnr_tools.predict.scan import Scanner
from bertsnr_tools.predict.significance import NullDistribution, factor_call_levels
from bertsnr_tools.predict.sparse_calling import BaseScores, SparseCaller, base_keys
from bertsnr_tools.predict.thresholds import CallingRule
from bertsnr_tools.sequence.windows import Windows

RNG = random.Random(3)


def random_text(length, n_runs=0):
    text = RNG.choices("ACGT", [3, 2, 2, 3], k=length)
    for _ in range(n_runs):
        at, size = RNG.randrange(length), RNG.choice([1, 2, 3, 40])
        text[at : at + size] = "N" * len(text[at : at + size])
    return "".join(text)


RECORDS = [(f"r{i}", random_text(RNG.choice([2, 5, 60, 130, 400, 2000]), RNG.choice([0, 0, 3]))) for i in range(25)]
RECORDS.append(("r25", random_text(3000, 30)))


@pytest.fixture(scope="module")
def factors(toy_factors):
    """The model of each factor, with null distributions."""
    codes = np.random.default_rng(2).integers(0, 4, (1000, 100)).astype(np.uint8)
    levels = factor_call_levels(toy_factors, Windows(["w"] * 1000, codes, np.zeros_like(codes)), Runtime())
    models = [toy_factors.factor(number) for number in range(6)]
    for model, of_factor in zip(models, levels.T):
        model.info = replace(model.info, null=NullDistribution.fit(of_factor, 100).as_dict())
    return models


def alone(model):
    """The same model without the shared encoder."""
    single = BertSNR(model.info)
    single.load_state_dict(model.state_dict())
    return single.eval()


def record_chunks(records=RECORDS, size=None):
    pieces = []
    for name, text in records:
        step = size or len(text)
        pieces += [
            FastaChunk(name, "", at, text[at : at + step].encode(), at + step >= len(text))
            for at in range(0, len(text), step)
        ]
    return fasta_chunks(pieces)


def scan(models, chunks, threshold=None, *, signal=None, batch_size=1024, step=None):
    defaults = [("probability", model.info.threshold) for model in models]  # not by p-value
    rules = [CallingRule.for_model(model, threshold or own) for model, own in zip(models, defaults)]
    scanner = Scanner(models, rules, Runtime(batch_size=batch_size), step=step, signal=signal)
    blocks = scanner.scan_ranked(chunks, with_q=bool(threshold and threshold[0] == "q"))
    return [site for block in blocks for site in block], scanner.stats


def ignore(model, chrom, start, strand_scores):
    """A sink: with one, all base scores are kept and called by `ModelScan`."""


THRESHOLDS = [None, ("probability", 0.01), ("probability", 0.9), ("p", 0.1), ("p", 0.4), ("q", 0.9)]


@pytest.mark.parametrize("step", [None, 100, 37, 3, 2, 1])
@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_sites_equal_those_from_all_base_scores(factors, threshold, step):
    records = RECORDS if step is None or step > 3 else RECORDS[:10]
    sparse, stats = scan(factors, record_chunks(records), threshold, step=step)
    dense, dense_stats = scan(factors, record_chunks(records), threshold, step=step, signal=ignore)
    assert sparse == dense and stats == dense_stats
    assert len({site.name for site in sparse}) > 2 and {site.strand for site in sparse} == {"+", "-"}


@pytest.mark.parametrize("threshold", [None, ("p", 0.1)])
def test_sites_equal_those_of_single_models(factors, threshold):
    """To rounding: a matrix product for all heads rounds differently from a sum for one."""
    found, _ = scan(factors, record_chunks(), threshold)
    for number, model in enumerate(factors):
        own = [ranked.site for ranked in found if ranked.site.model == number]
        expected = [ranked.site for ranked in scan([alone(model)], record_chunks(), threshold)[0]]
        assert [site[:4] + site[5:6] for site in own] == [site[:4] + site[5:6] for site in expected]
        np.testing.assert_allclose([site.score for site in own], [site.score for site in expected], rtol=1e-4)
    assert len(found) > 50


def test_batches_blocks_and_chunks_change_nothing(factors, monkeypatch):
    reference = scan(factors, record_chunks(), ("p", 0.2))
    for batch_size, block, size in ((1, 100_000, None), (7, 100, 64), (64, 1000, 333), (64, 20_000, 1)):
        monkeypatch.setattr(factor_scan, "BLOCK_BASES", block)
        for signal in (None, ignore):
            assert (
                scan(factors, record_chunks(size=size), ("p", 0.2), batch_size=batch_size, signal=signal) == reference
            )


def test_sites_of_a_factor_do_not_depend_on_the_others(factors):
    every, _ = scan(factors, record_chunks(), ("p", 0.2))
    for numbers in ([3], [4, 1], [2, 2]):
        some, _ = scan([factors[number] for number in numbers], record_chunks(), ("p", 0.2))
        expected = [
            ranked._replace(site=ranked.site._replace(model=at))
            for ranked in every
            for at, number in enumerate(numbers)
            if ranked.site.model == number
        ]
        assert some == expected or numbers == [4, 1] and sorted(some) == sorted(expected)


def test_many_factor_and_other_models_together(factors, toy_model):
    models = [factors[1], toy_model, factors[0], factors[5]]
    found, _ = scan(models, record_chunks())
    expected = [
        ranked.site._replace(model=number)
        for number, model in enumerate(models)
        for ranked in scan([model], record_chunks())[0]
    ]
    assert sorted(ranked.site for ranked in found) == sorted(expected)
    order = {name: at for at, (name, _) in enumerate(RECORDS)}
    keys = [(order[site.chrom], site.start, site.end, site.name, site.strand) for site in found]
    assert keys == sorted(keys)


@pytest.mark.parametrize("signal", [None, ignore])
def test_sites_of_a_region_are_those_of_the_chromosome(factors, genome, tmp_path, signal):
    """Also behind an N: windows have the same places, wherever reading begins."""
    sequence = bytearray(Genome(str(genome)).fetch("chr2", 0, 6000))
    for position in (1003, 2511, 2512, 4790):
        sequence[position] = ord("N")
    (tmp_path / "g.fa").write_bytes(b">chr2\n" + sequence + b"\n")
    reference = Genome(str(tmp_path / "g.fa"))

    def sites(start, end):
        found, _ = scan(factors, genome_chunks(reference, [Interval("chr2", start, end)], 100), signal=signal)
        return [ranked.site[:6] for ranked in found]

    whole = sites(0, 6000)
    for start, end in ((701, 3017), (733, 2511), (1003, 5500), (1950, 2000), (2513, 4999), (3333, 3400)):
        inside = [site for site in whole if start <= (site[1] + site[2]) // 2 < end]
        assert sites(start, end) == inside and inside


@pytest.mark.parametrize("shards", [2, 5])
def test_concatenated_shards_equal_the_unsharded_scan(factors, genome, monkeypatch, shards):
    monkeypatch.setattr("bertsnr_tools.predict.chunks.SHARD_OVERLAP", 800)
    reference = Genome(str(genome))
    regions = [Interval("chr2", 8000, 14_000), Interval("chr3", 0, 2000), Interval("chr2", 990, 1500)]
    whole, _ = scan(factors, genome_chunks(reference, regions, 100))
    parts = [scan(factors, shard_chunks(reference, regions, (at + 1, shards), 100))[0] for at in range(shards)]
    assert sum(parts, []) == whole and len(whole) > 100
    for model in (factors[1], factors[5]):  # region borders
        assert [ranked.site[:6] for ranked in whole if ranked.name == model.info.name] == [
            ranked.site[:6] for ranked in scan([model], genome_chunks(reference, regions, 100), signal=ignore)[0]
        ]


def test_base_scores_equal_those_of_single_models(factors):
    def collect(models):
        scores = {}

        def keep(model, chrom, start, strand_scores):
            scores.setdefault((models[model].info.name, chrom), []).append(strand_scores)

        scan(models, record_chunks(), signal=keep)
        return {key: np.concatenate(pieces, axis=1) for key, pieces in scores.items()}

    found, expected = collect(factors), collect([alone(model) for model in factors])
    assert found.keys() == expected.keys() and len(found) == 6 * len(RECORDS)
    for key, scores in expected.items():
        np.testing.assert_allclose(found[key], scores, rtol=1e-3, atol=1e-6)


def test_memory_does_not_grow_with_the_sequence(factors, monkeypatch):
    monkeypatch.setattr(factor_scan, "BLOCK_BASES", 5000)

    text = random_text(20_000)

    def peak(copies, threshold):
        tracemalloc.start()
        rules = [CallingRule(threshold)] * len(factors)
        chunks = record_chunks([("r", copies * text)], 10_000)
        sites = sum(map(len, Scanner(factors, rules, Runtime()).scan(chunks)))
        traced = tracemalloc.get_traced_memory()[1] - copies * len(text)
        tracemalloc.stop()
        return traced, sites

    for threshold in (0.01, 0.5):
        # the least of three: by chance, more blocks are in memory at once
        (short, few), (long, many) = (min(peak(copies, threshold) for _ in range(3)) for copies in (3, 12))
        assert many > 3 * few > 0 and long < 1.3 * short


def test_a_prefilter_is_refused(factors):
    with pytest.raises(UsageError, match="F5, one of many factors, has no prefilter; leave out --prefilter$"):
        Scanner(factors, [CallingRule(0.5)] * 6, Runtime(), prefilter=True)


def test_scores_of_many_factors_do_not_depend_on_the_batch():
    torch.manual_seed(3)
    model = ManyFactorModel(
        [ModelInfo(f"F{number}", 3, 100, compact_config(3, 100), 8) for number in range(188)]
    ).eval()
    codes = np.random.default_rng(1).integers(0, 4, (40, 100)).astype(np.uint8)
    for precision in ("fp32", "bf16"):
        scorer = FactorScorer(model, precision)
        every, *others = (
            np.concatenate(scorer(codes, size, lambda _, __, logits: logits.numpy().copy())) for size in (32, 1, 7, 40)
        )
        assert every.shape == (40, 98, 188) and all(np.array_equal(every, other) for other in others)
        logits, ids = model.inference_function(precision), token_ids(codes[:14], 3)
        with torch.inference_mode():
            whole = logits(ids)
            for size in (1, 2, 3, 7):  # windows may be scored alone, and three of them are not a tile of a product
                for one, parts in zip(whole, zip(*map(logits, ids.split(size)))):
                    assert torch.equal(one, torch.cat(parts))


def test_the_sparse_caller_calls_the_sites_of_the_caller():
    rng = np.random.default_rng(1)
    for _ in range(150):
        n, count = int(rng.integers(1, 300)), int(rng.integers(1, 4))
        smooth = np.repeat(rng.random((count, 2, n // 4 + 1)), 4, axis=2)[:, :, :n]
        scores = (smooth ** rng.choice([1, 8]) * rng.random((count, 2, n)) ** 0.2).astype(np.float32)
        widths = rng.integers(5, 20, count).tolist()
        models = [_scanned(number, width, *rng.choice([0.1, 0.5, 0.7], 2)) for number, width in enumerate(widths)]
        caller, found, before = SparseCaller(models), [], 0
        singles = [SiteCaller(model.rule.base_threshold, model.min_length, MAX_GAP) for model in models]
        expected = [[] for _ in models]
        borders = [0, *sorted(rng.integers(0, n + 1, rng.integers(0, 5)).tolist()), n]
        for number, (start, end) in enumerate(zip(borders, borders[1:])):
            last = number == len(borders) - 2
            factor, strand, at = (part.ravel() for part in np.indices((count, 2, end - start)))
            order = rng.permutation(len(at))
            piece = BaseScores(base_keys(factor, strand, at + start)[order], scores[:, :, start:end].ravel()[order])
            sites, settled = caller.feed(piece, None if last else end)
            assert (sites.starts >= before).all()
            found += zip(*(column.tolist() for column in sites))
            for model, single, of_model in zip(models, singles, expected):
                of_model += single.feed(scores[model.index][:, start:end], last)
            assert settled is None if last else settled >= min(single.settled for single in singles)
            before = settled
        for model, of_model in zip(models, expected):
            own = sorted(site[2:4] + ("+-"[site[1]], *site[4:]) for site in found if site[0] == model.index)
            assert own == [tuple(site) for site in of_model if site.call_level > model.rule.min_call_level]


def _scanned(number, width, threshold, min_call_level):
    info = SimpleNamespace(site_width=width, k=3)
    return ScannedModel(number, SimpleNamespace(info=info), CallingRule(threshold, min_call_level))


def test_cutoffs_leave_out_no_called_base():
    thresholds = np.concatenate([np.random.default_rng(1).random(1000), 1 - np.geomspace(1e-9, 0.1, 50)])
    thresholds = np.concatenate([thresholds, np.geomspace(1e-12, 0.1, 50)])
    cutoffs = factor_scan._logit_cutoffs(thresholds.tolist())
    for threshold, cutoff in zip(thresholds.astype(np.float32), cutoffs):
        assert np.isinf(cutoff) if threshold == 1 else sigmoid(np.array([cutoff]))[0] <= threshold
        above = cutoff + 2e-5 * max(1, abs(cutoff))
        assert threshold > 0.99 or sigmoid(np.array([above]))[0] > threshold
