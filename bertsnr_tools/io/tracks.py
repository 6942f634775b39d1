"""Formats of genome browsers: BED and narrowPeak lines, track lines, bedGraph and bigWig."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np

from ..errors import DataError, UsageError
from .files import error_text, replace_atomically

STRAND_COLOURS = {"+": "0,90,181", "-": "220,50,32"}
LIGHTEST_GREY = 220  # of a site with score 0
MAX_TRACK_NAME, MAX_TRACK_DESCRIPTION = 15, 60  # characters, limits of the UCSC browser
ENTRIES_PER_CALL = 100_000  # bigWig entries passed to pyBigWig together


class ScoredSite(Protocol):
    """A site that can be written as BED."""

    @property
    def chrom(self) -> str: ...
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def score(self) -> float: ...
    @property
    def strand(self) -> str: ...


def bed_line(site: ScoredSite, colour: str | None = None) -> str:
    """BED6, or BED9 with a colour: "strand", or "score" for a grey that darkens with the score."""
    line = f"{site.chrom}\t{site.start}\t{site.end}\t{site.name}\t{round(1000 * site.score)}\t{site.strand}"
    if not colour:
        return f"{line}\n"
    grey = round(LIGHTEST_GREY * (1 - site.score))
    rgb = STRAND_COLOURS[site.strand] if colour == "strand" else f"{grey},{grey},{grey}"
    return f"{line}\t{site.start}\t{site.end}\t{rgb}\n"


def narrowpeak_line(site: ScoredSite, signal: float, neg_log10_p: float, neg_log10_q: float, summit: int) -> str:
    """narrowPeak; an unknown p-value or q-value is -1, `summit` counts from the start of the site."""
    return f"{bed_line(site)[:-1]}\t{signal:.4f}\t{neg_log10_p:.4f}\t{neg_log10_q:.4f}\t{summit}\n"


def track_line(kind: str, name: str, description: str, genome: str) -> str:
    """The track line of the UCSC genome browser, which then rejects the data for other genomes.

    Parameters
    ----------
    kind : "bed", "bed9", "narrowpeak" or "bedgraph"
    genome : UCSC's name of the assembly, such as "hg38"
    """
    settings = {
        "bed": "useScore=1",
        "bed9": "itemRgb=On",
        "narrowpeak": "",
        "bedgraph": "visibility=full viewLimits=0:1",
    }
    types = {"narrowpeak": "type=narrowPeak ", "bedgraph": "type=bedGraph "}
    quoted_name = f'"{_printable(name)[:MAX_TRACK_NAME]}"'
    quoted_description = f'"{_printable(description)[:MAX_TRACK_DESCRIPTION]}"'
    line = f"track {types.get(kind, '')}name={quoted_name} description={quoted_description} db={genome} color=0,90,181"
    return f"{line} {settings[kind]}".rstrip() + "\n"


def _printable(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable() and letter not in "\"'")


def bedgraph_lines(chrom: str, start: int, values: np.ndarray) -> str:
    """One line for each run of equal values: chrom, start, end, value.

    Parameters
    ----------
    start : position of the first base, 0-based
    values : in forward order, shape (n,); NaN gives no line
    """
    runs = constant_runs(values)
    rows = zip((runs.starts + start).tolist(), (runs.ends + start).tolist(), runs.values.tolist())
    return "".join([f"{chrom}\t{first}\t{end}\t{value:.6g}\n" for first, end, value in rows])


def check_bigwig(path: str) -> None:
    """Check before the work begins that bigWig can be written to `path`.

    Raises
    ------
    UsageError : it is a standard stream.
    """
    if path == "-":
        raise UsageError("a bigWig file cannot be written to standard output; give a file name")


class _Part(NamedTuple):
    """Intervals of one call of `BigWig.add` in the temporary file."""

    start: int  # first base, 0-based
    rows: int
    offset: int  # bytes


class BigWig:
    """Collects values in any order and writes them as a bigWig file.

    The values wait in a temporary file, because a bigWig file begins with the lengths of all chromosomes and stores
    one chromosome after another.

    Parameters
    ----------
    path : output file, which `write` creates
    lengths : chromosome sizes; without them, a chromosome ends at the last base that was added
    merge : keep the maximum where values overlap; otherwise an overlap is an error
    """

    def __init__(self, path: str, lengths: Mapping[str, int] | None = None, merge: bool = False):
        self._path, self._lengths, self._merge = path, lengths, merge
        self._spool = tempfile.TemporaryFile()
        self._parts: dict[str, list[_Part]] = {}
        self._ends: dict[str, int] = {}

    def add(self, chrom: str, start: int, values: np.ndarray) -> None:
        """Add the values of bases from `start` (0-based) on, shape (n,); NaN is a missing value."""
        runs = constant_runs(values)
        self._ends[chrom] = max(self._ends.get(chrom, 0), start + len(values))
        if not len(runs.starts):
            return
        rows = np.rec.fromarrays([runs.starts + start, runs.ends + start, runs.values], dtype=_INTERVAL)
        self._parts.setdefault(chrom, []).append(_Part(start, len(rows), self._spool.tell()))
        try:
            self._spool.write(rows.tobytes())
        except OSError as error:
            problem = f"cannot store its values in {tempfile.gettempdir()} ({error_text(error)}); set TMPDIR"
            raise DataError(problem, self._path) from error

    def write(self) -> None:
        """Write the file, chromosomes in the order of their names.

        Raises
        ------
        DataError : no values, or several for a base.
        """
        import pyBigWig

        if not self._parts:
            raise DataError("no scored bases; nothing to write", self._path)
        lengths = self._lengths or self._ends
        with replace_atomically(self._path) as temporary:
            file = pyBigWig.open(temporary, "w")
            file.addHeader([(chrom, lengths[chrom]) for chrom in sorted(lengths)])
            for chrom in sorted(self._parts):
                for rows in self._disjoint(chrom):
                    file.addEntries(
                        [chrom] * len(rows),
                        rows["start"].astype(np.int64),
                        ends=rows["end"].astype(np.int64),
                        values=rows["value"].astype(np.float64),
                    )
            file.close()
        self._spool.close()

    def _disjoint(self, chrom: str) -> Iterator[np.ndarray]:
        """Disjoint intervals of a chromosome in ascending order; overlapping parts are merged together."""
        overlapping: list[np.ndarray] = []
        reach = -1
        for part in sorted(self._parts[chrom]):
            self._spool.seek(part.offset)
            rows = np.frombuffer(self._spool.read(part.rows * _INTERVAL.itemsize), dtype=_INTERVAL)
            if overlapping and part.start >= reach:
                yield from self._merged(chrom, overlapping)
                overlapping = []
            overlapping.append(rows)
            reach = max(reach, int(rows["end"][-1]))
        yield from self._merged(chrom, overlapping)

    def _merged(self, chrom: str, parts: list[np.ndarray]) -> Iterator[np.ndarray]:
        rows = np.sort(np.concatenate(parts), order="start")
        clash = np.nonzero(rows["start"][1:] < np.maximum.accumulate(rows["end"])[:-1])[0]
        if len(clash) and not self._merge:
            base = int(rows["start"][clash[0] + 1])
            problem = f"{chrom}:{base}-{base + 1} has several values, but bigWig stores one per base"
            raise DataError(f"{problem}; remove overlapping records, or write bedGraph", self._path)
        if len(clash):
            first = int(rows["start"][0])
            values = np.full(int(rows["end"].max()) - first, np.nan, dtype=np.float32)
            for start, end, value in rows.tolist():
                values[start - first : end - first] = np.fmax(values[start - first : end - first], value)
            runs = constant_runs(values)
            rows = np.rec.fromarrays([runs.starts + first, runs.ends + first, runs.values], dtype=_INTERVAL)
        for begin in range(0, len(rows), ENTRIES_PER_CALL):
            yield rows[begin : begin + ENTRIES_PER_CALL]


_INTERVAL = np.dtype([("start", np.uint32), ("end", np.uint32), ("value", np.float32)])


class Runs(NamedTuple):
    """Maximal runs of equal values: starts and ends (half-open, from the first base) and values, each of shape (n,)."""

    starts: np.ndarray
    ends: np.ndarray
    values: np.ndarray


def constant_runs(values: np.ndarray) -> Runs:
    """The maximal runs of equal values, shape (n,); NaN belongs to none."""
    values = np.asarray(values, dtype=np.float32)
    if not len(values):
        return Runs(np.empty(0, dtype=int), np.empty(0, dtype=int), values)
    starts = np.append(0, np.nonzero(values[1:] != values[:-1])[0] + 1)
    ends = np.append(starts[1:], len(values))
    known = np.isfinite(values[starts])
    return Runs(starts[known], ends[known], values[starts[known]])
