"""Formats of motif files that are read: MEME, and matrices in the layouts of JASPAR, HOMER, TRANSFAC and others.

=============================================  ==================  ===================================
format                                         a row is            recognised by
=============================================  ==================  ===================================
MEME, also the text of MEME, DREME and STREME  a position          "MEME version"
JASPAR, raw PFM, MOODS, UniProbe               a base              rows labelled A, C, G, T; four rows
HOMER, Cluster-Buster, HOCOMOCO                a position          rows of four numbers
TRANSFAC, CIS-BP                               a position, number  "P0 A C G T", "Pos A C G T"
=============================================  ==================  ===================================

Lines that begin with "#" are comments. U is read as T.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ..errors import DataError
from .fields import name_field
from .files import file_stem, open_input, text_lines
from .matrix_rows import LABELLED_ROW, Block, block_motifs, numbers, shown
from .motif import BASES, Motif
from .motif_meme import meme_motifs

Lines = list[tuple[int, str]]  # 1-based number and text

_TABLE_HEADER = re.compile(r"(?:P0|PO|Pos)((?:\s+[ACGTU]){4})\s*", re.IGNORECASE)
_KNOWN = "MEME, JASPAR, HOMER, Cluster-Buster, HOCOMOCO, TRANSFAC, UniProbe or CIS-BP"


def numbered_lines(path: str) -> Lines:
    """The lines of a text file that are neither blank nor comments, without a byte order mark."""
    with open_input(path) as stream:
        return _content(text_lines(stream, path))


def _content(lines: Iterable[tuple[int, str]]) -> Lines:
    plain = ((number, text.lstrip("\ufeff") if number == 1 else text) for number, text in lines)
    return [(number, text) for number, text in plain if text.strip() and not text.lstrip().startswith("#")]


def motif_format(head: Sequence[str]) -> str | None:
    """The format of a file that begins with these lines: "meme", "table", "rows" or "markup"; None for any other."""
    texts = [text for _, text in _content(enumerate(head, 1))]
    if not texts:
        return None
    if texts[0].startswith(">"):
        return "rows"
    if texts[0].startswith("<"):
        return "markup"
    if any(text.startswith("MEME version") for text in texts):
        return "meme"
    if any(_TABLE_HEADER.fullmatch(text) for text in texts):
        return "table"
    return "rows" if numbers(texts[0]) or any(LABELLED_ROW.match(text) for text in texts[:2]) else None


def motifs_of(lines: Lines, path: str) -> list[Motif]:
    """The motifs in `numbered_lines` of a file.

    Raises
    ------
    DataError : another format; no motif; or see `meme_motifs` and `block_motifs`.
    """
    kind = motif_format([text for _, text in lines])
    if kind == "markup":
        raise DataError("is XML or HTML; use the text output of the program, or convert it to MEME format", path)
    if kind == "meme":
        motifs = meme_motifs(lines, path)
    elif kind == "table":
        motifs = table_motifs(lines, path)
    elif kind == "rows":
        motifs = block_motifs(_blocks(lines, path), path)
    else:
        raise DataError(f"is not a motif file; expected {_KNOWN}", path)
    if not motifs:
        raise DataError("contains no motifs", path)
    return motifs


def _blocks(lines: Lines, path: str) -> list[Block]:
    """The lines of each matrix; a title begins with ">", or is any line but a row in files without ">"."""
    marked = any(text.startswith(">") for _, text in lines)
    blocks: list[Block] = []
    for number, text in lines:
        begins_rows = bool(re.match(r"A\b", text)) and bool(blocks) and len(blocks[-1].lines) == len(BASES)
        if marked and text.startswith(">"):
            if not text[1:].strip():
                raise DataError(f"expected '>' and the id of a motif, found {shown(text)}", path, number)
            blocks.append(Block(text[1:].strip(), number))
        elif not marked and not numbers(text) and not LABELLED_ROW.match(text):
            protein = re.search(r"Protein:\s*(\S+)", text)
            blocks.append(Block(protein[1] if protein else name_field(text), number))
        elif not blocks or begins_rows and not marked:
            blocks.append(Block(_stem(path), number - 1, [(number, text)]))
        else:
            blocks[-1].lines.append((number, text))
    return blocks


def _stem(path: str) -> str:
    """The name of a file without directory and ending: the id of a matrix without a title."""
    return name_field(file_stem(path).lstrip("-")) or "motif"


def table_motifs(lines: Lines, path: str) -> list[Motif]:
    """Motifs in the TRANSFAC or CIS-BP format: a header with the order of the bases, then numbered positions.

    Raises
    ------
    DataError : a position that does not have four counts or probabilities, or a table without positions.
    """
    blocks: list[Block] = []
    titles: dict[str, str] = {}
    order: list[int] = []
    for number, text in lines:
        tag, *fields = text.split()
        header = _TABLE_HEADER.fullmatch(text)
        if header:
            order = [BASES.find(letter) for letter in header[1].upper().replace("U", "T").split()]
            if sorted(order) != [0, 1, 2, 3]:
                raise DataError(f"expected the four bases, found {shown(text)}", path, number)
            name = titles.get("NA") or titles.get("ID", "")
            title = titles.get("AC") or titles.get("ID") or titles.get("MOTIF") or _stem(path)
            blocks.append(Block(f"{title} {name if name != title else ''}", number, by_position=True))
            titles = {}
        elif order and tag.isdigit():
            values = fields[: len(BASES)]
            row = " ".join(values[order.index(base)] for base in range(4)) if len(values) == len(BASES) else ""
            if not numbers(row):
                problem = f"position {tag} of motif {blocks[-1].title.split()[0]!r}: expected 4 counts or probabilities"
                raise DataError(f"{problem}, found {shown(text)}", path, number)
            blocks[-1].lines.append((number, row))
        else:
            order = []
            if fields:
                titles[tag.upper()] = name_field(" ".join(fields))
    return block_motifs(blocks, path)
