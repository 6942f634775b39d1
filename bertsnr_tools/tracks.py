"""Values along the genome as bedGraph and bigWig. This module alone imports pyBigWig."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .errors import DataError, UsageError
from .regions import Interval
from .streams import replacing


def bedgraph_lines(place: Interval, values: np.ndarray) -> str:
    """One line for each base that has a value: chrom, start, end, value.

    Parameters
    ----------
    values : shape (place.end - place.start,), in forward order; NaN has no line
    """
    known = np.nonzero(np.isfinite(values))[0]
    return "".join([f"{place.chrom}\t{at}\t{at + 1}\t{value:.6g}\n" for at, value in zip((known + place.start).tolist(), values[known].tolist())])


def aligned(values: Sequence[np.ndarray], anchors: Sequence[int]) -> tuple[np.ndarray, int]:
    """Values of sequences below each other, so that their anchors share a column.

    Parameters
    ----------
    values : of each sequence, shape (length,)
    anchors : a position in each sequence, counted from 0

    Returns
    -------
    matrix, float32, shape (n, any), NaN where a sequence does not reach; and the position of its first column, the anchor being 0
    """
    first = -max(anchors)
    after = max(len(row) - anchor for row, anchor in zip(values, anchors))
    matrix = np.full((len(values), after - first), np.nan, dtype=np.float32)
    for line, row, anchor in zip(matrix, values, anchors):
        line[-first - anchor : -first - anchor + len(row)] = row
    return matrix, first


def check_bigwig(path: str) -> None:
    """Find out before the work begins whether `path` can become a bigWig file.

    Raises
    ------
    UsageError : it is a standard stream.
    """
    if path == "-":
        raise UsageError("a bigWig file cannot be written to standard output: --bigwig FILE")


def write_bigwig(path: str, tracks: Iterable[tuple[Interval, np.ndarray]]) -> None:
    """Write per-base values as bigWig, chromosomes in the order of their names, as long as their last base that was looked at.

    Parameters
    ----------
    tracks : places and their values as for `bedgraph_lines`, in any order

    Raises
    ------
    DataError : two places share a base, which bigWig cannot hold, or there is no value at all.
    """
    import pyBigWig

    chroms: dict[str, list[tuple[Interval, np.ndarray]]] = {}
    for place, values in tracks:
        chroms.setdefault(place.chrom, []).append((place, values))
    for parts in chroms.values():
        parts.sort(key=lambda part: part[0].start)
        for (one, _), (other, _) in zip(parts, parts[1:]):
            if other.start < one.end:
                raise DataError(f"bigWig holds one value for a base, but {one} and {other} overlap: leave one out, or write bedGraph", path)
    if not any(np.isfinite(values).any() for parts in chroms.values() for _, values in parts):
        raise DataError("there is no value to write", path)
    with replacing(path) as temporary:
        file = pyBigWig.open(temporary, "w")
        file.addHeader([(chrom, parts[-1][0].end) for chrom, parts in sorted(chroms.items())])
        for chrom, parts in sorted(chroms.items()):
            for place, values in parts:
                known = np.nonzero(np.isfinite(values))[0]
                for run in np.split(known, np.nonzero(np.diff(known) > 1)[0] + 1):
                    if len(run):
                        file.addEntries(chrom, int(place.start + run[0]), values=values[run].astype(np.float64), span=1, step=1)
        file.close()
