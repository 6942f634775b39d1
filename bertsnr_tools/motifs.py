"""Motifs: found in base calls, counted from their instances, kept in MEME and JASPAR files.

Columns of all matrices are the letters A, C, G, T in this order.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .errors import DataError
from .fasta import Genome
from .kmers import LETTERS as CODED
from .kmers import encode, reverse_complement
from .regions import Interval, located, unknown_chrom
from .scores import STRANDS, Site, unbeaten
from .streams import open_input, text_lines

LETTERS = "ACGT"
BACKGROUND = 0.25  # of each letter
_COLUMN = np.array([LETTERS.index(chr(letter)) for letter in CODED])  # code of `kmers.encode` to column


@dataclass(frozen=True)
class Motif:
    """A position-specific description of a site.

    Attributes
    ----------
    id : without white space and "="
    counts : PFM, float64, shape (width, 4): how often each letter stands at each position
    name : what people call it, possibly empty
    """

    id: str
    counts: np.ndarray
    name: str = ""

    @property
    def width(self) -> int:
        return len(self.counts)

    @property
    def sites(self) -> int:
        """Instances that were counted."""
        return round(self.counts.sum(axis=1).max())

    @property
    def probs(self) -> np.ndarray:
        """PPM, shape (width, 4): the share of each letter; rows sum to 1."""
        return self.counts / self.counts.sum(axis=1, keepdims=True)

    @property
    def log_odds(self) -> np.ndarray:
        """PWM in bits against a uniform background, shape (width, 4); one pseudocount is shared by the letters of a row."""
        counts = self.counts + BACKGROUND
        return np.log2(counts / counts.sum(axis=1, keepdims=True) / BACKGROUND)

    @property
    def information(self) -> np.ndarray:
        """Letter heights of the logo in bits, shape (width, 4): share times information content (Schneider and Stephens 1990)."""
        probs = self.probs
        bits = 2 + (probs * np.log2(np.where(probs > 0, probs, 1))).sum(axis=1, keepdims=True)
        return probs * bits

    def reverse_complement(self) -> Motif:
        """The same motif read on the other strand."""
        return Motif(self.id, self.counts[::-1, ::-1], self.name)


def instance_starts(calls: np.ndarray, width: int, coverage: float = 0.8) -> np.ndarray:
    """Where the instances of a motif of this width begin in a called sequence (Zhang et al. 2021; Luo et al. 2024).

    A window of the motif's width slides over the calls; its positions count where at least `coverage` of the window is
    called. Every unbroken run of such positions is one instance: `width` bases around the middle of what the windows of the run
    cover. The paper takes the first alone.

    Parameters
    ----------
    calls : 0/1, shape (n,)

    Returns
    -------
    int array: 0-based starts in order; all instances lie inside the sequence
    """
    if len(calls) < width:
        return np.empty(0, dtype=int)
    total = np.concatenate(([0], np.cumsum(calls, dtype=int)))
    counts = total[width:] - total[:-width] >= needed(width, coverage)
    runs = np.nonzero(np.diff(counts, prepend=False, append=False))[0].reshape(-1, 2)  # first position, position after the last
    return (runs.sum(axis=1) - 1 + width) // 2 - width // 2


def needed(width: int, coverage: float) -> int:
    """How many of `width` bases must be called; a called site shorter than this has no instance."""
    return max(1, math.ceil(coverage * width - 1e-9))


class Instance(NamedTuple):
    """One occurrence of a motif: where it lies (0-based, half-open, stranded, named by its motif) and what it reads there."""

    place: Interval
    score: float
    sequence: bytes


SKIPPED = {
    "short": "with too few called bases for the motif's width (see --coverage)",
    "edge": "too near to the end of their sequence",
    "n": "with letters other than ACGT",
}


def site_instances(sites: Sequence[Interval], genome: Genome, path: str, widths: Mapping[str, int], coverage: float, skipped: Counter[str]) -> Iterator[Instance]:
    """The instance of each called site: what `instance_starts` finds when the site alone is called.

    Parameters
    ----------
    sites : called sites of the BED file `path`, grouped into motifs by their names
    genome : its sequences are chromosomes, or parts of them with names such as `chrom:from-to`
    widths : of the motif of each name
    skipped : counts the sites without an instance, by the keys of `SKIPPED`

    Raises
    ------
    DataError : a site that is not on the sequences.
    """
    shelves = _shelves(genome)
    for site in sites:
        width = widths[site.name]
        record, place = _shelf(site, genome, shelves, path)
        start, end = _centred(site, width)
        if site.end - site.start < needed(width, coverage):
            skipped["short"] += 1
        elif start < place.start or end > place.end:
            skipped["edge"] += 1
        else:
            at = start - place.start if place.strand == "+" else place.end - end
            sequence = genome.fetch(record, at, at + width)
            if place.strand != site.strand:
                sequence = reverse_complement(sequence)
            if sequence.translate(None, CODED):
                skipped["n"] += 1
            else:
                yield Instance(site._replace(start=start, end=end), 0.0, sequence)


def _centred(site: Interval, width: int) -> tuple[int, int]:
    """`width` bases around the middle of a site, which is rounded down in the direction of its strand."""
    first = (site.start + site.end) // 2 - width // 2 if site.strand == "+" else -((-site.start - site.end) // 2) + width // 2 - width
    return first, first + width


def _shelves(genome: Genome) -> dict[str, list[tuple[str, Interval]]]:
    """The records that are parts of a chromosome, by its name."""
    shelves: dict[str, list[tuple[str, Interval]]] = {}
    for name, length in genome.lengths.items():
        place = located(name, length)
        if place:
            shelves.setdefault(place.chrom, []).append((name, place))
    return shelves


def _shelf(site: Interval, genome: Genome, shelves: dict[str, list[tuple[str, Interval]]], path: str) -> tuple[str, Interval]:
    """The record that a site lies on, and where that record lies."""
    if site.chrom in genome.lengths:
        genome.check(site, path)
        return site.chrom, Interval(site.chrom, 0, genome.lengths[site.chrom])
    for name, place in shelves.get(site.chrom, []):
        if place.start <= site.start and site.end <= place.end:
            return name, place
    if site.chrom in shelves:
        raise DataError(f"{site} lies on none of the sequences of {genome.path}", path, site.line)
    raise unknown_chrom(site, path, genome.lengths)


def called_instances(track: np.ndarray, threshold: float, width: int, coverage: float, every: bool) -> list[Site]:
    """The instances in one sequence that is scored on both strands.

    Parameters
    ----------
    track : base probabilities, shape (2, n), both rows in forward order; bases above `threshold` are called
    every : take all runs, of two that share more than half their bases on opposite strands the better; else the first run
        of each strand, in its own direction, and of these two the better

    Returns
    -------
    list of Site in forward coordinates, in order; the score is the mean over the bases of the instance
    """
    found: list[list[Site]] = []
    for row, strand in zip(track, STRANDS):
        starts = instance_starts((row if strand == "+" else row[::-1]) > threshold, width, coverage)
        starts = starts if every else starts[:1]
        if strand == "-":
            starts = len(row) - width - starts[::-1]
        found.append([Site(a, a + width, strand, float(row[a : a + width].mean(dtype=np.float64))) for a in starts.tolist()])
    plus, minus = found
    if every:
        return sorted(unbeaten(plus, minus, wins_ties=True) + unbeaten(minus, plus, wins_ties=False))
    return [max(plus + minus, key=lambda site: site.score)] if plus or minus else []


class Pile:
    """Instances of one motif, counted as they come."""

    def __init__(self, width: int):
        self.counts = np.zeros((width, len(LETTERS)))

    def add(self, sequence: bytes) -> None:
        """Count one more instance of A, C, G and T."""
        self.counts[np.arange(len(self.counts)), _COLUMN[encode(sequence)]] += 1


def unique_id(name: str, taken: Collection[str]) -> str:
    """A motif id from any name: MEME allows neither white space nor "=" in it, nor the same id twice."""
    plain = re.sub(r"[\s=]+", "_", name) or "motif"
    number, chosen = 1, plain
    while chosen in taken:
        number += 1
        chosen = f"{plain}-{number}"
    return chosen


def meme_text(motifs: Sequence[Motif]) -> str:
    """Motifs in the minimal MEME format, version 4, with a uniform background; every row sums to exactly 1.000000."""
    parts = ["MEME version 4\n\nALPHABET= ACGT\n\nstrands: + -\n\nBackground letter frequencies\nA 0.25 C 0.25 G 0.25 T 0.25\n\n"]
    for motif in motifs:
        parts.append(f"MOTIF {motif.id} {motif.name}".rstrip() + "\n")
        parts.append(f"letter-probability matrix: alength= 4 w= {motif.width} nsites= {motif.sites} E= 0\n")
        parts += ["".join(f" {value // 10**6}.{value % 10**6:06d}" for value in _millionths(row)) + "\n" for row in motif.probs]
        parts.append("\n")
    return "".join(parts)


def _millionths(probs: np.ndarray) -> list[int]:
    """A row of shares as whole millionths that sum to a million; the largest remainders are rounded up."""
    exact = probs * 10**6
    whole = np.floor(exact).astype(int)
    up = np.argsort(whole - exact, kind="stable")[: 10**6 - int(whole.sum())]
    whole[up] += 1
    return whole.tolist()


def jaspar_text(motifs: Sequence[Motif]) -> str:
    """Motifs in the JASPAR format: whole counts, one row for each letter."""
    parts = []
    for motif in motifs:
        counts = np.rint(motif.counts).astype(int).T
        size = len(str(counts.max()))
        parts.append(f">{motif.id}\t{motif.name or motif.id}\n")
        parts += [f"{letter}  [ {' '.join(f'{count:>{size}}' for count in row)} ]\n" for letter, row in zip(LETTERS, counts)]
    return "".join(parts)


def is_motif_file(path: str) -> bool:
    """Whether a file begins as motifs in the MEME or JASPAR format do.

    Raises
    ------
    DataError : it cannot be read.
    """
    with open_input(path) as stream:
        return stream.peek(4)[:4].startswith((b"MEME", b">"))  # type: ignore[attr-defined]


def read_motifs(path: str) -> list[Motif]:
    """The motifs of a file in the JASPAR format, if it begins with ">", else of a MEME file; see `read_jaspar` and `read_meme`."""
    if path == "-":
        return read_meme(path)
    with open_input(path) as stream:
        jaspar = stream.peek(1)[:1] == b">"  # type: ignore[attr-defined]
    return read_jaspar(path) if jaspar else read_meme(path)


def read_jaspar(path: str) -> list[Motif]:
    """The motifs of a file in the JASPAR format: after ">id name" a row of counts for each of A, C, G, T, with its letter and brackets or without.

    Raises
    ------
    DataError : no motif, or one whose rows are no counts, of different lengths, not four or in another order, or without any
        instance at a position.
    """
    motifs: list[Motif] = []
    with open_input(path) as stream:
        lines = ((number, text) for number, text in text_lines(stream, path) if text.strip())
        for number, text in lines:
            title = text[1:].split(None, 1)
            if not text.startswith(">") or not title:
                raise DataError(f"is {text.strip()[:40]!r}, needed is '>' with the id of a motif", path, number)
            rows: list[list[float]] = []
            for letter in LETTERS:
                number, text = next(lines, (number + 1, ""))
                found = re.fullmatch(rf"(?:{letter}\s*)?\[?((?:\s*\d+(?:\.\d+)?(?=[\s\]]|$))+)\s*\]?\s*", text)
                row = [float(value) for value in found[1].split()] if found else []
                if text.strip().isalpha() and not motifs and not rows:
                    raise DataError("is FASTA: sequence, needed are motifs or a model", path)
                if not row or rows and len(row) != len(rows[0]):
                    raise DataError(f"row {letter} of motif {title[0]!r} is {text.strip()[:40]!r}, needed are {len(rows[0]) if rows else 'its'} counts", path, number)
                rows.append(row)
            counts = np.array(rows).T
            if not counts.any(axis=1).all():
                raise DataError(f"motif {title[0]!r} has a position without any count", path, number)
            motifs.append(Motif(title[0], counts, title[1].strip() if len(title) > 1 else ""))
    if not motifs:
        raise DataError("holds no motif", path)
    return motifs


def read_meme(path: str) -> list[Motif]:
    """The motifs of a MEME file ("-" is standard input); counts are shares times `nsites`, to whole numbers where they were.

    Raises
    ------
    DataError : no MEME file, no motif in it, an alphabet other than ACGT, or a matrix that is cut short or whose rows are no
        four shares with the sum 1.
    """
    motifs: list[Motif] = []
    with open_input(path) as stream:
        lines = text_lines(stream, path)
        number, text = next(lines, (1, ""))
        if not text.startswith("MEME version"):
            raise DataError(f"begins with {text[:20]!r}, a MEME motif file begins with 'MEME version'", path, 1)
        title: list[str] = []
        for number, text in lines:
            if text.startswith("ALPHABET=") and text.split("=")[1].strip() != LETTERS:
                raise DataError(f"alphabet is {text.split('=')[1].strip()!r}, needed is ACGT", path, number)
            if text.startswith("MOTIF"):
                if title:
                    raise DataError(f"motif {title[0]!r} has no letter-probability matrix", path, number)
                title = text.split()[1:3]
                if not title:
                    raise DataError("the motif has no name after MOTIF", path, number)
            elif text.startswith("letter-probability matrix"):
                if not title:
                    raise DataError("a matrix stands before the first MOTIF line", path, number)
                motifs.append(_read_matrix(title, text, number, lines, path))
                title = []
    if title:
        raise DataError(f"motif {title[0]!r} has no letter-probability matrix", path, number)
    if not motifs:
        raise DataError("holds no motif", path)
    return motifs


def _read_matrix(title: list[str], head: str, number: int, lines, path: str) -> Motif:
    fields = dict(re.findall(r"(\w+)= *(\S+)", head))
    width, sites = fields.get("w", ""), fields.get("nsites", "20")  # 20 is what the MEME suite takes
    if not re.fullmatch(r"0*[1-9]\d{0,5}", width) or not re.fullmatch(r"\d+(\.\d+)?", sites):
        raise DataError(f"motif {title[0]!r} has w= {width!r} and nsites= {sites!r}, needed are numbers", path, number)
    rows: list[list[float]] = []
    while len(rows) < int(width):
        number, text = next(lines, (number + 1, ""))
        try:
            row = [float(value) for value in text.split()]
        except ValueError:
            row = []
        if len(row) != len(LETTERS) or not all(0 <= value <= 1 for value in row) or abs(sum(row) - 1) > 0.01:
            raise DataError(f"row {len(rows) + 1} of motif {title[0]!r} is {text.strip()[:40]!r}, needed are 4 shares with the sum 1", path, number)
        rows.append(row)
    counts = np.array(rows) * max(1.0, float(sites))
    whole = np.rint(counts)
    kept = np.abs(counts - whole).max() < 1e-6 * max(1.0, float(sites))  # shares are given to six digits
    return Motif(title[0], whole if kept and whole.any(axis=1).all() else counts, title[1] if len(title) > 1 else "")
