import os
import tempfile

import numpy as np
import pybigtools
import pytest

from bertsnr_tools.errors import DataError, UsageError
from bertsnr_tools.io.intervals import Interval
from bertsnr_tools.io.tracks import (
    BigWig,
    bed_line,
    bedgraph_lines,
    check_bigwig,
    jaspar_score,
    narrowpeak_columns,
    track_line,
)
from bertsnr_tools.predict.scan import CalledSite

NAN = np.nan


def test_bedgraph():
    values = np.array([0.5, NAN, 1e-7, 2, 2, 2], dtype=np.float32)
    assert bedgraph_lines("chr1", 10, values) == "chr1\t10\t11\t0.5\nchr1\t12\t13\t1e-07\nchr1\t13\t16\t2\n"
    assert bedgraph_lines("chr1", 10, np.full(4, NAN)) == bedgraph_lines("chr1", 10, np.empty(0)) == ""


def write_bigwig(path, tracks, **options):
    file = BigWig(path, **options)
    for place, values in tracks:
        file.add(place.chrom, place.start, values)
    file.write()


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


def test_bigwig_rejects_overlapping_values(tmp_path):
    path = tmp_path / "t.bw"
    path.write_text("old")
    tracks = [(Interval("c", 0, 5), np.ones(5)), (Interval("c", 4, 6), np.ones(2))]
    with pytest.raises(DataError, match="c:4-5 has several values"):
        write_bigwig(str(path), tracks)
    assert [file.name for file in tmp_path.iterdir()] == ["t.bw"] and path.read_text() == "old"


@pytest.mark.parametrize("tracks", [[], [(Interval("c", 0, 5), np.full(5, NAN))]])
def test_bigwig_without_scored_bases_is_empty(tmp_path, caplog, tracks):
    path = str(tmp_path / "t.bw")
    write_bigwig(path, tracks)
    with pybigtools.open(path) as file:
        assert file.chroms() == ({"c": 5} if tracks else {}) and not any(list(file.records(c)) for c in file.chroms())
    assert "t.bw: no scored bases; the file has no values" in caplog.text


def test_bigwig_below_a_path_that_is_not_utf8(tmp_path):
    directory = os.path.join(tmp_path, os.fsdecode(b"n\xff\xe9"))
    os.mkdir(directory)
    write_bigwig(os.path.join(directory, "t.bw"), [(Interval("c", 0, 5), np.ones(5))])
    with pybigtools.open(open(os.path.join(directory, "t.bw"), "rb")) as file:
        assert list(file.records("c")) == [(0, 5, 1)]


def test_bigwig_rejects_chromosomes_longer_than_its_positions(tmp_path):
    with pytest.raises(DataError, match="t.bw: c has 4,294,967,296 bp, but bigWig supports at most 4,294,967,295 bp"):
        BigWig(str(tmp_path / "t.bw"), {"c": 2**32})
    BigWig(str(tmp_path / "t.bw"), {"c": 2**32 - 1})
    with pytest.raises(DataError, match="t.bw: c extends to base 4,294,967,298, but bigWig supports"):
        write_bigwig(str(tmp_path / "t.bw"), [(Interval("c", 2**32, 2**32 + 2), np.ones(2))])
    assert not list(tmp_path.iterdir())


def test_values_that_cannot_be_stored_are_an_error_at_the_end(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: open("/dev/full", "r+b", buffering=0))
    file = BigWig(str(tmp_path / "t.bw"))
    for start in (0, 5):
        file.add("c", start, np.ones(5))
    assert caplog.text.count("No space left on device") == 1 and "continuing without this file" in caplog.text
    with pytest.raises(DataError, match=r"t\.bw: cannot store its values in .* \(No space left on device\)"):
        file.write()
    assert not list(tmp_path.iterdir())


def test_output_of_bigwig_is_a_regular_file(tmp_path):
    for path, problem in (("-", "standard output"), ("/dev/null", "/dev/null: a bigWig file must be a regular file")):
        with pytest.raises(UsageError, match=problem):
            check_bigwig(path)
    check_bigwig(str(tmp_path / "new.bw"))


def test_bigwig_of_overlapping_parts_has_the_maximum(tmp_path):
    path = tmp_path / "t.bw"
    rng = np.random.default_rng(2)
    truth = np.full(2000, NAN)
    tracks = []
    for start in rng.integers(0, 1900, 40).tolist():
        values = rng.choice([0, 0.25, 0.5, NAN], 60).astype(np.float32)
        truth[start : start + 60] = np.fmax(truth[start : start + 60], values)
        tracks.append((Interval("c", start, start + 60), values))
    write_bigwig(str(path), tracks, merge=True, lengths={"b": 10, "c": 5000})
    with pybigtools.open(str(path)) as file:
        assert file.chroms() == {"b": 10, "c": 5000}
        assert np.array_equal(file.values("c", 0, 2000, fillna=None), truth, equal_nan=True)


def test_lines_of_sites():
    hit = CalledSite("chr1", 10, 29, "CTCF", 0.9996, "-", 0.99, 5, 0)
    assert bed_line(hit) == "chr1\t10\t29\tCTCF\t1000\t-\n"
    assert bed_line(hit, "strand") == "chr1\t10\t29\tCTCF\t1000\t-\t10\t29\t220,50,32\n"
    assert bed_line(hit._replace(score=0.5, strand="+"), "score") == "chr1\t10\t29\tCTCF\t500\t+\t10\t29\t110,110,110\n"
    assert bed_line(hit, score=jaspar_score(4.256)) == "chr1\t10\t29\tCTCF\t426\t-\n"
    assert [jaspar_score(p) for p in (-1, 0, 0.004, 10.004, 60)] == [0, 0, 0, 1000, 1000]
    assert narrowpeak_columns(4.6, -1, -1) == "4.6000\t-1.0000\t-1.0000"


@pytest.mark.parametrize(
    "kind, special",
    [("bed", "useScore=1"), ("bed9", "itemRgb=On"), ("narrowpeak", "type=narrowPeak"), ("bedgraph", "type=bedGraph")],
)
def test_track_lines_keep_to_ucscs_limits(kind, special):
    line = track_line(kind, 'A "name"\nthat is far too long', "d'" * 80, "hg38")
    assert line.startswith("track ") and line.endswith("\n") and line.count("\n") == 1
    assert special in line and " db=hg38 " in line and 'name="A namethat is f"' in line
    assert len(line.split('description="')[1].split('"')[0]) == 60
