"""The report page: one HTML file that shows called sites."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from ..errors import UsageError
from ..io.fasta import Genome
from ..reporting.content import report_content
from ..reporting.positions import Regions
from ..reporting.sites import read_sites
from .pages import write_page


def write_report(
    path: str | os.PathLike[str],
    sites: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    genome: str | os.PathLike[str] | Genome,
    *,
    regions: str | os.PathLike[str] | None = None,
    assembly: str | None = None,
    seed: int = 1,
    strict: bool = False,
) -> None:
    """Write a page of called sites, which works offline; see `reporting.content.report_content`.

    Parameters
    ----------
    path : HTML file, written atomically
    sites : BED or narrowPeak file, or several, see `reporting.sites.read_sites`
    genome : indexed FASTA; its sequences are chromosomes, or parts of them named `chrom:from-to`
    regions : BED or narrowPeak file of the regions in which sites were called

    Raises
    ------
    UsageError : `assembly` is not a name of UCSC's form.
    DataError : an input cannot be used, or the page cannot be written.
    """
    if assembly is not None and not re.fullmatch(r"[A-Za-z0-9_.-]+", assembly):
        raise UsageError(f"--assembly {assembly!r}: expected a name of the UCSC browser, such as hg38")
    indexed = genome if isinstance(genome, Genome) else Genome(genome)
    scanned = Regions.read(os.fspath(regions)) if regions is not None else None
    if scanned:
        scanned.check(indexed)
    files = [sites] if isinstance(sites, (str, os.PathLike)) else sites
    called = read_sites([os.fspath(file) for file in files]).without_repeats()
    content = report_content(called, indexed, scanned, assembly=assembly, seed=seed, strict=strict)
    write_page(os.fspath(path), "report.html", content)
