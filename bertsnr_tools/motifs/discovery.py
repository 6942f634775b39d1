"""Motif discovery: instances of a source, counted into motifs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import numpy as np

from ..errors import DataError
from ..io.fasta import Genome
from ..io.intervals import Interval, warn_of_strands
from ..io.motif_files import Motif, unique_id
from ..log import logger
from ..predict.calling import CalledSite
from ..sequence.encoding import encode
from .instances import ALIGNED, Instance, InstanceRule, aligned_offsets, letter_counts
from .sources import InstanceSource, SiteSource


def discover(
    source: InstanceSource, *, write: Callable[[Instance], None] | None = None, strict: bool = False
) -> list[Motif]:
    """Make motifs from the instances of a source.

    Parameters
    ----------
    write : takes each instance, see `instances.instance_writer`
    strict : raise an error, rather than log a warning, if a site was skipped

    Returns
    -------
    a motif for each name with instances, in the order of `source.widths`

    Raises
    ------
    DataError : no instances were found, or a site was skipped with `strict`.
    """
    pfms = motif_counts(source, write=write)
    motifs: list[Motif] = []
    for name, counts in pfms.items():
        if counts.any():
            motifs.append(Motif(unique_id(name, [motif.id for motif in motifs]), counts))
    skipped = source.skip_report()
    if not motifs:
        raise DataError(f"no motif instances found{f' (skipped: {skipped})' if skipped else ''}", source.path)
    if skipped and strict:
        raise DataError(f"sites skipped: {skipped}", source.path)
    if skipped:
        logger.warning("sites skipped: %s", skipped)
    warn_of_strands(source.path, source.without_strand)
    missing = [name for name, counts in pfms.items() if not counts.any()]
    if missing:
        logger.warning("%d of %d motifs without instances: %s", len(missing), len(pfms), ", ".join(missing))
    for motif in motifs:
        logger.debug("%s: %s instances of %d bp", motif.id, f"{motif.sites:,}", motif.width)
    return motifs


def motif_counts(source: InstanceSource, *, write: Callable[[Instance], None] | None = None) -> dict[str, np.ndarray]:
    """The aligned instances of a source as PFMs, float64, shape (width, 4), by name; zeros where there are none.

    Parameters
    ----------
    write : takes each aligned instance, in order
    """
    contexts: dict[str, list[bytes]] = {name: [] for name in source.widths}
    found: list[Instance] = []
    for instance in source.instances():
        contexts[instance.interval.name].append(instance.context)
        if write:
            found.append(instance)
    counts, offsets, reach = {}, {}, source.rule.align
    for name, width in source.widths.items():
        codes = encode(b"".join(contexts[name])).reshape(-1, width + 2 * reach)
        moves = aligned_offsets(codes, reach)
        counts[name] = letter_counts(codes[np.arange(len(codes))[:, None], (reach + moves)[:, None] + np.arange(width)])
        offsets[name] = iter(moves.tolist())
    if write:
        for instance in found:
            write(instance.moved(next(offsets[instance.interval.name])))
    return counts


def discover_motifs(
    sites: str | os.PathLike[str] | Iterable[Interval | CalledSite],
    genome: str | os.PathLike[str] | Genome,
    *,
    width: int | None = None,
    coverage: float = 0.8,
    align: int = ALIGNED,
) -> list[Motif]:
    """Make motifs from called sites, one for each site name.

    Parameters
    ----------
    sites : BED file, or sites as `scan` yields them or `read_bed` reads them
    genome : indexed FASTA; its sequences are chromosomes, or parts of them named `chrom:from-to`
    width : bases of the motifs; None for the median site of each name
    coverage : sites shorter than this fraction of the width are skipped, with a warning
    align : bases that an instance may move to agree with the others

    Raises
    ------
    DataError : no sites, sites that are not on the genome, or no instances.

    Examples
    --------
    >>> motifs = discover_motifs("sites.bed", "hg38.fa")  # doctest: +SKIP
    """
    indexed = genome if isinstance(genome, Genome) else Genome(os.fspath(genome))
    rule = InstanceRule(width, coverage, align=align)
    if isinstance(sites, (str, os.PathLike)):
        return discover(SiteSource.read(os.fspath(sites), indexed, rule))
    intervals = [Interval(s.chrom, s.start, s.end, s.name, s.strand, getattr(s, "line", None)) for s in sites]
    source = SiteSource([site._replace(strand=site.strand.replace(".", "+")) for site in intervals], indexed, rule)
    source.without_strand = sum(site.strand == "." for site in intervals)
    return discover(source)
