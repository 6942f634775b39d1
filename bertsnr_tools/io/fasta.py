"""Sequence files: FASTA as a stream (files, pipes, gzip) and indexed genomes. Sequence is always upper case."""

from __future__ import annotations

import mmap
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..errors import DataError
from ..log import logger
from .files import GZIP_MAGIC, error_text, open_input, quiet_htslib
from .intervals import Interval, read_bed, unknown_chrom

CHUNK_BASES = 1 << 20  # bytes of a FASTA stream that are parsed together
IUPAC = b"ACGTNRYSWKMBDHV"
NOT_ACGT = re.compile(rb"[^ACGT]+")
_IUPAC_AND_LINE_ENDS = IUPAC + IUPAC.lower() + b"\r\n"
_UPPER = bytes.maketrans(IUPAC.lower(), IUPAC)
_EXPECTED = "expected FASTA records, each with a header line (>name)"


class FastaChunk(NamedTuple):
    """Part of a FASTA record: its bases from `start` on; `last` marks the final part of the record."""

    name: str
    description: str
    start: int
    sequence: bytes
    last: bool


class Record(NamedTuple):
    """A whole FASTA record. `description` is the rest of the header after the name."""

    name: str
    description: str
    sequence: bytes


class Header(NamedTuple):
    """The header line of a record, split at the first white space."""

    name: str
    description: str


class Lines(NamedTuple):
    """Some lines of a FASTA stream that belong to one record."""

    number: int  # of the first line
    title: bytes | None  # the header without ">", None where the record goes on
    body: bytes  # sequence lines


def read_fasta_chunks(path: str) -> Iterator[FastaChunk]:
    """Read a FASTA file or "-" as chunks of about `CHUNK_BASES` bases, so that memory does not grow with a record.

    Raises
    ------
    DataError : no records, text before the first header, a header without a name, a record without sequence, or a
        letter that is not an IUPAC nucleotide code (such as U, a gap or an amino acid).
    """
    header: Header | None = None
    position = 0
    with open_input(path) as stream:
        for line, title, body in _split_stream(stream):
            if title is not None:
                if header:
                    yield _last_chunk(header, position, path, line)
                header, position, line = _parse_header(title, path, line), 0, line + 1
            elif header is None and body.strip():
                raise DataError(f"text before the first header ({_shown(body.strip()[:1])}); {_EXPECTED}", path, line)
            sequence = _checked_letters(body, path, line)
            if sequence and header:
                yield FastaChunk(*header, position, sequence, False)
                position += len(sequence)
    if header is None:
        raise DataError(f"is empty; {_EXPECTED}", path)
    yield _last_chunk(header, position, path, line)


def _split_stream(stream: BinaryIO) -> Iterator[Lines]:
    """Cut a stream at line ends and headers, about `CHUNK_BASES` bytes at a time."""
    line = 1
    while data := stream.read(CHUNK_BASES):
        data += stream.readline(CHUNK_BASES)  # end with a whole line, so that the next chunk may begin with a header
        while data[data.rfind(b"\n") + 1 :].startswith(b">") and (more := stream.readline(CHUNK_BASES)):
            data += more  # a header is never cut
        before, *records = (b"\n" + data).split(b"\n>")
        if before:
            yield Lines(line, None, before[1:])
        number = line + before.count(b"\n")
        for text in records:
            title, _, body = text.partition(b"\n")
            yield Lines(number, title, body)
            number += text.count(b"\n") + 1
        line += data.count(b"\n")


def _parse_header(title: bytes, path: str, line: int) -> Header:
    text = title.decode("utf-8", "replace").rstrip()
    name, _, description = text.replace("\t", " ").partition(" ")
    if not name:
        raise DataError("the header has no name after >", path, line)
    return Header(name, description.strip())


def _last_chunk(header: Header, position: int, path: str, line: int) -> FastaChunk:
    if not position:
        raise DataError(f"record {header.name!r} has no sequence", path, line)
    return FastaChunk(*header, position, b"", True)


def _checked_letters(text: bytes, path: str, line: int | None) -> bytes:
    if text.translate(None, _IUPAC_AND_LINE_ENDS):
        for offset, content in enumerate(text.split(b"\n")):
            wrong = content.translate(None, _IUPAC_AND_LINE_ENDS)
            if wrong:
                problem = f"contains {_shown(wrong[:1])}; expected the letters ACGT, N or another IUPAC code"
                raise DataError(problem, path, None if line is None else line + offset)
    return text.translate(_UPPER, b"\r\n")


def _shown(letter: bytes) -> str:
    return repr(letter.decode("latin-1"))


def read_records(path: str) -> Iterator[Record]:
    """Read a FASTA file or "-" as whole records, in order. Errors as in `read_fasta_chunks`."""
    parts: list[bytes] = []
    for chunk in read_fasta_chunks(path):
        parts.append(chunk.sequence)
        if chunk.last:
            yield Record(chunk.name, chunk.description, b"".join(parts))
            parts = []


def as_records(sequences: str | os.PathLike[str] | Iterable[str | bytes | Record]) -> Iterator[Record]:
    """The records of a FASTA file ("-" is standard input) or of sequences, which are named by their number from 1."""
    if isinstance(sequences, (str, os.PathLike)):
        yield from read_records(os.fspath(sequences))
        return
    for number, sequence in enumerate(sequences, 1):
        if isinstance(sequence, Record):
            yield sequence
        else:
            letters = sequence.encode() if isinstance(sequence, str) else sequence
            yield Record(str(number), "", _checked_letters(letters, f"sequence {number}", None))


def fasta_text(name: str, description: str, sequence: bytes) -> bytes:
    """One record as FASTA, its sequence on one line."""
    return b">%s%s\n%s\n" % (name.encode(), b" " + description.encode() if description else b"", sequence)


class IndexEntry(NamedTuple):
    """A line of a .fai file: bases in the sequence, its byte offset, and bases and bytes in a line."""

    length: int
    offset: int
    line_bases: int
    line_bytes: int

    def byte(self, base: int) -> int:
        """Byte of the file at which a base (0-based) lies."""
        return self.offset + base // self.line_bases * self.line_bytes + base % self.line_bases


class Genome:
    """An indexed FASTA file, plain or bgzip; a missing index is built beside it.

    Parameters
    ----------
    path : FASTA file

    Attributes
    ----------
    lengths : dict, chromosome name to size in bases, in file order

    Raises
    ------
    DataError : no such file, plain gzip, an index that does not match the file or cannot be built, or a repeated or
        empty record (seen when the index is built).
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = path = os.fspath(path)
        try:
            with open(path, "rb") as stream:
                head = stream.read(18)
        except OSError as error:
            raise DataError(error_text(error), path) from error
        self._bgzip = head[:2] == GZIP_MAGIC
        if self._bgzip and head[12:14] != b"BC":
            raise DataError("is plain gzip, which has no random access; decompress it, or compress it with bgzip", path)
        if not self._bgzip and not head.startswith(b">"):
            raise DataError("does not begin with a FASTA header (>)", path, 1)
        self._find_index()
        self._entries = _read_index(f"{path}.fai")
        self.lengths = {name: entry.length for name, entry in self._entries.items()}
        self._open()
        self._check_index()

    def _open(self) -> None:
        """Open bgzip through pysam; map a plain file, which is several times faster for many short reads."""
        try:
            if self._bgzip:
                import pysam

                with quiet_htslib():
                    self._file = pysam.FastaFile(self.path)
            else:
                with open(self.path, "rb") as stream:
                    self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be opened with its index ({error_text(error)})", self.path) from error

    def _find_index(self) -> None:
        indexes = [self.path + ".fai"] + ([self.path + ".gzi"] if self._bgzip else [])
        if not all(os.path.exists(index) for index in indexes):
            self._build_index(indexes)
        for index in indexes:
            if os.stat(index).st_mtime < os.stat(self.path).st_mtime:
                logger.warning("%s is older than %s; delete the index if the FASTA has changed since", index, self.path)

    def _check_index(self) -> None:
        """Check that the last sequence of the index ends where a sequence of the file ends."""
        name, entry = max(self._entries.items(), key=lambda item: item[1].offset)
        self.fetch(name, entry.length - 1, entry.length)
        if not self._bgzip:
            end = entry.byte(entry.length - 1) + 1
            after = self._map[end : end + 1000].lstrip()
            if after and not after.startswith(b">"):
                raise self._misfit(f"{name} does not end at base {entry.length}")

    def _misfit(self, problem: str) -> DataError:
        return DataError(f"does not match its index ({problem}); delete {self.path}.fai to rebuild it", self.path)

    def _build_index(self, indexes: list[str]) -> None:
        self._check_records()
        directory = os.path.dirname(os.path.abspath(self.path))
        try:
            with tempfile.TemporaryDirectory(dir=directory, prefix=".faidx") as scratch:
                link = os.path.join(scratch, os.path.basename(self.path))
                os.symlink(os.path.abspath(self.path), link)
                import pysam

                try:
                    pysam.faidx(os.fsencode(link))  # type: ignore[arg-type]  # it encodes only UTF-8 itself
                except pysam.SamtoolsError as error:
                    problem = "cannot be indexed: the lines of a record have different lengths; wrap them evenly"
                    raise DataError(problem, self.path) from error
                for index in reversed(indexes):  # .fai last: where it exists, all exist
                    os.replace(link + index[len(self.path) :], index)
        except OSError as error:
            problem = f"has no index, and none can be written beside it ({error_text(error)}); run samtools faidx"
            raise DataError(problem, self.path) from error

    def _check_records(self) -> None:
        """Reject what samtools faidx skips silently: empty records and all but the first of equal names."""
        names: set[str] = set()
        for chunk in read_fasta_chunks(self.path):
            if chunk.last and chunk.name in names:
                raise DataError(f"sequence name {chunk.name!r} occurs more than once", self.path)
            if chunk.last:
                names.add(chunk.name)

    def check(self, interval: Interval, path: str) -> None:
        """Raise a DataError that names the line of the BED file `path` if an interval is not on the genome."""
        if interval.chrom not in self.lengths:
            raise unknown_chrom(interval, path, self.lengths)
        length = self.lengths[interval.chrom]
        if interval.end > length:
            problem = f"end {interval.end} is past the end of {interval.chrom} ({length} bp)"
            raise DataError(problem, path, interval.line)

    def chromosomes(self) -> list[Interval]:
        """Every chromosome as an interval, in file order."""
        return [Interval(name, 0, length) for name, length in self.lengths.items()]

    def intervals(self, path: str) -> list[Interval]:
        """Read a BED file; some intervals may lie on sequences that are not in the genome.

        Raises
        ------
        DataError : all of them do.
        """
        found = list(read_bed(path))
        if found and not any(interval.chrom in self.lengths for interval in found):
            raise unknown_chrom(found[0], path, self.lengths)
        return found

    def regions(self, path: str) -> list[Interval]:
        """Read a BED file whose intervals must all lie on the genome.

        Raises
        ------
        DataError : an interval does not, or there is none.
        """
        found = []
        for interval in read_bed(path):
            self.check(interval, path)
            found.append(interval)
        if not found:
            raise DataError("contains no intervals", path)
        return found

    def fetch(self, chrom: str, start: int, end: int) -> bytes:
        """The forward strand of bases [start, end), upper case.

        Raises
        ------
        DataError : the index does not match the file, or a letter is not an IUPAC nucleotide code.
        """
        if self._bgzip:
            try:
                with quiet_htslib():
                    text = self._file.fetch(chrom, start, end).encode("latin-1")
            except (OSError, ValueError):
                text = b""
        else:
            entry = self._entries[chrom]
            text = self._map[entry.byte(start) : entry.byte(end)]
        sequence = text.translate(_UPPER, b"\r\n")
        if len(sequence) != end - start or sequence.translate(None, b"ACGTN") and sequence.translate(None, IUPAC):
            raise self._misfit(f"no valid sequence at {chrom}:{start}-{end}")
        return sequence


def _read_index(path: str) -> dict[str, IndexEntry]:
    entries = {}
    for number, text in enumerate(Path(path).read_text(errors="replace").splitlines(), 1):
        name, *fields = text.split("\t")
        if len(fields) < 4 or not all(re.fullmatch(r"\d{1,18}", field) for field in fields[:4]) or not int(fields[2]):
            raise DataError("is not a FASTA index; delete it to rebuild it", path, number)
        entries[name] = IndexEntry(*map(int, fields[:4]))
    if not entries:
        raise DataError("is empty; delete it to rebuild it", path)
    return entries
