"""Motifs: found in base calls, counted from their instances, kept in MEME and JASPAR files.

Columns of all matrices are the letters A, C, G, T in this order.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from .files import open_input, text_lines

BASES = "ACGT"
UNIFORM = 0.25  # of each letter


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
        counts = self.counts + UNIFORM
        return np.log2(counts / counts.sum(axis=1, keepdims=True) / UNIFORM)

    @property
    def information(self) -> np.ndarray:
        """Letter heights of the logo in bits, shape (width, 4): share times information content (Schneider and Stephens 1990)."""
        probs = self.probs
        bits = 2 + (probs * np.log2(np.where(probs > 0, probs, 1))).sum(axis=1, keepdims=True)
        return probs * bits

    def reverse_complement(self) -> Motif:
        """The same motif read on the other strand."""
        return Motif(self.id, self.counts[::-1, ::-1], self.name)


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
    parts = [
        "MEME version 4\n\nALPHABET= ACGT\n\nstrands: + -\n\nBackground letter frequencies\nA 0.25 C 0.25 G 0.25 T 0.25\n\n"
    ]
    for motif in motifs:
        parts.append(f"MOTIF {motif.id} {motif.name}".rstrip() + "\n")
        parts.append(f"letter-probability matrix: alength= 4 w= {motif.width} nsites= {motif.sites} E= 0\n")
        parts += [
            "".join(f" {value // 10**6}.{value % 10**6:06d}" for value in _millionths(row)) + "\n"
            for row in motif.probs
        ]
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
        parts += [
            f"{letter}  [ {' '.join(f'{count:>{size}}' for count in row)} ]\n" for letter, row in zip(BASES, counts)
        ]
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
            for letter in BASES:
                number, text = next(lines, (number + 1, ""))
                found = re.fullmatch(rf"(?:{letter}\s*)?\[?((?:\s*\d+(?:\.\d+)?(?=[\s\]]|$))+)\s*\]?\s*", text)
                row = [float(value) for value in found[1].split()] if found else []
                if text.strip().isalpha() and not motifs and not rows:
                    raise DataError("is FASTA: sequence, needed are motifs or a model", path)
                if not row or rows and len(row) != len(rows[0]):
                    raise DataError(
                        f"row {letter} of motif {title[0]!r} is {text.strip()[:40]!r}, needed are {len(rows[0]) if rows else 'its'} counts",
                        path,
                        number,
                    )
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
            if text.startswith("ALPHABET=") and text.split("=")[1].strip() != BASES:
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
        if len(row) != len(BASES) or not all(0 <= value <= 1 for value in row) or abs(sum(row) - 1) > 0.01:
            raise DataError(
                f"row {len(rows) + 1} of motif {title[0]!r} is {text.strip()[:40]!r}, needed are 4 shares with the sum 1",
                path,
                number,
            )
        rows.append(row)
    counts = np.array(rows) * max(1.0, float(sites))
    whole = np.rint(counts)
    kept = np.abs(counts - whole).max() < 1e-6 * max(1.0, float(sites))  # shares are given to six digits
    return Motif(title[0], whole if kept and whole.any(axis=1).all() else counts, title[1] if len(title) > 1 else "")
