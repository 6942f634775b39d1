import re
from collections import Counter

import numpy as np
import pytest

from bertsnr_tools.errors import DataError
from bertsnr_tools.io.fasta import Genome, Record
from bertsnr_tools.io.intervals import Interval, read_bed
from bertsnr_tools.sequence.encoding import reverse_complement
from bertsnr_tools.sequence.windows import WindowCutter, Windows, loci, read_windows, split_by_locus
from conftest import DATA


def cut(sites, genome, window=100, max_n=0, seed=1):
    cutter = WindowCutter(genome, window, max_n=max_n, seed=seed)
    return list(cutter.cut(sites)), cutter.skipped


@pytest.fixture
def small(tmp_path):
    #             0         10        20        30
    text = ">c\nACGTTGCATTGACCATGNNACGGTTACCATGAC\n>empty_of_sites\nACGT\n"
    (tmp_path / "g.fa").write_text(text)
    return Genome(str(tmp_path / "g.fa"))


def test_every_window_contains_its_site_in_its_own_direction(genome):
    reference, sites = Genome(str(genome)), list(read_bed(str(DATA / "sites.bed")))
    records, skipped = cut(sites, reference)
    assert len(records) + skipped.total() == len(sites) and len(records) > 300
    by_site = {(s.chrom, s.start, s.end, s.strand) for s in sites}
    for record in records:
        place = record.name.rpartition("::")[2]
        chrom, span = place[:-3].split(":")
        start, end = map(int, span.split("-"))
        strand = place[-2]
        forward = reference.fetch(chrom, start, end)
        assert record.sequence == (forward if strand == "+" else reverse_complement(forward))
        assert b"N" not in record.sequence and len(record.sequence) == 100
        for span in record.description.removeprefix("site=").split(","):
            a, b = map(int, span.split("-"))
            assert ((chrom, start + a, start + b, "+") if strand == "+" else (chrom, end - b, end - a, "-")) in by_site


def test_offsets_are_uniform_over_what_is_allowed(small):
    #  c   ACGTTGCATTGACCATGNNACGG      window 10, site [8, 12): starts 2..8 but 8 would contain the N at 17
    seen = Counter(cut([Interval("c", 8, 12)], small, window=10, seed=seed)[0][0].name for seed in range(4200))
    assert sorted(seen) == [f".::c:{start}-{start + 10}(+)" for start in range(2, 8)]
    assert all(abs(n - 700) < 5 * 700**0.5 for n in seen.values())
    seen = {cut([Interval("c", 8, 12)], small, window=10, max_n=1, seed=seed)[0][0].name for seed in range(200)}
    assert ".::c:8-18(+)" in seen and len(seen) == 7


def test_windows_at_both_ends_of_a_chromosome(small):
    for site, starts in ((Interval("c", 0, 3), {0}), (Interval("c", 30, 33), {23}), (Interval("c", 2, 4), {0, 1, 2})):
        seen = {cut([site], small, window=10, seed=seed)[0][0].name for seed in range(60)}
        assert seen == {f".::c:{start}-{start + 10}(+)" for start in starts}


def test_other_sites_inside_are_labelled_on_the_same_strand_only(small):
    sites = [
        Interval("c", 2, 6),
        Interval("c", 5, 9),
        Interval("c", 3, 7, strand="-"),
        Interval("c", 0, 12),
        Interval("c", 2, 6, "again"),
    ]
    records, _ = cut(sites, small, window=10, seed=3)
    starts = [int(re.search(r":c:(\d+)-", record.name)[1]) for record in records]
    for record, start in zip(records[:2], starts):
        inside = [(a - start, b - start) for a, b in ((2, 6), (5, 9)) if a >= start and b <= start + 10]
        spans = [tuple(map(int, s.split("-"))) for s in record.description[5:].split(",")]
        assert sorted(spans) == inside
    assert records[0].description.startswith(f"site={2 - starts[0]}-{6 - starts[0]}")  # its own first
    assert records[2].description.count("-") == 1


def test_a_window_depends_on_its_site_alone(genome):
    reference, sites = Genome(str(genome)), list(read_bed(str(DATA / "sites.bed")))
    records, _ = cut(sites, reference)
    backwards, _ = cut(sites[::-1], reference)
    assert [(r.name, r.sequence) for r in records] == [(r.name, r.sequence) for r in backwards[::-1]]
    assert {r.name for r in cut(sites[:50], reference)[0]} < {r.name for r in records}
    assert cut(sites, reference, seed=2)[0] != records


def test_reasons_for_leaving_a_site_out(small):
    sites = [
        Interval("c", 0, 11),
        Interval("c", 30, 40),
        Interval("d", 0, 4),
        Interval("c", 16, 19),
        Interval("empty_of_sites", 0, 4),
        Interval("c", 0, 4),
    ]
    records, skipped = cut(sites, small, window=10)
    assert len(records) == 1
    assert skipped == {"long": 1, "off": 1, "short": 1, "absent": 1, "n": 1}


def test_read_windows(tmp_path):
    path = tmp_path / "w.fa"
    path.write_text(">a site=1-4,5-8\nACGTACGTAC\n>b site=0-10\nNNGTACGTAC\n")
    windows = read_windows(str(path), True, 3)
    assert windows.names == ["a", "b"] and windows.codes.shape == (2, 10)
    assert windows.labels.tolist() == [[0, 1, 1, 1, 0, 1, 1, 1, 0, 0], [1] * 10]
    assert list(windows.records())[1] == Record("b", "", b"NNGTACGTAC")


@pytest.mark.parametrize(
    ("text", "positive", "problem"),
    [
        (">a\nACGTACGT\n", True, "record 'a' has no site=a-b in its header"),
        (">a site=1-4\nACGTACGT\n", False, "record 'a' has site=a-b in its header; expected a negative"),
        (">a site=1-4\nACGTACGT\n>b site=1-4\nACGT\n", True, "record 'b' is 4 bp; expected 8 bp"),
        (">a site=4-9\nACGTACGT\n", True, "site is '4-9'; expected a-b with 0 <= a < b <= 8"),
        (">a site=4-4\nACGTACGT\n", True, "site is '4-4'"),
        (">a site=x\nACGTACGT\n", True, "site is 'x'"),
        (">a site=1-3\nACGTACGT\n", True, "site 1-3 is shorter than a token of 3"),
        (">a site=0-2\nAC\n", True, "shorter than a token of 3 bp"),
    ],
)
def test_bad_windows(tmp_path, text, positive, problem):
    path = tmp_path / "w.fa"
    path.write_text(text)
    with pytest.raises(DataError, match=problem):
        read_windows(str(path), positive, 3)


def windows_named(*names):
    return Windows(
        list(names), np.zeros((len(names), 100), dtype=np.uint8), np.zeros((len(names), 100), dtype=np.uint8)
    )


def test_overlapping_windows_and_their_shuffles_are_one_locus():
    names = [
        "a::chr1:0-100(+)",
        "b::chr1:90-190(-)",
        "c::chr1:180-280(+)",
        "d::chr1:280-380(+)",
        "e::chr2:0-100(+)",
        "plain",
        "plain2",
        "b::chr1:90-190(-)_shuf1",
        "plain_shuf3",
    ]
    windows = windows_named(*names, "b::chr1:90-190(-)_shuf1_shuf2")
    assert loci(windows)[0][5] == loci(windows)[0][6]  # the same sequence
    windows.codes[6] = 1
    locus, chroms = loci(windows)
    assert locus[9] == locus[7]
    locus, chroms = locus[:9], chroms[:9]
    assert locus[0] == locus[1] == locus[2] == locus[7]
    assert locus[5] == locus[8]
    assert len({*locus.tolist()}) == 5
    assert chroms == ["chr1"] * 4 + ["chr2", "", "", "chr1", ""]


def test_windows_are_taken_by_numbers_and_by_masks():
    windows = windows_named("a", "b", "c")
    mask = [True, False, True]
    for index in (mask, np.array(mask), [0, 2], np.array([0, 2]), range(0, 3, 2)):
        taken = windows.take(index)
        assert taken.names == ["a", "c"] and len(taken.codes) == len(taken.labels) == 2
    assert windows.take([]).names == [] and windows.take(np.zeros(3, dtype=bool)).codes.shape == (0, 100)


def test_parts_are_even_and_keep_loci_together():
    locus = np.repeat(np.arange(100), 3)
    part = split_by_locus(locus, 10, seed=1)
    assert np.bincount(part).tolist() == [30] * 10
    assert all(len(set(part[locus == n])) == 1 for n in range(100))
    assert (part != split_by_locus(locus, 10, seed=2)).any()
