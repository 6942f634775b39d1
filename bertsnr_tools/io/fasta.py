"""Sequence files: FASTA as a stream (files, pipes, gzip) and genomes through their index. Sequence is upper case throughout."""

from __future__ import annotations

import mmap
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..errors import DataError
from .files import GZIP_MAGIC, error_text, open_input
from .intervals import Interval, read_bed, unknown_chrom

CHUNK_BASES = 1 << 20  # bytes of a FASTA stream that are looked at in one go
_ALPHABET = b"ACGTNRYSWKMBDHV"
_ALLOWED = _ALPHABET + _ALPHABET.lower() + b"\r\n"
_UPPER = bytes.maketrans(_ALPHABET.lower(), _ALPHABET)
NOT_ACGT = re.compile(rb"[^ACGT]+")


class FastaChunk(NamedTuple):
    """Part of a FASTA record: its bases from `start` on; `last` marks the final part of the record."""

    name: str
    description: str
    start: int
    sequence: bytes
    last: bool


class Record(NamedTuple):
    """A whole FASTA record. `description` is what follows the name in the header."""

    name: str
    description: str
    sequence: bytes


def read_fasta_chunks(path: str) -> Iterator[FastaChunk]:
    """A FASTA file or "-" as pieces of at most about `PIECE` bases, in order, so that memory does not grow with a record.

    Raises
    ------
    DataError : no records, text before the first header, a header without a name, a record without sequence, or a
        letter that is no IUPAC nucleotide code (RNA's U, gaps and proteins are refused).
    """
    record: tuple[str, str] | None = None
    position = 0
    with open_input(path) as stream:
        for line, title, body in _parts(stream):
            if title is not None:
                if record:
                    yield _finish(record, position, path, line)
                record, position, line = _header(title, path, line), 0, line + 1
            elif record is None and body.strip():
                raise DataError(f"begins with {_shown(body.strip()[:1])}, a FASTA header (>) is needed", path, line)
            sequence = _letters(body, path, line)
            if sequence and record:
                yield FastaChunk(*record, position, sequence, False)
                position += len(sequence)
    if record is None:
        raise DataError("is empty, FASTA records are needed", path)
    yield _finish(record, position, path, line)


def _parts(stream: BinaryIO) -> Iterator[tuple[int, bytes | None, bytes]]:
    """(line number, header without ">" or None where a record goes on, sequence lines) in the order of the stream."""
    line = 1
    while data := stream.read(CHUNK_BASES):
        data += stream.readline(CHUNK_BASES)  # so that a block ends with a line and the next may begin with a header
        while data[data.rfind(b"\n") + 1 :].startswith(b">") and (more := stream.readline(CHUNK_BASES)):
            data += more  # a header is never cut
        before, *records = (b"\n" + data).split(b"\n>")
        if before:
            yield line, None, before[1:]
        at = line + before.count(b"\n")
        for text in records:
            title, _, body = text.partition(b"\n")
            yield at, title, body
            at += text.count(b"\n") + 1
        line += data.count(b"\n")


def _header(title: bytes, path: str, line: int) -> tuple[str, str]:
    text = title.decode("utf-8", "replace").rstrip()
    name, _, description = text.replace("\t", " ").partition(" ")
    if not name:
        raise DataError("the header has no name after >", path, line)
    return name, description.strip()


def _finish(header: tuple[str, str], position: int, path: str, line: int) -> FastaChunk:
    if not position:
        raise DataError(f"record {header[0]!r} has no sequence", path, line)
    return FastaChunk(*header, position, b"", True)


def _letters(text: bytes, path: str, line: int) -> bytes:
    if text.translate(None, _ALLOWED):
        for offset, content in enumerate(text.split(b"\n")):
            wrong = content.translate(None, _ALLOWED)
            if wrong:
                raise DataError(
                    f"holds {_shown(wrong[:1])}, needed are the letters ACGT, N or an IUPAC code", path, line + offset
                )
    return text.translate(_UPPER, b"\r\n")


def _shown(letter: bytes) -> str:
    return repr(letter.decode("latin-1"))


def read_records(path: str) -> Iterator[Record]:
    """A FASTA file or "-" as whole records, in order. Errors as in `read_pieces`."""
    parts: list[bytes] = []
    for piece in read_fasta_chunks(path):
        parts.append(piece.sequence)
        if piece.last:
            yield Record(piece.name, piece.description, b"".join(parts))
            parts = []


def fasta_text(name: str, description: str, sequence: bytes) -> bytes:
    """One record as FASTA, its sequence on one line."""
    return b">%s%s\n%s\n" % (name.encode(), b" " + description.encode() if description else b"", sequence)


class Genome:
    """An indexed FASTA file, plain or bgzip.

    A missing index is built beside the file or, where that folder cannot be written, reported.

    Parameters
    ----------
    path : FASTA file

    Attributes
    ----------
    lengths : dict, chromosome name to size in bases, in file order

    Raises
    ------
    DataError : no such file, plain gzip, an index older than the file, an index that does not fit the file, or a
        repeated or empty record (seen when the index is built).
    """

    def __init__(self, path: str):
        self.path = path
        try:
            with open(path, "rb") as stream:
                head = stream.read(18)
        except OSError as error:
            raise DataError(error_text(error), path) from error
        self._packed = head[:2] == GZIP_MAGIC
        if self._packed and head[12:14] != b"BC":
            raise DataError("is plain gzip and cannot be read by position: unpack it, or pack it with bgzip", path)
        if not self._packed and not head.startswith(b">"):
            raise DataError("does not begin with a FASTA header (>)", path, 1)
        self._check_index()
        self.lengths: dict[str, int] = {}
        self._lines: dict[
            str, tuple[int, int, int]
        ] = {}  # where a sequence begins, bases and bytes in one of its lines
        for number, text in enumerate(Path(f"{path}.fai").read_text(errors="replace").splitlines(), 1):
            name, *numbers = text.split("\t")
            if (
                len(numbers) < 4
                or not all(re.fullmatch(r"\d{1,18}", field) for field in numbers[:4])
                or not int(numbers[2])
            ):
                raise DataError("is no FASTA index: delete it, and it is made anew", f"{path}.fai", number)
            self.lengths[name], offset, bases, width = map(int, numbers[:4])
            self._lines[name] = offset, bases, width
        self._open()

    def _open(self) -> None:
        """bgzip is read through pysam; a plain file is mapped, which is several times faster for many short reads."""
        try:
            if self._packed:
                import pysam

                pysam.set_verbosity(0)  # its complaints come back as exceptions; once is enough
                self._file = pysam.FastaFile(self.path)
            else:
                with open(self.path, "rb") as stream:
                    self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be opened through its index ({error_text(error)})", self.path) from error

    def _check_index(self) -> None:
        indexes = [self.path + ".fai"] + ([self.path + ".gzi"] if self._packed else [])
        if not all(os.path.exists(index) for index in indexes):
            self._build_index(indexes)
        for index in indexes:
            if os.stat(index).st_mtime < os.stat(self.path).st_mtime:
                raise DataError(f"is older than {self.path}: delete it, and it is made anew", index)

    def _build_index(self, indexes: list[str]) -> None:
        names: set[str] = set()
        for piece in read_fasta_chunks(
            self.path
        ):  # an index silently lacks empty records and all but the first of equal names
            if piece.last and piece.name in names:
                raise DataError(f"sequence name {piece.name!r} stands more than once", self.path)
            names |= {piece.name} if piece.last else set()
        folder = os.path.dirname(os.path.abspath(self.path))
        try:
            with tempfile.TemporaryDirectory(dir=folder, prefix=".faidx") as scratch:
                link = os.path.join(scratch, os.path.basename(self.path))
                os.symlink(os.path.abspath(self.path), link)
                import pysam

                try:
                    pysam.faidx(link)
                except pysam.SamtoolsError as error:
                    raise DataError(
                        "cannot be indexed: the lines of a record must be of one length", self.path
                    ) from error
                for index in reversed(indexes):  # .fai last: it is the sign that all are there
                    os.replace(link + index[len(self.path) :], index)
        except OSError as error:
            raise DataError(
                f"has no index, and none can be made beside it ({error_text(error)}): run samtools faidx where it can be written",
                self.path,
            ) from error

    def check(self, interval: Interval, path: str) -> None:
        """Raise a DataError that names the BED line when an interval is not on the genome."""
        if interval.chrom not in self.lengths:
            raise unknown_chrom(interval, path, self.lengths)
        if interval.end > self.lengths[interval.chrom]:
            raise DataError(
                f"end {interval.end} is past the end of {interval.chrom} ({self.lengths[interval.chrom]} bp)",
                path,
                interval.line,
            )

    def intervals(self, path: str) -> list[Interval]:
        """Those of a BED file. Some may lie on sequences that the genome lacks; a DataError says when all do."""
        found = list(read_bed(path))
        if found and not any(interval.chrom in self.lengths for interval in found):
            raise unknown_chrom(found[0], path, self.lengths)
        return found

    def fetch(self, chrom: str, start: int, end: int) -> bytes:
        """The forward strand of bases [start, end), upper case.

        Raises
        ------
        DataError : the index does not fit the file, or a letter is no IUPAC nucleotide code.
        """
        if self._packed:
            try:
                text = self._file.fetch(chrom, start, end).encode("latin-1")
            except (OSError, ValueError):
                text = b""
        else:
            first, bases, width = self._lines[chrom]
            text = self._map[
                first + start // bases * width + start % bases : first + end // bases * width + end % bases
            ]
        sequence = text.translate(_UPPER, b"\r\n")
        if len(sequence) != end - start or sequence.translate(None, b"ACGTN") and sequence.translate(None, _ALPHABET):
            raise DataError(
                f"bases {start}-{end} of {chrom} are not what its index says: delete {self.path}.fai, and it is made anew",
                self.path,
            )
        return sequence
