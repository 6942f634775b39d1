"""The bigBed writer and reader, against two independent readers and another writer."""

import os
import tempfile
import tracemalloc

import numpy as np
import pybigtools
import pyBigWig
import pytest

from bertsnr_tools.errors import DataError
from bertsnr_tools.io import sorting
from bertsnr_tools.io.bbi import MAX_LENGTH, read_summary
from bertsnr_tools.io.bigbed import BigBed, Column, autosql, read_bigbed
from bertsnr_tools.io.sorting import LineSorter

SCHEMA = autosql("sites", "Sites", [Column("float", "logOdds", "Log odds"), Column("string", "factor", "Factor")])


def random_sites(rng, count, chroms, length, longest=40):
    rows = []
    for number in range(count):
        start = int(rng.integers(0, length - longest))
        end = start + int(rng.integers(1, longest))
        rest = f"F{number % 7}\t{number % 1001}\t+\t{start}\t{end}\t0,90,181\t{number / 7:.4f}\tF{number % 7}"
        rows.append((chroms[int(rng.integers(len(chroms)))], start, end, rest))
    return rows


def write(path, rows, lengths=None):
    file = BigBed(str(path), SCHEMA, lengths)
    for row in rows:
        file.add(*row)
    file.write()
    return str(path)


def test_an_item_across_a_part_of_the_chromosome_is_read_once(tmp_path):
    """The reader goes through a chromosome in parts of 4 Mi bases."""
    rest = "a\t1\t+\t0\t0\t0\t1.0\tF"
    rows = [("c", (1 << 22) - 5, (1 << 22) + 5, rest), ("c", (1 << 22) + 2, (1 << 22) + 9, rest)]
    path = write(tmp_path / "t.bb", rows, {"c": 1 << 23})
    assert [line.split("\t")[1:3] for line in read_bigbed(path).lines] == [[str(row[1]), str(row[2])] for row in rows]


@pytest.mark.parametrize(("count", "run", "length"), [(3, 50_000, 500), (5_000, 700, 20_000), (70_000, 9_000, 300_000)])
def test_items_and_summary(tmp_path, monkeypatch, count, run, length):
    monkeypatch.setattr(sorting, "RUN_LINES", run)
    chroms = ["chr1", "chr2", "chr10"]
    rows = random_sites(np.random.default_rng(count), count, chroms, length)
    lengths = dict.fromkeys([*chroms, "chrEmpty"], length)
    path = write(tmp_path / "t.bb", rows, lengths)
    rows.sort(key=lambda row: row[:3])  # stable
    other = str(tmp_path / "other.bb")
    pybigtools.open(other, "w").write(lengths, sorted(rows, key=lambda row: row[:2]), SCHEMA)
    depth = {chrom: np.zeros(length, dtype=int) for chrom in chroms}
    for chrom, start, end, _ in rows:
        depth[chrom][start:end] += 1
    with pybigtools.open(path) as one, pybigtools.open(other) as two, pyBigWig.open(path) as three:
        assert one.sql() == SCHEMA == three.SQL().decode() and three.isBigBed()
        assert one.chroms() == three.chroms() == lengths
        for chrom in chroms:
            expected = [(start, end, *rest.split("\t")) for of, start, end, rest in rows if of == chrom]
            assert list(one.records(chrom)) == expected
            assert not expected or sorted(two.records(chrom)) == sorted(expected)
            for start, end in ((0, length), *((at, at + 90) for at in range(0, length - 90, length // 5))):
                overlap = [row for row in expected if row[1] > start and row[0] < end]
                assert [(s, e, *rest.split("\t")) for s, e, rest in three.entries(chrom, start, end) or ()] == overlap
            if count > 3:
                means = one.values(chrom, 0, length, bins=1, summary="mean", fillna=None)  # of covered bases
                assert means == pytest.approx([depth[chrom][depth[chrom] > 0].mean()], rel=0.002)
    values = np.concatenate([depth[chrom] for chrom in chroms])
    summary = read_summary(path)
    assert summary[:4] == ((values > 0).sum(), 1, values.max(), values.sum())
    assert summary.squares == (values**2).sum()
    content = read_bigbed(path)
    assert content.lengths == lengths and content.columns[-2:] == ["logOdds", "factor"]
    assert [line.split("\t", 3)[3] for line in content.lines] == [row[3] for row in rows]


@pytest.mark.parametrize("lengths", [{}, {"c": 10}])
def test_a_file_without_items_is_valid(tmp_path, lengths):
    path = write(tmp_path / "t.bb", [], lengths or None)
    with pyBigWig.open(path) as one, pybigtools.open(path) as two:
        assert one.chroms() == two.chroms() == lengths and not any(list(two.records(c)) for c in lengths)
    assert not list(read_bigbed(path).lines)


def test_without_sizes_a_chromosome_ends_at_its_last_site(tmp_path):
    path = write(tmp_path / "t.bb", [("b", 5, 9, "x"), ("a", 7, 30, "x"), ("a", 8, 10, "x")])
    assert read_bigbed(path).lengths == {"a": 30, "b": 9}


def test_the_longest_chromosome(tmp_path):
    rows = [("c", 0, 9, "a\t1"), ("c", MAX_LENGTH - 9, MAX_LENGTH, "b\t2")]
    path = write(tmp_path / "t.bb", rows, {"c": MAX_LENGTH})
    with pybigtools.open(path) as file:
        assert list(file.records("c")) == [(0, 9, "a", "1"), (MAX_LENGTH - 9, MAX_LENGTH, "b", "2")]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (("d", 0, 5, "x"), "the genome has no chromosome named 'd'"),
        (("c", 5, 11, "x"), "c:5-11 is not on the chromosome; c has 10 bp"),
        (("c", 5, 5, "x"), "c:5-5 is not on the chromosome"),
    ],
)
def test_intervals_that_cannot_be(tmp_path, row, problem):
    with pytest.raises(DataError, match=problem):
        BigBed(str(tmp_path / "t.bb"), SCHEMA, {"c": 10}).add(*row)


def test_a_path_that_is_not_utf8(tmp_path):
    directory = os.path.join(tmp_path, os.fsdecode(b"n\xff\xe9"))
    os.mkdir(directory)
    path = write(os.path.join(directory, "t.bb"), [("c", 1, 5, "x")])
    assert list(read_bigbed(path).lines) == ["c\t1\t5\tx"]


def test_a_full_disk_is_an_error_at_every_size(tmp_path, file_limit, capfd):
    rows = random_sites(np.random.default_rng(0), 3_000, ["c"], 50_000)
    size = os.path.getsize(write(tmp_path / "whole.bb", rows))
    for limit in np.linspace(0, size - 1, 30).astype(int).tolist():
        file = BigBed(str(tmp_path / "t.bb"), SCHEMA)
        for row in rows:
            file.add(*row)
        with pytest.raises(DataError, match="t.bb: File too large"), file_limit(limit):
            file.write()
    assert [path.name for path in tmp_path.iterdir()] == ["whole.bb"]
    assert capfd.readouterr() == ("", "")


def test_a_full_temporary_directory_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: open("/dev/full", "r+b", buffering=0))
    monkeypatch.setattr(sorting, "RUN_LINES", 2)
    file = BigBed(str(tmp_path / "t.bb"), SCHEMA)
    file.add("c", 1, 2, "x")
    with pytest.raises(DataError, match=r"t\.bb: cannot sort in .* \(No space left on device\); set TMPDIR"):
        file.add("c", 1, 2, "x")


def test_what_is_not_bigbed(tmp_path, capfd):
    (tmp_path / "t.bb").write_text("chr1\t1\t5\n")
    with pytest.raises(DataError, match=r"t\.bb: is not a bigWig or bigBed file"):
        read_bigbed(str(tmp_path / "t.bb"))
    assert capfd.readouterr() == ("", "")


def test_sorting_takes_flat_memory(monkeypatch):
    monkeypatch.setattr(sorting, "RUN_LINES", 2_000)
    monkeypatch.setattr(sorting, "_MERGE_BYTES", 1 << 17)

    def peak(count):
        tracemalloc.start()
        sorter = LineSorter(lambda line: int(line[:9]), "x")
        for number in range(count):
            sorter.add(b"%09d %s" % (number * 7_919 % count, b"x" * 90))
        previous = -1
        for line in sorter:
            assert int(line[:9]) == previous + 1
            previous += 1
        assert previous == count - 1
        return tracemalloc.get_traced_memory()[1]

    few = peak(10_000)
    tracemalloc.stop()
    assert peak(80_000) < 2 * few
    tracemalloc.stop()
