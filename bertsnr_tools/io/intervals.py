"""Intervals from BED files, region strings and FASTA headers. Coordinates are 0-based and half-open throughout.

Exceptions are strings: a region `chrom:from-to` is 1-based and inclusive, a FASTA header may be either.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ..errors import DataError, UsageError
from ..log import logger
from .files import open_input, text_lines

LONGEST = 10**12  # bp: no chromosome is longer, and sums of many such numbers fit into 64 bits
_SETTINGS = re.compile(r"(?:track|browser)(?:\s(?!\s*\d+\s+\d)|$)")  # lines for a genome browser, not chromosomes


class Interval(NamedTuple):
    """Bases [start, end) of a chromosome, read on `strand` ("+" or "-"); `summit` is a position on the chromosome."""

    chrom: str
    start: int
    end: int
    name: str = "."
    strand: str = "+"
    line: int | None = None  # 1-based line number in the BED file
    summit: int | None = None

    def __str__(self) -> str:
        return f"{self.chrom}:{self.start}-{self.end}({self.strand})"


class BedRow(NamedTuple):
    """A line of a BED file: its number, its columns, and its interval; a comment or setting has no interval."""

    line: int
    fields: list[str]
    interval: Interval | None


def read_bed(path: str, *, summits: bool = False) -> Iterator[Interval]:
    """Read a BED3 to BED12 file ("-" is standard input) in its order; strand "." is read as "+".

    Blank lines, comments, `track` and `browser` lines are skipped.

    Parameters
    ----------
    summits : read the summit in lines of ten columns, which are narrowPeak

    Raises
    ------
    DataError : a line with fewer than three columns, a coordinate that is not an integer, an empty or negative
        interval, a strand other than + - ., or a summit outside of the interval
    """
    return (row.interval for row in bed_rows(path, summits=summits) if row.interval)


def read_sites(path: str) -> tuple[list[Interval], int]:
    """As `read_bed`; the second value is the number of sites without a strand, which are read as "+"."""
    sites, missing = [], 0
    for row in bed_rows(path):
        if row.interval:
            sites.append(row.interval)
            missing += not has_strand(row)
    return sites, missing


def has_strand(row: BedRow) -> bool:
    """Whether column 6 of a BED line is + or -."""
    return row.fields[5:6] in (["+"], ["-"])


def warn_of_strands(path: str, missing: int) -> None:
    """Warn of sites without a strand, if any."""
    if missing:
        shown = "standard input" if path == "-" else path
        logger.warning('%s: %s sites have no strand (column 6) and are read as "+"', shown, f"{missing:,}")


def bed_rows(path: str, *, summits: bool = False) -> Iterator[BedRow]:
    """Read as `read_bed` does, with all columns; comments, `track` and `browser` lines are a row of one column."""
    with open_input(path) as stream:
        for number, text in text_lines(stream, path):
            fields = text.split("\t")
            if len(fields) < 3:
                if not text.strip():
                    continue
                fields = text.split()
            if fields[0].startswith("#") or _SETTINGS.match(text):
                yield BedRow(number, [text], None)
                continue
            try:
                chrom, first, last = fields[:3]
                start, end = _position(first), _position(last)
            except ValueError:
                start = end = -1
            if not 0 <= start < end <= LONGEST or not chrom:
                raise _bad_interval(fields, path, number)
            strand = fields[5] if len(fields) > 5 else "+"
            if strand not in ("+", "-"):
                if strand != ".":
                    raise DataError(f"strand is {strand!r}; expected +, - or .", path, number)
                strand = "+"
            summit = _summit(fields[9], start, end, path, number) if summits and len(fields) == 10 else None
            name = (fields[3] if len(fields) > 3 else "") or "."
            yield BedRow(number, fields, Interval(chrom, start, end, name, strand, number, summit))


def _position(text: str) -> int:
    """A coordinate; int alone also reads "1_000" and digits of other scripts."""
    if not text.isascii() or "_" in text:
        raise ValueError(text)
    return int(text)


def _summit(text: str, start: int, end: int, path: str, number: int) -> int | None:
    """The summit of a narrowPeak line as a position; None for -1."""
    length = end - start
    try:
        offset = _position(text)
    except ValueError:
        offset = length + 1
    if not -1 <= offset <= length:  # ENCODE's files have a few summits at the end of the peak
        problem = f"column 10 is {text[:40]!r}; expected the offset of the summit in a peak of {length} bp, or -1"
        raise DataError(problem, path, number)
    return None if offset == -1 else min(start + offset, end - 1)


def _bad_interval(fields: list[str], path: str, number: int) -> DataError:
    if len(fields) < 3:
        problem = f"has {len(fields)} column(s); expected at least 3 (chrom, start, end)"
        return DataError(problem, path, number)
    if fields[:4] == ["chr", "start", "end", "length"]:
        problem = "is a table of MACS (.xls), whose positions count from 1; use its narrowPeak or broadPeak file"
        return DataError(problem, path, number)
    if path.lower().removesuffix(".gz").endswith(".vcf"):
        return DataError("is VCF; expected BED (chrom, start and end, 0-based)", path, number)
    chrom, first, last = fields[:3]
    first, last = first[:40], last[:40]
    if not (chrom and re.fullmatch("[0-9]+", first) and re.fullmatch("[0-9]+", last)):
        problem = f"start and end are {first!r} and {last!r}; expected a chromosome and non-negative integers"
        return DataError(problem, path, number)
    if max(len(first), len(last)) > len(str(LONGEST)):
        return DataError(f"start {first} or end {last} is past the end of any chromosome", path, number)
    return DataError(f"start {first} is not less than end {last}", path, number)


def parse_region(text: str, lengths: Mapping[str, int]) -> Interval:
    """Parse a region string: `chrom`, `chrom:from` or `chrom:from-to`, 1-based and inclusive, commas allowed.

    The whole text is tried as a chromosome name first, then split at its last colon, so that names with colons work.

    Parameters
    ----------
    lengths : chromosome sizes

    Raises
    ------
    UsageError : another form, an unknown chromosome, or a range that is not on it.
    """
    if text in lengths:
        return Interval(text, 0, lengths[text])
    chrom, colon, span = text.rpartition(":")
    match = re.fullmatch(r"([0-9,]{1,30})(?:-([0-9,]{0,30}))?", span) if colon else None
    if (chrom or text) not in lengths or not match:
        if chrom in lengths:
            raise UsageError(f"region {text!r}: the range is {span!r}; expected from-to, 1-based")
        hint = _close_names(chrom or text, lengths)
        raise UsageError(f"region {text!r}: no sequence named {chrom if match else text!r} in the genome{hint}")
    start = int(match[1].replace(",", "") or 0) - 1
    last = (match[2] or "").replace(",", "")
    end = int(last) if last else lengths[chrom]
    if not 0 <= start < end <= lengths[chrom]:
        raise UsageError(f"region {text!r}: expected 1 <= from <= to <= {lengths[chrom]}, the length of {chrom}")
    return Interval(chrom, start, end)


def on_genome(region: str | Interval, lengths: Mapping[str, int]) -> Interval:
    """A region string, or an interval, as an interval. Errors: see `parse_region`."""
    if isinstance(region, str):
        return parse_region(region, lengths)
    if not isinstance(region, Interval):
        raise UsageError(f"region {region!r}: expected an Interval or text such as chr1:1-1000")
    if region.chrom not in lengths:
        hint = _close_names(region.chrom, lengths)
        raise UsageError(f"region {region}: no sequence named {region.chrom!r} in the genome{hint}")
    length = lengths[region.chrom]
    if not 0 <= region.start < region.end <= length:
        raise UsageError(f"region {region}: expected 0 <= start < end <= {length}, the length of {region.chrom}")
    return region


def other_name(name: str) -> str:
    """The name of a chromosome in the other usual style: chr1 for 1, and 1 for chr1."""
    return name[3:] if name.startswith("chr") else f"chr{name}"


def _close_names(name: str, lengths: Mapping[str, int]) -> str:
    """A hint for an unknown chromosome; the name is never changed on the user's behalf."""
    other = other_name(name)
    known = [other] if other in lengths else list(lengths)[:3]
    return f" (it contains {', '.join(known)}{'' if other in lengths or len(lengths) <= 3 else ', …'})" if known else ""


def unknown_chrom(interval: Interval, path: str, lengths: Mapping[str, int]) -> DataError:
    """The error for a BED line whose chromosome is not in the genome."""
    hint = _close_names(interval.chrom, lengths)
    return DataError(f"no sequence named {interval.chrom!r} in the genome{hint}", path, interval.line)


_POSITION = "[0-9]{1,18}|[0-9]{1,3}(?:,[0-9]{3}){1,5}"  # at most 18 digits, which fit into 64 bits
_NAME = re.compile(
    rf"(?:.*::)?(?P<chrom>[^\s:]+(?::[^\s:]+)*):(?P<first>{_POSITION})-(?P<last>{_POSITION})(?:\((?P<strand>[+.-]?)\))?"
)
_REVERSED_NAME = re.compile(r"(?P<chrom>[^\s:]+):c(?P<last>[0-9]{1,18})-(?P<first>[0-9]{1,18})")  # NCBI
_UCSC = re.compile(r"(?:^|\s)range=(?P<chrom>\S+):(?P<first>[0-9]{1,18})-(?P<last>[0-9]{1,18})(?:\s|$)")
_ENSEMBL = re.compile(
    r"(?:^|\s)[a-z_]+:[^\s:]+:(?P<chrom>[^\s:]+):(?P<first>[0-9]{1,18}):(?P<last>[0-9]{1,18}):(?P<strand>-?)1(?:\s|$)"
)


def parse_header(name: str, description: str, length: int) -> Interval:
    """The interval of a FASTA record, from its header.

    The name `chrom:a-b` is read as bedtools writes it (0-based, half-open) when the sequence is b - a long, as samtools
    writes it (1-based, inclusive) when it is b - a + 1 long. bedtools' `name::chrom:a-b(strand)` is read too;
    a strand "." or an empty one is read as "+". Numbers may contain commas. Headers of sequence from UCSC
    (`range=chrom:a-b strand=-`), Ensembl (`chromosome:assembly:chrom:a:b:-1`) and NCBI (`chrom:cb-a`, reverse strand)
    are 1-based, and read if the record is b - a + 1 long. With any other header, the name is the chromosome itself,
    from its first base.

    Parameters
    ----------
    name : the header up to its first white space, without ">"
    description : the rest of the header
    length : bases in the record
    """
    return interval_from_header(name, description, length) or Interval(name, 0, length)


def may_hold_interval(name: str, description: str) -> bool:
    """Whether a header may contain an interval, before the record's length is known."""
    return bool(_NAME.fullmatch(name) or browser_interval(name, description))


def interval_from_name(name: str, length: int) -> Interval | None:
    """As `interval_from_header`, without a description."""
    return interval_from_header(name, "", length)


def interval_from_header(name: str, description: str, length: int) -> Interval | None:
    """As `parse_header`, but None when the header contains no interval of that length."""
    match = _NAME.fullmatch(name)
    if match:
        first, last = (int(match[number].replace(",", "")) for number in ("first", "last"))
        strand = "-" if match["strand"] == "-" else "+"
        if last - first == length:
            return Interval(match["chrom"], first, last, strand=strand)
        if last - first + 1 == length and first > 0:
            return Interval(match["chrom"], first - 1, last, strand=strand)
    interval = browser_interval(name, description)
    return interval if interval and interval.end - interval.start == length else None


def browser_interval(name: str, description: str) -> Interval | None:
    """The interval in a header of UCSC, Ensembl or NCBI, of any length; None for a whole chromosome of Ensembl."""
    if match := _REVERSED_NAME.fullmatch(name):
        strand = "-"
    elif match := _UCSC.search(description):
        strand = "-" if "strand=-" in description.split() else "+"
    elif match := _ENSEMBL.search(name) or _ENSEMBL.search(description):
        strand = match["strand"] or "+"
        if strand == "+" and int(match["first"]) == 1 and match.string == description:
            return None  # perhaps too long for memory, perhaps renamed to chr7
    if not match or not 0 < int(match["first"]) <= int(match["last"]):
        return None
    return Interval(match["chrom"], int(match["first"]) - 1, int(match["last"]), strand=strand)
