import numpy as np
import pybigtools
import pytest

from bertsnr_tools.errors import DataError
from bertsnr_tools.regions import Interval
from bertsnr_tools.tracks import aligned, bedgraph_lines, write_bigwig

NAN = np.nan


def test_bedgraph():
    place = Interval("chr1", 10, 14)
    assert bedgraph_lines(place, np.array([0.5, NAN, 1e-7, 2], dtype=np.float32)) == "chr1\t10\t11\t0.5\nchr1\t12\t13\t1e-07\nchr1\t13\t14\t2\n"
    assert bedgraph_lines(place, np.full(4, NAN)) == ""


def test_bigwig_is_read_by_another_reader(tmp_path):
    path = tmp_path / "t.bw"
    rng = np.random.default_rng(0)
    tracks = []
    for chrom, start in (("chr2", 500), ("chr1", 900), ("chr1", 100), ("chr10", 0)):  # in no order
        values = rng.random(300).astype(np.float32)
        values[[0, 50, 51, 299]] = NAN
        tracks.append((Interval(chrom, start, start + 300), values))
    write_bigwig(str(path), tracks)
    with pybigtools.open(str(path)) as file:
        assert file.chroms() == {"chr1": 1200, "chr2": 800, "chr10": 300}
        for place, values in tracks:
            assert np.array_equal(file.values(place.chrom, place.start, place.end, fillna=None), values, equal_nan=True)


def test_bigwig_refuses_what_it_cannot_hold(tmp_path):
    path = tmp_path / "t.bw"
    path.write_text("old")
    one = (Interval("c", 0, 5), np.ones(5))
    for tracks, problem in (
        ([one, (Interval("c", 4, 6), np.ones(2))], r"c:0-5\(\+\) and c:4-6\(\+\) overlap"),
        ([(Interval("c", 0, 5), np.full(5, NAN))], "there is no value"),
        ([], "there is no value"),
    ):
        with pytest.raises(DataError, match=problem):
            write_bigwig(str(path), tracks)
        assert [file.name for file in tmp_path.iterdir()] == ["t.bw"] and path.read_text() == "old"


def test_alignment():
    #   anchor     v
    # row 0    1 2 3
    # row 1        4 5
    # row 2      6 7
    rows = [np.array([1.0, 2, 3]), np.array([4.0, 5]), np.array([6.0, 7])]
    matrix, first = aligned(rows, [2, 0, 1])
    assert first == -2
    assert np.array_equal(matrix, [[1, 2, 3, NAN], [NAN, NAN, 4, 5], [NAN, 6, 7, NAN]], equal_nan=True)
    assert aligned([np.arange(3.0)] * 2, [0, 0])[1] == 0
