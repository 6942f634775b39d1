"""Files of motifs: MEME and JASPAR are written, and read with the other formats of `motif_formats`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from ..errors import DataError, UsageError
from .fields import name_field
from .files import open_input, open_output
from .motif import BASES, Motif, unique_id
from .motif_formats import motif_format, motifs_of, numbered_lines


def write_motifs(path: str | os.PathLike[str], motifs: Sequence[Motif], *, form: str = "meme") -> None:
    """Write motifs to a file, atomically; "-" is standard output. A repeated id gets a number.

    Parameters
    ----------
    form : "meme" for probabilities in the minimal MEME format, "jaspar" for counts in the JASPAR format

    Raises
    ------
    UsageError : another form, or a motif with a position without counts.
    """
    forms = {"meme": meme_text, "jaspar": jaspar_text}
    if form not in forms:
        raise UsageError(f"motif format is {form!r}; expected meme or jaspar")
    ids: set[str] = set()
    distinct = []
    for motif in motifs:
        if not np.all(motif.counts.sum(axis=1) > 0):
            raise UsageError(f"motif {motif.id!r} cannot be written: a position has no counts")
        distinct.append(replace(motif, id=unique_id(name_field(motif.id), ids)))
        ids.add(distinct[-1].id)
    with open_output(os.fspath(path)) as stream:
        stream.write(forms[form](distinct).encode())


def meme_text(motifs: Sequence[Motif]) -> str:
    """Motifs in the minimal MEME format, version 4, with a uniform background; every row sums to exactly 1.000000."""
    parts = [
        "MEME version 4\n\nALPHABET= ACGT\n\nstrands: + -\n\n"
        "Background letter frequencies\nA 0.25 C 0.25 G 0.25 T 0.25\n\n"
    ]
    for motif in motifs:
        parts.append(f"MOTIF {name_field(motif.id)} {name_field(motif.name)}".rstrip() + "\n")
        sites = f"nsites= {motif.sites} E= {motif.e_value:.2g}"
        parts.append(f"letter-probability matrix: alength= 4 w= {motif.width} {sites}\n")
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
        parts.append(f">{name_field(motif.id)}\t{name_field(motif.label)}\n")
        for letter, row in zip(BASES, counts):
            parts.append(f"{letter}  [ {' '.join(f'{count:>{size}}' for count in row)} ]\n")
    return "".join(parts)


def is_motif_file(path: str) -> bool:
    """Whether a file begins like a motif file.

    Raises
    ------
    DataError : it cannot be read.
    """
    with open_input(path) as stream:
        head = stream.peek(4096)[:4096]  # type: ignore[attr-defined]
    if b"\0" in head:
        return False
    return motif_format(head.decode(errors="replace").splitlines()) is not None


def read_motifs(path: str | os.PathLike[str]) -> list[Motif]:
    """Motifs of a file ("-" is standard input) in one of the formats of `motif_formats`; all have different names.

    Raises
    ------
    DataError : another format; no motif; or see `motif_formats`.
    """
    name = os.fspath(path)
    return distinct_names(motifs_of(numbered_lines(name), name))


def distinct_names(motifs: Iterable[Motif]) -> list[Motif]:
    """Motifs with different ids and different names: a repeated id gets a number, a repeated name the id."""
    ids: set[str] = set()
    found = []
    for motif in motifs:
        found.append(replace(motif, id=unique_id(motif.id, ids) if motif.id in ids else motif.id))
        ids.add(found[-1].id)
    count = Counter(motif.label for motif in found)
    taken = {motif.label for motif in found if count[motif.label] == 1 or not motif.name}
    for at, motif in enumerate(found):
        if motif.name and count[motif.label] > 1:
            name = motif.id if motif.id.startswith(motif.name) else f"{motif.name}_{motif.id}"
            found[at] = replace(motif, name=unique_id(name, taken))
            taken.add(found[at].name)
    return found


def read_motif(path: str, name: str) -> Motif:
    """The motif of a file with this id or name, or else the only motif of the file.

    Raises
    ------
    DataError : several motifs match, or none of several; see also `read_motifs`.
    """
    motifs = read_motifs(path)
    named = [motif for motif in motifs if name in (motif.id, motif.name)] or motifs
    if len(named) > 1:
        raise DataError(f"contains {len(motifs)} motifs; expected exactly one of them to be named {name}", path)
    return named[0]
