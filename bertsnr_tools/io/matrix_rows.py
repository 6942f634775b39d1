"""Matrices whose rows are bases or positions; which of them is decided by what identifies a layout, or refused."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import DataError
from .fields import name_field
from .motif import BASES, Motif

DEFAULT_NSITES = 20.0  # of probabilities without a number of sites, as in the MEME suite
MAX_COUNT = 1e15  # sums of greater counts lose whole numbers or overflow
NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
LABELLED_ROW = re.compile(rf"[ACGTU]\s*[:|\[]*\s*{NUMBER}(?:[\s\]]|$)")
_LETTERS_OF_CODE = {"A": "A", "C": "C", "G": "G", "T": "T", "U": "T", "R": "AG", "Y": "CT", "S": "CG", "W": "AT"}
_LETTERS_OF_CODE |= {"K": "GT", "M": "AC", "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT"}
_POSITION_ENDINGS = (".motif", ".motifs", ".homer", ".pcm", ".cb")
_BASE_ENDINGS = (".jaspar",)
_EVEN, _UNEVEN = 1.05, 1.2  # ratio of the greatest sum to the smallest


@dataclass
class Block:
    """The lines of one matrix.

    Attributes
    ----------
    title : id, and optionally name and further fields
    number : line of the title
    lines : number and text of each row
    by_position : rows are known to be positions
    """

    title: str
    number: int
    lines: list[tuple[int, str]] = field(default_factory=list)
    by_position: bool = False

    @property
    def id(self) -> str:
        """The first word of the title."""
        return self.title.split()[0]

    @property
    def homer_fields(self) -> list[str]:
        """The fields of a HOMER title, whose third one is the score threshold; empty for any other title."""
        fields = self.title.split("\t")
        return fields if len(fields) > 2 and re.fullmatch(rf"-?{NUMBER}", fields[2].strip()) else []

    @property
    def name(self) -> str:
        """The common name, without white space; may be empty."""
        rest = self.homer_fields[1:2] or self.title.split()[1:]
        return name_field(" ".join(rest))

    @property
    def sites(self) -> float:
        """Number of instances in a HOMER title ("T:314.0(12%)"), or else the default."""
        found = re.search(rf"\bT:({NUMBER})", self.title) if self.homer_fields else None
        return max(1.0, float(found[1])) if found else DEFAULT_NSITES


def numbers(text: str) -> list[float]:
    """The numbers of a row, none of them negative or without bound; empty if it contains anything else."""
    values = [float(value) for value in text.split()] if re.fullmatch(rf"\s*(?:{NUMBER}(?:\s+|$))+", text) else []
    return values if all(value < MAX_COUNT for value in values) else []


def shown(text: str) -> str:
    """The beginning of a line, for errors."""
    return repr(text.strip()[:40])


def block_motifs(blocks: Sequence[Block], path: str) -> list[Motif]:
    """The motifs of blocks; probabilities are multiplied by the number of sites.

    Raises
    ------
    DataError : rows that are not counts or probabilities, that differ in length or are in another order; a position
        without counts; or four rows of four numbers, without anything that tells bases from positions.
    """
    layouts = [_layout(block) for block in blocks]
    motifs = []
    for block, layout in zip(blocks, layouts):
        if layout == "either":
            layout = _layout_of_square(block, {other for other in layouts if other != "either"}, path)
        counts = _position_rows(block, path) if layout == "positions" else _base_rows(block, path)
        if not counts.any(axis=1).all():
            raise DataError(f"motif {block.id!r} has a position without counts", path, block.lines[-1][0])
        if np.abs(counts.sum(axis=1) - 1).max() < 0.02 and np.any(counts != np.rint(counts)):
            counts = counts * block.sites
        motifs.append(Motif(block.id, counts, block.name))
    return motifs


def _layout(block: Block) -> str:
    """What the rows of a block are: "bases", "positions", or "either"."""
    if block.by_position:
        return "positions"
    rows = [numbers(text) for _, text in block.lines]
    if not rows or len(rows[0]) != len(BASES):
        return "bases"
    if len(rows) != len(BASES):
        return "positions"
    return "either" if all(len(row) == len(BASES) for row in rows) else "bases"


def _layout_of_square(block: Block, others: set[str], path: str) -> str:
    """What the rows of a matrix of four unlabelled rows and four columns are; `others` are the layouts in the file."""
    matrix = np.array([numbers(text) for _, text in block.lines])
    evidence = set(others) | ({"positions"} if block.homer_fields else set())
    by_row, by_column = (_spread(matrix.sum(axis=axis)) for axis in (1, 0))
    if by_row < _EVEN and by_column > _UNEVEN:
        evidence.add("positions")
    if by_column < _EVEN and by_row > _UNEVEN:
        evidence.add("bases")
    if _is_consensus(block.id, matrix) != _is_consensus(block.id, matrix.T):
        evidence.add("positions" if _is_consensus(block.id, matrix) else "bases")
    name = path.lower().removesuffix(".gz")
    if not evidence and name.endswith(_POSITION_ENDINGS + _BASE_ENDINGS):
        evidence.add("positions" if name.endswith(_POSITION_ENDINGS) else "bases")
    if len(evidence) != 1:
        problem = f"motif {block.id!r} has four rows and four columns: rows may be bases or positions"
        remedy = "label the rows A, C, G and T, or convert the file to MEME format"
        raise DataError(f"{problem}; {remedy}", path, block.lines[0][0])
    return evidence.pop()


def _spread(sums: np.ndarray) -> float:
    return float(sums.max() / sums.min()) if sums.min() > 0 else math.inf


def _is_consensus(name: str, matrix: np.ndarray) -> bool:
    """Whether a name is a word of IUPAC codes that include the most frequent base of each position."""
    allowed = [_LETTERS_OF_CODE.get(code, "") for code in name.upper()]
    best = [BASES[base] for base in matrix.argmax(axis=1)]
    return len(allowed) == len(best) and all(base in letters for base, letters in zip(best, allowed))


def _position_rows(block: Block, path: str) -> np.ndarray:
    """Rows of A, C, G and T, shape (width, 4)."""
    rows = [numbers(text) for _, text in block.lines]
    for at, ((number, text), row) in enumerate(zip(block.lines, rows), 1):
        if len(row) != len(BASES):
            problem = f"row {at} of motif {block.id!r}: expected 4 counts or probabilities (not log odds)"
            raise DataError(f"{problem}, found {shown(text)}", path, number)
    if not rows:
        raise DataError(f"motif {block.id!r} has no positions", path, block.number)
    return np.array(rows)


def _base_rows(block: Block, path: str) -> np.ndarray:
    """Four rows, with or without label and brackets, shape (width, 4)."""
    rows: list[list[float]] = []
    number = block.number
    for at, letter in enumerate(BASES):
        number, text = block.lines[at] if at < len(block.lines) else (number + 1, "")
        label = "[TU]" if letter == "T" else letter
        found = re.fullmatch(rf"(?:{label}\b\s*)?[:|]?\s*\[?([^\[\]]*)\]?\s*", text)
        row = numbers(found[1].strip()) if found else []
        if text.strip().isalpha() and not rows:
            raise DataError("contains FASTA sequence; expected motifs or a model", path)
        if not row or rows and len(row) != len(rows[0]):
            expected = f"{len(rows[0])} counts" if rows else "counts"
            raise DataError(
                f"row {letter} of motif {block.id!r}: expected {expected}, found {shown(text)}", path, number
            )
        rows.append(row)
    if len(block.lines) > len(BASES):
        number, text = block.lines[len(BASES)]
        raise DataError(f"expected '>' and the id of a motif, found {shown(text)}", path, number)
    return np.array(rows).T
