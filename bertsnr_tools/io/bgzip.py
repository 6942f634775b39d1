"""Bgzip: gzip in blocks of at most 64 KiB, which give random access through an index of the blocks (.gzi).

pysam reads bgzip by virtual offsets only, or as sequence by an index that it does not check.

References
----------
SAM/BAM format specification, section 4.1 (the BGZF compression format)
"""

from __future__ import annotations

import zlib
from typing import BinaryIO

import numpy as np

GZIP_MAGIC = b"\x1f\x8b"
HEADER_BYTES = 18  # of a block, up to and with its size
END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")  # the empty block that ends a file
_BLOCK_BYTES = 0xFF00  # before compression; after it, at most 64 KiB
CUT = "has no bgzip EOF marker, so the file is truncated; copy or compress it again"


def is_bgzip(head: bytes) -> bool:
    """Whether the first `HEADER_BYTES` of a file begin a bgzip block."""
    return head[:4] == b"\x1f\x8b\x08\x04" and head[12:14] == b"BC"


class BgzipWriter:
    """Compress to a binary stream, which is closed with it.

    On a full disk, pysam's BGZFile prints a traceback when it is deleted; this writer raises the OSError.
    """

    def __init__(self, stream: BinaryIO):
        self._stream, self._waiting = stream, bytearray()

    def write(self, data: bytes) -> None:
        self._waiting += data
        while len(self._waiting) >= _BLOCK_BYTES:
            self._write_block()

    def _write_block(self) -> None:
        content = bytes(self._waiting[:_BLOCK_BYTES])
        del self._waiting[:_BLOCK_BYTES]
        deflate = zlib.compressobj(wbits=-15)
        packed = deflate.compress(content) + deflate.flush()
        size = (HEADER_BYTES + len(packed) + 8 - 1).to_bytes(2, "little")
        sums = zlib.crc32(content).to_bytes(4, "little") + len(content).to_bytes(4, "little")
        self._stream.write(END[: HEADER_BYTES - 2] + size + packed + sums)

    def flush(self) -> None:
        """Do nothing: blocks are written when they are full."""

    def close(self) -> None:
        with self._stream:
            if self._waiting:
                self._write_block()
            self._stream.write(END)


class TailKeeper:
    """A binary stream that ends with an EOFError if it does not end with the end-of-file block of bgzip."""

    def __init__(self, stream: BinaryIO):
        self._stream, self._tail = stream, b""

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._tail = (self._tail + data)[-len(END) :]
        if size and not data and self._tail != END:
            raise EOFError(CUT)
        return data


class BgzipBytes:
    """Random access to the uncompressed bytes of a bgzip file.

    Parameters
    ----------
    data : the compressed file
    index : content of its .gzi file

    Raises
    ------
    ValueError : `index` is not such a file.
    """

    def __init__(self, data: bytes, index: bytes):
        numbers = np.frombuffer(index[: len(index) // 8 * 8], dtype="<u8")
        if len(index) % 8 or len(numbers) != 1 + 2 * int(numbers[0] if len(numbers) else 0):
            raise ValueError("is not an index of bgzip")
        pairs = np.concatenate([[0, 0], numbers[1:]]).astype(np.int64).reshape(-1, 2)
        self._data, self._compressed, self._starts = data, pairs[:, 0], pairs[:, 1]
        self._block = (-1, b"")  # the block read last

    def __call__(self, start: int, end: int) -> bytes:
        """Bytes [start, end), fewer at the end of the file.

        Raises
        ------
        ValueError : the index does not match the file.
        """
        number = int(np.searchsorted(self._starts, start, "right")) - 1
        parts: list[bytes] = []
        at = int(self._starts[number])
        while at < end and number < len(self._starts):
            block = self._read(number)  # empty where files were concatenated
            parts.append(block[max(0, start - at) : end - at])
            at += len(block)
            number += 1
        return b"".join(parts)

    def _read(self, number: int) -> bytes:
        last, text = self._block  # another thread may replace it
        if last != number:
            begin = int(self._compressed[number])
            head = self._data[begin : begin + HEADER_BYTES]
            if head and not is_bgzip(head):
                raise ValueError("no block where its index has one")
            try:
                text = zlib.decompress(self._data[begin : begin + _block_bytes(head)], 31) if head else b""
            except zlib.error as error:
                raise ValueError(f"damaged block ({error})") from error
            self._block = (number, text)
        return text


def _block_bytes(head: bytes) -> int:
    return int.from_bytes(head[16:18], "little") + 1


def block_index(data: bytes) -> bytes:
    """The content of the .gzi file of a bgzip file: offsets of all blocks but the first, compressed and uncompressed.

    Raises
    ------
    ValueError : the file is cut or not bgzip.
    """
    offsets: list[int] = []
    compressed = uncompressed = 0
    while compressed < len(data):
        head = data[compressed : compressed + HEADER_BYTES]
        if not is_bgzip(head):
            raise ValueError(f"no bgzip block at byte {compressed}")
        compressed += _block_bytes(head)
        uncompressed += int.from_bytes(data[compressed - 4 : compressed], "little")
        offsets += (compressed, uncompressed)
    return np.array([len(offsets) // 2 - 1, *offsets[:-2]], dtype="<u8").tobytes()
