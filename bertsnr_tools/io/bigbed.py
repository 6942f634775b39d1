"""The bigBed format: write sites in any order (`BigBed`), and read them (`read_bigbed`).

`bbi` writes the container; only the blocks of lines are written here. As a writer, pybigtools 0.3.0 was left aside: on
a full disk it panics, prints a stack trace of 40 lines on stderr and a line on standard output, where data go, and
leaves a truncated file; it takes only file names in UTF-8; and for 600,000 sites that overlap, its summary lost a fifth
of the covered bases. The tests compare the items of both.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np

from ..errors import DataError
from .bbi import INTERVAL, LEAF, MAX_LENGTH, ZLIB_LEVEL, Kind, Written, check_complete, open_bbi, write_container
from .files import replace_atomically
from .sorting import LineSorter

ITEMS_PER_ZOOM_RECORD = 10
_BATCH_ITEMS, _BLOCK_ITEMS = 16_384, 512
_MAGIC = 0x8789F2EB
_ITEM = struct.Struct("<III")
_READ_BASES = 1 << 22  # of a chromosome, read together
_BED_FIELDS = (
    ("string", "chrom", "Chromosome"),
    ("uint", "chromStart", "First base, 0-based"),
    ("uint", "chromEnd", "Position after the last base"),
    ("string", "name", "Name"),
    ("uint", "score", "Score from 0 to 1000"),
    ("char[1]", "strand", "Strand, + or -"),
    ("uint", "thickStart", "First base, 0-based"),
    ("uint", "thickEnd", "Position after the last base"),
    ("uint", "itemRgb", "Colour: red, green, blue"),
)


class Column(NamedTuple):
    """A column after BED9: type of autoSql, name and description."""

    kind: str
    name: str
    description: str


def autosql(table: str, description: str, columns: Sequence[Column]) -> str:
    """The description of BED9 with further columns, as UCSC's tools read it."""
    fields = "".join(f'    {kind} {name}; "{text}"\n' for kind, name, text in (*_BED_FIELDS, *columns))
    return f'table {table}\n"{description}"\n(\n{fields})\n'


class BigBed:
    """Collects BED9 lines with further columns in any order, and writes them as a bigBed file, in flat memory.

    Lines with the same chromosome, start and end keep their order.

    Parameters
    ----------
    path : output file, which `write` creates
    schema : see `autosql`
    lengths : chromosome sizes; without them, a chromosome ends at the last base of a site
    """

    def __init__(self, path: str, schema: str, lengths: Mapping[str, int] | None = None):
        self._path, self._schema, self._lengths = path, schema, lengths
        self._sorter = LineSorter(_position, path)
        self._ends: dict[str, int] = {}

    def add(self, chrom: str, start: int, end: int, rest: str) -> None:
        """Add an interval, 0-based and half-open; `rest` are the tab-separated columns from the name on.

        Raises
        ------
        DataError : it is not on a chromosome, or cannot be stored.
        """
        length = self._lengths.get(chrom) if self._lengths else MAX_LENGTH
        if length is None:
            raise DataError(f"the genome has no chromosome named {chrom!r}", self._path)
        if not 0 <= start < end <= min(length, MAX_LENGTH):
            limit = f"{chrom} has" if length < MAX_LENGTH else "bigBed supports at most"
            problem = f"{chrom}:{start}-{end} is not on the chromosome; {limit} {min(length, MAX_LENGTH):,} bp"
            raise DataError(problem, self._path)
        self._ends[chrom] = max(end, self._ends.get(chrom, 0))
        self._sorter.add(f"{chrom}\t{start}\t{end}\t{rest}".encode())

    def write(self) -> None:
        """Write the file, chromosomes in the order of their names; without intervals, it is empty but valid.

        Raises
        ------
        DataError : the file cannot be written.
        """
        write_sorted(self._path, self._schema, self._lengths or self._ends, self._sorter)


def write_sorted(path: str, schema: str, lengths: Mapping[str, int], lines: Iterator[bytes] | LineSorter) -> None:
    """Write a file of sorted lines atomically and read it back.

    Parameters
    ----------
    schema : see `autosql`
    lengths : chromosome sizes, at most `bbi.MAX_LENGTH`
    lines : BED, sorted by name of the chromosome and start

    Raises
    ------
    DataError : the file cannot be written.
    """
    kind = Kind(_MAGIC, schema.count('; "'), len(_BED_FIELDS), schema.encode() + b"\0")
    longest = max(lengths.values(), default=0)
    if longest > MAX_LENGTH:
        raise DataError(f"a chromosome has {longest:,} bp, but bigBed supports at most {MAX_LENGTH:,} bp", path)
    numbers = {chrom: number for number, chrom in enumerate(sorted(lengths))}
    batches = _batches(lines, numbers)
    first = next(batches, None)
    spacing = (first.items[-1].start - first.items[0].start) // len(first.items) if first else 1
    first_zoom = min(ITEMS_PER_ZOOM_RECORD * max(1, spacing), MAX_LENGTH)
    with replace_atomically(path) as temporary:
        whole = itertools.chain([first] if first else [], batches)
        summary = write_container(temporary, kind, lengths, whole, _BlockWriter(), first_zoom)
        check_complete(temporary, path, len(lengths), summary.bases)


class _Item(NamedTuple):
    start: int
    end: int
    rest: bytes


class _Batch(NamedTuple):
    """Consecutive items of the chromosome with this number; `last`: all the others are on other chromosomes."""

    chrom: int
    items: list[_Item]
    last: bool


def _position(line: bytes) -> tuple[bytes, int, int]:
    chrom, start, end, _ = line.split(b"\t", 3)
    return chrom, int(start), int(end)


def _batches(lines: Iterator[bytes] | LineSorter, numbers: Mapping[str, int]) -> Iterator[_Batch]:
    for chrom, group in itertools.groupby(lines, lambda line: line.partition(b"\t")[0]):
        items = _items(group)
        batch = list(itertools.islice(items, _BATCH_ITEMS))
        while batch:
            following = list(itertools.islice(items, _BATCH_ITEMS))
            yield _Batch(numbers[chrom.decode()], batch, not following)
            batch = following


def _items(lines: Iterator[bytes]) -> Iterator[_Item]:
    for line in lines:
        _, start, end, rest = line.split(b"\t", 3)
        yield _Item(int(start), int(end), rest)


class _BlockWriter:
    """Writes batches in compressed blocks; counts how many items cover each base."""

    def __init__(self) -> None:
        self._open = np.empty((2, 0), dtype=np.int64)  # starts and ends of items that later ones may overlap
        self._reach = 0  # greatest end on the chromosome

    def __call__(self, stream: BinaryIO, batch: _Batch) -> Written:
        leaves, largest = [], 0
        for first in range(0, len(batch.items), _BLOCK_ITEMS):
            block = batch.items[first : first + _BLOCK_ITEMS]
            content = b"".join([_ITEM.pack(batch.chrom, start, end) + rest + b"\0" for start, end, rest in block])
            data = zlib.compress(content, ZLIB_LEVEL)
            self._reach = max(self._reach, max(item.end for item in block))
            leaves.append((batch.chrom, block[0].start, batch.chrom, self._reach, stream.tell(), len(data)))
            stream.write(data)
            largest = max(largest, len(content))
        depth = self._depth(batch)
        if batch.last:
            self._reach = 0
        return Written(np.array(leaves, dtype=LEAF), depth, len(batch.items), largest)

    def _depth(self, batch: _Batch) -> np.ndarray:
        """Number of items on each base that no later item covers, as an array of `INTERVAL`; 0 is left out."""
        spans = np.array([(item.start, item.end) for item in batch.items], dtype=np.int64).T
        starts, ends = np.concatenate([self._open, spans], axis=1)
        settled = int(ends.max()) if batch.last else int(starts[-1])
        self._open = np.stack([np.maximum(starts, settled), ends])[:, ends > settled]
        starts, ends = starts[starts < settled], np.minimum(ends, settled)[starts < settled]
        borders, at = np.unique(np.concatenate([starts, ends]), return_inverse=True)
        opened, closed = (np.bincount(part, minlength=len(borders)) for part in np.split(at, [len(starts)]))
        depth = np.cumsum(opened - closed)[:-1]
        covered = np.nonzero(depth)[0]
        rows = np.empty(len(covered), dtype=INTERVAL)
        rows["chrom"], rows["value"] = batch.chrom, depth[covered]
        rows["start"], rows["end"] = borders[covered], borders[covered + 1]
        return rows


class BigBedContent(NamedTuple):
    """A file that is read: chromosome sizes, names of the columns, and its lines in order."""

    lengths: dict[str, int]
    columns: list[str]
    lines: Iterator[str]


def read_bigbed(path: str, chroms: Sequence[str] | None = None) -> BigBedContent:
    """Read a bigBed file in flat memory.

    Parameters
    ----------
    chroms : the order of the chromosomes; by default the file's

    Raises
    ------
    DataError : it cannot be read, or is not a bigBed file.
    """
    file = open_bbi(path)
    if not file.isBigBed():
        file.close()
        raise DataError("is not a bigBed file", path)
    schema = (file.SQL() or b"").decode()
    columns = [line.split(";")[0].split()[-1] for line in schema.splitlines() if '; "' in line]

    def lines() -> Iterator[str]:
        lengths = file.chroms()
        for chrom in chroms or sorted(lengths):
            length = lengths.get(chrom, 0)
            for first in range(0, length, _READ_BASES):
                for start, end, rest in file.entries(chrom, first, min(first + _READ_BASES, length)) or ():
                    if start >= first:
                        yield f"{chrom}\t{start}\t{end}\t{rest}"

    return BigBedContent(dict(file.chroms()), columns, lines())
