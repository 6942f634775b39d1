"""Open the file of a scan's sites (`open_sites`): text, bigBed, or a table in the Parquet format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from ..io.bigbed import BigBed
from ..io.outputs import Failures, KeptStream
from ..io.parquet import ParquetTable
from ..io.tracks import site_schema
from .significance import RankedSite
from .writers import SiteFormat, SiteWriter

PARQUET_COLUMNS = {  # an unknown p or q is null
    "chrom": "category",
    "start": "int64",
    "end": "int64",
    "name": "category",
    "score": "float32",
    "strand": "category",
    "log_odds": "float64",
    "p": "float64",
    "q": "float64",
}


class SiteSink(Protocol):
    """Takes the sites of a scan as they come."""

    def write(self, ranked: Iterable[RankedSite]) -> None:
        """Write sites."""


@contextmanager
def open_sites(
    path: str,
    site_format: SiteFormat,
    names: Sequence[str],
    lengths: Mapping[str, int] | None,
    failures: Failures,
) -> Iterator[SiteSink]:
    """Open a file of sites, which is written atomically.

    Parameters
    ----------
    path : "-" is standard output, for text only
    names : of the models, for the track line
    lengths : chromosome sizes, for bigBed; without them, a chromosome ends at its last site
    failures : receives an error of the file
    """
    if site_format.kind == "bigbed":
        file = _BigBedSites(BigBed(path, site_schema(True), lengths), site_format, failures)
        yield file
        file.close()
    elif site_format.kind == "parquet":
        with KeptStream(path, failures) as stream, ParquetTable.open(stream, PARQUET_COLUMNS) as table:
            yield _ParquetSites(table)
    else:
        with SiteWriter.open(path, site_format, names, failures) as writer:
            yield writer


class _BigBedSites:
    """Sites are sorted in a temporary file, and written at the end."""

    def __init__(self, file: BigBed, site_format: SiteFormat, failures: Failures):
        self._file, self._format, self._failures, self._failed = file, site_format, failures, False

    def write(self, ranked: Iterable[RankedSite]) -> None:
        if not self._failed:
            self._failed = True
            with self._failures.kept():
                for site in ranked:
                    rest = self._format.line(site)[:-1].split("\t", 3)[3]
                    self._file.add(site.chrom, site.start, site.end, rest)
                self._failed = False

    def close(self) -> None:
        if not self._failed:
            with self._failures.kept():
                self._file.write()


class _ParquetSites:
    def __init__(self, table: ParquetTable):
        self._table = table

    def write(self, ranked: Iterable[RankedSite]) -> None:
        for site in ranked:
            bed = site.chrom, site.start, site.end, site.name, site.score, site.strand
            self._table.add((*bed, site.log_odds, site.p, site.q))
