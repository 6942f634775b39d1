import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsnr_tools.errors import DataError, UsageError
from bertsnr_tools.io.fasta import Genome
from bertsnr_tools.io.intervals import (
    Interval,
    interval_from_name,
    may_hold_interval,
    parse_header,
    parse_region,
    read_bed,
)

LENGTHS = {"chr1": 1000, "HLA-A*01:01": 300, "HLA-A*01:01:02": 50, "X": 10}


@pytest.mark.parametrize(
    ("text", "chrom", "start", "end"),
    [
        ("chr1", "chr1", 0, 1000),
        ("chr1:1-100", "chr1", 0, 100),
        ("chr1:1,000-1,000", "chr1", 999, 1000),
        ("chr1:11", "chr1", 10, 1000),
        ("chr1:11-", "chr1", 10, 1000),
        ("chr1:11-,", "chr1", 10, 1000),
        ("HLA-A*01:01", "HLA-A*01:01", 0, 300),
        ("HLA-A*01:01:5-6", "HLA-A*01:01", 4, 6),
        ("HLA-A*01:01:02", "HLA-A*01:01:02", 0, 50),
    ],
)
def test_region_strings(text, chrom, start, end):
    assert parse_region(text, LENGTHS)[:3] == (chrom, start, end)


@pytest.mark.parametrize(
    "text",
    [
        "chr9",
        "chr1:0-5",
        "chr1:5-4",
        "chr1:1-1001",
        "chr1:a-b",
        "chr1:",
        ":1-5",
        "",
        "1:1-5",
        "chr1:5-6-7",
        "chr1:,",
        "chr1:,-5",
        "chr1:5-" + "9" * 5000,
        "chr1:\u0661-\u0665",
    ],
)
def test_text_that_is_not_a_region(text):
    with pytest.raises(UsageError, match="region"):
        parse_region(text, LENGTHS)


def test_an_unknown_chromosome_gets_a_hint_and_no_guess():
    with pytest.raises(UsageError, match=r"no sequence named 'chrX' in the genome \(it contains X\)"):
        parse_region("chrX:1-5", LENGTHS)


#       0         10        20
#  chr7 ....ACGTACGTAC....        bases [4, 14)
@pytest.mark.parametrize(
    ("name", "length", "expected"),
    [
        ("chr7:4-14", 10, ("chr7", 4, 14, "+")),  # bedtools
        ("chr7:5-14", 10, ("chr7", 4, 14, "+")),  # samtools
        ("chr7:1,005-1,014", 10, ("chr7", 1004, 1014, "+")),  # positions as browsers show them
        ("chr7:4-14(-)", 10, ("chr7", 4, 14, "-")),
        ("CTCF::chr7:4-14(+)", 10, ("chr7", 4, 14, "+")),
        ("hg19_chr6:7-9(+)::chr7:4-14(-)", 10, ("chr7", 4, 14, "-")),
        ("HLA-A*01:01:5-14", 10, ("HLA-A*01:01", 4, 14, "+")),
        ("chr7:1,05-1,14", 10, ("chr7:1,05-1,14", 0, 10, "+")),
        ("chr7:5-14", 11, ("chr7:5-14", 0, 11, "+")),  # no interval of that length
        ("chr7:0-9", 10, ("chr7:0-9", 0, 10, "+")),
        ("chr7", 10, ("chr7", 0, 10, "+")),
        ("x::chr7:4-14(+)_shuf1", 10, ("x::chr7:4-14(+)_shuf1", 0, 10, "+")),
    ],
)
def test_record_names(name, length, expected):
    interval = parse_header(name, "", length)
    assert (interval.chrom, interval.start, interval.end, interval.strand) == expected
    assert (interval_from_name(name, length) is None) == (interval.chrom == name)


UCSC = "range=chr7:5-14 5'pad=0 3'pad=0 strand={} repeatMasking=none"


@pytest.mark.parametrize(
    ("name", "description", "expected"),
    [
        ("hg38_dna", UCSC.format("+"), ("chr7", 4, 14, "+")),
        ("hg38_ncbiRefSeq_NM_1.2", UCSC.format("-"), ("chr7", 4, 14, "-")),
        ("7", "dna:chromosome chromosome:GRCh38:7:5:14:1", ("7", 4, 14, "+")),
        ("7", "dna:chromosome chromosome:GRCh38:7:5:14:-1", ("7", 4, 14, "-")),
        ("chromosome:GRCh38:7:5:14:-1", "", ("7", 4, 14, "-")),
        ("chromosome:GRCh38:7:1:10:1", "", ("7", 0, 10, "+")),
        ("ENST1", "cdna primary_assembly:GRCh38:7:5:14:1 gene:ENSG1", ("7", 4, 14, "+")),
        ("NC_7.14:c14-5", "Homo sapiens chromosome 7", ("NC_7.14", 4, 14, "-")),
        ("NC_7.14:5-14", "Homo sapiens chromosome 7", ("NC_7.14", 4, 14, "+")),
    ],
)
def test_headers_of_genome_browsers(name, description, expected):
    interval = parse_header(name, description, 10)
    assert (interval.chrom, interval.start, interval.end, interval.strand) == expected
    assert may_hold_interval(name, description)
    assert parse_header(name, description, 11) == Interval(name, 0, 11)


@pytest.mark.parametrize(
    ("name", "description"),
    [
        ("7", "dna:chromosome chromosome:GRCh38:7:1:10:1 REF"),  # a whole chromosome
        ("chr7", "dna:chromosome chromosome:GRCh38:7:1:10:1 REF"),
        ("x", "range=chr7:14-5"),
        ("x", "range=chr7:0-9"),
        ("NC_7.14:c5-14", ""),
        ("x", "out-of-range=chr7:5-14"),
    ],
)
def test_headers_without_an_interval(name, description):
    assert not may_hold_interval(name, description)
    assert parse_header(name, description, 10) == Interval(name, 0, 10)


def test_bed(tmp_path):
    path = tmp_path / "a.bed"
    path.write_bytes(
        b"track name=x\nbrowser position chr1:1-2\n# note\n\n"
        b"chr1\t0\t5\nchr1 3 9 name 0 -\r\nchr2\t1\t2\ta\t0\t.\t1\t2\n"
    )
    assert list(read_bed(str(path))) == [
        Interval("chr1", 0, 5, ".", "+", 5),
        Interval("chr1", 3, 9, "name", "-", 6),
        Interval("chr2", 1, 2, "a", "+", 7),
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("chr1\t5", "has 2 column"),
        ("chr1\t5\t5", "start 5 is not less than end 5"),
        ("chr1\t9\t5", "start 9 is not less than end 5"),
        ("chr1\t-1\t5", "'-1'"),
        ("chr1\t1.5\t5", "'1.5'"),
        ("chr1\tx\ty", "'x'"),
        ("chr1\t1_0\t50", "'1_0'"),
        ("chr1\t\u0661\t50", "expected a chromosome and non-negative integers"),
        ("chr1\t1\t5\ta\t0\t*", r"strand is '\*'"),
        ("\t1\t5", "start and end"),
    ],
)
def test_bed_errors_name_file_and_line(tmp_path, line, problem):
    path = tmp_path / "a.bed"
    path.write_text(f"chr1\t1\t2\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=rf"a\.bed:2: .*{problem}"):
        list(read_bed(str(path)))


def test_bed_that_is_not_text(tmp_path):
    path = tmp_path / "a.bed"
    path.write_bytes(b"BAM\x00\n")
    with pytest.raises(DataError, match=":1: is not text"):
        list(read_bed(str(path)))


def test_bed_that_is_not_utf_8_is_latin_1(tmp_path):
    path = tmp_path / "a.bed"
    path.write_bytes("chr\u00e9\t1\t5\n".encode("latin-1") + "chr\u00e9\t1\t5\tna\u00efve\n".encode())
    assert [(site.chrom, site.name) for site in read_bed(str(path))] == [
        ("chr\u00e9", "."),
        ("chr\u00e9", "na\u00efve"),
    ]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_named(tmp_path, encoding):
    path = tmp_path / "a.bed"
    path.write_bytes("\ufeffchr1\t1\t5\n".encode(encoding))
    with pytest.raises(DataError, match="a.bed: is UTF-16 text; convert it with: iconv"):
        list(read_bed(str(path)))
    with pytest.raises(DataError, match="a.bed: is UTF-16 text; convert it with: iconv"):
        Genome(path)


def test_numbers_too_long_for_any_genome():
    name = "chr1:1" + "0" * 20 + "-1" + "0" * 18 + "10"  # of the length of the record, but no 64-bit integers
    assert parse_header(name, "", 10) == Interval(name, 0, 10)
    far = "9" * 5000
    assert parse_header(f"chr1:1-{far}", "", 10) == Interval(f"chr1:1-{far}", 0, 10)


NAME = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12)


@given(NAME, st.integers(1, 10**9), st.data())
def test_a_region_is_the_one_that_was_typed(chrom, length, data):
    start, end = sorted(data.draw(st.tuples(st.integers(1, length), st.integers(1, length))))
    for text in (f"{chrom}:{start}-{end}", f"{chrom}:{start:,}-{end:,}"):
        assert parse_region(text, {chrom: length})[:3] == (chrom, start - 1, end)


@given(st.text(max_size=30))
def test_any_text_is_a_region_of_the_genome_or_an_error(text):
    try:
        chrom, start, end = parse_region(text, LENGTHS)[:3]
    except UsageError:
        return
    assert 0 <= start < end <= LENGTHS[chrom]


@given(
    st.lists(
        st.tuples(
            NAME.filter(lambda name: not name.startswith("#")),
            st.integers(0, 10**9),
            st.integers(1, 10**6),
            NAME,
            st.sampled_from("+-."),
        )
    )
)
def test_bed_lines_are_read_as_they_were_written(rows):
    text = "".join(
        f"{chrom}\t{start}\t{start + size}\t{name}\t0\t{strand}\n" for chrom, start, size, name, strand in rows
    )
    assert bed_of(text.encode()) == [
        (chrom, start, start + size, name, strand.replace(".", "+")) for chrom, start, size, name, strand in rows
    ]


@given(st.one_of(st.binary(max_size=200), st.text("chr1\t\n -+.#", max_size=200).map(str.encode)))
def test_any_bytes_are_intervals_or_an_error(content):
    try:
        rows = bed_of(content)
    except DataError:
        return
    assert all(chrom and 0 <= start < end and strand in "+-" for chrom, start, end, _, strand in rows)


def bed_of(content):
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        return [tuple(interval[:5]) for interval in read_bed(file.name)]


def test_byte_order_marks_and_settings_of_browsers_are_skipped(tmp_path):
    path = tmp_path / "a.bed"
    for first in (
        b"",
        b"\xef\xbb\xbf",
        b"track\tname=x\tdescription=y\n",
        b"browser\tposition\tchr1:1-2\n",
        b"track\n",
    ):
        path.write_bytes(first + b"chr1\t0\t5\n")
        assert [interval[:3] for interval in read_bed(str(path))] == [("chr1", 0, 5)], first
    path.write_text("track\t0\t5\ntracks\t1\t5\n")  # chromosomes of these names
    assert [interval.chrom for interval in read_bed(str(path))] == ["track", "tracks"]


@pytest.mark.parametrize("strand", [".", ""])
def test_bedtools_headers_without_a_strand(strand):
    assert parse_header(f"chr1:5-9({strand})", "", 4) == Interval("chr1", 5, 9)
