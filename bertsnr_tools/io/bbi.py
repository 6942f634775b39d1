"""The container of bigWig and bigBed files (Kent et al. 2010, Bioinformatics 26:2204, supplement).

A file begins with the names and sizes of all chromosomes; compressed blocks of data follow, an index of the blocks, and
summaries for zooming, each with its own index. Chromosomes have the numbers of their sorted names.
"""

from __future__ import annotations

import math
import os
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ..errors import DataError

MAX_LENGTH = 2**32 - 1  # of a chromosome (bp): positions have 32 bits
INTERVAL = np.dtype([("chrom", "<u4"), ("start", "<u4"), ("end", "<u4"), ("value", "<f4")])
ZLIB_LEVEL = 1  # on base scores, level 6 takes 2.5 times the CPU time for the same size, give or take 5 %
BATCH = 1 << 17  # rows processed together
BLOCK_ROWS = 1024  # in a compressed block
HEADER = struct.Struct("<IHHQQQHHQQIQ")

_NODE_ITEMS = 256  # in a node of an index
_MAX_ZOOMS, ZOOM_FACTOR = 10, 4
_ZOOM_HEADER = struct.Struct("<IIQQ")
_SUMMARY = struct.Struct("<Qdddd")
_CHROM_TREE = struct.Struct("<IIIIQQ")
_INDEX = struct.Struct("<IIQIIIIQII")
_NODE = struct.Struct("<BBH")
_CHROM_TREE_MAGIC, _INDEX_MAGIC = 0x78CA8C91, 0x2468ACE0
_MAGIC_BYTES = [number.to_bytes(4, order) for number in (0x888FFC26, 0x8789F2EB) for order in ("little", "big")]
_SPAN = [("chrom", "<u4"), ("start", "<u4"), ("last_chrom", "<u4"), ("end", "<u4"), ("offset", "<u8")]
_BRANCH, LEAF = np.dtype(_SPAN), np.dtype([*_SPAN, ("size", "<u8")])
_RECORD = np.dtype(
    [("chrom", "<u4"), ("start", "<u4"), ("end", "<u4"), ("bases", "<u4")]
    + [(name, "<f4") for name in ("low", "high", "total", "squares")]
)


class Kind(NamedTuple):
    """What the header says of the data.

    Attributes
    ----------
    magic : number at the start and end of the file
    fields, defined_fields : columns of bigBed, and how many of them are standard BED; 0 for bigWig
    autosql : description of the columns of bigBed; empty for bigWig
    """

    magic: int
    fields: int = 0
    defined_fields: int = 0
    autosql: bytes = b""


class Written(NamedTuple):
    """Blocks that were written.

    Attributes
    ----------
    leaves : their index entries, an array of `LEAF`; ends do not descend within a chromosome
    intervals : what the summaries show, an array of `INTERVAL`, disjoint and in ascending order
    counted : what the file counts: blocks of bigWig, items of bigBed
    largest : size of the largest block before compression (bytes)
    """

    leaves: np.ndarray
    intervals: np.ndarray
    counted: int
    largest: int


class Summary(NamedTuple):
    """Statistics of all values, weighted by bases."""

    bases: int = 0
    low: float = math.inf
    high: float = -math.inf
    total: float = 0.0
    squares: float = 0.0

    def add(self, rows: np.ndarray) -> Summary:
        """With more intervals."""
        values, bases = rows["value"].astype(float), rows["end"].astype(np.int64) - rows["start"]
        return Summary(
            self.bases + int(bases.sum()),
            min(self.low, float(values.min())),
            max(self.high, float(values.max())),
            self.total + float(values @ bases),
            self.squares + float(values**2 @ bases),
        )

    def packed(self) -> bytes:
        return _SUMMARY.pack(*self if self.bases else (0, 0.0, 0.0, 0.0, 0.0))


def write_container(
    path: str,
    kind: Kind,
    lengths: Mapping[str, int],
    batches: Iterable[Any],
    write_blocks: Callable[[BinaryIO, Any], Written],
    first_zoom: int,
) -> Summary:
    """Write a file.

    Parameters
    ----------
    lengths : chromosome sizes, at most `MAX_LENGTH`
    batches : data in ascending order
    write_blocks : writes a batch to the stream in compressed blocks
    first_zoom : bases per record of the finest summary for zooming

    Raises
    ------
    OSError : the file, or a temporary one beside it, cannot be written completely.
    """
    summary = Summary()
    directory = os.path.dirname(path) or "."
    with open(path, "wb") as stream, tempfile.TemporaryFile(dir=directory) as zoomed:
        autosql_offset = HEADER.size + _MAX_ZOOMS * _ZOOM_HEADER.size
        stream.write(bytes(autosql_offset) + kind.autosql)
        summary_offset = stream.tell()
        stream.write(bytes(_SUMMARY.size))
        chroms_offset = stream.tell()
        write_chrom_tree(stream, lengths)
        data_offset = stream.tell()
        stream.write(bytes(8))  # the count
        leaves = []
        count, largest = 0, BLOCK_ROWS * _RECORD.itemsize
        for batch in batches:
            written = write_blocks(stream, batch)
            leaves.append(written.leaves)
            count, largest = count + written.counted, max(largest, written.largest)
            if len(written.intervals):
                summary = summary.add(written.intervals)
                zoomed.write(_zoom(_split(written.intervals, first_zoom), first_zoom).tobytes())
        index_offset = stream.tell()
        _write_index(stream, leaves)
        zooms = _write_zooms(stream, zoomed, first_zoom, directory)
        stream.write(struct.pack("<I", kind.magic))
        stream.seek(data_offset)
        stream.write(struct.pack("<Q", count))
        stream.seek(0)
        offsets = chroms_offset, data_offset, index_offset
        columns = kind.fields, kind.defined_fields, autosql_offset if kind.autosql else 0
        stream.write(HEADER.pack(kind.magic, 4, len(zooms), *offsets, *columns, summary_offset, largest, 0))
        stream.write(b"".join(zooms))
        stream.seek(summary_offset)
        stream.write(summary.packed())
    return summary


def check_complete(path: str, shown: str, chroms: int, bases: int) -> None:
    """Check with an independent reader that a file is complete.

    Parameters
    ----------
    shown : name of the file for the error
    chroms, bases : number of chromosomes and of bases with data

    Raises
    ------
    DataError : it is not.
    """
    file = open_bbi(path)
    if len(file.chroms()) != chroms or file.header()["nBasesCovered"] != bases:
        raise DataError("could not be read back; write it to another disk", shown)
    file.close()


def open_bbi(path: str) -> Any:
    """Open a bigWig or bigBed file with pyBigWig.

    Raises
    ------
    DataError : it cannot be opened, or is neither.
    """
    import pyBigWig

    try:
        with open(path, "rb") as stream:  # its number instead of its name: pyBigWig crashes on names not in UTF-8
            if stream.read(4) not in _MAGIC_BYTES:  # pyBigWig also prints that
                raise RuntimeError
            return pyBigWig.open(f"/dev/fd/{stream.fileno()}")
    except RuntimeError as error:
        raise DataError("is not a bigWig or bigBed file", path) from error


def read_summary(path: str) -> Summary:
    """The summary of a bigWig or bigBed file: pyBigWig rounds it to integers.

    Raises
    ------
    DataError : it is neither.
    """
    open_bbi(path).close()
    with open(path, "rb") as stream:
        *_, offset, _, _ = HEADER.unpack(stream.read(HEADER.size))
        stream.seek(offset)
        return Summary(*_SUMMARY.unpack(stream.read(_SUMMARY.size)))


def write_chrom_tree(stream: BinaryIO, lengths: Mapping[str, int]) -> None:
    """Names, numbers and sizes as a B+ tree of one or two levels: libBigWig does not read three."""
    names = sorted(lengths)
    keys = [name.encode() for name in names]
    key_type = f"S{max(map(len, keys), default=1)}"
    leaf_type = np.dtype([("key", key_type), ("number", "<u4"), ("length", "<u4")])
    items = np.array([(key, i, lengths[name]) for i, (key, name) in enumerate(zip(keys, names))], dtype=leaf_type)
    size = max(_NODE_ITEMS, math.isqrt(len(items)) + 1)
    stream.write(_CHROM_TREE.pack(_CHROM_TREE_MAGIC, size, leaf_type.itemsize - 8, 8, len(items), 0))
    nodes = [items[first : first + size] for first in range(0, len(items), size)] or [items]
    if len(nodes) > 1:
        root_type = np.dtype([("key", key_type), ("offset", "<u8")])
        below = stream.tell() + _NODE.size + len(nodes) * root_type.itemsize
        step = _NODE.size + size * leaf_type.itemsize
        root = [(node["key"][0], below + number * step) for number, node in enumerate(nodes)]
        stream.write(_NODE.pack(0, 0, len(root)) + np.array(root, dtype=root_type).tobytes())
    for node in nodes:
        stream.write(_NODE.pack(1, 0, len(node)) + node.tobytes())


def read_chrom_names(stream: BinaryIO) -> list[str]:
    """Names by number, from a tree by `write_chrom_tree`, whose leaves follow each other."""
    _, _, key_size, _, count, _ = _CHROM_TREE.unpack(stream.read(_CHROM_TREE.size))
    names: list[str] = []
    while len(names) < count:
        is_leaf, _, items = _NODE.unpack(stream.read(_NODE.size))
        for _ in range(items):
            key = stream.read(key_size + 8)[:key_size]
            if is_leaf:
                names.append(key.rstrip(b"\0").decode())
    return names


def _write_index(stream: BinaryIO, parts: list[np.ndarray]) -> None:
    """Write the index entries of blocks as an R tree, root first; all its nodes are full except the last of a level."""
    end_of_data = stream.tell()
    levels = [np.concatenate([np.empty(0, dtype=LEAF), *parts])]
    while len(levels[0]) > _NODE_ITEMS:
        firsts = np.arange(0, len(levels[0]), _NODE_ITEMS)
        lasts = np.minimum(firsts + _NODE_ITEMS, len(levels[0])) - 1
        above = np.empty(len(firsts), dtype=_BRANCH)
        for field, at in (("chrom", firsts), ("start", firsts), ("last_chrom", lasts), ("end", lasts)):
            above[field] = levels[0][field][at]
        levels.insert(0, above)
    leaves = levels[-1]
    first, last = (leaves[0], leaves[-1]) if len(leaves) else (np.zeros(1, dtype=LEAF)[0],) * 2
    span = int(first["chrom"]), int(first["start"]), int(last["last_chrom"]), int(last["end"])
    stream.write(_INDEX.pack(_INDEX_MAGIC, _NODE_ITEMS, len(leaves), *span, end_of_data, BLOCK_ROWS, 0))
    for items, below in zip(levels, [*levels[1:], None]):
        if below is not None:
            nodes = math.ceil(len(items) / _NODE_ITEMS)
            next_level = stream.tell() + nodes * _NODE.size + items.nbytes
            step = _NODE.size + _NODE_ITEMS * below.dtype.itemsize
            items["offset"] = next_level + step * np.arange(len(items), dtype=np.uint64)
        for begin in range(0, max(len(items), 1), _NODE_ITEMS):
            node = items[begin : begin + _NODE_ITEMS]
            stream.write(_NODE.pack(below is None, 0, len(node)) + node.tobytes())


def _split(rows: np.ndarray, size: int) -> np.ndarray:
    """Intervals as records for zooming, cut at multiples of `size`."""
    start, end = rows["start"].astype(np.int64), rows["end"].astype(np.int64)
    bins = (end - 1) // size - start // size + 1
    row = np.repeat(np.arange(len(rows)), bins)
    at = (start // size)[row] + np.arange(len(row)) - np.repeat(np.cumsum(bins) - bins, bins)
    pieces = np.empty(len(row), dtype=_RECORD)
    pieces["chrom"] = rows["chrom"][row]
    pieces["start"] = np.maximum(start[row], at * size)
    pieces["end"] = np.minimum(end[row], (at + 1) * size)
    pieces["bases"] = pieces["end"] - pieces["start"]
    pieces["low"] = pieces["high"] = rows["value"][row]
    pieces["total"] = pieces["low"] * pieces["bases"]
    pieces["squares"] = pieces["low"] * pieces["total"]
    return pieces


def _zoom(records: np.ndarray, size: int) -> np.ndarray:
    """Join the records of every `size` bases, at whose multiples they are cut."""
    at = records["start"].astype(np.int64) // size
    new = (np.diff(records["chrom"]) != 0) | (np.diff(at) != 0)
    firsts = np.append(0, np.nonzero(new)[0] + 1)
    joined = records[firsts]
    joined["end"] = records["end"][np.append(firsts[1:], len(records)) - 1]
    joined["low"] = np.minimum.reduceat(records["low"], firsts)
    joined["high"] = np.maximum.reduceat(records["high"], firsts)
    for field in ("bases", "total", "squares"):
        joined[field] = np.add.reduceat(records[field], firsts, dtype=float)
    return joined


def _write_zooms(stream: BinaryIO, records: BinaryIO, size: int, directory: str) -> list[bytes]:
    """Write summaries for zooming, each coarser than the one before, from records of `size` bases; give the headers."""
    headers: list[bytes] = []
    while records.tell() and len(headers) < _MAX_ZOOMS and size <= MAX_LENGTH:
        count = records.tell() // _RECORD.itemsize
        data_offset = stream.tell()
        stream.write(struct.pack("<I", count))
        records.seek(0)
        leaves = []
        coarser = tempfile.TemporaryFile(dir=directory)
        while data := records.read(BATCH * _RECORD.itemsize):
            batch = np.frombuffer(data, dtype=_RECORD)
            for first in range(0, len(batch), BLOCK_ROWS):
                block = batch[first : first + BLOCK_ROWS]
                packed = zlib.compress(block.tobytes(), ZLIB_LEVEL)
                span = block["chrom"][0], block["start"][0], block["chrom"][-1], block["end"][-1]
                leaves.append((*span, stream.tell(), len(packed)))
                stream.write(packed)
            coarser.write(_zoom(batch, size * ZOOM_FACTOR).tobytes())
        headers.append(_ZOOM_HEADER.pack(size, 0, data_offset, stream.tell()))
        _write_index(stream, [np.array(leaves, dtype=LEAF)])
        records.close()
        records, size = coarser, size * ZOOM_FACTOR
        if count <= BLOCK_ROWS:
            break
    records.close()
    return headers
