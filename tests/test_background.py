import random

import numpy as np
import pytest

from bertsnr_tools.io.fasta import Genome
from bertsnr_tools.io.intervals import Interval, interval_from_name
from bertsnr_tools.sequence.background import GC_BINS, background_windows, gc_targets, merge_intervals
from bertsnr_tools.sequence.encoding import reverse_complement


@pytest.fixture(scope="module")
def long_genome(tmp_path_factory):
    rng = random.Random(3)
    path = tmp_path_factory.mktemp("g") / "g.fa"
    poor, rich = ("".join(rng.choices("ACGT", weights, k=30_000)) for weights in ([3, 1, 1, 3], [1, 3, 3, 1]))
    path.write_text(f">chr1\n{poor}{'N' * 500}{rich}\n>chr2\n{rich[:5000]}n{poor[:5000]}\n>short\nACGT\n")
    return Genome(str(path))


def draw(genome, wanted, avoid=(), regions=None, window=50, seed=1):
    regions = regions or genome.chromosomes()
    return list(background_windows(genome, regions, avoid, window, np.array(wanted), seed))


def intervals(records):
    return [interval_from_name(record.name, 50) for record in records]


def test_windows_come_from_the_genome_disjoint_and_on_both_strands(long_genome):
    records = draw(long_genome, [600])
    assert len(records) == 600 and records == draw(long_genome, [600]) != draw(long_genome, [600], seed=2)
    found = intervals(records)
    assert found == sorted(found, key=lambda interval: (interval.chrom, interval.start))
    assert 240 < sum(interval.strand == "-" for interval in found) < 360
    for record, interval in zip(records, found):
        forward = long_genome.fetch(interval.chrom, interval.start, interval.end)
        assert record.sequence == (reverse_complement(forward) if interval.strand == "-" else forward)
        assert not record.sequence.translate(None, b"ACGT") and record.description == ""
    assert all(one.chrom != other.chrom or one.end <= other.start for one, other in zip(found, found[1:]))
    assert 20 < sum(interval.chrom == "chr2" for interval in found) < 160  # about 1 in 7


def test_avoided_intervals_are_not_touched_and_all_other_windows_are_found(long_genome):
    avoid = [
        Interval("chr1", 100, 20_000),
        Interval("chr1", 15_000, 30_400),
        Interval("chr2", 0, 5000),
        Interval("elsewhere", 0, 9),
    ]
    found = intervals(draw(long_genome, [10_000], avoid))
    assert not any(
        interval.chrom == one.chrom and interval.start < one.end and interval.end > one.start
        for interval in found
        for one in avoid
    )
    # stretches of 100, 30,000 and 5,000 free bases
    assert len(found) == 2 + 600 + 100
    inside = [Interval("chr1", 40_000, 40_120), Interval("chr1", 40_100, 40_160), Interval("chr2", 4_990, 5_040)]
    assert [(interval.chrom, interval.start // 10) for interval in intervals(draw(long_genome, [10], regions=inside))][
        :1
    ] == [("chr1", 4000)]
    assert len(draw(long_genome, [10], regions=inside)) == 3  # 160 bases in one stretch; chr2 has an N there


def test_fewer_windows_are_a_subset_of_more(long_genome):
    more = {record.name for record in draw(long_genome, [400])}
    assert {record.name for record in draw(long_genome, [100])} < more


def test_gc_content_matches_the_sites(long_genome):
    sites = [Interval("chr1", at, at + 10) for at in range(31_000, 60_000, 300)]  # in the part rich in G and C
    wanted = gc_targets(long_genome, sites, 50, 3)
    records = draw(long_genome, wanted, sites)

    def gc_bin(sequence):
        return sum(letter in b"GC" for letter in sequence) * GC_BINS // 50

    counts = np.bincount([gc_bin(record.sequence) for record in records], minlength=GC_BINS + 1)
    assert np.all(counts <= wanted) and counts.sum() > 0.95 * wanted.sum() == 0.95 * 3 * len(sites)
    assert (
        np.mean([gc_bin(record.sequence) for record in draw(long_genome, [300], sites)])
        < np.average(np.arange(GC_BINS + 1), weights=counts) - 2
    )
    # N beside a site does not count as one of the other letters
    beside = gc_targets(long_genome, [Interval("chr1", 30_500, 30_510)], 50, 1)
    known = long_genome.fetch("chr1", 30_480, 30_530).replace(b"N", b"")
    assert beside.argmax() == sum(letter in b"GC" for letter in known) * GC_BINS // len(known)
    assert not gc_targets(long_genome, [Interval("short", 0, 4), Interval("none", 0, 4)], 50, 1).any()


def test_blocks_bound_what_is_read_at_once(long_genome, monkeypatch):
    monkeypatch.setattr("bertsnr_tools.sequence.background.BLOCK_BASES", 1000)
    asked = []
    fetch = long_genome.fetch
    monkeypatch.setattr(
        long_genome, "fetch", lambda chrom, start, end: asked.append(end - start) or fetch(chrom, start, end)
    )
    assert len(draw(long_genome, [500])) == 500 and max(asked) == 1000


def test_intervals_are_merged():
    spans = merge_intervals(
        [Interval("a", 5, 9), Interval("a", 1, 3), Interval("a", 3, 4), Interval("a", 6, 7), Interval("b", 0, 1)]
    )
    assert {chrom: rows.tolist() for chrom, rows in spans.items()} == {"a": [[1, 4], [5, 9]], "b": [[0, 1]]}
