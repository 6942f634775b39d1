"""Sites of a hub: read bigBed and BED, and write one bigBed file for each factor."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import DataError, UsageError
from ..io.bigbed import BigBedContent, read_bigbed, write_sorted
from ..io.fasta import Genome
from ..io.fields import name_field
from ..io.files import file_stem, open_input, text_lines
from ..io.intervals import Interval, bed_rows, unknown_chrom
from ..io.sorting import LineSorter
from ..io.tracks import SITE_COLUMNS, STRAND_COLOURS, site_schema, warn_of_names

MAX_FACTORS = 500  # of a file; UCSC's page of a composite track becomes slow with more
_KNOWN = [column.name for column in SITE_COLUMNS[:3]]  # log odds, p and q
_WITH_P = 9 + len(_KNOWN)  # columns of a line with them
_RGB = re.compile(r"\d{1,3},\d{1,3},\d{1,3}")
Lengths = Mapping[str, int]


@dataclass
class FactorTrack:
    """The sites of a factor in one file of a hub.

    Attributes
    ----------
    factor : its name
    source : name of the file that it comes from, without ending
    name : of the track; the file is `name`.bb
    sites : number of them
    low_p, high_p : least and greatest -log10 p; None where the file has no p-values
    """

    factor: str
    source: str
    name: str
    sites: int = 0
    low_p: float | None = None
    high_p: float | None = None

    def count(self, neg_log10_p: str | None) -> None:
        """Count a site."""
        self.sites += 1
        if neg_log10_p is not None:
            value = float(neg_log10_p)
            self.low_p = value if self.low_p is None else min(value, self.low_p)
            self.high_p = value if self.high_p is None else max(value, self.high_p)


def read_lengths(path: str) -> Lengths:
    """Chromosome sizes from an indexed genome, or from a table of names and sizes, such as .fai or UCSC's chrom.sizes.

    Raises
    ------
    DataError : neither.
    """
    with open_input(path) as stream:
        is_fasta = stream.peek(1)[:1] == b">"  # type: ignore[attr-defined]
        if not is_fasta:
            lengths: dict[str, int] = {}
            for number, line in text_lines(stream, path):
                if not line.strip():
                    continue
                chrom, _, size = line.partition("\t")
                size = size.split("\t")[0]
                if not chrom or not re.fullmatch("[1-9][0-9]{0,11}", size):
                    raise DataError(f"is {line[:40]!r}; expected FASTA, or chromosome, tab and size", path, number)
                lengths[chrom] = int(size)
            return lengths
    return Genome(path).lengths


class SiteFile(NamedTuple):
    """A file of sites: bigBed, or BED of 3 to 12 columns; of ten, 7 to 9 are log odds, -log10 p and -log10 q.

    Attributes
    ----------
    source : what the file is called in the hub
    lengths : chromosome sizes; a bigBed file has its own
    """

    path: str
    source: str
    lengths: Lengths | None


def pack_sites(file: SiteFile, directory: str, name: Callable[[str], str]) -> list[FactorTrack]:
    """Write the sites of each factor in a file as bigBed, in flat memory.

    Parameters
    ----------
    name : gives a track its name

    Returns
    -------
    tracks in the order of the factors' names

    Raises
    ------
    UsageError : BED without `lengths`.
    DataError : the file cannot be read, an interval or a chromosome of a bigBed file is not on the genome, or the names
        of its sites are not factors.
    """
    path, source, lengths = file
    if is_bigbed(path):
        content = read_bigbed(path)
        rows = _bigbed_rows(path, content, lengths)
        lengths = content.lengths
    elif lengths is None:
        raise UsageError(f"{path}: BED requires chromosome sizes; add -f FASTA, .fai or chrom.sizes")
    else:
        rows = _bed_rows(path, lengths)
    sorter = LineSorter(_by_factor, directory)
    factors: set[str] = set()
    chroms: dict[str, None] = {}  # in order
    columns: set[int] = set()
    for factor, line in rows:
        factors.add(factor)
        if len(factors) > MAX_FACTORS:
            problem = f"has sites of more than {MAX_FACTORS} names, but each name becomes a track"
            raise DataError(f"{problem}; give a file with the names of factors in column 4", path)
        columns.add(line.count("\t") + 1)
        chroms[line.partition("\t")[0]] = None
        if len(columns) > 1:
            raise DataError("mixes lines of narrowPeak (ten columns) and of BED", path)
        sorter.add(f"{factor}\t{line}".encode())
    warn_of_names(chroms, path)
    schema = site_schema(_WITH_P in columns)
    tracks = []
    for factor, group in itertools.groupby(sorter, lambda line: line.partition(b"\t")[0].decode()):
        track = FactorTrack(factor, source, name(factor if factor == source else f"{source}_{factor}"))
        write_sorted(os.path.join(directory, f"{track.name}.bb"), schema, lengths, _counted(group, track))
        tracks.append(track)
    return tracks


def is_bigbed(path: str) -> bool:
    """Whether the name is a bigBed file's."""
    return path.lower().endswith((".bb", ".bigbed"))


def _by_factor(line: bytes) -> tuple[bytes, bytes, int, int]:
    factor, chrom, start, end, _ = line.split(b"\t", 4)
    return factor, chrom, int(start), int(end)


def _counted(group: Iterator[bytes], track: FactorTrack) -> Iterator[bytes]:
    """The lines of a factor without the key in front, with the factor as last column."""
    for line in group:
        factor, _, bed = line.partition(b"\t")
        fields = bed.decode().split("\t")
        track.count(fields[10] if len(fields) == _WITH_P else None)
        yield bed + b"\t" + factor


def _factor(name: str) -> str:
    """A name that can be a value of UCSC's filters, which separate them with commas."""
    return re.sub("[,|]", "_", name_field(name))


def _bigbed_rows(path: str, content: BigBedContent, lengths: Lengths | None) -> Iterator[tuple[str, str]]:
    """Factor of each site, and its BED9 line with log odds, p and q if they are known; checked with `lengths`."""
    at = {column: number for number, column in enumerate(content.columns)}
    known = [at[column] for column in _KNOWN] if all(column in at for column in _KNOWN) else []
    for line in content.lines:
        fields = line.split("\t")
        strand = fields[5] if len(fields) > 5 and fields[5] in STRAND_COLOURS else "+"
        interval = Interval(fields[0], int(fields[1]), int(fields[2]), fields[3] if len(fields) > 3 else ".", strand)
        if lengths is not None:
            _check_on_genome(interval._replace(end=content.lengths[interval.chrom]), path, lengths)
        factor = fields[at["factor"]] if "factor" in at else interval.name
        yield _row(path, interval, factor, fields[:9], [fields[number] for number in known])


def _bed_rows(path: str, lengths: Lengths) -> Iterator[tuple[str, str]]:
    for _, fields, interval in bed_rows(path):
        if interval is None:
            continue
        _check_on_genome(interval, path, lengths)
        known = fields[6:9] if len(fields) == 10 else []
        yield _row(path, interval, interval.name, fields[:9] if len(fields) in (9, 12) else fields[:6], known)


def _check_on_genome(interval: Interval, path: str, lengths: Lengths) -> None:
    if interval.chrom not in lengths:
        raise unknown_chrom(interval, path, lengths)
    if interval.end > lengths[interval.chrom]:
        problem = f"end {interval.end} is past the end of {interval.chrom} ({lengths[interval.chrom]:,} bp)"
        raise DataError(f"{problem}; is it another assembly?", path, interval.line)


def _row(path: str, interval: Interval, factor: str, fields: list[str], known: list[str]) -> tuple[str, str]:
    """Factor and line of a site; `fields` are its columns of BED, as far as there are any."""
    name = file_stem(path) if interval.name == "." else interval.name
    score = fields[4] if len(fields) > 4 and fields[4] != "." else "0"
    if not re.fullmatch("[0-9]{1,4}", score) or int(score) > 1000:
        raise DataError(f"score is {score[:40]!r}; expected an integer from 0 to 1000", path, interval.line)
    for value in known:
        if not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?", value, re.I):
            raise DataError(f"column 7, 8 or 9 is {value[:40]!r}; expected a number", path, interval.line)
    start, end, strand = interval.start, interval.end, interval.strand
    rgb = fields[8] if len(fields) > 8 and _RGB.fullmatch(fields[8]) else STRAND_COLOURS[strand]
    columns = (interval.chrom, start, end, name_field(name), score, strand, start, end, rgb, *known)
    return _factor(name if factor == "." else factor), "\t".join(map(str, columns))
