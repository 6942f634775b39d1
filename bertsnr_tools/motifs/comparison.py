"""Comparison of motifs with known ones by TOMTOM (Gupta et al. 2007). This module alone imports memelite and pyjaspar.

The p-values are memelite's; E- and q-values are computed here.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import UsageError
from ..io.motif_files import Motif
from ..metrics import q_values

FEW_TARGETS = 50  # below, p-values depend on which targets were chosen


class Match(NamedTuple):
    """A target that resembles a query.

    Attributes
    ----------
    p : of the best alignment over all offsets and both orientations
    e : p times the number of targets
    q : false discovery rate at which this match is kept, among all targets of the query
    offset : position i of the query lies at position i + offset of the target, which is read as `orientation` says
    overlap : positions of the query that lie on the target
    orientation : "+", or "-" when the target is reverse-complemented
    """

    query: Motif
    target: Motif
    p: float
    e: float
    q: float
    offset: int
    overlap: int
    orientation: str


def check_comparison(targets: str) -> None:
    """Find out before the work begins whether motifs can be compared with `targets`, a file, "jaspar" or "jaspar" and a year.

    Raises
    ------
    UsageError : a library is not installed, or has no such release.
    """
    try:
        import memelite  # noqa: F401
    except ImportError as error:
        raise UsageError("comparing motifs needs memelite: pip install 'bertsnr_tools[motifs]'") from error
    if is_jaspar(targets):
        try:
            from pyjaspar import jaspar_releases
        except ImportError as error:
            raise UsageError(
                "--compare jaspar needs pyjaspar: pip install 'bertsnr_tools[jaspar]', or give a MEME or JASPAR file"
            ) from error
        if targets != "jaspar" and targets.upper() not in jaspar_releases:
            raise UsageError(
                f"--compare {targets}: pyjaspar has {', '.join(sorted(name.lower() for name in jaspar_releases))}"
            )


def is_jaspar(targets: str) -> bool:
    """Whether `targets` means JASPAR rather than a file."""
    return bool(re.fullmatch(r"jaspar(\d{4})?", targets))


def jaspar_motifs(targets: str = "jaspar") -> list[Motif]:
    """The vertebrate CORE matrices of a JASPAR release that pyjaspar carries, by default the newest; from disk, in the order of their ids."""
    from pyjaspar import jaspardb

    database = jaspardb() if targets == "jaspar" else jaspardb(release=targets.upper())
    records = database.fetch_motifs(collection="CORE", tax_group=["vertebrates"])
    motifs = [
        Motif(record.matrix_id, np.array([record.counts[letter] for letter in "ACGT"], dtype=float).T, record.name)
        for record in records
    ]
    return sorted(motifs, key=lambda motif: motif.id)


def compare(queries: Sequence[Motif], targets: Sequence[Motif]) -> list[list[Match]]:
    """Every query with every target, for each query in order of p.

    Parameters
    ----------
    queries, targets : not empty
    """
    from memelite import tomtom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few targets the caller warns
        found = tomtom([query.probs.T for query in queries], [target.probs.T for target in targets])
    results = []
    for query, (p, _, offset, overlap, strand) in zip(queries, found.transpose(1, 0, 2)):
        q = q_values(p)
        matches = [
            Match(
                query,
                target,
                float(p[i]),
                float(p[i] * len(targets)),
                float(q[i]),
                int(offset[i]),
                int(overlap[i]),
                "-" if strand[i] else "+",
            )
            for i, target in enumerate(targets)
        ]
        results.append(sorted(matches, key=lambda match: match.p))
    return results
