import random
import tempfile
import threading

import numpy as np
import pytest

from bertsnr_tools.errors import UsageError
from bertsnr_tools.io.fasta import Genome, read_fasta_chunks
from bertsnr_tools.io.intervals import Interval
from bertsnr_tools.models.batching import base_probabilities
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.files import load_model
from bertsnr_tools.models.registry import find_model
from bertsnr_tools.predict.calling import MAX_GAP, call_sites, min_site_length
from bertsnr_tools.predict.chunks import ScanInput, fasta_chunks, genome_chunks, shard_chunks
from bertsnr_tools.predict.prefetch import prefetch
from bertsnr_tools.predict.scan import Scanner, base_scores, scan_sites
from bertsnr_tools.predict.thresholds import CallingRule
from bertsnr_tools.sequence.encoding import encode, reverse_complement
from conftest import DATA


@pytest.fixture(scope="module")
def ctcf():
    return load_model(find_model("CTCF"))


# a strong CTCF site: the most frequent letter of each column of JASPAR MA0139.1
CTCF = "TGGCCACCAGGGGGCGCTA"


def random_dna(seed, length):
    return "".join(random.Random(seed).choices("ACGT", [3, 2, 2, 3], k=length))


def with_site(seed, length, at, strand="+"):
    site = CTCF if strand == "+" else reverse_complement(CTCF.encode()).decode()
    text = random_dna(seed, length)
    return text[:at] + site + text[at + len(site) :]


def scan_chunks(models, chunks, *, threshold=0.5, step=50, batch_size=16, signal=None):
    rules = [CallingRule(threshold)] * len(models)
    scanner = Scanner(models, rules, Runtime(batch_size=batch_size), step=step, signal=signal)
    return [site for block in scanner.scan(chunks) for site in block], scanner.stats


def scan_records(records, models, **options):
    with tempfile.NamedTemporaryFile("w", suffix=".fa") as stream:
        stream.write("".join(f">{name}\n{text}\n" for name, text in records))
        stream.flush()
        return scan_chunks(models, fasta_chunks(read_fasta_chunks(stream.name)), **options)


def scan_text(model, text, **options):
    return scan_records([("r", text)], [model], **options)[0]


@pytest.mark.parametrize("strand", ["+", "-"])
@pytest.mark.parametrize("at", [0, 1, 40, 81, 91, 100, 150, 199, 250, 400, 480, 481])
def test_a_site_is_found_wherever_the_window_borders_fall(ctcf, at, strand):
    sites = scan_text(ctcf, with_site(7, 500, at, strand))
    found = [site for site in sites if site.start < at + 19 and site.end > at]
    assert [site.strand for site in found] == [strand]
    assert abs(found[0].start - at) <= 2 and abs(found[0].end - at - 19) <= 2 and found[0].score > 0.8


@pytest.mark.parametrize("length", [19, 30, 60, 99, 100, 101, 149])
def test_short_records(ctcf, length):
    sites = scan_text(ctcf, with_site(8, length, (length - 19) // 2))
    assert any(abs(site.start - (length - 19) // 2) <= 3 for site in sites)


def test_the_other_strand_gives_the_mirror_image(toy_model):
    text = random_dna(3, 700)
    forward = scan_text(toy_model, text)
    mirrored = scan_text(toy_model, reverse_complement(text.encode()).decode())
    flip = {"+": "-", "-": "+"}
    assert forward and sorted(
        (700 - h.end, 700 - h.start, flip[h.strand], round(h.score, 5)) for h in mirrored
    ) == sorted((h.start, h.end, h.strand, round(h.score, 5)) for h in forward)


def test_sites_are_called_from_the_base_scores_of_each_window(toy_model):
    text = random_dna(4, 230)
    codes = encode(text.encode())
    #   windows [0, 100) [50, 150) [100, 200) [130, 230); each base from the one in whose middle it lies
    owners = [(0, 0, 75), (50, 75, 125), (100, 125, 165), (130, 165, 230)]
    strand_scores = np.zeros((2, 230), dtype=np.float32)
    for begin, start, end in owners:
        window, core = codes[begin : begin + 100], slice(start - begin, end - begin)
        reverse = encode(reverse_complement(text[begin : begin + 100].encode()))
        strand_scores[0, start:end] = base_probabilities(toy_model, window[None], Runtime())[0, core]
        strand_scores[1, start:end] = base_probabilities(toy_model, reverse[None], Runtime())[0, ::-1][core]
    expected = call_sites(strand_scores, 0.5, min_site_length(8, 3), MAX_GAP)
    found = scan_text(toy_model, text)
    assert [tuple(site) for site in expected] == [
        (site.start, site.end, site.strand, site.score, site.call_level, site.summit) for site in found
    ]
    assert expected


def test_n_is_never_called_and_separates(ctcf, toy_model):
    text = with_site(5, 600, 200)
    masked = text[:205] + "NNN" + text[208:]
    assert any(site.start == 200 for site in scan_text(ctcf, text))
    for model in (ctcf, toy_model):
        for site in scan_text(model, masked):
            assert "N" not in masked[site.start : site.end]
    assert scan_text(toy_model, masked)
    assert scan_text(toy_model, "N" * 300) == []


def test_batch_block_and_chunk_sizes_change_nothing(toy_model, monkeypatch):
    rng = random.Random(6)
    records = []
    for i in range(40):
        text = list(random_dna(i, rng.choice([2, 5, 60, 130, 400, 900])))
        for _ in range(rng.choice([0, 0, 2])):
            at = rng.randrange(len(text))
            text[at : at + 30] = "N" * len(text[at : at + 30])
        records.append((f"r{i}", "".join(text)))
    reference, stats = scan_records(records, [toy_model])
    assert len(reference) > 50 and stats.regions == 40 and stats.bases == sum(len(text) for _, text in records)
    assert stats.acgt_bases == sum(len(text) - text.count("N") for _, text in records) < stats.bases
    assert stats.unscored == sum(max(map(len, text.split("N"))) < 3 for _, text in records) > 0
    for batch_size, block, piece in ((1, 1 << 20, 1 << 20), (7, 100, 64), (64, 1, 333), (64, 5000, 1)):
        monkeypatch.setattr("bertsnr_tools.predict.scan.BLOCK_BASES", block)
        monkeypatch.setattr("bertsnr_tools.io.fasta.CHUNK_BASES", piece)
        assert scan_records(records, [toy_model], batch_size=batch_size) == (reference, stats)


def test_many_models_are_the_sum_of_single_ones_in_order(toy_model, ctcf):
    records = [("a", with_site(1, 800, 300)), ("b", with_site(2, 400, 50, "-"))]
    both, _ = scan_records(records, [toy_model, ctcf])
    single = [
        site._replace(model=number)
        for number, model in enumerate((toy_model, ctcf))
        for site in scan_records(records, [model])[0]
    ]
    assert sorted(both) == sorted(single) and {site.name for site in both} == {"TOY", "CTCF"}
    keys = [(site.chrom, site.start, site.end, site.name, site.strand) for site in both]
    assert keys == sorted(keys)


def test_regions_are_read_with_their_surroundings(ctcf, genome):
    reference = Genome(str(genome))

    def sites(*regions):
        return scan_chunks([ctcf], genome_chunks(reference, [Interval(*region) for region in regions], 100))

    whole, stats = sites(("chr2", 0, 25_000))
    assert len(whole) > 60 and stats.bases == 25_000
    middle = whole[10]
    # a border through a site gives it to one side, whole
    cut = (middle.start + middle.end) // 2
    left, right = sites(("chr2", middle.start - 500, cut))[0], sites(("chr2", cut, middle.end + 500))[0]
    near = [site for site in left + right if abs(site.start - middle.start) <= 2]
    assert len(near) == 1 and near[0] in right and abs(near[0].end - middle.end) <= 2


def test_sites_are_in_the_order_of_the_regions(ctcf, genome):
    reference = Genome(str(genome))

    def sites(*chroms):
        return scan_chunks([ctcf], genome_chunks(reference, [Interval(chrom, 0, 2000) for chrom in chroms], 100))

    (chr2, _), (chr3, _), (all_three, stats) = sites("chr2"), sites("chr3"), sites("chr3", "chr2", "chr3")
    assert chr2 and chr3 and all_three == chr3 + chr2 + chr3 and stats.regions == 3


def test_record_names_give_the_coordinates(ctcf):
    text = with_site(9, 400, 150)
    minus = reverse_complement(text.encode()).decode()
    records = [("chr5:1001-1400", text), ("chr5:1000-1400", text), ("CTCF::chr5:1000-1400(-)", minus), ("plain", text)]
    sites, _ = scan_records(records, [ctcf])
    per_record = len(sites) // 4
    spans = [[(h.start, h.end, h.strand) for h in sites[i * per_record : (i + 1) * per_record]] for i in range(4)]
    assert (
        per_record
        and spans[0] == spans[1]
        and [h.chrom for h in sites] == ["chr5"] * 3 * per_record + ["plain"] * per_record
    )
    assert spans[0] == [(a + 1000, b + 1000, s) for a, b, s in spans[3]]
    assert [abs(a - x) <= 2 and s == t for (a, _, s), (x, _, t) in zip(spans[2], spans[0])].count(True) == per_record


@pytest.mark.parametrize("shards", [2, 7])
def test_concatenated_shards_equal_the_unsharded_scan(toy_model, ctcf, genome, monkeypatch, shards):
    # so that shards begin within runs of these short chromosomes
    monkeypatch.setattr("bertsnr_tools.predict.chunks.SHARD_OVERLAP", 800)
    reference = Genome(str(genome))
    models, rules = [toy_model, ctcf], [CallingRule(0.99), CallingRule(0.5)]
    regions = [
        Interval("chr2", 8000, 14_000),
        Interval("chr3", 0, 2000),
        Interval("chr2", 990, 1500),
    ]  # N from 12,500 to 13,000

    def sites(chunks):
        scores = np.full((2, 25_000), np.nan)  # of the second model on chr2

        def keep(model, chrom, start, strand_scores):
            if model == 1 and chrom == "chr2":
                scores[:, start : start + strand_scores.shape[1]] = strand_scores

        scanner = Scanner(models, rules, Runtime(batch_size=64), step=50, signal=keep)
        found = [site for block in scanner.scan(chunks) for site in block]
        return found, scores, scanner.stats.acgt_bases

    def sites_of_shards(regions):
        shares = [sites(shard_chunks(reference, regions, (number, shards), 100)) for number in range(1, shards + 1)]
        found, scores, acgt_bases = zip(*shares)
        assert sum(map(bool, found)) > shards // 2
        return sum(found, []), np.fmax.reduce(scores), sum(acgt_bases)

    whole, joined = sites(genome_chunks(reference, regions, 100)), sites_of_shards(regions)
    assert len(whole[0]) > 50 and joined[0] == whole[0] and joined[2] == whole[2]
    scores, joined_scores = sites(genome_chunks(reference, regions[:1], 100))[1], sites_of_shards(regions[:1])[1]
    assert np.isfinite(scores).sum() == 2 * 5500 and np.array_equal(scores, joined_scores, equal_nan=True)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_jobs_come_back_in_order_and_few_are_taken_ahead(threads):
    taken = []
    jobs = (taken.append(number) or number for number in range(20))
    for at, (job, result) in enumerate(prefetch(lambda number: number * number, jobs, threads)):
        assert (job, result) == (at, at * at) and len(taken) <= at + threads + 1
    assert len(taken) == 20


def test_jobs_are_done_while_the_result_before_is_used():
    done = [threading.Event() for _ in range(3)]
    results = prefetch(lambda number: done[number].set(), range(3), 2)
    next(results)
    assert all(event.wait(10) for event in done)  # two jobs are done ahead


@pytest.mark.parametrize("threads", [0, 2])
def test_the_error_of_a_job_is_raised_in_its_turn(threads):
    done = []
    with pytest.raises(ZeroDivisionError):
        for _, result in prefetch(lambda number: 6 // (3 - number), range(100), threads):
            done.append(result)
    assert done == [2, 3, 6]
    endless = prefetch(lambda number: number, iter(int, 1), threads)
    assert next(endless) == (0, 0)
    endless.close()


def test_scoring_ahead_does_not_change_the_sites(toy_model, ctcf, monkeypatch):
    records = [(f"r{number}", random_dna(number, 700)) for number in range(12)]
    monkeypatch.setattr("bertsnr_tools.predict.scan.BLOCK_BASES", 1000)
    plain = scan_records(records, [toy_model, ctcf])
    monkeypatch.setattr("bertsnr_tools.predict.scan.prefetch", lambda work, jobs, threads: prefetch(work, jobs, 2))
    assert scan_records(records, [toy_model, ctcf]) == plain and len(plain[0]) > 20


def test_base_scores_are_the_signal_of_a_scan(toy_model):
    texts = [random_dna(5, 430), random_dna(6, 60) + "NNNAC" + random_dna(7, 150), "AC", "NNNNN"]
    pieces = []
    records = [(f"r{number}", text) for number, text in enumerate(texts)]
    scan_records(records, [toy_model], signal=lambda model, chrom, start, scores: pieces.append((chrom, scores)))
    found = base_scores(toy_model, [texts[0].lower(), *(text.encode() for text in texts[1:])], runtime=Runtime())
    assert [scores.shape for scores in found] == [(2, len(text)) for text in texts]
    for (name, text), scores in zip(records, found):
        signal = [values for chrom, values in pieces if chrom == name]
        assert scores.dtype == np.float32
        assert np.array_equal(scores, np.concatenate(signal, axis=1), equal_nan=True)
        assert np.isnan(scores).any() == ("N" in text or len(text) < 3)
    assert np.isnan(found[1][:, 60:63]).all() and np.isfinite(found[1][:, :60]).all()


def test_scan_sites_from_python(ctcf, genome, tmp_path):
    runtime = Runtime()
    by_default = list(scan_sites(ctcf, str(DATA / "region.fa"), runtime=runtime))
    assert by_default and all(site.name == "CTCF" and 0 < site.p < 0.1 and site.q is None for site in by_default)
    assert [site.site for site in by_default] == [
        site
        for block in Scanner([ctcf], [CallingRule.for_model(ctcf)], runtime).scan(
            fasta_chunks(read_fasta_chunks(str(DATA / "region.fa")))
        )
        for site in block
    ]
    significant = list(scan_sites([ctcf], DATA / "region.fa", threshold="q=0.05", runtime=runtime))
    assert significant and all(site.p <= site.q <= 0.05 for site in significant)
    reference = Genome(str(genome))
    (tmp_path / "r.bed").write_text("chr3\t500\t1500\n")
    by_bed = list(scan_sites(ctcf, reference, regions=tmp_path / "r.bed", runtime=runtime))
    assert by_bed and by_bed == list(scan_sites(ctcf, reference, regions=["chr3:501-1500"], runtime=runtime))
    assert by_bed == list(scan_sites(ctcf, reference, regions=[Interval("chr3", 500, 1500)], runtime=runtime))
    for options, problem in (
        ({"threshold": "z=1"}, "threshold 'z=1': expected P"),
        ({"threshold": 1.5}, "threshold '1.5': expected P"),
        ({"regions": ["chr1"]}, "regions and shards require an indexed genome"),
        ({"step": 101}, r"-s 101 is longer than the window of CTCF \(100 bp\)"),
    ):
        with pytest.raises(UsageError, match=problem):
            scan_sites(ctcf, str(DATA / "region.fa"), runtime=runtime, **options)


def test_a_genome_without_regions_is_scanned_whole(genome):
    reference = Genome(str(genome))
    assert ScanInput(reference).regions == [Interval(name, 0, size) for name, size in reference.lengths.items()]
    chosen = ScanInput(reference, regions=["chr3:1-1000", "chr1"], shard=(2, 4))
    assert [(region.chrom, region.start, region.end) for region in chosen.regions] == [
        ("chr3", 0, 1000),
        ("chr1", 0, reference.lengths["chr1"]),
    ]
    assert chosen.bases == (1000 + reference.lengths["chr1"]) // 4
