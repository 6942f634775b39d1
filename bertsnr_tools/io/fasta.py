"""Sequence files: FASTA as a stream (files, pipes, gzip) and indexed genomes. Sequence is always upper case."""

from __future__ import annotations

import mmap
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ..errors import DataError, UsageError
from ..log import logger
from .bgzip import CUT, END, GZIP_MAGIC, HEADER_BYTES, BgzipBytes, block_index, is_bgzip
from .fasta_index import IndexBuilder, index_problem, read_index
from .fields import decoded_text
from .files import (
    BYTE_ORDER_MARK,
    CR_ALONE,
    UTF_16,
    UTF_16_MARKS,
    check_rereadable,
    error_text,
    open_input,
    replace_atomically,
)
from .intervals import Interval, browser_interval, interval_from_header, parse_header, read_bed, unknown_chrom

HEADER_READ = 1000  # bytes before a sequence in which its header is sought first
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

    @property
    def interval(self) -> Interval:
        """Where the record lies, see `intervals.parse_header`."""
        return parse_header(self.name, self.description, len(self.sequence))


class Header(NamedTuple):
    """The header line of a record, split at the first white space."""

    name: str
    description: str


class Lines(NamedTuple):
    """Some lines of a FASTA stream that belong to one record."""

    number: int  # of the first line
    title: bytes | None  # the header without ">", None where the record goes on
    body: bytes  # sequence lines
    offset: int  # of the body in the stream, bytes


def read_fasta_chunks(path: str, *, unique: bool = False, index: IndexBuilder | None = None) -> Iterator[FastaChunk]:
    """Read a FASTA file or "-" as chunks of about `CHUNK_BASES` bases, so that memory does not grow with a record.

    Parameters
    ----------
    unique : reject records of equal names, except, without `index`, of different intervals of a genome browser
    index : receives the lines for an index of the file

    Raises
    ------
    DataError : no records, text before the first header, a header without a name, a record without sequence, or a
        letter that is not an IUPAC nucleotide code (such as U, a gap or an amino acid).
    """
    header: Header | None = None
    position = 0
    names: set[tuple[str, Interval | None]] = set()
    with open_input(path) as stream:
        for line, title, body, offset in _split_stream(stream):
            if title is not None:
                if header:
                    yield _last_chunk(header, position, path, line)
                header, position = _parse_header(title, path, line), 0
                if unique:
                    key = header.name, None if index else browser_interval(*header)
                    if key in names:
                        raise DataError(f"sequence name {header.name!r} occurs more than once", path, line)
                    names.add(key)
                if index:
                    index.header(title, offset, line)
                line += 1
            elif header is None and body.strip():
                raise DataError(f"text before the first header ({_shown(body.strip()[:1])}); {_EXPECTED}", path, line)
            sequence = _checked_letters(body, path, line)
            if index:
                index.body(body, len(sequence), line)
            if sequence and header:
                yield FastaChunk(*header, position, sequence, False)
                position += len(sequence)
    if header is None:
        raise DataError(f"is empty; {_EXPECTED}", path)
    yield _last_chunk(header, position, path, line)


def _split_stream(stream: BinaryIO) -> Iterator[Lines]:
    """Cut a stream at line ends and headers, about `CHUNK_BASES` bytes at a time."""
    line, offset = 1, stream.tell() if stream.seekable() else 0
    while data := stream.read(CHUNK_BASES):
        data += stream.readline(CHUNK_BASES)  # end with a whole line, so that the next chunk may begin with a header
        while data[data.rfind(b"\n") + 1 :].startswith(b">") and (more := stream.readline(CHUNK_BASES)):
            data += more  # a header is never cut
        before, *records = (b"\n" + data).split(b"\n>")
        if before:
            yield Lines(line, None, before[1:], offset)
        number, at = line + before.count(b"\n"), offset + len(before)
        for text in records:
            title, _, body = text.partition(b"\n")
            yield Lines(number, title, body, at + len(title) + 2)
            number += text.count(b"\n") + 1
            at += len(text) + 2
        line += data.count(b"\n")
        offset += len(data)


def _parse_header(title: bytes, path: str, line: int) -> Header:
    if b"\r" in title.rstrip():
        raise DataError(CR_ALONE, path, line)
    title = title.removeprefix(BYTE_ORDER_MARK)
    name, *rest = title.split(None, 1)[: 0 if title[:1].isspace() else 2] or [b""]
    if not name:
        raise DataError("the header has no name after >", path, line)
    return Header(decoded_text(name), decoded_text(b" ".join(rest)).replace("\t", " ").strip())


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


def read_records(path: str, *, unique: bool = False) -> Iterator[Record]:
    """Read a FASTA file or "-" as whole records, in order. Errors as in `read_fasta_chunks`."""
    parts: list[bytes] = []
    for chunk in read_fasta_chunks(path, unique=unique):
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
            yield sequence._replace(sequence=_checked_letters(sequence.sequence, f"record {sequence.name!r}", None))
        else:
            if not isinstance(sequence, (str, bytes)):
                raise UsageError(f"sequence {number} is {sequence!r}; expected str, bytes or Record")
            letters = sequence.encode("latin-1", "replace") if isinstance(sequence, str) else sequence
            yield Record(str(number), "", _checked_letters(letters, f"sequence {number}", None))


def fasta_text(name: str, description: str, sequence: bytes) -> bytes:
    """One record as FASTA, its sequence on one line."""
    return b">%s%s\n%s\n" % (name.encode(), b" " + description.encode() if description else b"", sequence)


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
        self._map_file()
        self._indexes = [f"{path}.fai"] + ([f"{path}.gzi"] if self._bgzip else [])
        self._find_index()
        self._entries = read_index(self._indexes[0])
        self.lengths = {name: entry.length for name, entry in self._entries.items()}
        self._bytes: Callable[[int, int], bytes] = self._mapped_bytes
        try:
            if self._bgzip:
                self._bytes = BgzipBytes(self._map, Path(self._indexes[1]).read_bytes())
            first = len(BYTE_ORDER_MARK) if self._bytes(0, 3) == BYTE_ORDER_MARK else 0
            problem = index_problem(self._entries, self._bytes, first)
        except (OSError, ValueError) as error:
            problem = error_text(error)
        if problem:
            raise self._misfit(problem)

    def __reduce__(self) -> tuple[Any, ...]:
        return Genome, (self.path,)  # another process maps the file itself

    def _mapped_bytes(self, start: int, end: int) -> bytes:
        return self._map[start:end]

    def _map_file(self) -> None:
        """Map the file into memory, which is fast for many short reads, and recognise its format."""
        path = self.path
        check_rereadable(path)
        try:
            with open(path, "rb") as stream:
                head = stream.read(HEADER_BYTES)
                self._bgzip = is_bgzip(head)
                if head[:2] == GZIP_MAGIC and not self._bgzip:
                    problem = "is plain gzip, which has no random access; decompress it, or compress it with bgzip"
                    raise DataError(problem, path)
                if head.startswith(UTF_16_MARKS):
                    raise DataError(UTF_16, path)
                if not head:
                    raise DataError(f"is empty; {_EXPECTED}", path)
                if not self._bgzip and not head.removeprefix(BYTE_ORDER_MARK).startswith(b">"):
                    raise DataError("does not begin with a FASTA header (>)", path, 1)
                self._map: Any = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise DataError(error_text(error), path) from error
        if self._bgzip and self._map[-len(END) :] != END:
            raise DataError(CUT, path)

    def _find_index(self) -> None:
        """Build missing indexes, and warn of one older than the FASTA, unless the FASTA's own date is in the future."""
        if not all(os.path.exists(index) for index in self._indexes):
            self._build_index()
        changed = os.stat(self.path).st_mtime
        for index in self._indexes:
            if os.stat(index).st_mtime < changed <= time.time():
                logger.warning("%s is older than %s; delete the index if the FASTA has changed since", index, self.path)

    def _misfit(self, problem: str) -> DataError:
        old = " and ".join(self._indexes)
        return DataError(f"does not match its index ({problem}); delete {old} to rebuild it", self.path)

    def _build_index(self) -> None:
        builder = IndexBuilder(self.path)
        for _ in read_fasta_chunks(self.path, unique=True, index=builder):
            pass
        contents = [builder.content()]
        if self._bgzip:
            try:
                contents.append(block_index(self._map))
            except ValueError as error:
                raise DataError(f"compressed data are damaged ({error})", self.path) from error
        try:
            for index, content in reversed(list(zip(self._indexes, contents))):  # .fai last: if it exists, all do
                with replace_atomically(index) as temporary:
                    Path(temporary).write_bytes(content)
        except (OSError, DataError) as error:
            cause = error_text(error).removeprefix(f"{index}: ")
            problem = f"has no index, and none can be written beside it ({cause}); run samtools faidx"
            raise DataError(problem, self.path) from error

    @cached_property
    def parts(self) -> dict[str, Interval]:
        """The records that are parts of chromosomes, by name; see `intervals.parse_header`."""
        found = {}
        for name, entry in self._entries.items():
            header = self._header(entry.offset)
            description = decoded_text(header).partition(name)[2]
            if interval := interval_from_header(name, description, entry.length):
                found[name] = interval
        return found

    def _header(self, offset: int) -> bytes:
        """The header line of the record whose sequence begins at this byte."""
        size = HEADER_READ
        while True:
            _, begin, header = self._bytes(max(0, offset - size), offset).rpartition(b"\n>")
            if begin or size >= offset:
                return header
            size *= 2

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
        self.check_some(found, path)
        return found

    def check_some(self, intervals: Sequence[Interval], path: str) -> None:
        """Raise a DataError if all intervals of a BED file are on sequences that are not in the genome."""
        if intervals and not any(interval.chrom in self.lengths for interval in intervals):
            raise unknown_chrom(intervals[0], path, self.lengths)

    def exclusions(self, paths: Iterable[str]) -> list[Interval]:
        """Read BED files, of peaks for example; intervals on sequences that the genome lacks cause a warning.

        Raises
        ------
        DataError : all intervals of a file are on such sequences.
        """
        found: list[Interval] = []
        for path in paths:
            intervals = self.intervals(path)
            unknown = [interval for interval in intervals if interval.chrom not in self.lengths]
            if unknown:
                problem = "%s: %s of %s intervals are on sequences that are not in the genome, such as %s"
                logger.warning(problem, path, f"{len(unknown):,}", f"{len(intervals):,}", unknown[0].chrom)
            found += intervals
        return found

    def regions(self, path: str, *, summits: bool = False) -> list[Interval]:
        """Read a BED file whose intervals must all lie on the genome; `summits`: see `read_bed`.

        Raises
        ------
        DataError : an interval does not, or there is none.
        """
        found = []
        for interval in read_bed(path, summits=summits):
            self.check(interval, path)
            found.append(interval)
        if not found:
            raise DataError("contains no intervals", path)
        return found

    def fetch(self, chrom: str, start: int, end: int) -> bytes:
        """The forward strand of bases [start, end), upper case.

        Raises
        ------
        UsageError : they are not on the genome.
        DataError : the index does not match the file, or a letter is not an IUPAC nucleotide code.
        """
        length = self.lengths.get(chrom, -1)
        if not 0 <= start <= end <= length:
            found = f"{chrom} has {length:,} bp" if length >= 0 else f"it has no sequence named {chrom!r}"
            raise UsageError(f"{self.path}: {chrom}:{start}-{end} is not on the genome; {found}")
        entry = self._entries[chrom]
        try:
            text = self._bytes(entry.byte(start), entry.byte(end))
        except ValueError as error:
            raise self._misfit(error_text(error)) from error
        sequence = text.translate(_UPPER, b"\r\n")
        if len(sequence) != end - start or sequence.translate(None, b"ACGTN") and sequence.translate(None, IUPAC):
            raise self._misfit(f"no valid sequence at {chrom}:{start}-{end}")
        return sequence
