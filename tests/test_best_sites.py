"""The best sites of each region, in scans with networks, PWMs and many factors, and on the command line."""

import itertools
import random
import sys

import numpy as np
import pytest

from bertsnr_tools.io.fasta import FastaChunk, Genome
from bertsnr_tools.io.intervals import Interval
from bertsnr_tools.io.motif import Motif
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.files import load_model
from bertsnr_tools.models.pwm import PwmModel
from bertsnr_tools.models.registry import find_model
from bertsnr_tools.predict.best_sites import BestSites
from bertsnr_tools.predict.calling import CalledSite
from bertsnr_tools.predict.chunks import ScanInput, fasta_chunks, regions_of_shard
from bertsnr_tools.predict.scan import Scanner, scan_sites
from bertsnr_tools.predict.thresholds import CallingRule
from conftest import DATA, FACTORS

PEAKS = [("chr1", 500, 900), ("chr3", 100, 4000), ("chr1", 700, 1000), ("chr2", 0, 10), ("chr1", 500, 900)]


def site(start, level, model=0, strand="+", length=10):
    return CalledSite("chr1", start, start + length, "X", 0.9, strand, level, 3, model)


def test_the_highest_call_level_then_the_nearest_to_the_middle():
    sites = [site(20, 0.8), site(30, 0.9), site(44, 0.9), site(50, 0.9), site(50, 0.9, strand="-"), site(40, 0.99, 1)]
    for region, order in (
        (Interval("chr1", 0, 100), [44, 50, 50, 30, 20]),  # the middle is 50: 44 and 50 end or start near it
        (Interval("chr1", 0, 100, summit=54), [50, 50, 44, 30, 20]),
        (Interval("chr1", 0, 100, summit=25), [30, 44, 50, 50, 20]),
    ):
        for count in (1, 2, 3, 9):
            for pieces in ([sites], [[one] for one in sites], [[], sites[3:], sites[:3]]):
                chosen = BestSites(count)
                found = [chosen.add(piece, region, at == len(pieces) - 1) for at, piece in enumerate(pieces)]
                assert not any(found[:-1])
                starts = [one.start for one in found[-1] if one.model == 0]
                assert sorted(starts) == sorted(order[:count]) and site(40, 0.99, 1) in found[-1]
                assert not chosen.others


def test_candidates_are_few_and_others_are_kept_on_request():
    rng = random.Random(3)
    sites = [site(at, rng.random()) for at in range(1000)]
    region = Interval("chr1", 0, 1000)
    for keep in (False, True):
        chosen = BestSites(5)
        chosen.keep_others = keep
        for at in range(0, 1000, 10):
            found = chosen.add(sites[at : at + 10], region, at == 990)
            assert sum(map(len, chosen._found.values())) <= 5
        best = sorted(sites, key=lambda one: -one.call_level)
        assert sorted(found) == sorted(best[:5])
        assert sorted(chosen.others) == (sorted(best[5:]) if keep else [])


def test_equal_sites_of_a_record_whose_end_is_not_known_yet():
    chosen = BestSites(1)
    unknown = Interval("chr1", 0, sys.maxsize)
    assert not chosen.add([site(0, 0.5), site(10, 0.9), site(20, 0.9)], unknown, False)
    assert not chosen.add([site(30, 0.9), site(40, 0.8), site(90, 0.9)], unknown, False)
    assert chosen.add([], Interval("chr1", 0, 50), True) == [site(20, 0.9)]


THRESHOLDS = {"TOY": 0.5, "CTCF": 0.01, "WORD": 0.4}  # of WORD: only exact matches, which are equal


def consensus(word):
    return Motif("W", np.array([[100.0 * (letter == base) for base in "ACGT"] for letter in word]), "WORD")


@pytest.fixture(scope="module")
def models(toy_model, many_factor_model):
    ctcf = load_model(find_model("CTCF"))
    return [
        toy_model,
        ctcf,
        PwmModel(consensus("ACGTT")),
        *(many_factor_model.factor(at) for at in range(len(FACTORS))),
    ]


def scan(models, chunks, *, best=None, with_q=False, signal=None):
    rules = [CallingRule(THRESHOLDS.get(model.info.name, 0.99)) for model in models]
    scanner = Scanner(models, rules, Runtime(batch_size=64), signal=signal, best=best)
    ranked = list(itertools.chain.from_iterable(scanner.scan_ranked(chunks, with_q=with_q)))
    return ranked, scanner


def chosen_slowly(ranked, region, count):
    middle = (region.start + region.end) / 2
    by_model = {}
    for one in ranked:
        by_model.setdefault(one.site.model, []).append(one)
    best = []
    for sites in by_model.values():
        sites.sort(
            key=lambda one: (-one.site.call_level, abs((one.start + one.end) / 2 - middle), one.site[:3], one.strand)
        )
        best += sites[:count]
    return sorted(best, key=lambda one: (one.start, one.end, one.name, one.strand, one.site.model))


@pytest.mark.parametrize(("count", "signal"), [(1, None), (3, lambda *scores: None)])
def test_best_sites_are_among_all_sites(models, genome, monkeypatch, count, signal):
    reference = Genome(str(genome))
    regions = [Interval(*peak) for peak in PEAKS]
    expected = []
    for number, region in enumerate(regions):
        every = scan(models, ScanInput(reference, regions=[region]).chunks(1000))[0]
        chosen = chosen_slowly(every, region, count)
        assert number == 3 or len({one.site.model for one in every}) > 3 and len(every) > len(chosen)
        expected += [one._replace(site=one.site._replace(region=number)) for one in chosen]
    for block in (1 << 20, 1700):
        monkeypatch.setattr("bertsnr_tools.predict.scan.BLOCK_BASES", block)
        monkeypatch.setattr("bertsnr_tools.predict.chunks.CHUNK_BASES", block)
        scan_input = ScanInput(reference, regions=regions, each_region=True)
        found, scanner = scan(models, scan_input.chunks(1000), best=count, signal=signal)
        assert {one.name for one in found} >= {"TOY", "WORD", "SOX2"}
        assert found == expected and scanner.stats.regions == len(PEAKS)
        assert scanner.stats.with_sites == len({one.site.region for one in expected})


def test_records_are_regions_in_pieces_of_any_size(models):
    rng = random.Random(4)
    texts = {name: "".join(rng.choices("ACGT", k=size)) for name, size in (("a", 20_000), ("b", 50), ("c", 8000))}

    def chunks(size):
        for name, text in texts.items():
            for at in range(0, len(text), size):
                yield FastaChunk(name, "", at, text[at : at + size].encode(), at + size >= len(text))

    pwm = models[2:3]
    whole, _ = scan(pwm, fasta_chunks(chunks(30_000)))
    expected = [
        one[1:]
        for name, text in texts.items()
        for one in chosen_slowly([one for one in whole if one.chrom == name], Interval(name, 0, len(text)), 2)
    ]
    for size in (30_000, 3000, 777):
        found, _ = scan(pwm, fasta_chunks(chunks(size)), best=2)
        assert [one[1:] for one in found] == expected and len(found) >= 4
        assert all(one._replace(site=one.site._replace(region=0)) in whole for one in found)


def test_q_values_count_all_sites(models, genome):
    reference = Genome(str(genome))
    regions = [Interval(*peak) for peak in PEAKS]
    inputs = ScanInput(reference, regions=regions)
    every, _ = scan(models[2:3], inputs.chunks(1000), with_q=True)
    found, _ = scan(models[2:3], inputs.chunks(1000), best=1, with_q=True)
    plain = [one._replace(site=one.site._replace(region=0)) for one in found]
    assert 0 < len(found) < len(every) and set(plain) <= set(every)
    options = {"regions": regions, "threshold": 0.4, "best": 1}
    assert [one.site for one in found] == [one.site for one in scan_sites(models[2], reference, **options)]


def test_a_shard_has_whole_regions(genome):
    reference = Genome(str(genome))
    regions = [Interval(*peak) for peak in PEAKS]
    for shards in (1, 2, 3, 7, 10**9):
        numbers = range(1, min(shards, 50) + 1)
        parts = [regions_of_shard(regions, (number, shards)) for number in numbers]
        assert shards > 50 or list(itertools.chain.from_iterable(parts)) == regions
    assert [len(regions_of_shard(regions, (number, 2))) for number in (1, 2)] == [2, 3]
    inputs = ScanInput(reference, regions=regions, shard=(1, 2), each_region=True)
    assert inputs.regions == regions[:2] and inputs.bases == 4300


def rows(text):
    return [line.split("\t") for line in text.splitlines()]


def test_predict_best(run):
    scan = ("predict", "-m", "CTCF")
    every = rows(run(*scan, "--format", "narrowpeak", DATA / "region.fa").out)
    by_odds = sorted(every, key=lambda row: -float(row[6]))
    for arguments, count in ((["--best"], 1), (["--best", 1], 1), (["--best=3"], 3), (["--best", 2], 2)):
        outcome = run(*scan, *arguments, DATA / "region.fa")
        assert (outcome.status, outcome.err) == (0, "")
        assert rows(outcome.out) == [row[:6] for row in every if row in by_odds[:count]]
    assert rows(run(*scan, "--format", "narrowpeak", "--best", DATA / "region.fa").out) == by_odds[:1]
    nine = rows(run(*scan, DATA / "region.fa", "--format", "bed9", "--best").out)
    assert [row[:6] for row in nine] == [by_odds[0][:6]] and len(nine[0]) == 9
    strict = run(*scan, "--best", "-t", "q=1e-9", DATA / "region.fa")
    assert (strict.out, strict.err) == (
        "",
        "bertsnr-predict: 1 of 1 regions have no called site; a looser threshold (-t) calls more\n",
    )
    outcome = run(*scan, "--best", 0, DATA / "region.fa")
    assert outcome.status == 2 and "'--best': 0 is not in the range x>=1" in outcome.err


def test_predict_best_of_shards(run, genome, tmp_path, toy_model_file, many_factor_file):
    (tmp_path / "r.bed").write_text("".join(f"{chrom}\t{start}\t{end}\n" for chrom, start, end in PEAKS))
    toy = ("-m", toy_model_file)
    several = (*toy, "-m", "CTCF", "-m", f"{many_factor_file}:SOX2")
    for models, regions, count in ((several, ["-b", tmp_path / "r.bed"], len(PEAKS)), (toy, [], 3)):
        scan = ("predict", *models, "--best", 2, "-f", genome, *regions, "--bedgraph")
        whole = run(*scan, tmp_path / "{}.whole.bg")
        parts = [run(*scan, tmp_path / f"{{}}.{number}.bg", "--shard", f"{number}/3") for number in (1, 2, 3)]
        assert "".join(part.out for part in parts) == whole.out
        graphs = [(tmp_path / f"TOY.{name}.bg").read_text() for name in ("whole", 1, 2, 3)]
        assert "".join(graphs[1:]) == graphs[0]
        assert count < whole.out.count("\n") <= len(models) * count


def test_regions_without_a_site_are_counted(run, genome, tmp_path):
    (tmp_path / "r.bed").write_text("chr2\t0\t10\nchr1\t0\t40000\nchr2\t12500\t13000\n")  # the last is N
    outcome = run("predict", "-m", "CTCF", "--best", "-f", genome, "-b", tmp_path / "r.bed")
    assert (
        outcome.out.count("\n") == 1
        and "bertsnr-predict: 2 of 3 regions have no called site; a looser threshold (-t) calls more\n" in outcome.err
    )
    quiet = run("predict", "-q", "-m", "CTCF", "--best", "-f", genome, "-b", tmp_path / "r.bed")
    assert quiet == outcome._replace(err="")
