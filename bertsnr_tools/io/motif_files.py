"""Motifs and the files that contain them: MEME and JASPAR. Columns of all matrices are A, C, G, T in this order."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from .files import open_input, open_output, text_lines

BASES = "ACGT"
UNIFORM = 0.25  # background probability of each base
DEFAULT_NSITES = "20"  # of a MEME matrix without nsites, as in the MEME suite


@dataclass(frozen=True)
class Motif:
    """A sequence motif with its three matrices: PFM (counts), PPM (probabilities) and PWM (log odds).

    Attributes
    ----------
    id : without white space and "="
    counts : PFM, float64, shape (width, 4): number of instances with each base at each position
    name : common name, such as the factor's; may be empty
    """

    id: str
    counts: np.ndarray
    name: str = ""

    @property
    def width(self) -> int:
        """Positions of the motif, bp."""
        return len(self.counts)

    @property
    def sites(self) -> int:
        """Number of instances."""
        return round(self.counts.sum(axis=1).max())

    @property
    def probs(self) -> np.ndarray:
        """PPM, shape (width, 4): probability of each base; rows sum to 1."""
        return self.counts / self.counts.sum(axis=1, keepdims=True)

    @property
    def log_odds(self) -> np.ndarray:
        """PWM in bits against a uniform background, shape (width, 4), with one pseudocount in each row."""
        counts = self.counts + UNIFORM
        return np.log2(counts / counts.sum(axis=1, keepdims=True) / UNIFORM)

    @property
    def information(self) -> np.ndarray:
        """Letter sizes of the logo, shape (width, 4): probability times information content in bits.

        References
        ----------
        Schneider and Stephens 1990, without small-sample correction
        """
        probs = self.probs
        bits = 2 + (probs * np.log2(np.where(probs > 0, probs, 1))).sum(axis=1, keepdims=True)
        return probs * bits

    def reverse_complement(self) -> Motif:
        """The same motif, read on the other strand."""
        return Motif(self.id, self.counts[::-1, ::-1], self.name)


def unique_id(name: str, taken: Collection[str]) -> str:
    """A motif id from any name: MEME allows neither white space nor "=" in an id, nor the same id twice."""
    plain = re.sub(r"[\s=]+", "_", name) or "motif"
    number, chosen = 1, plain
    while chosen in taken:
        number += 1
        chosen = f"{plain}-{number}"
    return chosen


def write_motifs(path: str, motifs: Sequence[Motif], *, form: str = "meme") -> None:
    """Write motifs to a file, atomically; "-" is standard output.

    Parameters
    ----------
    form : "meme" for probabilities in the minimal MEME format, "jaspar" for counts in the JASPAR format
    """
    text = {"meme": meme_text, "jaspar": jaspar_text}[form](motifs)
    with open_output(path) as stream:
        stream.write(text.encode())


def meme_text(motifs: Sequence[Motif]) -> str:
    """Motifs in the minimal MEME format, version 4, with a uniform background; every row sums to exactly 1.000000."""
    parts = [
        "MEME version 4\n\nALPHABET= ACGT\n\nstrands: + -\n\n"
        "Background letter frequencies\nA 0.25 C 0.25 G 0.25 T 0.25\n\n"
    ]
    for motif in motifs:
        parts.append(f"MOTIF {motif.id} {motif.name}".rstrip() + "\n")
        parts.append(f"letter-probability matrix: alength= 4 w= {motif.width} nsites= {motif.sites} E= 0\n")
        for row in motif.probs:
            parts.append("".join(f" {value // 10**6}.{value % 10**6:06d}" for value in _millionths(row)) + "\n")
        parts.append("\n")
    return "".join(parts)


def _millionths(probs: np.ndarray) -> list[int]:
    """Probabilities as whole millionths that sum to a million; the largest remainders are rounded up."""
    exact = probs * 10**6
    whole = np.floor(exact).astype(int)
    up = np.argsort(whole - exact, kind="stable")[: 10**6 - int(whole.sum())]
    whole[up] += 1
    return whole.tolist()


def jaspar_text(motifs: Sequence[Motif]) -> str:
    """Motifs in the JASPAR format: counts, rounded to whole numbers, in one row for each base."""
    parts = []
    for motif in motifs:
        counts = np.rint(motif.counts).astype(int).T
        size = len(str(counts.max()))
        parts.append(f">{motif.id}\t{motif.name or motif.id}\n")
        for letter, row in zip(BASES, counts):
            parts.append(f"{letter}  [ {' '.join(f'{count:>{size}}' for count in row)} ]\n")
    return "".join(parts)


def is_motif_file(path: str) -> bool:
    """Whether a file begins like a MEME or JASPAR motif file.

    Raises
    ------
    DataError : it cannot be read.
    """
    with open_input(path) as stream:
        return stream.peek(4)[:4].startswith((b"MEME", b">"))  # type: ignore[attr-defined]


def read_motifs(path: str) -> list[Motif]:
    """Motifs of a file in the JASPAR format, if it begins with ">", or else in the MEME format ("-" is MEME only).

    Raises
    ------
    DataError : see `read_jaspar` and `read_meme`.
    """
    if path == "-":
        return read_meme(path)
    with open_input(path) as stream:
        jaspar = stream.peek(1)[:1] == b">"  # type: ignore[attr-defined]
    return read_jaspar(path) if jaspar else read_meme(path)


def read_motif(path: str, name: str) -> Motif:
    """The motif of a MEME file with this id or name, or else the only motif of the file.

    Raises
    ------
    DataError : several motifs match, or none of several; see also `read_meme`.
    """
    motifs = read_meme(path)
    named = [motif for motif in motifs if name in (motif.id, motif.name)] or motifs
    if len(named) > 1:
        raise DataError(f"contains {len(motifs)} motifs; expected exactly one of them to be named {name}", path)
    return named[0]


def read_jaspar(path: str) -> list[Motif]:
    """Motifs of a file in the JASPAR format: ">id name", then a row of counts for each of A, C, G, T.

    Rows may have their letter and brackets (JASPAR's format) or not (its raw PFM format).

    Raises
    ------
    DataError : no motif; or rows that are not counts, differ in length, are not four, are in another order, or have a
        position without counts.
    """
    motifs: list[Motif] = []
    with open_input(path) as stream:
        lines = ((number, text) for number, text in text_lines(stream, path) if text.strip())
        for number, text in lines:
            title = text[1:].split(None, 1)
            if not text.startswith(">") or not title:
                raise DataError(f"expected '>' and the id of a motif, found {_shown(text)}", path, number)
            counts = _read_counts(title[0], number, lines, path)
            motifs.append(Motif(title[0], counts, title[1].strip() if len(title) > 1 else ""))
    if not motifs:
        raise DataError("contains no motifs", path)
    return motifs


def _read_counts(motif: str, number: int, lines: Iterator[tuple[int, str]], path: str) -> np.ndarray:
    """The four rows of counts after a JASPAR header in line `number`, shape (width, 4)."""
    rows: list[list[float]] = []
    for letter in BASES:
        number, text = next(lines, (number + 1, ""))
        found = re.fullmatch(rf"(?:{letter}\s*)?\[?((?:\s*\d+(?:\.\d+)?(?=[\s\]]|$))+)\s*\]?\s*", text)
        row = [float(value) for value in found[1].split()] if found else []
        if text.strip().isalpha() and not rows:
            raise DataError("contains FASTA sequence; expected motifs or a model", path)
        if not row or rows and len(row) != len(rows[0]):
            expected = f"{len(rows[0])} counts" if rows else "counts"
            raise DataError(f"row {letter} of motif {motif!r}: expected {expected}, found {_shown(text)}", path, number)
        rows.append(row)
    counts = np.array(rows).T
    if not counts.any(axis=1).all():
        raise DataError(f"motif {motif!r} has a position without counts", path, number)
    return counts


def read_meme(path: str) -> list[Motif]:
    """Motifs of a MEME file ("-" is standard input); counts are probabilities times `nsites`, whole where they were.

    Raises
    ------
    DataError : not a MEME file; no motif; an alphabet other than ACGT; or a matrix that is cut short or whose rows are
        not four probabilities that sum to 1.
    """
    motifs: list[Motif] = []
    with open_input(path) as stream:
        lines = text_lines(stream, path)
        number, text = next(lines, (1, ""))
        if not text.startswith("MEME version"):
            raise DataError(f"begins with {text[:20]!r}; a MEME motif file begins with 'MEME version'", path, 1)
        title: list[str] = []
        for number, text in lines:
            if text.startswith("ALPHABET=") and text.split("=")[1].strip() != BASES:
                raise DataError(f"alphabet is {text.split('=')[1].strip()!r}; expected ACGT", path, number)
            if text.startswith("MOTIF"):
                if title:
                    raise DataError(f"motif {title[0]!r} has no letter-probability matrix", path, number)
                title = text.split()[1:3]
                if not title:
                    raise DataError("the motif has no name after MOTIF", path, number)
            elif text.startswith("letter-probability matrix"):
                if not title:
                    raise DataError("matrix before the first MOTIF line", path, number)
                motifs.append(_read_matrix(title, text, number, lines, path))
                title = []
    if title:
        raise DataError(f"motif {title[0]!r} has no letter-probability matrix", path, number)
    if not motifs:
        raise DataError("contains no motifs", path)
    return motifs


def _read_matrix(title: list[str], head: str, number: int, lines: Iterator[tuple[int, str]], path: str) -> Motif:
    """The motif of a MEME matrix whose header line `head` is line `number`; `title` is its id and, optionally, name."""
    fields = dict(re.findall(r"(\w+)= *(\S+)", head))
    width, sites = fields.get("w", ""), fields.get("nsites", DEFAULT_NSITES)
    if not re.fullmatch(r"0*[1-9]\d{0,5}", width) or not re.fullmatch(r"\d+(\.\d+)?", sites):
        raise DataError(f"motif {title[0]!r} has w= {width!r} and nsites= {sites!r}; expected numbers", path, number)
    rows: list[list[float]] = []
    while len(rows) < int(width):
        number, text = next(lines, (number + 1, ""))
        try:
            row = [float(value) for value in text.split()]
        except ValueError:
            row = []
        if len(row) != len(BASES) or not all(0 <= value <= 1 for value in row) or abs(sum(row) - 1) > 0.01:
            problem = f"row {len(rows) + 1} of motif {title[0]!r}: expected 4 probabilities that sum to 1"
            raise DataError(f"{problem}, found {_shown(text)}", path, number)
        rows.append(row)
    counts = np.array(rows) * max(1.0, float(sites))
    whole = np.rint(counts)
    exact = np.abs(counts - whole).max() < 1e-6 * max(1.0, float(sites))  # probabilities have six digits
    name = title[1] if len(title) > 1 else ""
    return Motif(title[0], whole if exact and whole.any(axis=1).all() else counts, name)


def _shown(text: str) -> str:
    return repr(text.strip()[:40])
