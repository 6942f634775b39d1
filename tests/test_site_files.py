"""Sites as bigBed and Parquet, against the BED of the same scan."""

import importlib.metadata
import json

import pybigtools
import pyBigWig
import pytest

from bertsnr_tools.errors import DataError
from bertsnr_tools.io import parquet
from bertsnr_tools.io.outputs import Failures
from bertsnr_tools.predict.calling import CalledSite
from bertsnr_tools.predict.significance import UNKNOWN, RankedSite
from bertsnr_tools.predict.site_files import open_sites
from bertsnr_tools.predict.writers import SiteFormat
from conftest import DATA

GENOME = DATA / "genome.fa"


def ranked(chrom, start, strand="-", neg_log10_p=3.5):
    site = CalledSite(chrom, start, start + 10, "CTCF", 0.75, strand, 0.9, 4, 0)
    return RankedSite(site, 2.19722, neg_log10_p, UNKNOWN, 4)


MOTIFS = """MEME version 4

ALPHABET= ACGT

MOTIF M1 GATA
letter-probability matrix: alength= 4 w= 6 nsites= 100
0.8 0 0 0.2
0 0 1 0
1 0 0 0
0 0 0 1
1 0 0 0
0.7 0 0.3 0

MOTIF M2 EBOX
letter-probability matrix: alength= 4 w= 6 nsites= 100
0 1 0 0
1 0 0 0
0 0.5 0.5 0
0.2 0.3 0.3 0.2
0 0 0 1
0 0 1 0

"""


@pytest.fixture
def scan(run, genome):
    """Scan the test genome with two motifs."""
    pytest.importorskip("lightmotif")
    (genome.parent / "m.meme").write_text(MOTIFS)

    def call(output, *options):
        words = "-q -m m.meme -t p=0.002 -f genome.fa -o".split()
        assert run("predict", *words, output, *options, cwd=genome.parent) == (0, "", "")
        return genome.parent / output

    return call


SITES = [ranked("chr2", 50), ranked("chr1", 70, "+", UNKNOWN), ranked("chr1", 5, "+", 12.0)]


def write(path, site_format, sites=SITES, lengths=None):
    with Failures(str(path)) as failures, open_sites(str(path), site_format, ["CTCF"], lengths, failures) as writer:
        writer.write(sites[:2])
        writer.write(sites[2:])


def test_bigbed_is_sorted_and_has_all_columns(tmp_path):
    write(tmp_path / "s.bb", SiteFormat("bigbed", "strand"), lengths={"chr1": 100, "chr2": 100, "chr3": 100})
    with pybigtools.open(str(tmp_path / "s.bb")) as file:
        assert file.chroms() == {"chr1": 100, "chr2": 100, "chr3": 100}
        assert list(file.records("chr1")) == [
            (5, 15, "CTCF", "750", "+", "5", "15", "0,90,181", "2.1972", "12.0000", "-1.0000", "CTCF"),
            (70, 80, "CTCF", "750", "+", "70", "80", "0,90,181", "2.1972", "-1.0000", "-1.0000", "CTCF"),
        ]
        names = [line.split(";")[0].split()[-1] for line in file.sql().splitlines() if ";" in line]
        assert names[:6] == ["chrom", "chromStart", "chromEnd", "name", "score", "strand"]
        assert names[9:] == ["logOdds", "negLog10P", "negLog10Q", "factor"]


@pytest.mark.parametrize("kind", ["bed", "bed9", "narrowpeak", "bigbed"])
def test_the_scale_of_jaspar(tmp_path, kind):
    path = tmp_path / "s"
    write(path, SiteFormat(kind, "score", scale="jaspar"))
    if kind == "bigbed":
        with pyBigWig.open(str(path)) as file:
            lines = [f"{c}\t{s}\t{e}\t{rest}" for c, n in file.chroms().items() for s, e, rest in file.entries(c, 0, n)]
    else:
        lines = path.read_text().splitlines()
    assert sorted(line.split("\t")[4] for line in lines) == ["0", "1000", "350"]
    if kind.startswith("bed9") or kind == "bigbed":
        assert {line.split("\t")[8] for line in lines} == {"55,55,55"}  # still of the probability


@pytest.mark.parametrize("group", [1, 2, 100])
def test_parquet_has_types_and_nulls(tmp_path, monkeypatch, group):
    arrow = pytest.importorskip("pyarrow")
    table_of = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(parquet, "GROUP_ROWS", group)
    write(tmp_path / "s.parquet", SiteFormat("parquet"))
    file = table_of.ParquetFile(tmp_path / "s.parquet")
    assert file.metadata.num_row_groups == -(-3 // group)
    text = arrow.dictionary(arrow.int32(), arrow.string())
    types = dict(zip(file.schema_arrow.names, file.schema_arrow.types))
    assert types["chrom"] == types["name"] == types["strand"] == text and types["score"] == arrow.float32()
    assert types["start"] == types["end"] == arrow.int64() and types["p"] == types["q"] == arrow.float64()
    table = file.read().to_pydict()
    assert table["chrom"] == ["chr2", "chr1", "chr1"] and table["start"] == [50, 70, 5] and table["end"] == [60, 80, 15]
    assert table["p"] == pytest.approx([10**-3.5, None, 1e-12]) and table["q"] == [None] * 3
    assert table["strand"] == ["-", "+", "+"] and table["score"] == [0.75] * 3 and table["log_odds"] == [2.19722] * 3


def test_parquet_in_pandas_and_polars(tmp_path):
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    write(tmp_path / "s.parquet", SiteFormat("parquet"))
    frame = pandas.read_parquet(tmp_path / "s.parquet")
    assert frame[frame.p < 1e-5].start.tolist() == [5] and frame.groupby("chrom", observed=True).size()["chr1"] == 2
    chosen = polars.read_parquet(tmp_path / "s.parquet").filter(polars.col("chrom") == "chr1", polars.col("p") < 1e-5)
    assert chosen["start"].to_list() == [5]


def test_a_table_without_sites(tmp_path):
    tables = pytest.importorskip("pyarrow.parquet")
    write(tmp_path / "s.parquet", SiteFormat("parquet"), [])
    assert tables.read_table(tmp_path / "s.parquet").num_rows == 0


@pytest.mark.parametrize("kind", ["bigbed", "parquet"])
def test_a_full_disk_leaves_no_file_and_nothing_on_the_standard_streams(tmp_path, file_limit, capfd, kind, monkeypatch):
    pytest.importorskip("pyarrow")
    import pyarrow.parquet  # noqa: F401  it is imported before files are limited

    monkeypatch.setattr(parquet, "GROUP_ROWS", 50)
    many = [ranked("chr1", start) for start in range(2000)]
    for limit in (0, 10, 500, 2000, 6000):
        with pytest.raises(DataError, match="File too large"), file_limit(limit):
            write(tmp_path / "s", SiteFormat(kind), many)
        assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["bigbed", "parquet"])
def test_an_error_of_the_scan_leaves_no_file(tmp_path, kind):
    with pytest.raises(KeyError), Failures("a") as failures:
        with open_sites(str(tmp_path / "s"), SiteFormat(kind), ["CTCF"], None, failures) as writer:
            writer.write(SITES)
            raise KeyError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["bigbed", "parquet"])
def test_a_file_that_fails_does_not_affect_the_others(tmp_path, caplog, kind):
    with pytest.raises(DataError) as raised, Failures("a", "b") as failures:
        with open_sites(str(tmp_path / "none" / "s"), SiteFormat(kind), ["CTCF"], None, failures) as writer:
            writer.write(SITES)
        (tmp_path / "other").write_text("complete")
    assert raised.value.logged and "No such file or directory" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_all_formats_of_a_scan_have_the_same_sites(scan, tmp_path):
    tables = pytest.importorskip("pyarrow.parquet")
    for name in ("s.bed", "s.narrowPeak", "s.bb", "s.parquet"):
        scan(name, "-r", "chr2", "-r", "chr1:1-20,000", "--json", f"{name}_mqc.json")
    bed = [line.split("\t") for line in (tmp_path / "s.bed").read_text().splitlines()]
    peaks = [line.split("\t") for line in (tmp_path / "s.narrowPeak").read_text().splitlines()]
    assert len(bed) > 100 and bed[0][0] == "chr2"  # in the order of the regions
    table = tables.read_table(tmp_path / "s.parquet").to_pydict()
    rows = zip(*(table[name] for name in ("chrom", "start", "end", "name", "score", "strand")))
    assert [[c, str(s), str(e), n, str(round(1000 * score)), strand] for c, s, e, n, score, strand in rows] == bed
    with pybigtools.open(str(tmp_path / "s.bb")) as file:
        found = [[c, *map(str, record)] for c in ("chr1", "chr2") for record in file.records(c)]
        assert file.chroms()["chr3"] > 0
    by_position = sorted(range(len(bed)), key=lambda at: (bed[at][0], int(bed[at][1]), int(bed[at][2])))
    assert [row[:6] for row in found] == [bed[at] for at in by_position]
    assert [row[9:11] for row in found] == [peaks[at][6:8] for at in by_position]
    report = json.loads((tmp_path / "s.bb_mqc.json").read_text())
    assert report["sites"] == len(bed) == sum(model["sites"] for model in report["models"])
    assert report["data"] == {"s.bb": {model["name"]: model["sites"] for model in report["models"]}}
    sequences = {name: "".join(lines) for name, *lines in map(str.split, GENOME.read_text().split(">")[1:])}
    scanned = sequences["chr2"].upper() + sequences["chr1"][:20_000].upper()
    assert report["acgt_bases"] == sum(map(scanned.count, "ACGT")) and report["regions"] == 2 and report["version"] == 1
    assert report["command"][:5] == ["bertsnr", "predict", "-q", "-m", "m.meme"] and report["seconds"] > 0
    assert report["versions"]["numpy"] == importlib.metadata.version("numpy")


def test_shards_of_bigbed_have_the_sites_of_the_whole(scan, tmp_path):
    for name, shard in (("whole.bb", ()), ("1.bb", ("--shard", "1/2")), ("2.bb", ("--shard", "2/2"))):
        scan(name, *shard)
    records = {}
    for name in ("whole.bb", "1.bb", "2.bb"):
        with pybigtools.open(str(tmp_path / name)) as file:
            records[name] = [(chrom, *record) for chrom in sorted(file.chroms()) for record in file.records(chrom)]
    assert sorted(records["1.bb"] + records["2.bb"]) == sorted(records["whole.bb"]) and records["2.bb"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("--format bigbed", "a bigBed file cannot be written to standard output; give a file name with -o"),
        ("--format parquet", "a Parquet file cannot be written to standard output; give a file name with -o"),
        ("-o /dev/null --format bigbed", "/dev/null: a bigBed file must be a regular file; give another file name"),
        ("-o x.bb --track hg38", "--track hg38: a bigBed file has no track line"),
        ("-o x.bb --format bed", "-o x.bb: --format bed is text; give another file name"),
        ("--json -", "sites and --json both go to standard output; add -o FILE"),
        ("-o x.bed --json x.bed", "x.bed: is given for two outputs; choose different files"),
    ],
)
def test_outputs_that_cannot_be(run_here, tmp_path, words, problem):
    (tmp_path / "r.fa").write_text(">r\nACGT\n")
    done = run_here("predict", "-m", "CTCF", *words.split(), "r.fa")
    assert done.status == 2 and problem in done.err and not (tmp_path / "x.bb").exists()


def test_scores_made_of_p_values_require_them(run, toy_model_file, tmp_path):
    (tmp_path / "r.fa").write_text(">r\nACGT\n")
    done = run("predict", "-m", toy_model_file, "--score-scale", "jaspar", "r.fa", cwd=tmp_path)
    assert done.status == 2 and "TOY does not report p-values" in done.err
