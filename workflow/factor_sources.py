"""Windows around the sites of factors: published, cut from a genome, or from ChIP-seq peaks."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from bertsnr_tools.io.fasta import fasta_text
from bertsnr_tools.io.intervals import Interval, read_bed
from bertsnr_tools.sequence.encoding import CODE_LETTERS, encode
from bertsnr_tools.sequence.windows import WindowCutter, labelled_sites
from factor_motifs import best_motif, matched_sites, motifs_by_factor, parts_of, read_peaks
from sparse_genome import Located, SparseGenome

WINDOW = 100  # bp
HELD_CHROMS = "chr6", "chr17", "chr20", "chr22"
HELD_REGION = "chr2", 95_000_000, 98_500_000
MOST_CUT, MOST_FROM_PEAKS = 20_000, 5_000  # windows of a factor
LETTERS = np.frombuffer(CODE_LETTERS + b"N", dtype=np.uint8)


@dataclass
class Factor:
    """A line of factors.tsv: numbers of windows, and why others are not used for training."""

    name: str
    matrix: str = ""
    source: str = ""
    build: str = ""
    train: int = 0
    test: int = 0
    from_peaks: int = 0
    not_found: int = 0
    dropped_letters: int = 0
    dropped_held: int = 0
    dropped_overlap: int = 0
    note: str = ""


@dataclass
class Windows:
    """Windows around sites, in the direction of the site.

    Attributes
    ----------
    codes, labels : uint8, shape (n, window)
    names : record names, with coordinates where known
    held : bool, shape (n,): touches a held-out region
    """

    codes: np.ndarray
    labels: np.ndarray
    names: list[str]
    held: np.ndarray

    def fasta(self, rows: np.ndarray) -> bytes:
        """Some windows as FASTA; every run of labelled bases is a site."""
        texts: list[list[str]] = [[] for _ in self.names]
        for row, start, end in zip(*(column.tolist() for column in runs(self.labels))):
            texts[row].append(f"{start}-{end}")
        letters = LETTERS[self.codes]
        sites = [f"site={','.join(text)}" if text else "" for text in texts]
        return b"".join(fasta_text(self.names[row], sites[row], letters[row].tobytes()) for row in rows.tolist())


def runs(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, start and end of each run of labelled bases."""
    steps = np.diff(labels.astype(np.int8), axis=1, prepend=0, append=0)
    rows, starts = np.nonzero(steps == 1)
    return rows, starts, np.nonzero(steps == -1)[1]


def first_runs(labels: np.ndarray) -> np.ndarray:
    """Start and end of the first run of labelled bases in each row, shape (n, 2)."""
    rows, starts, ends = runs(labels)
    return np.stack([starts, ends], axis=1)[np.unique(rows, return_index=True)[1]]


def window_name(name: str, build: str, genome: SparseGenome, key: int, reverse: bool) -> str:
    """The record name of a window, by the key of its first base."""
    chrom, start = genome.position(key)
    return f"{name}::{build}.{chrom}:{start}-{start + WINDOW}({'-' if reverse else '+'})"


def site_keys(genome: SparseGenome, sites: Sequence[Interval]) -> np.ndarray:
    """Keys of the first bases."""
    return genome.keys([site.chrom for site in sites], [site.start for site in sites])


def held_out(genome: SparseGenome, keys: np.ndarray, size: int = WINDOW) -> np.ndarray:
    """Whether intervals touch held-out regions, by the keys of their first bases."""
    chrom, start = keys >> 32, keys & 0xFFFFFFFF
    name, low, high = HELD_REGION
    apart = np.isin(chrom, [number for number, chrom in enumerate(genome.chroms) if chrom in HELD_CHROMS])
    return apart | (chrom == genome.chroms.index(name)) & (start < high) & (start + size > low)


def paired_rows(windows: np.ndarray, sites: np.ndarray) -> np.ndarray:
    """The row of each window's site, -1 if unknown; sites have the order of the windows, but some lack their partner.

    Parameters
    ----------
    windows : keys of the windows' sites, -1 where unknown
    sites : keys of the rows
    """
    order = np.argsort(sites, kind="stable")
    nearest = order[np.minimum(np.searchsorted(sites[order], windows), len(sites) - 1)]
    found = np.where(sites[nearest] == windows, nearest, -1)
    anchors = np.flatnonzero(found >= 0)
    shifts = np.concatenate(([0], found[anchors] - anchors, [len(sites) - len(windows)]))
    before = np.searchsorted(anchors, np.arange(len(windows)), side="right")
    between = (found < 0) & (shifts[before] == shifts[before + 1])
    return np.where(between, np.arange(len(windows)) + shifts[before], found)


def pair_by_order(keys: np.ndarray, reverse: np.ndarray, labels: np.ndarray, rows: tuple[np.ndarray, ...]) -> None:
    """Fill in windows whose sequence was not found, by the rows of their sites; those with one labelled run only.

    Parameters
    ----------
    keys : of the windows, -1 where not found; changed
    reverse : whether windows are on the reverse strand; changed
    rows : keys and sizes of the sites, and whether they are on the reverse strand
    """
    spans = first_runs(labels)
    sites, sizes, site_reverse = rows
    known = np.where(keys < 0, -1, keys + np.where(reverse, WINDOW - spans[:, 1], spans[:, 0]))
    paired = paired_rows(known, sites)
    single = np.bincount(runs(labels)[0], minlength=len(labels)) == 1
    missing = np.flatnonzero((keys < 0) & (paired >= 0) & single)
    row = paired[missing]
    reverse[missing] = site_reverse[row]
    shift = np.where(site_reverse[row], sizes[row] + spans[missing, 0] - WINDOW, -spans[missing, 0])
    keys[missing] = np.maximum(sites[row] + shift, -1)


class Source:
    """Genomes and sites, from which windows are taken.

    Attributes
    ----------
    known : for each factor, arrays of the keys and ends of possible sites in hg19, shape (n, 2)
    """

    def __init__(self, data: Path):
        self.data = data
        self.builds = {name: SparseGenome(str(data / "genome" / f"{name}.sparse.fa.gz")) for name in ("hg19", "hg38")}
        self.motifs = motifs_by_factor()
        self.known: dict[str, list[np.ndarray]] = {}

    def names(self) -> list[str]:
        """All factors with windows or sites."""
        paths = [*(self.data / "windows").iterdir(), *(self.data / "sites").glob("*.bed.gz")]
        return sorted({path.name.split(".")[0] for path in paths})

    def sites(self, factor: Factor) -> list[Interval]:
        """The JASPAR sites of a factor, which gets their build; none if that is neither hg19 nor hg38."""
        paths = sorted((self.data / "sites").glob(f"{factor.name}.*"))
        sites = [site._replace(name=factor.name, line=None) for site in read_bed(str(paths[0]))] if paths else []
        label = next(read_bed(str(paths[0]))).name[:4] if paths else ""
        build = "hg38" if label == "." else label  # CTCF's rows have no name
        if build not in self.builds:
            return []
        factor.build = build
        genome = self.builds[build]
        keys, sizes = site_keys(genome, sites), np.array([site.end - site.start for site in sites])
        if build == "hg38":
            index = genome.index(keys)
            keys, sizes = genome.mapped(self.builds["hg19"], index[index >= 0], sizes[index >= 0])
        self.add_known(factor.name, keys, sizes)
        return sites

    def add_known(self, name: str, keys: np.ndarray, sizes: np.ndarray) -> None:
        """Add possible sites in hg19, except those on unknown bases."""
        kept = self.builds["hg19"].touches(keys, sizes)
        self.known.setdefault(name, []).append(np.stack([keys, keys + sizes], axis=1)[kept])

    def published(self, factor: Factor, sites: Sequence[Interval]) -> tuple[Windows, Windows]:
        """Published windows and their shuffles; the factor gets its source."""
        directory = self.data / "windows" / factor.name
        part = "" if (directory / "sequence.txt.gz").exists() else ".train"
        factor.source = "published windows" + (", training part" if part else "")
        files = [directory / f"{kind}{part}.txt.gz" for kind in ("sequence", "label")]
        letters, digits = (b"".join(gzip.decompress(path.read_bytes()).split()) for path in files)
        codes = encode(letters).reshape(-1, WINDOW)
        labels = np.frombuffer(digits, dtype=np.uint8).reshape(-1, WINDOW) - ord("0")
        windows = self.located(factor, codes[::2], labels[::2], {factor.build: sites}, ordered=bool(sites))
        names = [f"{name}_shuf1" for name in windows.names]
        return windows, Windows(codes[1::2], labels[1::2], names, windows.held)

    def cut(self, factor: Factor, build: str, sites: Sequence[Interval], most: int) -> Windows:
        """Cut windows around the sites on known bases, in their order."""
        genome = self.builds[build]
        sites = [sites[row] for row in np.flatnonzero(genome.index(site_keys(genome, sites)) >= 0).tolist()]
        records = list(islice(WindowCutter(genome.genome, WINDOW).cut(sites), most)) if sites else []
        labels = np.zeros((len(records), WINDOW), dtype=np.uint8)
        for row, record in zip(labels, records):
            for start, end in labelled_sites(record, factor.name):
                row[start:end] = 1
        codes = encode(b"".join(record.sequence for record in records)).reshape(-1, WINDOW)
        return self.located(factor, codes, labels, {build: sites})

    def located(
        self,
        factor: Factor,
        codes: np.ndarray,
        labels: np.ndarray,
        sites: dict[str, Sequence[Interval]],
        *,
        ordered: bool = False,
    ) -> Windows:
        """Find windows in both builds, and name them by the factor's own build, or else by the other.

        Parameters
        ----------
        sites : the factor's sites in a build
        ordered : the sites have the order of the windows
        """
        spans, found = first_runs(labels), {}
        for build, genome in self.builds.items():
            listed = sites.get(build, ())
            keys = site_keys(genome, listed)
            hits = genome.locate(codes, (spans[:, 0], WINDOW - spans[:, 1]), genome.index(keys))
            found[build] = Located(np.where(hits.index < 0, -1, genome.key_of(hits.index)), hits.reverse)
            if ordered and listed:
                columns = np.array([(site.end - site.start, site.strand == "-") for site in listed]).T
                pair_by_order(*found[build], labels, (keys, columns[0], columns[1].astype(bool)))
        factor.build = factor.build or max(found, key=lambda build: int(np.sum(found[build].index >= 0)))
        names = [f"{factor.name}.{number}" for number in range(len(codes))]
        for build in sorted(found, key=lambda build: build == factor.build):
            keys, reverse = found[build]
            for row in np.flatnonzero(keys >= 0).tolist():
                names[row] = window_name(factor.name, build, self.builds[build], int(keys[row]), reverse[row])
        factor.not_found += sum("::" not in name for name in names)
        rows, starts, ends = runs(labels)
        keys, reverse = (column[rows] for column in found["hg19"])
        keys = np.where(keys < 0, -1, keys + np.where(reverse, WINDOW - ends, starts))
        self.add_known(factor.name, keys, ends - starts)
        held = [held_out(genome, found[build].index) for build, genome in self.builds.items()]
        return Windows(codes, labels, names, np.any(held, axis=0))

    def collected(self, name: str) -> tuple[Factor, Windows, Windows | None]:
        """A factor, its windows, published or cut, and their shuffles if published."""
        factor, shuffles = Factor(name), None
        sites = self.sites(factor)
        if (self.data / "windows" / name).exists():
            windows, shuffles = self.published(factor, sites)
        else:
            factor.source = "cut around sites" if sites else ""
            windows = self.cut(factor, factor.build or "hg19", sites, MOST_CUT)
        if name in self.motifs and len(windows.codes):
            factor.matrix = best_motif(self.motifs[name], windows.codes[:1000], first_runs(windows.labels[:1000])).id
        return factor, windows, shuffles

    def from_peaks(self, factor: Factor) -> Windows | None:
        """Windows around matches in ChIP-seq peaks, of the factor's matrix, or else of the one with the most."""
        genome = self.builds["hg19"]
        peaks = read_peaks(self.data / "chip", parts_of(factor.name), genome)
        motifs = [motif for motif in self.motifs.get(factor.name, []) if factor.matrix in ("", motif.id)]
        found = [(matched_sites(factor.name, motif, peaks, genome), motif.id) for motif in motifs]
        sites, matrix = max(found, key=lambda pair: len(pair[0]), default=([], ""))
        if not sites:
            return None
        factor.matrix = matrix
        factor.source = f"{factor.source} and ChIP-seq peaks".removeprefix(" and ")
        return self.cut(factor, "hg19", sites, MOST_FROM_PEAKS)
