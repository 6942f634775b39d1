"""VCF and BCF: every kind of input gives the same rows; rows keep their text; damaged input is a clear error."""

import io
import subprocess
import sys

import pysam
import pytest
from pysam import bcftools

from bertsnr_tools.errors import DataError, UsageError
from bertsnr_tools.io.files import quiet_htslib
from bertsnr_tools.io.intervals import Interval
from bertsnr_tools.io.outputs import Failures, SortOrder
from bertsnr_tools.io.vcf import VcfReader, VcfWriter, info_text, is_symbolic

HEADER = """##fileformat=VCFv4.3
##FILTER=<ID=q10,Description="Quality below 10">
##contig=<ID=chr1,length=1000000>
##contig=<ID=chr2,length=1000000>
##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">
##INFO=<ID=AF,Number=A,Type=Float,Description="Frequency">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
"""
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS1\tS2\n"
ROWS = """chr1\t100\trs1\tA\tC\t29.0\tPASS\tDP=7;AF=0.50\tGT\t0|1\t1/1
chr1\t200\t.\tAC\tA,ACT\t.\tq10\t.\tGT\t1|2\t./.
chr1\t200\t.\tg\t<DEL>,*\t.\t.\tDP=1\tGT\t0/1\t0/0
chr2\t50\t.\tT\t.\t.\t.\tDP=3\tGT\t0/0\t0/0
"""
TEXT = HEADER + COLUMNS + ROWS


@pytest.fixture
def vcf(tmp_path):
    path = tmp_path / "a.vcf"
    path.write_text(TEXT)
    return path


@pytest.fixture
def bcf(vcf):
    path = vcf.with_suffix(".bcf")
    bcftools.view("-O", "b", "-o", str(path), str(vcf), catch_stdout=False)
    return path


def compressed(vcf, *, csi=False):
    path = f"{vcf}.gz"
    pysam.tabix_compress(str(vcf), path, force=True)
    pysam.tabix_index(path, preset="vcf", force=True, csi=csi)
    return path


def places(path, regions=None):
    with VcfReader(str(path), regions) as reader:
        return [(row.chrom, row.start, row.ref, row.alts) for row in reader]


EXPECTED = [
    ("chr1", 99, "A", ["C"]),
    ("chr1", 199, "AC", ["A", "ACT"]),
    ("chr1", 199, "G", ["<DEL>", "*"]),
    ("chr2", 49, "T", []),
]


def test_all_kinds_of_input(vcf, bcf, monkeypatch):
    assert places(vcf) == places(compressed(vcf)) == EXPECTED
    upper = [(chrom, start, ref, alts) for chrom, start, ref, alts in places(bcf)]
    assert upper == EXPECTED
    for path in (vcf, f"{vcf}.gz", bcf):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(open(path, "rb")))  # noqa: SIM115
        assert places("-") == EXPECTED


def test_rows_keep_their_text_and_their_numbers(vcf):
    with VcfReader(str(vcf)) as reader:
        rows = list(reader)
        assert reader.samples == ["S1", "S2"] and reader.header == HEADER.splitlines()
    assert [row.number for row in rows] == [9, 10, 11, 12]
    assert [row.annotated({}) for row in rows] == ROWS.splitlines(keepends=True)
    assert rows[0].annotated({"X": "1", "DP": "2", "F": None, "no": ""}).split("\t")[7] == "AF=0.50;X=1;DP=2;F"
    assert rows[1].annotated({"X": "1"}).split("\t")[7] == "X=1"


@pytest.mark.parametrize("csi", [False, True])
def test_regions_take_rows_by_their_first_base(vcf, bcf, csi):
    path = compressed(vcf, csi=csi)
    pysam.tabix_index(str(bcf), preset="bcf", force=True, keep_original=True)
    for file in (path, bcf):
        regions = [Interval("chr2", 0, 100), Interval("chr1", 0, 199), Interval("chr9", 0, 5)]
        assert places(file, regions) == [EXPECTED[0], EXPECTED[3]]
        assert places(file, [Interval("chr1", 200, 300)]) == []
        assert len(places(file, [Interval("chr1", 199, 200)])) == 2


def test_regions_require_an_index(vcf):
    with pytest.raises(UsageError, match="require an index of .*run tabix -p vcf"):
        places(vcf, [Interval("chr1", 0, 9)])
    with pytest.raises(UsageError, match="standard input and pipes have no index"):
        places("-", [Interval("chr1", 0, 9)])


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("chr1\t5\t.\tA\tC", r"a.vcf:9: has 5 columns; expected 11"),
        ("chr1 5 . A C", "has 1 columns"),
        ("chr1\tx\t.\tA\tC\t.\t.\t.\tGT\t.\t.", "a.vcf:9: POS is 'x'; expected a whole number"),
        ("chr1\t" + 5000 * "9" + "\t.\tA\tC\t.\t.\t.\tGT\t.\t.", "a.vcf:9: POS is '9999"),
        ("chr1\t-5\t.\tA\tC\t.\t.\t.\tGT\t.\t.", "POS is '-5'"),
        ("chr1\t5\t.\t\tC\t.\t.\t.\tGT\t.\t.", "REF is ''; expected bases"),
        ("chr1\t5\t.\tA-\tC\t.\t.\t.\tGT\t.\t.", "REF is 'A-'"),
        ("chr1\t5\t.\tA\tC,\t.\t.\t.\tGT\t.\t.", "ALT is 'C,'"),
        ("chr1\t5\t.\tA\t5\t.\t.\t.\tGT\t.\t.", "ALT is '5'"),
    ],
)
def test_damaged_rows(vcf, row, problem):
    vcf.write_text(HEADER + COLUMNS + row + "\n")
    with pytest.raises(DataError, match=problem):
        places(vcf)


def test_damaged_files(vcf, bcf, tmp_path):
    vcf.write_text(ROWS)
    with pytest.raises(DataError, match="is not VCF or BCF: no line that begins with #CHROM"):
        places(vcf)
    vcf.write_text("")
    with pytest.raises(DataError, match="is not VCF or BCF"):
        places(vcf)
    vcf.write_text(COLUMNS.replace("\t", " "))
    with pytest.raises(DataError, match="expected CHROM POS ID REF ALT QUAL FILTER INFO, separated by tabs"):
        places(vcf)
    content = bcf.read_bytes()
    cut = tmp_path / "cut.bcf"
    cut.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="no bgzip EOF marker"):
        places(cut)
    with pytest.raises(DataError, match="No such file"):
        places(tmp_path / "none.vcf")


def test_symbolic_alleles():
    for alt in ("*", "<DEL>", "<NON_REF>", "<*>", "A[chr2:321[", "]chr2:321]A", ".A", "A."):
        assert is_symbolic(alt), alt
    for alt in ("A", "ACGTN", "acgt"):
        assert not is_symbolic(alt), alt


def test_text_in_an_info_value():
    assert info_text("TAL1::TCF3") == "TAL1::TCF3"
    assert info_text("a b;c=d,e|f%") == "a%20b%3Bc%3Dd%2Ce%7Cf%25"


def write(path, reader, rows, failures):
    with VcfWriter(str(path), failures) as writer:
        writer.write_header(reader, ['##INFO=<ID=X,Number=1,Type=String,Description="x">'], ["X"])
        writer.write_rows((row, row.annotated({"X": "1"})) for row in rows)


def test_output_is_compressed_and_indexed_by_name(vcf, tmp_path):
    with VcfReader(str(vcf)) as reader:
        rows = list(reader)
        for name in ("o.vcf", "o.vcf.gz", "o.bcf"):
            with Failures(name) as failures:
                write(tmp_path / name, reader, rows, failures)
    text = HEADER + '##INFO=<ID=X,Number=1,Type=String,Description="x">\n' + COLUMNS
    assert (tmp_path / "o.vcf").read_text().startswith(text)
    for name, index in (("o.vcf.gz", ".tbi"), ("o.bcf", ".csi")):
        assert (tmp_path / (name + index)).exists()
        with quiet_htslib(), pysam.VariantFile(str(tmp_path / name)) as file:
            assert [record.info["X"] for record in file.fetch("chr2", 0, 100)] == ["1"]
            assert len(list(file.fetch())) == 4
    with VcfReader(str(tmp_path / "o.vcf")) as reader, Failures("x") as failures:
        write(tmp_path / "again.vcf", reader, list(reader), failures)
    assert (tmp_path / "again.vcf").read_text() == (tmp_path / "o.vcf").read_text()


def test_rows_out_of_order_get_no_index(vcf, tmp_path, caplog):
    with VcfReader(str(vcf)) as reader, Failures("o") as failures:
        write(tmp_path / "o.vcf.gz", reader, list(reader)[::-1], failures)
    assert "no index, because its rows are not sorted" in caplog.text
    assert not (tmp_path / "o.vcf.gz.tbi").exists()
    with VcfReader(str(vcf)) as reader, Failures("o") as failures:
        rows = list(reader)
        write(tmp_path / "o.bcf", reader, rows, failures)
        assert (tmp_path / "o.bcf.csi").exists()
        write(tmp_path / "o.bcf", reader, rows[::-1], failures)
    assert (tmp_path / "o.bcf").exists() and not (tmp_path / "o.bcf.csi").exists()
    order = SortOrder()
    for chrom in ("a", "b", "a"):
        order.add(chrom, 1, 2)
    assert not order.sorted


def test_bcf_requires_declarations(vcf, tmp_path):
    vcf.write_text("##fileformat=VCFv4.3\n" + COLUMNS + ROWS)
    with VcfReader(str(vcf)) as reader:
        rows = list(reader)
        with pytest.raises(DataError, match="contig 'chr1' at chr1:.* is not in the header; declare it, or write"):
            with Failures("o.bcf") as failures:
                write(tmp_path / "o.bcf", reader, rows, failures)
    assert not (tmp_path / "o.bcf").exists()


@pytest.mark.parametrize("name", ["o.vcf", "o.vcf.gz", "o.bcf"])
def test_a_full_disk_is_one_error(vcf, tmp_path, file_limit, name, capfd):
    with VcfReader(str(vcf)) as reader:
        rows = list(reader)
    many = [row for row in rows for _ in range(20_000)]
    with pytest.raises(DataError, match="File too large"), file_limit(2000):
        with Failures(name) as failures:
            write(tmp_path / name, reader, many, failures)
    assert not (tmp_path / name).exists() and not capfd.readouterr().err


def test_a_large_header_and_many_rows(tmp_path):
    """20,000 contigs, through a pipe, and a reader that stops early."""
    path = tmp_path / "big.vcf"
    contigs = "".join(f"##contig=<ID=scaffold_{number},length=1000>\n" for number in range(20_000))
    rows = "".join(f"scaffold_{number}\t5\t.\tA\tC\t.\t.\t.\n" for number in range(20_000))
    path.write_text("##fileformat=VCFv4.2\n" + contigs + "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n" + rows)
    with VcfReader(str(path)) as reader:
        assert len(reader.header) == 20_001
        assert next(iter(reader)).chrom == "scaffold_0"
    program = "import sys; from bertsnr_tools.io.vcf import VcfReader; print(sum(1 for _ in VcfReader('-')))"
    with open(path, "rb") as stream:
        done = subprocess.run([sys.executable, "-c", program], stdin=stream, capture_output=True, text=True)
    assert done.stdout == "20000\n", done.stderr
