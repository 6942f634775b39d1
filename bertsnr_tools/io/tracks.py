"""What genome browsers read: lines of sites, track lines, bedGraph and bigWig. This module alone imports pyBigWig."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..errors import DataError, UsageError
from .files import error_text, replace_atomically

STRAND_COLOURS = {"+": "0,90,181", "-": "220,50,32"}


def bed_line(site: Any, colour: str | None = None) -> str:
    """BED6 of an `inference.Hit`, or BED9 with a colour: "strand", or "score" for a grey that is the darker the higher the score."""
    line = f"{site.chrom}\t{site.start}\t{site.end}\t{site.name}\t{round(1000 * site.score)}\t{site.strand}"
    if not colour:
        return f"{line}\n"
    grey = round(220 * (1 - site.score))
    return f"{line}\t{site.start}\t{site.end}\t{STRAND_COLOURS[site.strand] if colour == 'strand' else f'{grey},{grey},{grey}'}\n"


def narrowpeak_line(site: Any, signal: float, p: float, q: float, summit: int) -> str:
    """BED6 and four columns more; `p` and `q` are -log10, -1 where they are not known, `summit` counts from the start."""
    return f"{bed_line(site)[:-1]}\t{signal:.4f}\t{p:.4f}\t{q:.4f}\t{summit}\n"


def track_line(kind: str, name: str, description: str, genome: str) -> str:
    """The line before data that are sent to the UCSC genome browser, which refuses those of another `genome` then.

    Parameters
    ----------
    kind : "bed", "bed9", "narrowpeak" or "bedgraph"
    """
    special = {
        "bed": "useScore=1",
        "bed9": "itemRgb=On",
        "narrowpeak": "",
        "bedgraph": "visibility=full viewLimits=0:1",
    }[kind]
    types = {"narrowpeak": "type=narrowPeak ", "bedgraph": "type=bedGraph "}
    clean = lambda text, most: "".join(letter for letter in text if letter.isprintable() and letter not in "\"'")[:most]
    return (
        f'track {types.get(kind, "")}name="{clean(name, 15)}" description="{clean(description, 60)}" db={genome} color=0,90,181 {special}'.rstrip()
        + "\n"
    )


def bedgraph_lines(chrom: str, start: int, values: np.ndarray) -> str:
    """One line for each stretch of one value: chrom, start, end, value.

    Parameters
    ----------
    start : of the first base, 0-based
    values : in forward order, shape (n,); NaN has no line
    """
    starts, ends, heights = constant_runs(values)
    return "".join(
        [
            f"{chrom}\t{a}\t{b}\t{value:.6g}\n"
            for a, b, value in zip((starts + start).tolist(), (ends + start).tolist(), heights.tolist())
        ]
    )


def check_bigwig(path: str) -> None:
    """Find out before the work begins whether `path` can become a bigWig file.

    Raises
    ------
    UsageError : it is a standard stream.
    """
    if path == "-":
        raise UsageError("a bigWig file cannot be written to standard output: --bigwig FILE")


class BigWig:
    """Values on their way into a bigWig file, in any order.

    They wait in a temporary file, because a bigWig file begins with the lengths of all chromosomes and holds them one after the other.

    Parameters
    ----------
    path : of the file; nothing is there before `write`
    lengths : of the chromosomes; without, each is as long as its last base that was looked at
    merge : where several values fall on a base, the greatest counts; without, that is an error
    """

    def __init__(self, path: str, lengths: Mapping[str, int] | None = None, merge: bool = False):
        self._path, self._lengths, self._merge = path, lengths, merge
        self._spool = tempfile.TemporaryFile()
        self._parts: dict[str, list[tuple[int, int, int]]] = {}  # start, intervals, and where they are in the spool
        self._ends: dict[str, int] = {}

    def add(self, chrom: str, start: int, values: np.ndarray) -> None:
        """Take the values of bases from `start` (0-based) on, shape (n,); NaN is no value."""
        starts, ends, heights = constant_runs(values)
        self._ends[chrom] = max(self._ends.get(chrom, 0), start + len(values))
        if len(starts):
            rows = np.rec.fromarrays([starts + start, ends + start, heights], dtype=_INTERVAL)
            self._parts.setdefault(chrom, []).append((start, len(rows), self._spool.tell()))
            try:
                self._spool.write(rows.tobytes())
            except OSError as error:
                raise DataError(
                    f"its values cannot be kept in {tempfile.gettempdir()} ({error_text(error)})", self._path
                ) from error

    def write(self) -> None:
        """Write the file, chromosomes in the order of their names.

        Raises
        ------
        DataError : there is no value, or several for a base.
        """
        import pyBigWig

        if not self._parts:
            raise DataError("there is no value to write", self._path)
        lengths = self._lengths or self._ends
        with replace_atomically(self._path) as temporary:
            file = pyBigWig.open(temporary, "w")
            file.addHeader([(chrom, lengths[chrom]) for chrom in sorted(lengths)])
            for chrom in sorted(self._parts):
                for rows in self._rows(chrom):
                    file.addEntries(
                        [chrom] * len(rows),
                        rows.start.astype(np.int64),
                        ends=rows.end.astype(np.int64),
                        values=rows.value.astype(np.float64),
                    )
            file.close()
        self._spool.close()

    def _rows(self, chrom: str) -> Iterator[np.recarray]:
        """Disjoint intervals of a chromosome in rising order; those of several parts together where these overlap."""
        held: list[np.ndarray] = []
        reach = -1
        for start, count, at in sorted(self._parts[chrom]):
            self._spool.seek(at)
            rows = np.frombuffer(self._spool.read(count * _INTERVAL.itemsize), dtype=_INTERVAL)
            if held and start >= reach:
                yield from self._joined(chrom, held)
                held = []
            held.append(rows)
            reach = max(reach, int(rows["end"][-1]))
        yield from self._joined(chrom, held)

    def _joined(self, chrom: str, held: list[np.ndarray]) -> Iterator[np.recarray]:
        rows = np.sort(np.concatenate(held), order="start")
        clash = np.nonzero(rows["start"][1:] < np.maximum.accumulate(rows["end"])[:-1])[0]
        if len(clash) and not self._merge:
            at = int(rows["start"][clash[0] + 1])
            raise DataError(
                f"bigWig holds one value for a base, but {chrom}:{at}-{at + 1} has several: leave sequence that overlaps out, or write bedGraph",
                self._path,
            )
        if len(clash):
            first = int(rows["start"][0])
            values = np.full(int(rows["end"].max()) - first, np.nan, dtype=np.float32)
            for start, end, value in rows.tolist():
                values[start - first : end - first] = np.fmax(values[start - first : end - first], value)
            starts, ends, heights = constant_runs(values)
            rows = np.rec.fromarrays([starts + first, ends + first, heights], dtype=_INTERVAL)
        for begin in range(0, len(rows), 100_000):
            yield rows[begin : begin + 100_000].view(np.recarray)


_INTERVAL = np.dtype([("start", np.uint32), ("end", np.uint32), ("value", np.float32)])


def constant_runs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The longest intervals of one value: starts, ends (from the first base, half-open) and values; NaN has none."""
    values = np.asarray(values, dtype=np.float32)
    if not len(values):
        return np.empty(0, dtype=int), np.empty(0, dtype=int), values
    starts = np.append(0, np.nonzero(values[1:] != values[:-1])[0] + 1)
    ends = np.append(starts[1:], len(values))
    known = np.isfinite(values[starts])
    return starts[known], ends[known], values[starts[known]]
