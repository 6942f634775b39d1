import numpy as np
import pybigtools
import pysam
import pytest

from bertsnr_tools.errors import DataError, UsageError
from bertsnr_tools.io.outputs import Failures
from bertsnr_tools.predict.calling import CalledSite
from bertsnr_tools.predict.significance import UNKNOWN, RankedSite
from bertsnr_tools.predict.writers import SignalFile, SignalWriter, SiteFormat, SiteWriter, signal_files


def ranked(chrom, start):
    site = CalledSite(chrom, start, start + 10, "CTCF", 0.75, "-", 0.9, 4, 0)
    return RankedSite(site, 2.19722, 3.5, UNKNOWN, 4)


@pytest.mark.parametrize(
    ("site_format", "line"),
    [
        (SiteFormat(), "chr1\t5\t15\tCTCF\t750\t-\n"),
        (SiteFormat("bed9"), "chr1\t5\t15\tCTCF\t750\t-\t5\t15\t220,50,32\n"),
        (SiteFormat("bed9", rgb="score"), "chr1\t5\t15\tCTCF\t750\t-\t5\t15\t55,55,55\n"),
        (SiteFormat("narrowpeak"), "chr1\t5\t15\tCTCF\t750\t-\t2.1972\t3.5000\t-1.0000\t4\n"),
    ],
)
def test_formats_of_sites(tmp_path, site_format, line):
    path = tmp_path / "sites"
    with SiteWriter.open(str(path), site_format, ["CTCF"], Failures("a")) as writer:
        writer.write([ranked("chr1", 5)])
    assert path.read_text() == line


@pytest.mark.parametrize(
    ("count", "title", "described"),
    [(2, "F0, F1", "F0, F1"), (5, "5 factors", "F0, F1, F2, F3, F4"), (188, "188 factors", "188 factors")],
)
def test_the_track_line_names_few_models(tmp_path, count, title, described):
    """It is never cut within a name: of SOX10, SOX1 would be another factor."""
    names = [f"F{number}" for number in range(count)]
    path = str(tmp_path / "sites")
    with Failures(path) as failures, SiteWriter.open(path, SiteFormat("bed9", track="hg38"), names, failures):
        pass
    assert f'name="{title}" description="{described}: binding sites' in (tmp_path / "sites").read_text()


@pytest.mark.parametrize(
    ("sites", "in_order"),
    [
        ([("chr2", 5), ("chr2", 5), ("chr1", 0), ("chr1", 9)], True),
        ([("chr1", 5), ("chr1", 4)], False),
        ([("chr1", 5), ("chr2", 5), ("chr1", 9)], False),
    ],
)
def test_only_sorted_sites_are_indexed(tmp_path, sites, in_order):
    path = tmp_path / "sites.bed.gz"
    with SiteWriter.open(str(path), SiteFormat(), ["CTCF"], Failures("a")) as writer:
        for site in sites:
            writer.write([ranked(*site)])
    assert writer.order.sorted == in_order == (tmp_path / "sites.bed.gz.tbi").exists()


def test_an_error_leaves_no_file_of_base_scores(tmp_path):
    files = [SignalFile(0, "--bedgraph", str(tmp_path / "s.bg")), SignalFile(0, "--bigwig", str(tmp_path / "s.bw"))]
    scores = np.array([[0.1, 0.2004], [0.3, np.nan]], dtype=np.float32)

    def write(fail):
        with SignalWriter(files, ["CTCF"], {"chr1": 100}, None, Failures("a", "b")) as signal:
            signal(0, "chr1", 10, scores)
            signal(1, "chr1", 10, 1 - scores)  # of a model without a file
            if fail:
                raise KeyError

    with pytest.raises(KeyError):
        write(True)
    assert not list(tmp_path.iterdir())
    write(False)
    assert (tmp_path / "s.bg").read_text() == "chr1\t10\t11\t0.3\nchr1\t11\t12\t0.2\n"
    with pybigtools.open(str(tmp_path / "s.bw")) as file:
        assert file.values("chr1", 9, 13, fillna=None) == pytest.approx([np.nan, 0.3, 0.2, np.nan], nan_ok=True)


@pytest.mark.parametrize(
    ("failing", "message"),
    [
        ("s.bed.gz", "s.bed.gz: No space left on device"),
        ("s.bg", "s.bg: No space left on device"),
        ("s.bw", "s.bw: is not a regular file"),
    ],
)
def test_an_output_that_fails_does_not_affect_the_others(tmp_path, caplog, failing, message):
    names = ("s.bed.gz", "s.bg", "s.bw", "s.plus")
    files = signal_files(
        {"--bedgraph": f"{tmp_path}/s.bg", "--bigwig": f"{tmp_path}/s.bw", "--bigwig-plus": f"{tmp_path}/s.plus"},
        ["CTCF"],
    )
    (tmp_path / failing).symlink_to("/dev/full")
    with pytest.raises(DataError, match=message) as raised, Failures("a", "b", "c", "d") as failures:
        with (
            SignalWriter(files, ["CTCF"], {"chr1": 100}, None, failures) as signal,
            SiteWriter.open(f"{tmp_path}/s.bed.gz", SiteFormat(), ["CTCF"], failures) as writer,
        ):
            for start in range(1000):
                writer.write([ranked("chr1", 5 + start)])
                signal(0, "chr1", 10 + start, np.full((2, 1), start / 1000, dtype=np.float32))
    assert raised.value.logged and caplog.text.count(message) == 1
    complete = {file.name for file in tmp_path.iterdir() if file.is_file()} - {"s.bed.gz.tbi"}
    assert complete == {*names} - {failing}


def test_base_scores_are_written_where_the_index_of_the_sites_fails(tmp_path, monkeypatch):
    def fail(path, preset, reach):
        raise DataError("No space left on device", f"{path}.tbi")

    monkeypatch.setattr("bertsnr_tools.io.outputs.index_file", fail)
    files = [SignalFile(0, "--bigwig", f"{tmp_path}/s.bw")]
    with pytest.raises(DataError, match="s.bed.gz.tbi: No space left"), Failures("a", "b") as failures:
        with (
            SignalWriter(files, ["CTCF"], {"chr1": 100}, None, failures) as signal,
            SiteWriter.open(f"{tmp_path}/s.bed.gz", SiteFormat(), ["CTCF"], failures) as writer,
        ):
            writer.write([ranked("chr1", 5)])
            signal(0, "chr1", 10, np.ones((2, 1), dtype=np.float32))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["s.bed.gz", "s.bw"]


@pytest.mark.parametrize(("end", "index"), [(2**29, "tbi"), (2**29 + 1, "csi"), (2**32 + 10, "csi")])
def test_the_index_covers_long_chromosomes_and_replaces_an_older_one(tmp_path, end, index):
    path = str(tmp_path / "s.bed.gz")
    for ending in ("tbi", "csi", "gzi"):
        (tmp_path / f"s.bed.gz.{ending}").write_text("stale")
    with SiteWriter.open(path, SiteFormat(), ["CTCF"], Failures("a")) as writer:
        writer.write([ranked("chr1", 5), ranked("chr1", end - 10)])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["s.bed.gz", f"s.bed.gz.{index}"]
    with pysam.TabixFile(path, index=f"{path}.{index}") as file:
        assert [line.split("\t")[2] for line in file.fetch("chr1", end - 1, end)] == [str(end)]


def test_no_stale_index_stays_beside_unsorted_sites(tmp_path):
    path = tmp_path / "s.bed.gz"
    for starts in ((5, 50), (50, 5)):
        with SiteWriter.open(str(path), SiteFormat(), ["CTCF"], Failures("a")) as writer:
            writer.write([ranked("chr1", start) for start in starts])
        assert (tmp_path / "s.bed.gz.tbi").exists() == (starts == (5, 50))


def test_files_of_base_scores_are_named_by_the_models():
    options = {"--bigwig": "{}.bw", "--bigwig-plus": None, "--bedgraph": "x/{}.bg"}
    assert signal_files(options, ["A", "B/C"]) == [
        SignalFile(0, "--bigwig", "A.bw"),
        SignalFile(1, "--bigwig", "B_C.bw"),
        SignalFile(0, "--bedgraph", "x/A.bg"),
        SignalFile(1, "--bedgraph", "x/B_C.bg"),
    ]
    assert signal_files({"--bigwig": "s.bw"}, ["A"]) == [SignalFile(0, "--bigwig", "s.bw")]
    with pytest.raises(UsageError, match="--bigwig s.bw: with 2 models, put {} into the file name for their names"):
        signal_files({"--bigwig": "s.bw"}, ["A", "B"])
