import gzip
import os
import random

import pyfaidx
import pysam
import pytest
from Bio import SeqIO
from hypothesis import given
from hypothesis import strategies as st

from bertsnr_tools.errors import DataError
from bertsnr_tools.io.fasta import Genome, Record, as_records, fasta_text, read_fasta_chunks, read_records
from bertsnr_tools.io.files import open_output
from conftest import DATA


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1 << 20])
def test_any_chunk_size_gives_the_same_records(tmp_path, monkeypatch, size):
    rng = random.Random(size)
    path = tmp_path / "a.fa"
    lines = []
    for i in range(30):
        lines.append(f">r{i}\tsite=1-2 more")
        lines += ["".join(rng.choices("ACGTNacgtn", k=rng.randint(0, 30))) for _ in range(rng.randint(1, 5))] + ["A"]
    path.write_text("\n".join(lines) + "\n" * (size % 2))
    monkeypatch.setattr("bertsnr_tools.io.fasta.CHUNK_BASES", size)
    records = list(read_records(str(path)))
    assert [(r.name, r.sequence.decode()) for r in records] == [
        (r.id, str(r.seq).upper()) for r in SeqIO.parse(path, "fasta")
    ]
    assert all(r.description == "site=1-2 more" for r in records)
    for before, after in zip(chunks := list(read_fasta_chunks(str(path))), chunks[1:]):
        assert after.start == (0 if before.last else before.start + len(before.sequence))


def test_windows_line_ends_gzip_and_bgzip(tmp_path):
    text = b">a x\r\nACGT\r\nac\r\n>b\r\nNN\r\n"
    (tmp_path / "a.fa").write_bytes(text)
    (tmp_path / "a.fa.gz").write_bytes(gzip.compress(text[:9], mtime=0) + gzip.compress(text[9:]))
    with pysam.BGZFile(str(tmp_path / "b.dat"), "wb") as stream:
        stream.write(text)
    for name in ("a.fa", "a.fa.gz", "b.dat"):
        assert list(read_records(str(tmp_path / name))) == [("a", "x", b"ACGTAC"), ("b", "", b"NN")]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"ACGT\n", r":1: text before the first header \('A'\)"),
        (b"\nchr1\t1\t2\n", r"text before the first header \('c'\)"),
        (b">a\n>b\nAC\n", ":2: record 'a' has no sequence"),
        (b">a\nAC\n>b\n", "record 'b' has no sequence"),
        (b">a\nACGT\nAC-T\n", ":3: contains '-'"),
        (b">a\nACGT\n>b\n\nMKLV\n", ":5: contains 'L'"),
        (b">a\nACGU\n", ":2: contains 'U'"),
        (b"> a\nACGT\n", ":1: the header has no name"),
        (b"\x00\x01\x02", "text before the first header"),
        (b">a\nAC\x00GT\n", ":2: contains"),
        (gzip.compress(b">a\n" + b"ACGT" * 9999, mtime=0)[:-12], "truncated|damaged"),
        (b"\x1f\x8b\x08rubbish rubbish", "damaged|truncated"),
    ],
)
def test_text_that_is_not_fasta(tmp_path, text, problem):
    path = tmp_path / "a.fa"
    path.write_bytes(text)
    with pytest.raises(DataError, match=problem) as caught:
        list(read_records(str(path)))
    assert "a.fa" in str(caught.value) and "\n" not in str(caught.value)


@given(
    st.lists(
        st.tuples(st.text("abc:|.-", min_size=1, max_size=8), st.text("ACGTN", min_size=1, max_size=200)),
        min_size=1,
        max_size=9,
    )
)
def test_what_is_written_is_read(records):
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".fa") as stream:
        stream.write(b"".join(fasta_text(name, "d e", sequence.encode()) for name, sequence in records))
        stream.flush()
        assert [(r.name, r.sequence.decode()) for r in read_records(stream.name)] == records


def test_genome_agrees_with_an_independent_reader(genome):
    ours, other = (
        Genome(str(genome)),
        pyfaidx.Fasta(str(DATA / "genome.fa"), indexname=str(genome.parent / "other.fai")),
    )
    assert ours.lengths == {name: len(other[name]) for name in other.keys()}
    rng = random.Random(1)
    for _ in range(200):
        chrom = rng.choice(list(ours.lengths))
        start, end = sorted(rng.sample(range(ours.lengths[chrom] + 1), 2))
        assert ours.fetch(chrom, start, end).decode() == other[chrom][start:end].seq.upper()
    assert sorted(os.listdir(genome.parent)) == ["genome.fa", "genome.fa.fai", "other.fai"]


def test_concatenated_bgzip_is_one_genome(tmp_path):
    """As `cat a.gz b.gz` makes it: an empty block stands in the middle."""
    for name, text in (("a", b">c\nACGT\nAC"), ("b", b"GT\nTTTT\n>d\nGGG\n")):
        with open_output(str(tmp_path / f"{name}.gz")) as stream:
            stream.write(text)
    path = tmp_path / "c.fa.gz"
    path.write_bytes((tmp_path / "a.gz").read_bytes() + (tmp_path / "b.gz").read_bytes())
    genome = Genome(str(path))
    assert genome.lengths == {"c": 12, "d": 3}
    assert genome.fetch("c", 0, 12) == b"ACGTACGTTTTT" and genome.fetch("d", 0, 3) == b"GGG"


def test_a_long_header_gives_coordinates(tmp_path):
    path = tmp_path / "long.fa"
    path.write_text(f">rec {'x' * 5000} range=chr7:101-108 strand=+\nACGTACGT\n>other {'y' * 3000}\nAC\n")
    assert [part[:3] for part in Genome(str(path)).parts.values()] == [("chr7", 100, 108)]


def test_bgzip_genome_gets_both_indexes(genome, tmp_path):
    packed = tmp_path / "packed.fa.gz"
    pysam.tabix_compress(str(genome), str(packed))
    plain, ours = Genome(str(genome)), Genome(str(packed))
    assert ours.fetch("chr2", 20_000, 25_000) == plain.fetch("chr2", 20_000, 25_000)
    assert (tmp_path / "packed.fa.gz.fai").exists() and (tmp_path / "packed.fa.gz.gzi").exists()


def test_genomes_that_are_refused(genome, tmp_path):
    (tmp_path / "plain.fa.gz").write_bytes(gzip.compress(genome.read_bytes(), mtime=0))
    with pytest.raises(DataError, match="plain gzip, .* bgzip"):
        Genome(str(tmp_path / "plain.fa.gz"))
    (tmp_path / "no.fa").write_text("hello\n")
    with pytest.raises(DataError, match="does not begin with a FASTA header"):
        Genome(str(tmp_path / "no.fa"))
    (tmp_path / "twice.fa").write_text(">a\nAC\n>a\nGT\n")
    with pytest.raises(DataError, match="twice.fa:3: sequence name 'a' occurs more than once"):
        Genome(str(tmp_path / "twice.fa"))
    (tmp_path / "uneven.fa").write_text(">a\nACGT\nAC\nACGT\n")
    with pytest.raises(DataError, match="uneven.fa:3: cannot be indexed: the lines"):
        Genome(str(tmp_path / "uneven.fa"))
    with pytest.raises(DataError, match="missing.fa: No such file"):
        Genome(str(tmp_path / "missing.fa"))


@pytest.mark.parametrize(
    ("first", "second", "accepted"),
    [
        ("hg38_dna range=chr7:5-14", "hg38_dna range=chr7:25-34", True),
        ("hg38_dna range=chr7:5-14", "hg38_dna range=chr7:5-14 repeatMasking=none", False),
        ("chr7:5-14 x", "chr7:5-14 y", False),
    ],
)
def test_one_name_for_several_intervals(tmp_path, first, second, accepted):
    path = tmp_path / "a.fa"
    path.write_text(f">{first}\nACGTACGTAC\n>{second}\nACGTACGTAC\n")
    if accepted:
        assert [record.interval.start for record in read_records(str(path), unique=True)] == [4, 24]
    else:
        with pytest.raises(DataError, match="a.fa:3: .* occurs more than once"):
            list(read_records(str(path), unique=True))
    with pytest.raises(DataError, match="a.fa:3: .* occurs more than once"):
        Genome(path)


def test_an_old_index_is_a_warning(genome, caplog):
    """A shared reference is often read-only, and copying loses times."""
    lengths = Genome(str(genome)).lengths
    os.utime(f"{genome}.fai", (1, 1))
    with caplog.at_level("WARNING", "bertsnr_tools"):
        assert Genome(str(genome)).lengths == lengths
    assert f"{genome}.fai is older than {genome}" in caplog.text


@pytest.mark.parametrize("packed", [False, True])
def test_an_index_that_does_not_fit_is_an_error(genome, packed):
    other = genome.parent / "other.fa"
    other.write_text(">chr1 a longer header than before\n" + "ACGTACGT\n" * 9000)
    name = str(genome)
    if packed:
        for path in (genome, other):
            pysam.tabix_compress(str(path), f"{path}.gz")
        name, other = f"{genome}.gz", f"{other}.gz"
        Genome(str(other))
    Genome(name)
    os.rename(f"{name}.fai", f"{other}.fai")
    with pytest.raises(
        DataError, match=r"other.fa.*: does not match its index .*; delete .*other.fa.*.fai.* to rebuild it"
    ):
        Genome(str(other))


def test_a_line_of_an_index_that_does_not_fit_is_an_error(genome):
    Genome(str(genome))
    index = genome.parent / "genome.fa.fai"
    index.write_text(index.read_text().replace("chr1\t40000\t6\t", "chr1\t40000\t1\t"))
    with pytest.raises(
        DataError, match=r"genome.fa: does not match its index \(the header of chr1 is not before byte 1"
    ):
        Genome(str(genome))


def test_an_empty_index_is_an_error(genome):
    (genome.parent / "genome.fa.fai").touch()
    with pytest.raises(DataError, match=r"genome.fa.fai: is empty; delete it to rebuild it"):
        Genome(str(genome))


def test_records_of_sequences():
    assert list(as_records(["acgtn", b"GG", Record("x", "", b"A")])) == [
        ("1", "", b"ACGTN"),
        ("2", "", b"GG"),
        ("x", "", b"A"),
    ]
    with pytest.raises(DataError, match="sequence 2: contains '-'"):
        list(as_records(["ACGT", "A-C"]))
    assert list(as_records(DATA / "region.fa")) == list(read_records(str(DATA / "region.fa")))


@pytest.mark.parametrize("bgzip", [False, True])
def test_a_genome_below_a_path_that_is_not_utf8_is_indexed(tmp_path, bgzip):
    directory = os.path.join(tmp_path, os.fsdecode(b"n\xff\xe9"))
    os.mkdir(directory)
    path = os.path.join(directory, "g.fa.gz" if bgzip else "g.fa")
    with open_output(path) as stream:
        stream.write(b">a\nACGTACGT\nAC\n")
    assert Genome(path).fetch("a", 6, 10) == b"GTAC"
