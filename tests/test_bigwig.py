"""The bigWig writer, against two independent readers."""

import os
import time

import numpy as np
import pybigtools
import pyBigWig
import pytest

from bertsnr_tools.errors import DataError
from bertsnr_tools.io.bbi import INTERVAL, MAX_LENGTH
from bertsnr_tools.io.bigwig import read_bigwig, write_bigwig


def random_intervals(rng, chrom, count, longest):
    borders = np.cumsum(rng.integers(1, longest, 2 * count))
    rows = np.empty(count, dtype=INTERVAL)
    rows["chrom"], rows["start"], rows["end"] = chrom, borders[::2], borders[1::2]
    rows["value"] = rng.normal(size=count)
    return rows


def dense(rows, length):
    values = np.full(length, np.nan, dtype=np.float32)
    for _, start, end, value in rows.tolist():
        values[start:end] = value
    return values


@pytest.mark.parametrize(("count", "longest", "first_zoom"), [(3, 5, 40), (5000, 8, 40), (300_000, 3, 10)])
def test_values_and_summaries(tmp_path, count, longest, first_zoom):
    rng = np.random.default_rng(count)
    path = str(tmp_path / "t.bw")
    parts = {"a": random_intervals(rng, 0, count, longest), "c": random_intervals(rng, 2, count, longest)}
    length = int(max(part["end"].max() for part in parts.values())) + 10
    summary = write_bigwig(path, {"c": length, "b": 5, "a": length}, parts.values(), first_zoom)
    with pyBigWig.open(path) as one, pybigtools.open(path) as two:
        assert one.chroms() == two.chroms() == {"a": length, "b": 5, "c": length}
        assert one.header()["nBasesCovered"] == summary.bases == two.info()["summary"]["basesCovered"]
        for chrom, part in parts.items():
            truth = dense(part, length)
            assert np.array_equal(one.values(chrom, 0, length, numpy=True), truth, equal_nan=True)
            assert np.array_equal(two.values(chrom, 0, length, fillna=None), truth, equal_nan=True)
            known = truth[np.isfinite(truth)].astype(float)
            expected = {"mean": known.mean(), "min": known.min(), "max": known.max(), "std": known.std(ddof=1)}
            expected["coverage"] = len(known) / length
            for kind, value in expected.items():  # from the records for zooming
                assert one.stats(chrom, 0, length, type=kind)[0] == pytest.approx(value, rel=2e-3, abs=1e-4)
        assert two.values("b", 0, 5, fillna=None) == pytest.approx([np.nan] * 5, nan_ok=True)


def test_intervals_are_read_back(tmp_path):
    path = str(tmp_path / "t.bw")
    rng = np.random.default_rng(1)
    parts = [random_intervals(rng, chrom, 1500, 20) for chrom in (0, 1, 299)]
    names = [f"c{number:04d}" for number in range(300)]
    write_bigwig(path, dict.fromkeys(names, 10**6), parts)
    found = {}
    for chrom, rows in read_bigwig(path):
        found.setdefault(chrom, []).extend(rows.tolist())
    assert found == {names[part["chrom"][0]]: [row[1:] for row in part.tolist()] for part in parts}
    cut = tmp_path / "cut.bw"
    cut.write_bytes((tmp_path / "t.bw").read_bytes()[:20_000])
    with pytest.raises(DataError, match=r"cut\.bw: is truncated"):
        list(read_bigwig(str(cut)))


@pytest.mark.parametrize("lengths", [{}, {"c": 10}])
def test_a_file_without_values_is_valid(tmp_path, lengths):
    path = str(tmp_path / "t.bw")
    write_bigwig(path, lengths, [])
    with pyBigWig.open(path) as one, pybigtools.open(path) as two:
        assert one.chroms() == two.chroms() == lengths and not one.header()["nBasesCovered"]
        assert all(one.intervals(chrom) is None and not list(two.records(chrom)) for chrom in lengths)
    assert not list(read_bigwig(path))


def test_the_longest_chromosome(tmp_path):
    path = str(tmp_path / "t.bw")
    rows = np.array([(0, 0, 1, 0.25), (0, 5, MAX_LENGTH - 1, 0.5), (0, MAX_LENGTH - 1, MAX_LENGTH, 1)], dtype=INTERVAL)
    write_bigwig(path, {"c": MAX_LENGTH}, [rows], first_zoom=10 * (MAX_LENGTH // 3))
    with pyBigWig.open(path) as file, pybigtools.open(path) as other:
        assert list(other.records("c")) == [row[1:] for row in rows.tolist()]
        assert file.values("c", MAX_LENGTH - 2, MAX_LENGTH) == [0.5, 1]
        assert file.stats("c", 0, MAX_LENGTH)[0] == pytest.approx(0.5)


def test_many_contigs_take_linear_time(tmp_path):
    path = str(tmp_path / "t.bw")

    def contigs(count):
        for number in range(count):
            yield np.array([(number, 3, 8, number % 7), (number, 9, 10, 1)], dtype=INTERVAL)

    def seconds(count):
        start = time.process_time()
        write_bigwig(path, {f"contig{number:06d}": 10 for number in range(count)}, contigs(count))
        assert sum(len(rows) for _, rows in read_bigwig(path)) == 2 * count
        return time.process_time() - start

    few, many = seconds(5_000), seconds(100_000)
    assert many < 60 * few  # 20 if linear, 400 if quadratic
    with pyBigWig.open(path) as one, pybigtools.open(path) as two:
        assert len(one.chroms()) == len(two.chroms()) == 100_000
        for number in (0, 316, 317, 65_536, 99_999):
            name = f"contig{number:06d}"
            assert one.intervals(name) == tuple(two.records(name)) == ((3, 8, number % 7), (9, 10, 1))


def test_a_full_disk_is_an_error_at_every_size(tmp_path, file_limit):
    path = str(tmp_path / "t.bw")
    rows = random_intervals(np.random.default_rng(0), 0, 20_000, 3)
    lengths = {"c": int(rows["end"][-1])}
    write_bigwig(path, lengths, [rows])
    size = os.path.getsize(path)
    for limit in np.linspace(0, size - 1, 50).astype(int).tolist():
        with pytest.raises(OSError, match="File too large"), file_limit(limit):
            write_bigwig(path, lengths, [rows])
    with file_limit(size):
        write_bigwig(path, lengths, [rows])
