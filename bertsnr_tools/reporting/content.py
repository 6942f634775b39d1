"""Everything that a report shows, computed from called sites, their genome and their regions."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import __version__
from ..errors import DataError, UsageError
from ..io.fasta import Genome
from ..io.intervals import warn_of_strands
from ..io.motif_files import Motif
from ..log import logger
from ..models.registry import shipped_table
from ..motifs.comparison import MAX_Q, Match, compare, load_targets
from ..motifs.discovery import motif_counts
from ..motifs.instances import InstanceRule
from ..motifs.sources import SKIP_REASONS, SiteSource
from .positions import Regions, position_table, sites_in_regions
from .sites import Sites, groups

MAX_TABLE = 200_000  # sites in the table
MAX_DRAWN, MAX_DRAWN_SITES = 100, 300  # regions that are drawn, and sites in each
MIN_ALIGNED = 0.5  # fraction of the information of both motifs in the aligned positions of a match
BINS = 25  # of the histograms of scores and p-values
SKIPPED = SKIP_REASONS | {"short": "shorter than 80 % of the median site"}
CARD = ("k", "window", "site_width", "positives", "nucleotide_aupr", "sequence_aupr", "matrix", "quality")


@dataclass(frozen=True)
class Series:
    """Sites of one factor in one file: what a report counts, compares and colours.

    Attributes
    ----------
    keys : factor and sample of each series, those with most sites first
    labels : the factor, with its file where several files contain it
    codes : the series of each site, shape (n,)
    """

    keys: list[tuple[int, int]]
    labels: list[str]
    codes: np.ndarray

    @classmethod
    def of(cls, sites: Sites) -> Series:
        """The series of sites."""
        flat = sites["factor"].astype(np.int64) * len(sites.files) + sites["sample"]
        found, codes, counts = np.unique(flat, return_inverse=True, return_counts=True)
        keys = [divmod(code, len(sites.files)) for code in found.tolist()]
        order = sorted(range(len(keys)), key=lambda i: (-counts[i], sites.factors[keys[i][0]], keys[i][1]))
        factors = [factor for factor, _ in keys]
        labels = [
            sites.factors[factor] + (f" · {sites.files[sample].label}" if factors.count(factor) > 1 else "")
            for factor, sample in keys
        ]
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        return cls([keys[i] for i in order], [labels[i] for i in order], rank[codes])

    def __len__(self) -> int:
        return len(self.keys)


def report_content(
    sites: Sites,
    genome: Genome,
    regions: Regions | None = None,
    *,
    assembly: str | None = None,
    seed: int = 1,
    strict: bool = False,
) -> dict[str, Any]:
    """Everything that the page of a report shows, as plain data.

    Parameters
    ----------
    regions : in which sites were called; by default see `Regions.of_genome`
    assembly : UCSC's name of the genome, for links
    seed : of the shuffled positions
    strict : raise an error, rather than log a warning, if a site is not in the logos

    Raises
    ------
    DataError : a site is not on the genome, or a site was skipped with `strict`.
    """
    regions = regions or Regions.of_genome(genome)
    series = Series.of(sites)
    motifs, skipped = series_motifs(sites, series, genome)
    if skipped and strict:
        raise DataError(f"sites skipped: {skipped}", ", ".join(file.path for file in sites.files))
    if skipped:
        logger.warning("sites that are not in the logos: %s", skipped)
    for file in sites.files:
        warn_of_strands(file.path, file.without_strand)
    matches, note = _best_matches([motif for motif in motifs if motif])
    best = iter(matches)
    return {
        "version": __version__,
        "files": [vars(file) for file in sites.files],
        "genome": {"path": genome.path, "sequences": len(genome.lengths)},
        "assembly": assembly,
        "seed": seed,
        "factors": len({factor for factor, _ in series.keys}),
        "series": _series_rows(sites, series),
        "motifs": [_logo(motif, next(best)) if motif else None for motif in motifs],
        "jaspar": note,
        "skipped": skipped,
        "chroms": _chrom_table(sites, series),
        "scores": _histograms(sites["score"], series, 1000),
        "p": _histograms(sites["neg_log10_p"], series, 0),
        "regions": _region_table(sites, series, regions, seed) if regions else None,
        "table": _site_table(sites, series),
    }


def series_motifs(sites: Sites, series: Series, genome: Genome) -> tuple[list[Motif | None], str]:
    """The motif of each series, None without an instance, and a text on sites that are not in it.

    Raises
    ------
    DataError : a site is not on the genome.
    """
    counts: dict[tuple[int, int], np.ndarray] = {}
    numbers = {factor: number for number, factor in enumerate(sites.factors)}
    skipped: Counter[str] = Counter()
    for sample, file in enumerate(sites.files):
        intervals = sites.intervals(sample)
        if not intervals:
            continue
        source = SiteSource(intervals, genome, InstanceRule(), file.path)
        counts |= {(numbers[name], sample): pfm for name, pfm in motif_counts(source).items()}
        skipped += source.skipped
    made = [Motif(str(i), counts[key]) if counts[key].any() else None for i, key in enumerate(series.keys)]
    return made, ", ".join(f"{count:,} {SKIPPED[reason]}" for reason, count in skipped.items())


def _best_matches(motifs: Sequence[Motif]) -> tuple[list[Match | None], str]:
    """The best match of each motif in JASPAR, and why there is none."""
    try:
        targets = load_targets("jaspar")
    except UsageError as error:
        return [None] * len(motifs), str(error)
    rows = compare(motifs, targets, max_q=MAX_Q) if motifs else []
    return [next((match for match in row if _is_aligned(match)), None) for row in rows], ""


def _is_aligned(match: Match) -> bool:
    """Whether a match is not only of positions without information, such as the gap in a long motif."""
    query, target = match.query.information.sum(axis=1), match.target.information.sum(axis=1)
    if match.orientation == "-":
        target = target[::-1]
    first, start = max(0, -match.offset), max(0, match.offset)
    aligned = (query[first : first + match.overlap], target[start : start + match.overlap])
    return all(part.sum() >= MIN_ALIGNED * whole.sum() for part, whole in zip(aligned, (query, target)))


def _logo(motif: Motif, match: Match | None) -> dict[str, Any]:
    logo: dict[str, Any] = {"sites": motif.sites, "bits": _hundredths(motif)}
    if match:
        target = match.target.reverse_complement() if match.orientation == "-" else match.target
        logo["match"] = {
            "id": match.target.id,
            "name": match.target.name,
            "p": match.p,
            "q": match.q,
            "offset": match.offset,
            "reverse": match.orientation == "-",
            "bits": _hundredths(target),
        }
    return logo


def _hundredths(motif: Motif) -> list[list[int]]:
    """Letter sizes of a logo in hundredths of a bit."""
    return np.rint(100 * motif.information).astype(int).tolist()


def _series_rows(sites: Sites, series: Series) -> list[dict[str, Any]]:
    """Label, factor, file, sites, medians and model cards of each series."""
    cards: dict[str, list[list[str]]] = {}
    for name, row in shipped_table().items():
        for known in {name, row["model"]}:
            cards.setdefault(known, []).append([name, *(row[column] for column in CARD)])
    length = sites["end"] - sites["start"]
    rows = []
    for label, (factor, sample), chosen in zip(series.labels, series.keys, groups(series.codes, len(series))):
        name = sites.factors[factor]
        rows.append(
            {
                "label": label,
                "factor": name,
                "file": sample,
                "sites": len(chosen),
                "length": _median(length[chosen]),
                "score": _median(sites["score"][chosen]),
                "p": _median(sites["neg_log10_p"][chosen]),
                "models": cards.get(name, []),
            }
        )
    return rows


def _median(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return round(float(np.median(known)), 4) if len(known) else None


def _chrom_table(sites: Sites, series: Series) -> dict[str, Any]:
    """Sites of each series by chromosome: [index, count, index, count, …]."""
    rows = []
    for chosen in groups(series.codes, len(series)):
        found, counts = np.unique(sites["chrom"][chosen], return_counts=True)
        rows.append(np.stack([found, counts], axis=1).ravel().tolist())
    return {"names": sites.chroms, "rows": rows}


def _histograms(values: np.ndarray, series: Series, top: float) -> dict[str, Any] | None:
    """Histograms of all series on one axis, which ends at `top` or at the greatest value; None without values."""
    known = np.isfinite(values)
    if not known.any():
        return None
    low, high = min(0.0, float(values[known].min())), max(top, float(values[known].max()), 1e-3)
    width = (high - low) / BINS
    at = np.minimum(((values[known] - low) / width).astype(np.int64), BINS - 1)
    counts = np.bincount(series.codes[known] * BINS + at, minlength=len(series) * BINS).reshape(-1, BINS)
    return {"low": round(low, 6), "high": round(high, 6), "rows": counts.tolist()}


def _region_table(sites: Sites, series: Series, regions: Regions, seed: int) -> dict[str, Any]:
    """The regions: their number, positions of sites in them, and the first ones with their sites."""
    table = position_table(sites, series.codes, len(series), regions, seed)
    if not table["rows"][-1]["sites"]:
        logger.warning("%s: no site lies inside a region", regions.source)
    lengths = [region.end - region.start for region in regions.intervals]
    return table | {
        "source": regions.source,
        "count": len(regions),
        "bases": sum(lengths),
        "length": _median(np.array(lengths)),
        "summits": regions.summits,
        "drawn": _drawn_regions(sites, series, regions),
    }


def _drawn_regions(sites: Sites, series: Series, regions: Regions) -> list[dict[str, Any]]:
    """The first regions, each with its sites: [start in the region, length, series, reverse, score, -log10 p]."""
    first = regions.intervals[:MAX_DRAWN]
    pairs = sites_in_regions(sites, first, whole=False)
    best_first = np.lexsort((-np.nan_to_num(sites["score"]), -np.nan_to_num(sites["neg_log10_p"])))
    rank = np.empty(len(sites), dtype=np.int64)
    rank[best_first] = np.arange(len(sites))
    drawn = []
    for region, center, inside in zip(first, regions.centers.tolist(), groups(pairs.region, len(first))):
        every = pairs.site[inside]
        kept = every[np.argsort(rank[every])[:MAX_DRAWN_SITES]]
        kept = kept[np.lexsort((kept, sites["start"][kept]))]
        start, length = sites["start"][kept] - region.start, sites["end"][kept] - sites["start"][kept]
        whole = (values.tolist() for values in (start, length, series.codes[kept], sites["reverse"][kept]))
        measured = (_rounded(sites[name][kept]) for name in ("score", "neg_log10_p"))
        drawn.append(
            {
                "chrom": region.chrom,
                "start": region.start,
                "end": region.end,
                "name": "" if region.name == "." else region.name,
                "center": center - region.start,
                "total": len(every),
                "sites": list(zip(*whole, *measured)),
            }
        )
    return drawn


def _rounded(values: np.ndarray) -> list[float | None]:
    """Numbers with four decimals; None for NaN."""
    return [round(value, 4) if value == value else None for value in values.tolist()]


def _site_table(sites: Sites, series: Series) -> dict[str, Any]:
    """The columns of the sites that the table of the page lists, packed."""
    chosen = sites.best(MAX_TABLE)
    columns = {
        "chrom": sites["chrom"][chosen],
        "start": sites["start"][chosen],
        "length": (sites["end"] - sites["start"])[chosen],
        "reverse": sites["reverse"][chosen],
        "series": series.codes[chosen],
    }
    columns |= {
        name: sites[name][chosen]
        for name in ("score", "neg_log10_p", "neg_log10_q")
        if np.isfinite(sites[name][chosen]).any()
    }
    return {"total": len(sites), "columns": {name: pack(values) for name, values in columns.items()}}


def pack(values: np.ndarray) -> dict[str, str]:
    """Numbers as a typed array of JavaScript: its name, and its bytes in base64 (little-endian).

    The smallest type that contains all values exactly, or float32 for fractions and unknown numbers.
    """
    whole = values.astype(float)
    kind, name = "<f4", "Float32Array"
    if np.isfinite(whole).all() and (whole == np.floor(whole)).all():
        low, high = (float(whole.min()), float(whole.max())) if len(whole) else (0.0, 0.0)
        kind, name = "<f8", "Float64Array"
        for bits in (32, 16, 8):
            if 0 <= low and high < 2**bits:
                kind, name = f"<u{bits // 8}", f"Uint{bits}Array"
    return {"type": name, "data": base64.b64encode(values.astype(kind).tobytes()).decode()}
