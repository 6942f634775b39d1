"""The index of a FASTA file (.fai, as samtools writes it): build, read and check it.

pysam.faidx skips repeated names and empty records, prints its errors, and accepts neither a byte order mark nor a path
that is not UTF-8; pyfaidx indexes lines that end in CR alone as empty, and fails on Latin-1. Neither checks an index.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from .fields import decoded_text
from .files import BYTE_ORDER_MARK

_HEADER_LIMIT = 1 << 20  # bytes between two records that are read to find a header
_LINE_CHECKS = 4  # lines of a record whose ends are checked


class IndexEntry(NamedTuple):
    """A line of a .fai file: bases in the sequence, its byte offset, and bases and bytes in a line."""

    length: int
    offset: int
    line_bases: int
    line_bytes: int

    def byte(self, base: int) -> int:
        """Byte of the file at which a base (0-based) lies."""
        return self.offset + base // self.line_bases * self.line_bytes + base % self.line_bases


def read_index(path: str) -> dict[str, IndexEntry]:
    """The entries of a .fai file by name.

    Raises
    ------
    DataError : it is empty or not an index, or a name occurs twice.
    """
    entries: dict[str, IndexEntry] = {}
    content = Path(path).read_bytes().removeprefix(BYTE_ORDER_MARK)
    for number, line in enumerate(content.splitlines(), 1):
        name, *fields = decoded_text(line.removeprefix(BYTE_ORDER_MARK)).split("\t")
        good = len(fields) >= 4 and all(re.fullmatch(r"[0-9]{1,18}", field) for field in fields[:4])
        if not good or not int(fields[0]) or not int(fields[2]) or name in entries:
            raise DataError("is not a FASTA index; delete it to rebuild it", path, number)
        entries[name] = IndexEntry(*map(int, fields[:4]))
    if not entries:
        raise DataError("is empty; delete it to rebuild it", path)
    return entries


def index_problem(entries: Mapping[str, IndexEntry], read: Callable[[int, int], bytes], start: int) -> str | None:
    """How an index differs from its FASTA file, or None: records follow each other without gaps, in lines of its width.

    Parameters
    ----------
    entries : see `read_index`
    read : bytes [start, end) of the uncompressed file
    start : byte at which the file's first header begins
    """
    at = start
    for name, entry in sorted(entries.items(), key=lambda item: item[1].offset):
        header = read(at, min(entry.offset, at + _HEADER_LIMIT)) if entry.offset > at else b""
        found = [decoded_text(word) for word in header[1:].removeprefix(BYTE_ORDER_MARK).split()[:1]]
        if header[:1] != b">" or header.find(b"\n") != entry.offset - at - 1 or found != [name]:
            return f"the header of {name} is not before byte {entry.offset}"
        full = (entry.length - 1) // entry.line_bases  # lines that another line follows
        for line in {full * number // _LINE_CHECKS for number in range(1, _LINE_CHECKS + 1)} - {0}:
            border = entry.offset + line * entry.line_bytes
            text = read(border - entry.line_bytes + entry.line_bases - 1, border + 1)
            if text[1:-1] not in (b"\n", b"\r\n") or text[:1].isspace() or text[-1:].isspace():
                return f"line {line} of {name} does not have {entry.line_bases} bases"
        at = entry.byte(entry.length - 1) + 1
        if read(at - 1, at).strip() in (b"", b">"):
            return f"{name} does not have {entry.length} bases"
        ends = read(at, at + 1).isspace()
        while (after := read(at, at + 1000)) and not after.strip():
            at += len(after)
        if after and not (ends and after.lstrip().startswith(b">")):
            return f"{name} does not end at base {entry.length}"
        at += len(after) - len(after.lstrip())
    return "it lacks records at the end of the file" if read(at, at + 1) else None


class IndexBuilder:
    """Collects the lines of a .fai file while a FASTA file is parsed.

    Parameters
    ----------
    path : the FASTA file, for errors
    """

    def __init__(self, path: str):
        self._path = path
        self._lines: list[bytes] = []
        self._name = b""
        self._line = 1  # the number of the current line
        self._start_record(0)

    def _start_record(self, offset: int) -> None:
        self._offset = offset
        self._seen = self._line_start = 0  # bytes of the record, and those before its current line
        self._bases = self._line_bases = self._line_bytes = 0
        self._ended = False  # after a shorter line, only blank lines may follow
        self._last = b""  # the last byte seen

    def header(self, title: bytes, offset: int, line: int) -> None:
        """A new record, whose sequence begins at byte `offset`; `line` is the number of the header line."""
        self._line = line - 1
        self._finish_record()
        self._name = (title.removeprefix(BYTE_ORDER_MARK).split() or [b""])[0]
        self._start_record(offset)

    def body(self, text: bytes, bases: int, line: int) -> None:
        """The next sequence lines of the record, with their number of bases and the number of the first line."""
        ends = np.flatnonzero(np.frombuffer(text, np.uint8) == 10) + 1 + self._seen
        lengths = np.diff(ends, prepend=self._line_start)
        if len(ends):
            if not self._line_bytes:
                self._line_bytes = int(lengths[0])
                self._line_bases = self._bases + len(text[: int(ends[0]) - self._seen].rstrip(b"\r\n"))
            if (self._last + text).count(b"\r\n") != (self._line_bytes - self._line_bases - 1) * len(ends):
                raise self._uneven(line)
            self._check_lengths(lengths, text, ends - self._seen, line)
            self._line_start = int(ends[-1])
        elif self._ended and text.strip():
            raise self._uneven(line)
        self._seen += len(text)
        self._bases += bases
        self._last = text[-1:] or self._last
        self._line = line + text.count(b"\n")

    def _check_lengths(self, lengths: np.ndarray, text: bytes, ends: np.ndarray, line: int) -> None:
        if not self._line_bases:
            raise self._uneven(line, blank=True)
        begin = 0
        if not self._ended:
            odd = np.flatnonzero(lengths != self._line_bytes)
            if not len(odd):
                return
            if lengths[odd[0]] > self._line_bytes:
                raise self._uneven(line + int(odd[0]))
            self._ended = True
            begin = int(ends[odd[0]])
            line += int(odd[0])
            blank = lengths[odd[0]] <= self._line_bytes - self._line_bases
        else:
            blank = True
        if text[begin:].strip():
            raise self._uneven(line, blank=blank)

    def _uneven(self, line: int, *, blank: bool = False) -> DataError:
        if blank:
            return DataError("cannot be indexed: blank line within a record; delete blank lines", self._path, line)
        problem = "cannot be indexed: the lines of a record have different lengths; wrap them evenly"
        return DataError(problem, self._path, line)

    def _finish_record(self) -> None:
        if not self._bases:
            return
        cr = self._last == b"\r"
        rest = self._seen - self._line_start - cr  # bases of a last line without its line end
        if not self._line_bytes:
            self._line_bases, self._line_bytes = rest, rest + cr + 1
        if rest > self._line_bases:
            raise self._uneven(self._line)
        fields = (self._bases, self._offset, self._line_bases, self._line_bytes)
        self._lines.append(b"\t".join([self._name, *(str(field).encode() for field in fields)]) + b"\n")

    def content(self) -> bytes:
        """The .fai file."""
        self._finish_record()
        return b"".join(self._lines)
