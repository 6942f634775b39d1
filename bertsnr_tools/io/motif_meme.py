"""Read MEME motif files: the minimal format, and the text that MEME, DREME and STREME write."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ..errors import DataError
from .matrix_rows import DEFAULT_NSITES, NUMBER, numbers, shown
from .motif import BASES, Motif

Line = tuple[int, str]  # 1-based number and text


def meme_motifs(lines: Sequence[Line], path: str) -> list[Motif]:
    """Motifs of the lines of a MEME file; counts are probabilities times `nsites`, whole where they were.

    Parameters
    ----------
    lines : those that are not blank

    Raises
    ------
    DataError : an alphabet other than DNA or RNA; or a matrix that is cut short or whose
        rows are not four probabilities that sum to 1.
    """
    motifs: list[Motif] = []
    title: list[str] = []
    at = number = 0
    while at < len(lines):
        number, text = lines[at]
        at += 1
        if text.startswith("ALPHABET"):
            at = _check_alphabet(lines, at - 1, path)
        elif re.match(r"MOTIF(\s|$)", text):
            if title:
                raise DataError(f"motif {title[0]!r} has no letter-probability matrix", path, number)
            title = _title(text[5:])
            if not title and at < len(lines) and not re.match(r"MOTIF\b|letter-prob", lines[at][1]):
                title = _title(lines[at][1])  # some programs write the name on the next line
                at += 1
            if not title:
                raise DataError("the motif has no name after MOTIF", path, number)
        elif text.startswith("letter-probability matrix"):
            if not title:
                raise DataError("matrix before the first MOTIF line", path, number)
            rows, sites = _read_matrix(title[0], lines, at - 1, path)
            motifs.append(Motif(title[0], _counts(rows, sites), title[1] if len(title) > 1 else ""))
            at += len(rows)
            title = []
    if title:
        raise DataError(f"motif {title[0]!r} has no letter-probability matrix", path, number)
    return motifs


def _title(text: str) -> list[str]:
    """Id and, optionally, name; without what MEME adds ("width = 19 sites = 314 …")."""
    return re.split(r"\bwidth\s*=", text)[0].split()[:2]


def _check_alphabet(lines: Sequence[Line], at: int, path: str) -> int:
    """Check that the alphabet in line `at` is DNA or RNA, and return the next line after it.

    It is given as "ALPHABET= ACGU", or as "ALPHABET name", with a line for each letter ("A "Adenine" ~ T "Thymine""),
    up to "END ALPHABET". Matrices have its letters in alphabetical order.
    """
    number, text = lines[at]
    at += 1
    if re.match(r"ALPHABET\s*=", text):
        letters = text.split("=", 1)[1].strip()
    else:
        found: set[str] = set()
        while at < len(lines) and not re.match(r"END\b|MOTIF\b|strands", lines[at][1]):
            letter = re.sub(r'"[^"]*"', "", lines[at][1])
            if "=" not in letter:  # "R = AG" is an ambiguity code
                found.update(re.findall(r"(?:^|~)\s*(\S)(?!\S)", letter))  # the complement follows "~"
            at += 1
        letters = "".join(sorted(found))
        at += at < len(lines) and lines[at][1].startswith("END")
    if letters.upper().replace("U", "T") != BASES:
        raise DataError(f"alphabet is {letters!r}; expected ACGT or ACGU", path, number)
    return at


def _read_matrix(motif: str, lines: Sequence[Line], at: int, path: str) -> tuple[list[list[float]], float]:
    """The rows of the matrix whose header is line `at`, and its number of sites."""
    number, head = lines[at]
    fields = dict(re.findall(r"(\w+)= *(\S+)", head))
    width, sites = fields.get("w"), fields.get("nsites", str(DEFAULT_NSITES))
    if width is not None and not re.fullmatch(r"0*[1-9]\d{0,5}", width) or not numbers(sites):
        shown_width = "" if width is None else width
        raise DataError(f"motif {motif!r} has w= {shown_width!r} and nsites= {sites!r}; expected numbers", path, number)
    rows: list[list[float]] = []
    while width is None or len(rows) < int(width):
        at += 1
        number, text = lines[at] if at < len(lines) else (number + 1, "")
        row = numbers(text)
        if width is None and rows and not re.match(rf"\s*-?{NUMBER}\s", text):
            break
        if len(row) != len(BASES) or not all(0 <= value <= 1 for value in row) or abs(sum(row) - 1) > 0.01:
            problem = f"row {len(rows) + 1} of motif {motif!r}: expected 4 probabilities that sum to 1"
            raise DataError(f"{problem}, found {shown(text)}", path, number)
        rows.append(row)
    return rows, max(1.0, float(sites) or DEFAULT_NSITES)


def _counts(rows: list[list[float]], sites: float) -> np.ndarray:
    counts = np.array(rows) * sites
    whole = np.rint(counts)
    exact = np.abs(counts - whole).max() < 1e-6 * sites  # probabilities have six digits
    return whole if exact and whole.any(axis=1).all() else counts
