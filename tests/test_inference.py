import random

import numpy as np
import pytest

from bertsnr_tools.io.fasta import Genome, read_fasta_chunks
from bertsnr_tools.io.intervals import Interval
from bertsnr_tools.models.batching import base_probabilities
from bertsnr_tools.models.files import load_model
from bertsnr_tools.models.registry import find_model
from bertsnr_tools.predict.calling import MAX_GAP, call_sites, min_site_length
from bertsnr_tools.predict.chunks import fasta_chunks, genome_chunks, shard_chunks
from bertsnr_tools.predict.scan import ScanStats, prefetch, scan
from bertsnr_tools.sequence.encoding import encode, reverse_complement


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


def scan_text(model, text, **options):
    return scan_records([("r", text)], [model], **options)[0]


def scan_records(records, models, tmp=None, step=50, batch_size=16, threshold=0.5):
    import tempfile

    tally = ScanStats()
    with tempfile.NamedTemporaryFile("w", suffix=".fa") as stream:
        stream.write("".join(f">{name}\n{text}\n" for name, text in records))
        stream.flush()
        parts = fasta_chunks(read_fasta_chunks(stream.name))
        hits = [
            hit
            for block in scan(models, parts, [threshold] * len(models), [step] * len(models), batch_size, "fp32", tally)
            for hit in block
        ]
    return hits, tally


@pytest.mark.parametrize("strand", ["+", "-"])
@pytest.mark.parametrize("at", [0, 1, 40, 81, 91, 100, 150, 199, 250, 400, 480, 481])
def test_a_site_is_found_wherever_the_window_borders_fall(ctcf, at, strand):
    hits = scan_text(ctcf, with_site(7, 500, at, strand))
    found = [hit for hit in hits if hit.start < at + 19 and hit.end > at]
    assert [hit.strand for hit in found] == [strand]
    assert abs(found[0].start - at) <= 2 and abs(found[0].end - at - 19) <= 2 and found[0].score > 0.8


@pytest.mark.parametrize("length", [19, 30, 60, 99, 100, 101, 149])
def test_short_records(ctcf, length):
    hits = scan_text(ctcf, with_site(8, length, (length - 19) // 2))
    assert any(abs(hit.start - (length - 19) // 2) <= 3 for hit in hits)


def test_the_other_strand_gives_the_mirror_image(toy_model):
    text = random_dna(3, 700)
    forward = scan_text(toy_model, text)
    mirrored = scan_text(toy_model, reverse_complement(text.encode()).decode())
    flip = {"+": "-", "-": "+"}
    assert forward and sorted(
        (700 - h.end, 700 - h.start, flip[h.strand], round(h.score, 5)) for h in mirrored
    ) == sorted((h.start, h.end, h.strand, round(h.score, 5)) for h in forward)


def test_the_track_is_what_the_model_says_about_each_window(toy_model):
    text = random_dna(4, 230)
    codes = encode(text.encode())
    #   windows [0, 100) [50, 150) [100, 200) [130, 230); each base from the one in whose middle it lies
    owners = [(0, 0, 75), (50, 75, 125), (100, 125, 165), (130, 165, 230)]
    track = np.zeros((2, 230), dtype=np.float32)
    for begin, start, end in owners:
        window = codes[begin : begin + 100]
        track[0, start:end] = base_probabilities(toy_model, window[None], 1, "fp32")[0, start - begin : end - begin]
        reverse = encode(reverse_complement(text[begin : begin + 100].encode()))
        track[1, start:end] = base_probabilities(toy_model, reverse[None], 1, "fp32")[0, ::-1][
            start - begin : end - begin
        ]
    expected = call_sites(track, 0.5, min_site_length(8, 3), MAX_GAP)
    assert [(h.start, h.end, h.strand, h.score, h.peak, h.summit) for h in scan_text(toy_model, text)] == [
        tuple(site) for site in expected
    ]


def test_n_is_never_called_and_separates(ctcf, toy_model):
    text = with_site(5, 600, 200)
    masked = text[:205] + "NNN" + text[208:]
    assert any(hit.start == 200 for hit in scan_text(ctcf, text))
    for model in (ctcf, toy_model):
        for hit in scan_text(model, masked):
            assert "N" not in masked[hit.start : hit.end]
    assert scan_text(toy_model, "N" * 300) == []


def test_batch_block_and_piece_sizes_change_nothing(toy_model, monkeypatch, tmp_path):

    rng = random.Random(6)
    records = []
    for i in range(40):
        text = list(random_dna(i, rng.choice([2, 5, 60, 130, 400, 900])))
        for _ in range(rng.choice([0, 0, 2])):
            at = rng.randrange(len(text))
            text[at : at + 30] = "N" * len(text[at : at + 30])
        records.append((f"r{i}", "".join(text)))
    reference, tally = scan_records(records, [toy_model])
    assert len(reference) > 50 and tally.regions == 40 and tally.bases == sum(len(text) for _, text in records)
    for batch_size, block, piece in ((1, 1 << 20, 1 << 20), (7, 100, 64), (64, 1, 333), (64, 5000, 1)):
        monkeypatch.setattr("bertsnr_tools.predict.scan.BLOCK_BASES", block)
        monkeypatch.setattr("bertsnr_tools.io.fasta.CHUNK_BASES", piece)
        assert scan_records(records, [toy_model], batch_size=batch_size)[0] == reference


def test_many_models_are_the_sum_of_single_ones_in_order(toy_model, ctcf):
    records = [("a", with_site(1, 800, 300)), ("b", with_site(2, 400, 50, "-"))]
    both, _ = scan_records(records, [toy_model, ctcf])
    single = [
        hit._replace(model=number)
        for number, model in enumerate((toy_model, ctcf))
        for hit in scan_records(records, [model])[0]
    ]
    assert sorted(both) == sorted(single) and {hit.name for hit in both} == {"TOY", "CTCF"}
    keys = [(hit.chrom, hit.start, hit.end, hit.name, hit.strand) for hit in both]
    assert keys == sorted(keys)


def test_regions_are_read_with_their_surroundings(ctcf, genome):
    reference = Genome(str(genome))

    def sites(*regions):
        tally = ScanStats()
        parts = genome_chunks(reference, [Interval(*region) for region in regions], 100)
        return [hit for block in scan([ctcf], parts, [0.5], [50], 16, "fp32", tally) for hit in block], tally

    whole, tally = sites(("chr2", 0, 25_000))
    assert len(whole) > 60 and tally.bases == 25_000
    middle = whole[10]
    # a border through a site gives it to one side, whole
    cut = (middle.start + middle.end) // 2
    left, right = sites(("chr2", middle.start - 500, cut))[0], sites(("chr2", cut, middle.end + 500))[0]
    near = [hit for hit in left + right if abs(hit.start - middle.start) <= 2]
    assert len(near) == 1 and near[0] in right and abs(near[0].end - middle.end) <= 2
    # order and repeats are those of the regions
    twice, tally = sites(("chr3", 0, 2000), ("chr2", 0, 2000), ("chr3", 0, 2000))
    assert [hit.chrom for hit in twice] == sorted([hit.chrom for hit in twice], key=["chr2"].count) or twice[
        0
    ].chrom == twice[-1].chrom == "chr3"
    assert twice[: len(twice) // 3 + 1][0] in twice[-len(twice) // 2 :] and tally.regions == 3


def test_record_names_place_the_sites(ctcf):
    text = with_site(9, 400, 150)
    minus = reverse_complement(text.encode()).decode()
    records = [("chr5:1001-1400", text), ("chr5:1000-1400", text), ("CTCF::chr5:1000-1400(-)", minus), ("plain", text)]
    hits, _ = scan_records(records, [ctcf])
    per_record = len(hits) // 4
    spans = [[(h.start, h.end, h.strand) for h in hits[i * per_record : (i + 1) * per_record]] for i in range(4)]
    assert spans[0] == spans[1] and [h.chrom for h in hits] == ["chr5"] * 3 * per_record + ["plain"] * per_record
    assert spans[0] == [(a + 1000, b + 1000, s) for a, b, s in spans[3]]
    assert [abs(a - x) <= 2 and s == t for (a, _, s), (x, _, t) in zip(spans[2], spans[0])].count(True) == per_record


@pytest.mark.parametrize("shards", [2, 7])
def test_shards_one_after_the_other_are_the_whole(toy_model, ctcf, genome, monkeypatch, shards):
    monkeypatch.setattr(
        "bertsnr_tools.predict.chunks.SHARD_OVERLAP", 800
    )  # so that shards begin within runs of these short chromosomes
    reference = Genome(str(genome))
    models, steps = [toy_model, ctcf], [30, 50]
    regions = [
        Interval("chr2", 8000, 14_000),
        Interval("chr3", 0, 2000),
        Interval("chr2", 990, 1500),
    ]  # N from 12,500 to 13,000

    def sites(parts):
        track = np.full((2, 25_000), np.nan)

        def keep(model, chrom, start, values):
            if model == 1 and chrom == "chr2":
                track[:, start : start + values.shape[1]] = values

        tally = ScanStats()
        return (
            [hit for block in scan(models, parts, [0.99, 0.5], steps, 64, "fp32", tally, keep) for hit in block],
            track,
            tally.acgt_bases,
        )

    def together(regions):
        parts = [sites(shard_chunks(reference, regions, 100, number, shards, steps)) for number in range(1, shards + 1)]
        hits, tracks, known = zip(*parts)
        assert sum(map(bool, hits)) > shards // 2
        return sum(hits, []), np.fmax.reduce(tracks), sum(known)

    whole, shares = sites(genome_chunks(reference, regions, 100)), together(regions)
    assert len(whole[0]) > 50 and shares[0] == whole[0] and shares[2] == whole[2]
    track, joined = sites(genome_chunks(reference, regions[:1], 100))[1], together(regions[:1])[1]
    assert np.isfinite(track).sum() == 2 * 5500 and np.array_equal(track, joined, equal_nan=True)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_jobs_are_taken_and_given_back_in_order_and_no_more_than_there_are_threads_for(threads):
    taken = []
    jobs = (taken.append(number) or number for number in range(20))
    for at, (job, result) in enumerate(prefetch(lambda number: number * number, jobs, threads)):
        assert (job, result) == (at, at * at) and len(taken) <= at + threads + 1
    assert len(taken) == 20


@pytest.mark.parametrize("threads", [0, 2])
def test_what_goes_wrong_with_a_job_is_raised_in_its_turn_and_the_threads_end(threads):
    done = []
    with pytest.raises(ZeroDivisionError):
        for _, result in prefetch(lambda number: 6 // (3 - number), range(100), threads):
            done.append(result)
    assert done == [2, 3, 6]
    first = prefetch(lambda number: number, iter(int, 1), threads)  # without an end
    assert next(first) == (0, 0)
    first.close()


def test_scoring_ahead_does_not_change_the_sites(toy_model, ctcf, monkeypatch):
    records = [(f"r{number}", random_dna(number, 700)) for number in range(12)]
    monkeypatch.setattr("bertsnr_tools.predict.scan.BLOCK_BASES", 1000)
    plain = scan_records(records, [toy_model, ctcf])
    monkeypatch.setattr("bertsnr_tools.predict.scan.prefetch", lambda work, jobs, threads: prefetch(work, jobs, 2))
    assert scan_records(records, [toy_model, ctcf]) == plain and len(plain[0]) > 20
