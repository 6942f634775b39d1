"""Labelled windows: cut from a genome around sites, read back from FASTA, grouped by where they lie.

A window is FASTA with the header `>name::chrom:start-end(strand) site=a-b[,c-d]`: chrom, start and end (0-based, half-open) say
where it lies, `site` gives the sites inside it, its own first, counted from 0 in the window's own direction, half-open. The
sequence of a window of the reverse strand is reverse-complemented (Luo et al. 2024, section 2.1).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from ..io.fasta import Genome, Record, read_records
from ..io.intervals import Interval, interval_from_name
from .encoding import CODE_LETTERS, encode, reverse_complement
from .random_numbers import random_numbers

SKIP_REASONS = {
    "long": "longer than the window",
    "absent": "on a sequence that the genome lacks",
    "off": "off the end of its sequence",
    "n": "with too many N around (see --max-n)",
}


def cut_windows(
    sites: Sequence[Interval], genome: Genome, window: int, max_n: int, seed: int, skipped: Counter[str]
) -> Iterator[Record]:
    """One window for each site, the site at a random offset inside.

    The offset is uniform over those whose window lies on the chromosome and holds at most `max_n` letters other than ACGT; it
    depends on `seed` and the site alone. Sites on the same strand that lie wholly inside are labelled as well.

    Parameters
    ----------
    sites : 0-based, half-open
    window : bases, the whole site inside
    skipped : counts the sites left out, by the keys of `SKIPPED`

    Yields
    ------
    records in the order of the sites
    """
    draws, neighbours = _prepare(sites, window, seed)
    for number, (chrom, site_start, site_end, name, strand, _) in enumerate(sites):
        size = genome.lengths.get(chrom)
        if size is None or site_end > size or site_end - site_start > window:
            skipped["absent" if size is None else "off" if site_end > size else "long"] += 1
            continue
        low, high = max(0, site_end - window), min(size, site_start + window)
        around = genome.fetch(chrom, low, high)
        if not around.translate(None, b"ACGT"):
            offset = draws[number] * (high - low - window + 1) >> 64 if high - low >= window else None
        else:
            starts = _clean_starts(around, window, max_n)
            offset = starts[draws[number] * len(starts) >> 64] if starts else None
        if offset is None:
            skipped["n" if high - low >= window else "off"] += 1
            continue
        start, end = low + offset, low + offset + window
        sequence = around[offset : offset + window]
        inside = [(a, b) for a, b in neighbours.get(number, ()) if a >= start and b <= end]
        if strand == "-":
            sequence = reverse_complement(sequence)
            labels = "".join([f",{end - b}-{end - a}" for a, b in inside])
            own = f"{end - site_end}-{end - site_start}"
        else:
            labels = "".join([f",{a - start}-{b - start}" for a, b in inside])
            own = f"{site_start - start}-{site_end - start}"
        if not name.isprintable() or " " in name:
            name = "_".join(name.split())
        yield Record(f"{name}::{chrom}:{start}-{end}({strand})", f"site={own}{labels}", sequence)


def _prepare(sites: Sequence[Interval], window: int, seed: int) -> tuple[list[int], dict[int, list[tuple[int, int]]]]:
    """What `cut_windows` needs to know of all sites, as array arithmetic.

    Returns
    -------
    a 64-bit random number for each site, from the seed, its place and its strand; and for each site that has any, by its
    number, the other sites on its strand that may share a window with it
    """
    groups: dict[tuple[str, str], int] = {}
    group = np.array([groups.setdefault((site[0], site[4]), len(groups)) for site in sites], dtype=int)
    starts, ends = (np.array([site[column] for site in sites], dtype=int) for column in (1, 2))
    keys = [
        int.from_bytes(hashlib.blake2b(f"{seed} {chrom} {strand}".encode(), digest_size=8).digest(), "little")
        for chrom, strand in groups
    ]
    draws = random_numbers(random_numbers(np.array(keys, dtype=np.uint64)[group], starts, 0), ends, 1)

    order = np.lexsort((ends, starts, group))
    group, starts = group[order], starts[order]
    crowded = (np.diff(group) == 0) & (np.diff(starts) < window)
    neighbours: dict[int, list[tuple[int, int]]] = {}
    for at in np.nonzero(crowded)[0].tolist():
        one = int(order[at])
        other = at + 1
        while other < len(order) and group[other] == group[at] and starts[other] - starts[at] < window:
            two = int(order[other])
            if sites[one][1:3] != sites[two][1:3]:
                neighbours.setdefault(one, []).append(sites[two][1:3])
                neighbours.setdefault(two, []).append(sites[one][1:3])
            other += 1
    return draws.tolist(), {number: sorted(set(spans)) for number, spans in neighbours.items()}


def _clean_starts(sequence: bytes, window: int, max_n: int) -> list[int]:
    """Where windows with at most `max_n` letters other than ACGT begin."""
    unknown = np.concatenate(([0], np.cumsum(encode(sequence) >= len(CODE_LETTERS))))
    return np.nonzero(unknown[window:] - unknown[:-window] <= max_n)[0].tolist() if len(sequence) >= window else []


@dataclass
class Windows:
    """Labelled windows of one length, as arrays.

    Attributes
    ----------
    names : record names
    codes : uint8, shape (n, window), see `kmers.encode`
    labels : uint8 0/1, shape (n, window)
    """

    names: list[str]
    codes: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    @property
    def positive(self) -> np.ndarray:
        """bool, shape (n,): the window holds a site."""
        return np.any(self.labels, axis=1)

    def take(self, index: np.ndarray) -> Windows:
        """The windows at these positions."""
        return Windows([self.names[i] for i in index], self.codes[index], self.labels[index])

    def records(self) -> Iterator[Record]:
        """The windows as FASTA records without labels."""
        letters = np.frombuffer(CODE_LETTERS + b"N", dtype=np.uint8)[self.codes]
        return (Record(name, "", row.tobytes()) for name, row in zip(self.names, letters))

    @staticmethod
    def unlabelled(records: Sequence[Record]) -> Windows:
        """Records of equal length as windows without a site."""
        codes = np.stack([encode(record.sequence) for record in records])
        return Windows([record.name for record in records], codes, np.zeros_like(codes))

    @staticmethod
    def joined(parts: Sequence[Windows]) -> Windows:
        """All windows of `parts`, in order."""
        return Windows(
            [name for part in parts for name in part.names],
            np.concatenate([part.codes for part in parts]),
            np.concatenate([part.labels for part in parts]),
        )


def read_windows(path: str, positive: bool | None, k: int, length: int | None = None) -> Windows:
    """Windows from FASTA or "-": positives carry `site=` in the header, negatives do not.

    Parameters
    ----------
    positive : which of the two all must be; None takes both
    k : bases in a token; a shorter site could not be labelled
    length : bases that every window must have; None takes the length of the first

    Raises
    ------
    DataError : no records, windows of different lengths or shorter than k, missing or impossible sites.
    """
    names, codes, labels = [], [], []
    for record in read_records(path):
        length = length or len(record.sequence)
        if len(record.sequence) != length:
            raise DataError(
                f"record {record.name!r} is {len(record.sequence)} bp, needed are windows of {length} bp", path
            )
        if length < k:
            raise DataError(f"record {record.name!r} is {length} bp, shorter than one token of {k} bp", path)
        names.append(record.name)
        codes.append(encode(record.sequence))
        labels.append(_labels(record, positive, k, path))
    return Windows(names, np.stack(codes), np.stack(labels))


def _labels(record: Record, positive: bool | None, k: int, path: str) -> np.ndarray:
    labels = np.zeros(len(record.sequence), dtype=np.uint8)
    sites = labelled_sites(record, path)
    if positive is not None and positive != bool(sites):
        need = (
            "a positive window needs site=a-b in its header, as `bertsnr windows` writes it"
            if positive
            else "a negative window has no site= in its header"
        )
        raise DataError(f"record {record.name!r}: {need}", path)
    for start, end in sites:
        if end - start < k:
            raise DataError(f"record {record.name!r}: site {start}-{end} is shorter than one token of {k} bp", path)
        labels[start:end] = 1
    return labels


def labelled_sites(record: Record, path: str) -> list[tuple[int, int]]:
    """The sites in the header of a window, [start, end) in its own direction; empty without `site=`.

    Raises
    ------
    DataError : a site that is none, or not in the window.
    """
    fields = [text.removeprefix("site=") for text in record.description.split() if text.startswith("site=")]
    sites = []
    for span in (span for text in fields for span in text.split(",")):
        match = re.fullmatch(r"(\d{1,18})-(\d{1,18})", span)
        start, end = (int(match[1]), int(match[2])) if match else (0, 0)
        if not start < end <= len(record.sequence):
            raise DataError(
                f"record {record.name!r}: site is {span!r}, needed is a-b with 0 <= a < b <= {len(record.sequence)}",
                path,
            )
        sites.append((start, end))
    return sites


def site_width(positives: Windows) -> int:
    """Median width of the sites in bp, runs of labelled bases being sites."""
    steps = np.diff(positives.labels.astype(np.int8), axis=1, prepend=0, append=0)
    return int(np.median(np.nonzero(steps == -1)[1] - np.nonzero(steps == 1)[1]))


def loci(windows: Windows) -> tuple[np.ndarray, list[str]]:
    """Group windows that overlap on the genome, whatever their strand.

    Coordinates come from the record names (`regions.located`); a shuffle (`…_shuf1`) belongs to the locus of the window it was
    made from; a name without coordinates is a locus of its own.

    Returns
    -------
    locus numbers, int, shape (n,); chromosome of each window, "" when unknown
    """
    sources = [re.sub(r"_shuf\d+$", "", name) for name in windows.names]
    places = {name: interval_from_name(name, windows.codes.shape[1]) for name in sources}
    locus: dict[str, int] = {}
    chrom, reach = "", -1
    number = -1
    for name in sorted(places, key=lambda name: (places[name] or Interval("", 0, 0))[:3]):
        place = places[name]
        if place is None or place.chrom != chrom or place.start >= reach:
            number += 1
            reach = -1
        if place is not None:
            chrom, reach = place.chrom, max(reach, place.end)
        locus[name] = number
    return np.array([locus[name] for name in sources]), [
        place.chrom if (place := places[name]) else "" for name in sources
    ]


def split_by_locus(locus: np.ndarray, parts: int, seed: int) -> np.ndarray:
    """A part number in [0, parts) for every window; windows of one locus get the same, parts are as even as loci allow."""
    unique, inverse = np.unique(locus, return_inverse=True)
    part = np.empty(len(unique), dtype=int)
    part[np.random.default_rng([seed, 1]).permutation(len(unique))] = np.arange(len(unique)) % parts
    return part[inverse]
