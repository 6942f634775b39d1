"""Called sites of BED files as columns of numbers, 42 bytes a site."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import DataError, UsageError
from ..io.files import file_stem
from ..io.intervals import BedRow, Interval, bed_rows, has_strand
from ..log import logger

MAX_FACTORS = 2000  # distinct names in column 4; more are names of single sites
MAX_NOTES = 20  # comment lines of a file that are kept
NARROWPEAK, BIGBED = 10, 13  # columns; the latter of the bigBed files of `bertsnr predict`, as text
TYPES = {
    "sample": "H",
    "factor": "H",
    "chrom": "I",
    "start": "q",
    "end": "q",
    "reverse": "b",
    "score": "f",
    "neg_log10_p": "f",
    "neg_log10_q": "f",
    "line": "I",
}
# names of columns in a header line (#chrom …), for BED with columns of its own
HEADER_NAMES = {
    "neg_log10_p": ("neg_log10_p", "neglog10p", "pvalue"),
    "neg_log10_q": ("neg_log10_q", "neglog10q", "qvalue"),
}


@dataclass
class SiteFile:
    """A file of sites.

    Attributes
    ----------
    path : as given, "-" for standard input
    label : short name that no other file has
    sites, columns : number of sites, and of columns of the first one
    without_strand : number of sites without a strand
    notes : its first comment, `track` and `browser` lines
    """

    path: str
    label: str
    sites: int = 0
    columns: int = 0
    without_strand: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Sites:
    """Sites of several files as columns, each of shape (n,), in the order of the files.

    Attributes
    ----------
    files, factors, chroms : what `sample`, `factor` and `chrom` count, from 0; chromosomes are sorted by `chrom_key`
    columns : by the names of `TYPES`; start and end are 0-based, half-open, unknown numbers are NaN
    """

    files: list[SiteFile]
    factors: list[str]
    chroms: list[str]
    columns: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.columns["start"])

    def __getitem__(self, column: str) -> np.ndarray:
        return self.columns[column]

    def intervals(self, sample: int) -> list[Interval]:
        """The sites of a file, each named by its factor."""
        chosen = np.nonzero(self["sample"] == sample)[0]
        names = ("chrom", "start", "end", "factor", "reverse", "line")
        rows = zip(*(self[name][chosen].tolist() for name in names))
        return [
            Interval(self.chroms[chrom], start, end, self.factors[factor], "-" if reverse else "+", line)
            for chrom, start, end, factor, reverse, line in rows
        ]

    def without_repeats(self) -> Sites:
        """The first of equal sites of each file, with a warning: overlapping regions call a site several times."""
        names = ("sample", "factor", "chrom", "start", "end", "reverse")
        keys = np.stack([self[name].astype(np.int64) for name in names])
        first = np.sort(np.unique(keys, axis=1, return_index=True)[1])
        columns = {name: values[first] for name, values in self.columns.items()}
        counts = np.bincount(columns["sample"], minlength=len(self.files)).tolist()
        for file, count in zip(self.files, counts):
            if count < file.sites:
                logger.warning("%s: %d duplicate sites count once", file.path, file.sites - count)
        files = [replace(file, sites=count) for file, count in zip(self.files, counts)]
        return Sites(files, self.factors, self.chroms, columns)

    def best(self, count: int) -> np.ndarray:
        """Indices of the `count` sites with the lowest p-values or else the highest scores, in their order."""
        if len(self) <= count:
            return np.arange(len(self))
        p = self["neg_log10_p"]
        rank = self["score"] if np.isnan(p).all() else p
        return np.sort(np.argsort(-np.nan_to_num(rank, nan=-np.inf), kind="stable")[:count])


def read_sites(paths: Sequence[str]) -> Sites:
    """Read called sites from BED3 to BED12, BED with further columns, and narrowPeak files; "-" is standard input.

    Column 4 is the factor; a site without a name has the name of its file. p- and q-values (-log10) are columns 8 and 9
    of narrowPeak, columns 11 and 12 of bigBed files of `bertsnr predict` as text, or those that a header line
    (`#chrom …`) names.

    Raises
    ------
    UsageError : a file is given twice.
    DataError : see `io.intervals.read_bed`; a score, p- or q-value that is not a number; no site; or more than
        `MAX_FACTORS` names.
    """
    reader = _Reader(file_labels(paths))
    for file in reader.files:
        reader.next_file()
        for row in bed_rows(file.path):
            reader.add(row)
    if not reader.columns["start"]:
        raise DataError("contains no sites", ", ".join("standard input" if path == "-" else path for path in paths))
    columns = {name: np.array(values) for name, values in reader.columns.items()}
    chroms = sorted(reader.chroms, key=chrom_key)
    codes = {chrom: code for code, chrom in enumerate(chroms)}
    columns["chrom"] = np.array([codes[chrom] for chrom in reader.chroms])[columns["chrom"]]
    return Sites(reader.files, list(reader.factors), chroms, columns)


def file_labels(paths: Sequence[str]) -> list[SiteFile]:
    """Label files by their base name without its last ending, or by their path where that is not unique.

    Raises
    ------
    UsageError : a file is given twice.
    """
    for path in paths:
        if paths.count(path) > 1:
            raise UsageError(f"{'standard input (-)' if path == '-' else path} is given twice")
    short = ["standard input" if path == "-" else file_stem(path) for path in paths]
    return [SiteFile(path, path if short.count(stem) > 1 else stem) for path, stem in zip(paths, short)]


class _Reader:
    """Collects the columns of lines."""

    def __init__(self, files: list[SiteFile]):
        self.files = files
        self.columns: dict[str, array[Any]] = {name: array(code) for name, code in TYPES.items()}
        self.factors: dict[str, int] = {}
        self.chroms: dict[str, int] = {}
        self._sample = -1
        self._header: list[str] = []  # column names of the current file

    def next_file(self) -> None:
        """Begin with the next file."""
        self._sample += 1
        self._header = []

    def add(self, row: BedRow) -> None:
        """Take a line of the current file."""
        file = self.files[self._sample]
        if not row.interval:
            self._note(file, row.fields[0])
            return
        file.sites += 1
        file.without_strand += not has_strand(row)
        file.columns = file.columns or len(row.fields)
        name = file.label if row.interval.name == "." else row.interval.name
        factor = self.factors.setdefault(name, len(self.factors))
        if factor == MAX_FACTORS:
            problem = f"column 4 contains more than {MAX_FACTORS:,} names (such as {name[:40]!r}); expected factors"
            raise DataError(problem, file.path, row.line)
        values: dict[str, float] = {
            "sample": self._sample,
            "factor": factor,
            "chrom": self.chroms.setdefault(row.interval.chrom, len(self.chroms)),
            "start": row.interval.start,
            "end": row.interval.end,
            "reverse": row.interval.strand == "-",
            "score": _number(row, 4, file.path) if len(row.fields) > 4 else math.nan,
            "line": row.line,
        }
        for name in HEADER_NAMES:
            at = self._column(name, row.fields)
            value = math.nan if at is None else _number(row, at, file.path)
            values[name] = math.nan if value < 0 else value
        for name, value in values.items():
            self.columns[name].append(value)

    def _note(self, file: SiteFile, text: str) -> None:
        if len(file.notes) < MAX_NOTES:
            file.notes.append(text[:500])
        words = text.lower().lstrip("#").strip().split("\t")
        if words[0] in ("chrom", "chr") and len(words) > 2:
            self._header = words

    def _column(self, name: str, fields: list[str]) -> int | None:
        """The index of the column of p- or q-values."""
        for known in HEADER_NAMES[name]:
            if known in self._header and self._header.index(known) < len(fields):
                return self._header.index(known)
        if self._header:
            return None
        is_bigbed = len(fields) == BIGBED and fields[3] == fields[-1]  # unlike BED12 with a further column
        first = 7 if len(fields) == NARROWPEAK else 10 if is_bigbed else None
        return first if first is None or name == "neg_log10_p" else first + 1


def _number(row: BedRow, column: int, path: str) -> float:
    """The number in a column; NaN for "." or nothing."""
    text = row.fields[column]
    if text in (".", ""):
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        raise DataError(f"column {column + 1} is {text[:40]!r}; expected a number", path, row.line)
    return value


def chrom_key(name: str) -> tuple[int, int, str]:
    """Sorts chr2 before chr10, and chromosomes with letters after those with numbers."""
    plain = name.removeprefix("chr")
    return (0, int(plain), name) if plain.isascii() and plain.isdigit() else (1, len(plain) > 2, name)


def groups(codes: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """For each code from 0 to `count` - 1, the indices with this code, in their order."""
    order = np.argsort(codes, kind="stable")
    yield from np.split(order, np.searchsorted(codes[order], np.arange(1, count)))
