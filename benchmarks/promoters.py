#!/usr/bin/env python3
"""Promoters read by all factors of the many-factor model, checked against ChIP-seq peaks (the paper's section 3.7).

    python benchmarks/promoters.py DATA FACTORS [--model human] [--bed promoters.bed] [--figure promoter.png]

DATA contains regions/*.hg19.fa.gz (contiguous sequence, `chrom:from-to`), genome/hg19.sparse.fa.gz, dnase/ (peaks of
eight cell lines) and chip/<TF>.<cell>.hg19.narrowPeak.gz; FACTORS is the output of workflow/factor_windows.py, for the
logos. All of hg19; regions of hg38 are left out, because no peaks are at hand there. The bases of the regions are
compared with the sparse genome.

Starts of genes are inferred, because no annotation is at hand: middles of sequence that is accessible in all eight cell
lines, in 1 kb with at least 55 % G and C and 0.65 of the expected CpG (Takai and Jones 2002). By falling number of CpG,
each at least 5 kb from the ones before; the first ten are the promoters, 2 kb each. BED9 has the sites with p < `P`, in
a colour for each factor. The figure shows the promoter with the median number of called factors.

Of the pairs of promoter and called factor whose factor has ChIP-seq data, it is counted how many have a peak of the
factor on a called site; then again with the peaks of another factor, 1,000 times, factors shuffled among the ones with
ChIP-seq data; or among the called ones only, a stricter comparison. The same at other p-values, and for all promoters
that the rule finds, not only ten.
"""

from __future__ import annotations

import argparse
import colorsys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bertsnr_tools.io.fasta import Genome, fasta_text, read_records
from bertsnr_tools.io.intervals import Interval, read_bed
from bertsnr_tools.io.motif import Motif
from bertsnr_tools.io.tracks import bed_line
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.registry import load_models
from bertsnr_tools.motifs.discovery import discover
from bertsnr_tools.motifs.instances import InstanceRule
from bertsnr_tools.motifs.sources import LabelSource
from bertsnr_tools.plots.logos import draw_logo
from bertsnr_tools.predict.scan import scan_sites
from bertsnr_tools.predict.significance import RankedSite

HERE = Path(__file__).parent
PROMOTERS, HALF, ISLAND, APART = 10, 1000, 500, 5000  # number; bp on either side of a start; half an island; distance
LEAST_GC, LEAST_CPG = 0.55, 0.65
P = 1e-3  # of the sites in BED and figure
LEVELS = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4)  # of the comparison with peaks
SHUFFLES = 1000
Peaks = Mapping[str, Sequence[Interval]]
Colour = tuple[float, float, float]  # red, green, blue in [0, 1]


class Region(NamedTuple):
    """A contiguous sequence and its interval on hg19."""

    interval: Interval
    sequence: bytes


class Start(NamedTuple):
    """A likely start of genes: number of CpG around, position in the region, and the region."""

    cpgs: int
    position: int
    region: Region

    @property
    def interval(self) -> Interval:
        """The promoter."""
        middle = self.region.interval.start + self.position
        return Interval(self.region.interval.chrom, middle - HALF, middle + HALF)


def read_regions(data: Path) -> list[Region]:
    """The regions of hg19; prints how many bases agree with the sparse genome."""
    genome, regions = Genome(str(data / "genome" / "hg19.sparse.fa.gz")), []
    for path in sorted((data / "regions").glob("*.hg19.fa.gz")):
        (record,) = read_records(str(path))
        sequence = record.sequence.upper()
        interval = record.interval
        one = np.frombuffer(sequence, dtype=np.uint8)
        two = np.frombuffer(genome.fetch(interval.chrom, interval.start, interval.end).upper(), dtype=np.uint8)
        known = (one != ord("N")) & (two != ord("N"))
        print(f"{interval}: {(one == two)[known].sum():,} of {known.sum():,} known bases agree", flush=True)
        regions.append(Region(interval, sequence))
    return regions


def accessible_everywhere(data: Path, region: Interval) -> Iterator[int]:
    """Middles of the sequence in DNase peaks of all cell lines, from the start of the region."""
    size = region.end - region.start
    cells = sorted((data / "dnase").glob("*.bed.gz"))
    lines = np.zeros(size, dtype=int)
    for path in cells:
        covered = np.zeros(size, dtype=bool)
        for peak in read_bed(str(path)):
            if peak.chrom == region.chrom and peak.end > region.start and peak.start < region.end:
                covered[max(0, peak.start - region.start) : peak.end - region.start] = True
        lines += covered
    borders = np.flatnonzero(np.diff(lines == len(cells), prepend=False, append=False)).reshape(-1, 2)
    yield from (borders.sum(axis=1) // 2).tolist()


def find_starts(data: Path, regions: Sequence[Region]) -> list[Start]:
    """Likely starts of genes, by falling number of CpG."""
    found = []
    for region in regions:
        for position in accessible_everywhere(data, region.interval):
            promoter = region.sequence[max(0, position - HALF) : position + HALF]
            island = region.sequence[max(0, position - ISLAND) : position + ISLAND]
            c, g, cpgs = island.count(b"C"), island.count(b"G"), island.count(b"CG")
            if len(promoter) < 2 * HALF or b"N" in promoter or c + g < LEAST_GC * len(island):
                continue
            if cpgs * len(island) >= LEAST_CPG * c * g:
                found.append(Start(cpgs, position, region))
    kept: list[Start] = []
    for start in sorted(found, key=lambda start: (-start.cpgs, start.interval)):
        near = (
            other.region.interval == start.region.interval and abs(other.position - start.position) < APART
            for other in kept
        )
        if not any(near):
            kept.append(start)
    return kept


def call(starts: Sequence[Start], model: str) -> tuple[list[str], list[RankedSite]]:
    """All factors, and the sites in the promoters."""
    runtime = Runtime.choose()
    models = load_models([model], runtime)
    with tempfile.NamedTemporaryFile(suffix=".fa") as file:
        for start in starts:
            chrom, first, end = start.interval[:3]
            bases = start.region.sequence[start.position - HALF : start.position + HALF]
            file.write(fasta_text(f"{chrom}:{first + 1}-{end}", "", bases))
        file.flush()
        sites = list(scan_sites(models, file.name, threshold=f"p={max(LEVELS)}", runtime=runtime))
    return [model.info.name for model in models], sites


def overlap(one: Interval | RankedSite, other: Interval | RankedSite) -> bool:
    return one.chrom == other.chrom and one.start < other.end and other.start < one.end


def read_peaks(data: Path, names: Sequence[str], starts: Sequence[Start]) -> dict[str, list[Interval]]:
    """ChIP-seq peaks in the promoters by factor, of all its cell lines; factors without data are missing."""
    peaks: dict[str, list[Interval]] = {}
    promoters = [start.interval for start in starts]
    chroms = {promoter.chrom for promoter in promoters}
    for path in sorted((data / "chip").glob("*.narrowPeak.gz")):
        factor = path.name.partition(".")[0]
        if factor in names:
            near = (peak for peak in read_bed(str(path)) if peak.chrom in chroms)
            found = [peak for peak in near if any(overlap(peak, promoter) for promoter in promoters)]
            peaks.setdefault(factor, []).extend(found)
    return peaks


def sites_by_factor(sites: Sequence[RankedSite], promoter: Interval) -> dict[str, list[RankedSite]]:
    """The sites in a promoter."""
    found: dict[str, list[RankedSite]] = {}
    for site in sites:
        if overlap(site, promoter):
            found.setdefault(site.name, []).append(site)
    return found


class Pairs(NamedTuple):
    """Pairs of a promoter and a factor that is called there and has ChIP-seq data.

    Attributes
    ----------
    factors : number of the factor of each pair, shape (pairs,)
    hits : bool, shape (pairs, factors): a peak of this factor lies on a called site of the pair
    """

    factors: np.ndarray
    hits: np.ndarray

    @classmethod
    def of(cls, starts: Sequence[Start], sites: Sequence[RankedSite], peaks: Peaks) -> Pairs:
        factors, called, hits = list(peaks), [], []
        for start in starts:
            for factor, found in sites_by_factor(sites, start.interval).items():
                if factor in peaks:
                    called.append(factors.index(factor))
                    near = ([peak for peak in peaks[name] if overlap(peak, start.interval)] for name in factors)
                    hits.append([any(overlap(site, peak) for site in found for peak in of_name) for of_name in near])
        return cls(np.array(called), np.array(hits))

    def confirmed(self, names: np.ndarray) -> int:
        """Pairs with a peak, where `names` has another number for each factor."""
        return int(self.hits[np.arange(len(self.factors)), names[self.factors]].sum())

    def shuffled(self, chosen: np.ndarray) -> str:
        """Expected number with the factors `chosen` shuffled, how many times more there are, and p."""
        random, own, counts = np.random.default_rng(1), np.arange(self.hits.shape[1]), []
        for _ in range(SHUFFLES):
            names = own.copy()
            names[chosen] = random.permutation(chosen)
            counts.append(self.confirmed(names))
        confirmed, expected = self.confirmed(own), np.mean(counts)
        p = (1 + sum(count >= confirmed for count in counts)) / (1 + SHUFFLES)
        return f"{expected:.1f}\t{confirmed / expected:.2f}\t{p:.3f}"


def check(starts: Sequence[Start], sites: Sequence[RankedSite], peaks: Peaks) -> None:
    """Print how many called factors have a peak, and how many have a peak of another factor."""
    for p in LEVELS:
        pairs = Pairs.of(starts, [site for site in sites if site.p is not None and site.p <= p], peaks)
        own = np.arange(len(peaks))
        results = (pairs.shuffled(chosen) for chosen in (own, np.unique(pairs.factors)))
        print(len(starts), p, len(pairs.factors), pairs.confirmed(own), *results, sep="\t", flush=True)


def colours(names: Sequence[str]) -> dict[str, Colour]:
    """A colour for each factor; neighbours in the alphabet differ."""
    return {
        name: colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.9, (0.55, 0.8)[index % 2])
        for index, name in enumerate(sorted(names))
    }


def write_bed9(path: Path, sites: Sequence[RankedSite], of_factor: Mapping[str, Colour]) -> None:
    """Write sites, coloured by factor."""
    lines = []
    for site in sites:
        rgb = ",".join(str(round(255 * part)) for part in of_factor[site.name])
        lines.append(f"{bed_line(site)[:-1]}\t{site.start}\t{site.end}\t{rgb}\n")
    path.write_text("".join(lines))


def label_motif(factors: Path, name: str) -> Motif:
    """The motif of a factor's labelled test sites."""
    return discover(LabelSource.read(str(factors / "test" / f"{name}.fa.gz"), InstanceRule()))[0]


def draw(
    path: Path,
    promoter: Interval,
    found: Mapping[str, Sequence[RankedSite]],
    peaks: Peaks,
    motifs: Mapping[str, Motif],
    of_factor: Mapping[str, Colour],
) -> None:
    """A row for each factor called: its logo, its sites on their strand, and its ChIP-seq peaks."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure((9, 0.6 + 0.27 * len(motifs)), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.01, hspace=0)
    rows = figure.subplots(len(motifs), 2, width_ratios=[1, 5], squeeze=False)
    for (name, motif), (logo, axes) in zip(motifs.items(), rows):
        draw_logo(logo, motif, 1)
        logo.set(xticks=[], yticks=[])
        logo.spines[["left", "bottom"]].set_visible(False)
        logo.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=7)
        for peak in peaks.get(name, ()):
            axes.axvspan(peak.start, peak.end, color="#F6DFC4", linewidth=0)
        axes.axhline(0, color="#999999", linewidth=0.5)
        for site in found[name]:
            corner = site.start, 0 if site.strand == "+" else -1
            axes.add_patch(Rectangle(corner, site.end - site.start, 1, facecolor=of_factor[name], linewidth=0))
        last = axes is rows[-1, 1]
        axes.set(xlim=(promoter.start, promoter.end), ylim=(-1.2, 1.2), yticks=[])
        axes.tick_params(bottom=last, labelbottom=last, labelsize=7)
        axes.spines[["top", "left", "right"]].set_visible(False)
        axes.spines["bottom"].set_visible(last)
    rows[-1, 1].ticklabel_format(useOffset=False, style="plain")
    rows[-1, 1].set_xlabel(f"{promoter.chrom} (hg19); above the line: + strand; shaded: ChIP-seq peak", fontsize=8)
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("factors", type=Path)
    parser.add_argument("--model", default="human")
    parser.add_argument("--bed", type=Path, default=HERE / "promoters.bed")
    parser.add_argument("--figure", type=Path, default=HERE / "figures" / "promoter.png")
    arguments = parser.parse_args()
    every = find_starts(arguments.data, read_regions(arguments.data))
    ten = every[:PROMOTERS]
    names, sites = call(every, arguments.model)
    peaks = read_peaks(arguments.data, names, every)
    columns = "promoters", "p below", "pairs", "with a peak", "of shuffled factors", "times", "p"
    print(*columns, "of shuffled called factors", "times", "p", sep="\t")
    check(ten, sites, peaks)
    check(every, sites, peaks)
    sites = [site for site in sites if site.p is not None and site.p <= P]
    print("promoter", "CpG in 1 kb", "sites", "factors", "of these with ChIP-seq data", sep="\t")
    found = [sites_by_factor(sites, start.interval) for start in ten]
    for start, by_factor in zip(ten, found):
        count = sum(map(len, by_factor.values()))
        print(start.interval, start.cpgs, count, len(by_factor), len(by_factor.keys() & peaks.keys()), sep="\t")
    chosen = [site for site in sites if any(overlap(site, start.interval) for start in ten)]
    write_bed9(arguments.bed, chosen, colours(names))
    median = sorted(range(len(ten)), key=lambda at: len(found[at]))[(len(ten) - 1) // 2]
    shown = sorted(found[median], key=lambda name: min(site.start for site in found[median][name]))
    motifs = {name: label_motif(arguments.factors, name) for name in shown}
    draw(arguments.figure, ten[median].interval, found[median], peaks, motifs, colours(names))


if __name__ == "__main__":
    main()
