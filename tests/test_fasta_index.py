"""Indexes of genomes: built as samtools builds them, and refused where they do not fit the file."""

import os
import random
import time
from pathlib import Path

import pysam
import pytest

from bertsnr_tools.errors import DataError
from bertsnr_tools.io.fasta import Genome, read_records
from bertsnr_tools.io.fields import decoded_text

BOM = b"\xef\xbb\xbf"


def _random_fasta(rng: random.Random) -> bytes:
    end = rng.choice(["\n", "\r\n"])
    text = ""
    for number in range(rng.randint(1, 6)):
        width = rng.randint(1, 30)
        sequence = "".join(rng.choices("ACGTNacgt", k=rng.randint(1, 150)))
        lines = [sequence[at : at + width] for at in range(0, len(sequence), width)]
        text += f">r{number}{rng.choice(['', ' some words'])}{end}{end.join(lines)}{end}{rng.choice(['', '', end])}"
    return text.encode()


@pytest.mark.parametrize("size", [3, 1 << 20])
def test_the_index_is_that_of_samtools(tmp_path, monkeypatch, size):
    monkeypatch.setattr("bertsnr_tools.io.fasta.CHUNK_BASES", size)
    for seed in range(60):
        rng = random.Random(seed)
        plain, other = tmp_path / f"{seed}.fa", tmp_path / f"other{seed}.fa"
        text = _random_fasta(rng)
        plain.write_bytes(text)
        other.write_bytes(text)
        pysam.faidx(str(other))
        ours = Genome(plain)
        assert Path(f"{plain}.fai").read_bytes() == Path(f"{other}.fai").read_bytes()
        packed = tmp_path / f"{seed}.fa.gz"
        with pysam.BGZFile(str(packed), "wb") as stream:
            for at in range(0, len(text), 50):
                stream.write(text[at : at + 50])
                stream.flush()  # many blocks
        theirs = Genome(packed)
        pysam.faidx(str(packed), "-o", str(tmp_path / "x"), "--gzi-idx", f"{other}.gzi", "r0")
        assert Path(f"{packed}.fai").read_bytes() == Path(f"{plain}.fai").read_bytes()
        reference = pysam.FastaFile(str(packed))
        for name, length in ours.lengths.items():
            for _ in range(5):
                start, stop = sorted((rng.randint(0, length), rng.randint(0, length)))
                expected = reference.fetch(name, start, stop).upper().encode()
                assert ours.fetch(name, start, stop) == theirs.fetch(name, start, stop) == expected
    os.remove(f"{packed}.gzi")
    os.remove(f"{packed}.fai")
    pysam.faidx(str(packed))
    assert Genome(packed).fetch("r0", 0, 1) == theirs.fetch("r0", 0, 1)


@pytest.mark.parametrize("packed", [False, True])
def test_a_byte_order_mark_before_a_genome_is_skipped(tmp_path, packed):
    text = BOM + b">a\nACGT\nAC\n>b\nGG\n"
    path = tmp_path / "a.fa"
    path.write_bytes(text)
    if packed:
        path = tmp_path / "a.fa.gz"
        with pysam.BGZFile(str(path), "wb") as stream:
            stream.write(text)
    for _ in range(2):  # the second time with the index
        genome = Genome(path)
        assert genome.lengths == {"a": 6, "b": 2} and genome.fetch("a", 2, 6) == b"GTAC"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "changed",
    [
        b">a x\nACGT\nACGT\nAC\n>b\nGGGG\nC\n",  # a longer header
        b">a\nCGT\nACGT\nAC\n>b\nGGGG\nC\n",  # a base less
        b">a\nACGT\nACGT\nACT\n>b\nGGGG\nC\n",  # a base more
        b">a\nACGTA\nCGTAC\n>b\nGGGG\nC\n",  # other lines
        b">a\r\nACGT\r\nACGT\r\nAC\r\n>b\r\nGGGG\r\nC\r\n",
        b">c\nACGT\nACGT\nAC\n>b\nGGGG\nC\n",  # another name
        b">b\nACGT\nACGT\nAC\n>a\nGGGG\nC\n",  # another order
        b">a\nACGT\nACGT\nAC\n>b\nGGGG\nC\n>c\nAC\n",  # more records, at the end, in between and first
        b">a\nACGT\nACGT\nAC\n>c\nAC\n>b\nGGGG\nC\n",
        b">c\nAC\n>a\nACGT\nACGT\nAC\n>b\nGGGG\nC\n",
        b">a\nACGT\nACGT\nAC\n",  # fewer
        b">a\nACGT\nACG\nTAC\n>b\nGGGG\nC\n",  # uneven
        b"\xef\xbb\xbf>a\nACGT\nACGT\nAC\n>b\nGGGG\nC\n",
    ],
)
def test_a_newer_index_of_a_changed_genome_is_refused(tmp_path, changed, packed):
    path = tmp_path / ("g.fa.gz" if packed else "g.fa")
    write = pysam.BGZFile if packed else open
    with write(str(path), "wb") as stream:
        stream.write(b">a\nACGT\nACGT\nAC\n>b\nGGGG\nC\n")
    Genome(path)
    Genome(path)
    with write(str(path), "wb") as stream:
        stream.write(changed)
    os.utime(path, (1, 1))
    with pytest.raises(DataError, match=r"does not match its index \(.*\); delete .*\.fai.* to rebuild it"):
        Genome(path)


@pytest.mark.parametrize("block", [0, 1, 2])
def test_a_bgzip_genome_cut_at_a_block_is_refused(tmp_path, block):
    whole = tmp_path / "g.fa.gz"
    with pysam.BGZFile(str(whole), "wb") as stream:
        for name in "abc":
            stream.write(f">{name}\nACGT\n".encode())
            stream.flush()
    content = whole.read_bytes()
    blocks = [at for at in range(len(content)) if content.startswith(b"\x1f\x8b\x08\x04", at)]
    (tmp_path / "cut.fa.gz").write_bytes(content[: blocks[block + 1]])
    with pytest.raises(DataError, match=r"cut.fa.gz: has no bgzip EOF marker"):
        Genome(tmp_path / "cut.fa.gz")


def test_dates(genome, caplog):
    """A FASTA dated in the future gets an index that is accepted without a warning."""
    os.utime(genome, (time.time() + 1e6,) * 2)
    for _ in range(2):
        Genome(genome)
    assert not caplog.text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b">a\n\nACGT\n", ":2: cannot be indexed: blank line within a record; delete blank lines"),
        (b">a\nACGT\n\nACGT\n", ":3: cannot be indexed: blank line within a record"),
        (b">a\nACGT\r\nACGTA\n", ":2: cannot be indexed: the lines of a record have different lengths"),
        (b">a\nACGT\nACGTA", ":3: cannot be indexed: the lines of a record have different lengths"),
        (b">a\rACGT\rACGT\r", ":1: has line ends of CR alone"),
    ],
)
def test_genomes_that_cannot_be_indexed(tmp_path, text, problem):
    path = tmp_path / "g.fa"
    path.write_bytes(text)
    with pytest.raises(DataError, match=problem) as caught:
        Genome(path)
    assert len(str(caught.value)) < 300


def test_pipes_where_a_file_is_read_twice(tmp_path, run_here):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "x.bed").write_text("chr1\t0\t9\n")
    problem = "pipe: is a pipe or device, which can be read only once; save it to a file\n"
    for line in ("predict -m CTCF -f pipe", "predict -m pipe x.fa", "windows -f pipe x.bed", "pretrain -o new pipe"):
        command, *arguments = line.split()
        outcome = run_here(command, *arguments)
        assert outcome.status == 1 and outcome.err.endswith(f"bertsnr-{command}: {problem}"), outcome


def test_the_cause_is_given_where_no_index_can_be_written(genome, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match=r"has no index, and none can be written beside it \(No space left on device\)"):
        Genome(genome)
    assert os.listdir(genome.parent) == ["genome.fa"]


def test_names_that_are_not_utf8_stay_different(tmp_path):
    path = tmp_path / "g.fa"
    path.write_bytes(b">chr\xe9\nAC\n>chr\xe8\nGG\n")
    for _ in range(2):
        assert Genome(path).lengths == {"chré": 2, "chrè": 2}


def test_a_byte_order_mark_before_an_index_is_skipped(genome):
    lengths, index = Genome(genome).lengths, Path(f"{genome}.fai")
    index.write_bytes(BOM + index.read_bytes())
    assert Genome(genome).lengths == lengths


@pytest.mark.parametrize(
    "header", [b"\xc3\xa9 \xe9", b"\xe9 \xc3\xa9", b"a\x0bb", b"a\x0cb", b"a\xa0", b"a\x85 b", b"a\x1cb"]
)
def test_stream_and_index_agree_on_names(tmp_path, header):
    """White space is ASCII, as in samtools; name and description are UTF-8 or Latin-1, each for itself."""
    (tmp_path / "g.fa").write_bytes(b">" + header + b"\nACGT\n")
    (record,) = read_records(str(tmp_path / "g.fa"))
    assert [*Genome(tmp_path / "g.fa").lengths] == [record.name] == [pysam_name(tmp_path / "g.fa")]


def test_a_byte_order_mark_before_a_name_is_skipped(tmp_path):
    (tmp_path / "g.fa").write_bytes(b">" + BOM + b"a\nACGT\n>" + BOM + b"b\nAC\n")
    assert [*Genome(tmp_path / "g.fa").lengths] == [record.name for record in read_records(str(tmp_path / "g.fa"))]
    assert Genome(tmp_path / "g.fa").lengths == {"a": 4, "b": 2}


def pysam_name(path):
    pysam.faidx(str(path), "--fai-idx", f"{path}.other")
    return decoded_text(Path(f"{path}.other").read_bytes().split(b"\t")[0])
