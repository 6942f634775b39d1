"""Sources of motif instances: called sites in a genome, and labelled windows (see `model_source` for models)."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from statistics import median_low

import numpy as np

from ..errors import DataError, UsageError
from ..io.fasta import Genome, Record
from ..io.intervals import Interval, read_sites, unknown_chrom
from ..predict.calling import Site
from ..sequence.encoding import CODE_LETTERS, reverse_complement
from ..sequence.windows import Windows, read_windows, site_width
from .instances import Instance, InstanceRule, called_instances

SKIP_REASONS = {
    "short": "with too few called bases for the motif's width (see --coverage)",
    "edge": "too close to the end of their sequence",
    "n": "with letters other than ACGT",
}


class InstanceSource(ABC):
    """Where the instances of one or more motifs come from.

    Attributes
    ----------
    path : input, for error messages
    widths : width of each motif by name, in the order of output
    rule : how instances are taken
    skipped : number of sites without an instance, by the keys of `SKIP_REASONS`; counted by `instances`
    without_strand : number of sites without a strand
    """

    def __init__(self, path: str, widths: dict[str, int], rule: InstanceRule):
        self.path, self.widths, self.rule = path, widths, rule
        self.skipped: Counter[str] = Counter()
        self.without_strand = 0

    @abstractmethod
    def instances(self) -> Iterator[Instance]:
        """Instances of all motifs, named by motif."""

    def skip_report(self) -> str:
        """Numbers and reasons of skipped sites; empty without any."""
        return ", ".join(f"{count:,} {SKIP_REASONS[reason]}" for reason, count in self.skipped.items())

    def locate(self, record: Record, sites: Iterable[Site], name: str) -> Iterator[Instance]:
        """Instances from sites in a record, on the chromosome interval in the record's header."""
        region = record.interval
        for site in sites:
            if record.sequence[site.start : site.end].translate(None, CODE_LETTERS):
                self.skipped["n"] += 1
                continue
            context = with_flanks(record.sequence, site.start, site.end, self.rule.align)
            start = region.start + site.start if region.strand == "+" else region.end - site.end
            strand = "+" if site.strand == region.strand else "-"
            interval = Interval(region.chrom, start, start + site.end - site.start, name, strand)
            yield Instance(interval, site.score, reverse_complement(context) if site.strand == "-" else context)


class SiteSource(InstanceSource):
    """Instances at called sites, one motif for each site name.

    Each site is a called sequence of its own, so that its instance is `width` bases around its middle.

    Parameters
    ----------
    sites : called sites, at least one
    genome : its sequences are chromosomes, or parts of them named `chrom:from-to`
    path : file of the sites, for error messages

    Raises
    ------
    DataError : no sites; from `instances`: a site that is not on the sequences.
    """

    def __init__(self, sites: Sequence[Interval], genome: Genome, rule: InstanceRule, path: str = "sites"):
        if not sites:
            raise DataError("contains no sites", path)
        lengths: dict[str, list[int]] = {}
        for site in sites:
            lengths.setdefault(site.name, []).append(site.end - site.start)
        super().__init__(path, {name: rule.width or median_low(values) for name, values in lengths.items()}, rule)
        self._sites, self._genome = sites, genome
        self._parts: dict[str, list[tuple[str, Interval]]] = {}  # chromosome -> records that are parts of it
        for name, part in genome.parts.items():
            self._parts.setdefault(part.chrom, []).append((name, part))

    @classmethod
    def read(cls, bed: str, genome: Genome, rule: InstanceRule) -> SiteSource:
        """Sites of a BED file ("-" is standard input), whose name stands for missing names."""
        sites, without_strand = read_sites(bed)
        named = [site if site.name != "." else site._replace(name=name_of_file(bed)) for site in sites]
        source = cls(named, genome, rule, bed)
        source.without_strand = without_strand
        return source

    def instances(self) -> Iterator[Instance]:
        """The instance of each site, in the order of the sites."""
        for site in self._sites:
            width = self.widths[site.name]
            record, part = self._containing_record(site)
            centered = _centered(site, width)
            if site.end - site.start < self.rule.min_called_bases(width):
                self.skipped["short"] += 1
            elif centered.start < part.start or centered.end > part.end:
                self.skipped["edge"] += 1
            else:
                instance = Instance(centered, 0.0, self._context(record, part, centered))
                if instance.sequence.translate(None, CODE_LETTERS):
                    self.skipped["n"] += 1
                else:
                    yield instance

    def _containing_record(self, site: Interval) -> tuple[str, Interval]:
        """The record that contains a site, and the interval of its chromosome that the record is."""
        lengths = self._genome.lengths
        if site.chrom in lengths:
            self._genome.check(site, self.path)
            return site.chrom, Interval(site.chrom, 0, lengths[site.chrom])
        for name, part in self._parts.get(site.chrom, []):
            if part.start <= site.start and site.end <= part.end:
                return name, part
        if site.chrom in self._parts:
            raise DataError(f"site {site} is not inside a sequence of {self._genome.path}", self.path, site.line)
        raise unknown_chrom(site, self.path, lengths)

    def _context(self, record: str, part: Interval, interval: Interval) -> bytes:
        """Bases of an interval and its flanks on its strand, from a record that may itself be reverse-complemented."""
        flank = self.rule.align
        start = interval.start - part.start if part.strand == "+" else part.end - interval.end
        end, first = start + interval.end - interval.start, max(0, start - flank)
        sequence = self._genome.fetch(record, first, min(part.end - part.start, end + flank))
        context = with_flanks(sequence, start - first, end - first, flank)
        return context if part.strand == interval.strand else reverse_complement(context)


def with_flanks(sequence: bytes, start: int, end: int, flank: int) -> bytes:
    """Bases [start, end) of a sequence and `flank` more on both sides, N beyond its ends."""
    left, right = max(0, start - flank), end + flank
    return b"N" * (flank - start + left) + sequence[left:right].ljust(right - left, b"N")


def _centered(site: Interval, width: int) -> Interval:
    """`width` bases around the middle of a site; the middle is rounded down in the direction of the strand."""
    if site.strand == "+":
        start = (site.start + site.end) // 2 - width // 2
    else:
        start = width // 2 - width - (-site.start - site.end) // 2
    return site._replace(start=start, end=start + width)


class LabelSource(InstanceSource):
    """Instances at the labelled sites of windows: one motif, named by `name`.

    Parameters
    ----------
    windows : all with a site
    """

    def __init__(self, windows: Windows, name: str, rule: InstanceRule, path: str = "windows"):
        super().__init__(path, {name: rule.width or site_width(windows)}, rule)
        self._windows = windows

    @classmethod
    def read(cls, fasta: str, rule: InstanceRule) -> LabelSource:
        """Windows as written by `bertsnr windows`; the motif is named after the file.

        Raises
        ------
        UsageError : the name of the file ends as BED.
        DataError : see `sequence.windows.read_windows`.
        """
        if fasta.removesuffix(".gz").lower().endswith((".bed", ".narrowpeak")):
            raise UsageError(f"{fasta}: BED input requires the sequence of its sites; add -f FASTA")
        try:
            windows = read_windows(fasta, True, 1)
        except DataError as error:
            raise DataError(f"{error}; to find sites, add -m MODEL or --discover") from error
        return cls(windows, name_of_file(fasta), rule, fasta)

    def instances(self) -> Iterator[Instance]:
        """The instances of each window, in the order of the windows."""
        ((name, width),) = self.widths.items()
        for record, labels in zip(self._windows.records(), self._windows.labels):
            sites = called_instances(np.stack([labels, np.zeros_like(labels)]), 0.5, width, self.rule)
            yield from self.locate(record, sites, name)


def name_of_file(path: str) -> str:
    """The name of a motif from the file of its sequences; "motif" for standard input."""
    return "motif" if path == "-" else os.path.basename(path).split(".")[0]
