"""Formats of genome browsers: BED and narrowPeak lines, track lines, bedGraph and bigWig."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple, Protocol

import numpy as np

from ..errors import DataError, UsageError
from ..log import logger
from .bbi import INTERVAL, MAX_LENGTH, check_complete
from .bigbed import Column, autosql
from .bigwig import ROW, write_bigwig
from .files import check_regular, error_text, replace_atomically

STRAND_COLOURS = {"+": "0,90,181", "-": "220,50,32"}
LIGHTEST_GREY = 220  # of a site with score 0
MAX_TRACK_NAME, MAX_TRACK_DESCRIPTION = 15, 60  # characters, limits of the UCSC browser
ROWS_TOGETHER = 100_000  # bigWig intervals that are written together
INTERVALS_PER_ZOOM_RECORD = 10
_UCSC_CHROM = re.compile(r"chr\w+")


SITE_COLUMNS = (  # of sites in bigBed, after BED9
    Column("float", "logOdds", "Natural logarithm of the odds of the site"),
    Column("float", "negLog10P", "-log10 of the p-value, -1 if unknown"),
    Column("float", "negLog10Q", "-log10 of the q-value, -1 if unknown"),
    Column("string", "factor", "Transcription factor"),
)


def site_schema(with_p: bool) -> str:
    """The autoSql of sites: BED9, log odds, p and q if they are known, and factor."""
    columns = SITE_COLUMNS if with_p else SITE_COLUMNS[-1:]
    return autosql("bertsnrSites", "Transcription factor binding sites by bertsnr_tools", columns)


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


def bed_line(site: ScoredSite, colour: str | None = None, score: int | None = None) -> str:
    """BED6, or BED9 with a colour: "strand", or "score" for a grey that darkens with the score.

    Parameters
    ----------
    score : column 5, from 0 to 1000; by default 1000 times the site's score
    """
    column = round(1000 * site.score) if score is None else score
    line = f"{site.chrom}\t{site.start}\t{site.end}\t{site.name}\t{column}\t{site.strand}"
    if not colour:
        return f"{line}\n"
    grey = round(LIGHTEST_GREY * (1 - site.score))
    rgb = STRAND_COLOURS[site.strand] if colour == "strand" else f"{grey},{grey},{grey}"
    return f"{line}\t{site.start}\t{site.end}\t{rgb}\n"


def jaspar_score(neg_log10_p: float) -> int:
    """Column 5 as in JASPAR's tracks: 100 times -log10 p, at most 1000; 0 where p is unknown (-1)."""
    return min(1000, max(0, round(100 * neg_log10_p)))


def narrowpeak_columns(signal: float, neg_log10_p: float, neg_log10_q: float) -> str:
    """Columns 7 to 9 of narrowPeak; an unknown p-value or q-value is -1."""
    return f"{signal:.4f}\t{neg_log10_p:.4f}\t{neg_log10_q:.4f}"


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


def warn_of_names(names: Iterable[str], source: str) -> None:
    """Warn of sequences that do not have the name of a chromosome at UCSC, such as chr7.

    Parameters
    ----------
    source : of their sites, for the message
    """
    odd = [name for name in names if not _UCSC_CHROM.fullmatch(name)]
    if odd:
        shown = odd[0] + (f" and {len(odd) - 1:,} more" if len(odd) > 1 else "")
        problem = "%s: UCSC may refuse sites on %s; it expects names of chromosomes, such as chr7"
        remedy = "give a genome (-f), or FASTA with headers of UCSC, or named chrom:from-to, as long as that region"
        logger.warning(f"{problem}: {remedy}", source, shown)


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
    UsageError : it is a standard stream, a pipe or a device.
    """
    if path == "-":
        raise UsageError("a bigWig file cannot be written to standard output; give a file name")
    check_regular(path, "a bigWig file")


def _too_long(problem: str) -> str:
    return f"{problem}, but bigWig supports at most {MAX_LENGTH:,} bp; write bedGraph"


class _Part(NamedTuple):
    """Ascending intervals of one or several calls of `BigWig.add` in the temporary file."""

    start: int  # first base, 0-based
    rows: int
    offset: int  # bytes


class BigWig:
    """Collects values in any order and writes them as a bigWig file.

    The values wait in a temporary file, because a bigWig file begins with the lengths of all chromosomes and stores
    one chromosome after another. A failure of `add` is logged, and `write` raises the error at the end, so that the
    other outputs are not lost.

    Parameters
    ----------
    path : output file, which `write` creates
    lengths : chromosome sizes; without them, a chromosome ends at the last base that was added
    merge : keep the maximum where values overlap; otherwise an overlap is an error

    Raises
    ------
    DataError : a chromosome is longer than a bigWig file supports.
    """

    def __init__(self, path: str, lengths: Mapping[str, int] | None = None, merge: bool = False):
        self._path, self._lengths, self._merge = path, lengths, merge
        self._spool = tempfile.TemporaryFile()
        self._error: DataError | None = None
        self._parts: dict[str, list[_Part]] = {}
        self._ends: dict[str, int] = {}
        self._last: dict[str, tuple[int, float]] = {}  # end and value of the last interval
        self._rows = self._bases = 0
        for chrom, length in (lengths or {}).items():
            if length > MAX_LENGTH:
                raise DataError(_too_long(f"{chrom} has {length:,} bp"), path)

    def add(self, chrom: str, start: int, values: np.ndarray) -> None:
        """Add the values of bases from `start` (0-based) on, shape (n,); NaN is a missing value."""
        end = start + len(values)
        rows = _rows(constant_runs(values), start) if end <= MAX_LENGTH else np.empty(0, dtype=ROW)
        self.add_intervals(chrom, rows, end)

    def add_intervals(self, chrom: str, rows: np.ndarray, end: int) -> None:
        """Add disjoint intervals in ascending order, an array of `bigwig.ROW`; `end` is the end of the scored bases."""
        if self._error:
            return
        if end > MAX_LENGTH:
            self._fail(_too_long(f"{chrom} extends to base {end:,}"))
            return
        before = self._ends.get(chrom, 0)
        self._ends[chrom] = max(before, end)
        if not len(rows):
            return
        continued = self._last.get(chrom) == (rows["start"][0], rows["value"][0])
        self._last[chrom] = int(rows["end"][-1]), float(rows["value"][-1])
        self._rows += len(rows) - continued
        self._bases += int((rows["end"] - rows["start"]).sum(dtype=np.int64))
        try:
            self._add_part(chrom, _Part(int(rows["start"][0]), len(rows), self._spool.tell()), before)
            self._spool.write(rows.tobytes())
            self._spool.flush()
        except OSError as error:
            self._fail(f"cannot store its values in {tempfile.gettempdir()} ({error_text(error)}); set TMPDIR")

    def _add_part(self, chrom: str, part: _Part, end: int) -> None:
        """Add a part, or extend the last one: all earlier parts of the chromosome end by `end`."""
        parts = self._parts.setdefault(chrom, [])
        last = parts[-1] if parts else part
        follows = parts and part.start >= end and part.offset == last.offset + last.rows * ROW.itemsize
        if follows and last.rows + part.rows <= ROWS_TOGETHER:
            parts[-1] = last._replace(rows=last.rows + part.rows)
        else:
            parts.append(part)

    def _fail(self, problem: str) -> None:
        self._error = DataError(problem, self._path)
        logger.error("%s; continuing without this file", self._error)
        self._error.logged = True
        with suppress(OSError):
            self._spool.close()

    def write(self) -> None:
        """Write the file, chromosomes in the order of their names; without values, it is empty but valid.

        Raises
        ------
        DataError : a base has several values, or the file cannot be written.
        """
        if self._error:
            raise self._error
        with self._spool:
            if not self._parts:
                logger.warning("%s: no scored bases; the file has no values", self._path)
            lengths = self._lengths or self._ends
            first_zoom = INTERVALS_PER_ZOOM_RECORD * max(1, round(self._bases / max(1, self._rows)))
            with replace_atomically(self._path) as temporary:
                summary = write_bigwig(temporary, lengths, self._intervals(lengths), first_zoom)
                check_complete(temporary, self._path, len(lengths), summary.bases)

    def _intervals(self, lengths: Mapping[str, int]) -> Iterator[np.ndarray]:
        for number, chrom in enumerate(sorted(lengths)):
            if chrom not in self._parts:
                continue
            for rows in _continued(self._disjoint(chrom)):
                intervals = np.empty(len(rows), dtype=INTERVAL)
                intervals["chrom"] = number
                intervals["start"], intervals["end"], intervals["value"] = rows["start"], rows["end"], rows["value"]
                yield intervals

    def _disjoint(self, chrom: str) -> Iterator[np.ndarray]:
        """Disjoint intervals of a chromosome in ascending order; overlapping parts are merged together."""
        overlapping: list[np.ndarray] = []
        reach = -1
        for part in sorted(self._parts[chrom]):
            self._spool.seek(part.offset)
            rows = np.frombuffer(self._spool.read(part.rows * ROW.itemsize), dtype=ROW)
            if overlapping and part.start >= reach:
                yield from self._merged(chrom, overlapping)
                overlapping = []
            overlapping.append(rows)
            reach = max(reach, int(rows["end"][-1]))
        yield from self._merged(chrom, overlapping)

    def _merged(self, chrom: str, parts: list[np.ndarray]) -> Iterator[np.ndarray]:
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if np.any(rows["start"][1:] < rows["start"][:-1]):  # to sort takes half of the time, sorted rows as well
            rows = np.sort(rows, order="start")
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
            rows = _rows(runs, first)
        for begin in range(0, len(rows), ROWS_TOGETHER):
            yield rows[begin : begin + ROWS_TOGETHER]


def _continued(parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The same intervals, but one for a run of equal values that was added in several parts."""
    last = np.empty(0, dtype=ROW)
    for rows in parts:
        rows = np.concatenate([last, rows])
        begins = (rows["start"][1:] != rows["end"][:-1]) | (rows["value"][1:] != rows["value"][:-1])
        first = np.append(0, np.nonzero(begins)[0] + 1)
        if len(first) < len(rows):
            ends = rows["end"][np.append(first[1:], len(rows)) - 1]
            rows = rows[first]
            rows["end"] = ends
        yield rows[:-1]
        last = rows[-1:]
    yield last


class Runs(NamedTuple):
    """Maximal runs of equal values: starts and ends (half-open, from the first base) and values, each of shape (n,)."""

    starts: np.ndarray
    ends: np.ndarray
    values: np.ndarray


def _rows(runs: Runs, start: int) -> np.ndarray:
    rows = np.empty(len(runs.starts), dtype=ROW)
    rows["start"], rows["end"], rows["value"] = runs.starts + start, runs.ends + start, runs.values
    return rows


def constant_runs(values: np.ndarray) -> Runs:
    """The maximal runs of equal values, shape (n,); NaN belongs to none."""
    values = np.asarray(values, dtype=np.float32)
    if not len(values):
        return Runs(np.empty(0, dtype=int), np.empty(0, dtype=int), values)
    starts = np.append(0, np.nonzero(values[1:] != values[:-1])[0] + 1)
    ends = np.append(starts[1:], len(values))
    known = np.isfinite(values[starts])
    return Runs(starts[known], ends[known], values[starts[known]])
