"""Comparison of motifs with known ones by TOMTOM (Gupta et al. 2007). Only this module imports memelite.

The p-values are memelite's; E- and q-values are computed here.
"""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from ..errors import DataError, UsageError
from ..io.fields import name_field
from ..io.jaspar import jaspar_motifs
from ..io.motif_files import Motif, read_motifs
from ..log import logger
from ..metrics import q_values

MAX_Q = 0.5  # of the matches in a table, as in the MEME suite's tomtom
WIDEST = 100  # bp of a motif that is compared: the memory grows with the third power of the width
SLOW = 5.0  # seconds
MIN_TARGETS = 50  # with fewer targets, p-values depend on the choice of targets
HEADER = ("query", "target", "target_name", "p", "E", "q", "offset", "overlap", "orientation")


class Match(NamedTuple):
    """A target that resembles a query.

    Attributes
    ----------
    p : p-value of the best alignment over all offsets and both orientations
    e : p times the number of targets
    q : false discovery rate at which this match is kept, among all targets of the query (Benjamini and Hochberg 1995)
    offset : position i of the query is aligned with position i + offset of the target, read in `orientation`
    overlap : positions of the query that are aligned with the target
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


def is_jaspar(targets: str) -> bool:
    """Whether `targets` is "jaspar" or "jaspar" and a year, rather than a file."""
    return bool(re.fullmatch(r"jaspar(\d{4})?", targets))


def _require_memelite() -> None:
    try:
        import memelite  # noqa: F401
    except ImportError as error:
        raise UsageError("comparing motifs requires memelite; pip install 'bertsnr_tools[motifs]'") from error


def load_targets(targets: str) -> list[Motif]:
    """Motifs to compare with: of a MEME or JASPAR file, or of a JASPAR release ("jaspar", "jaspar2018").

    Raises
    ------
    UsageError : memelite or pyjaspar is not installed, or pyjaspar lacks the release.
    DataError : the file cannot be read or is not a motif file.
    """
    _require_memelite()
    if is_jaspar(targets):
        motifs = jaspar_motifs(targets)
    elif targets == "-" or os.path.exists(targets):
        motifs = read_motifs(targets)
    else:
        raise DataError("no such file; for JASPAR, use jaspar or a release such as jaspar2018", targets)
    if len(motifs) < MIN_TARGETS:
        logger.warning("%s: only %d motif(s); p-values depend on the choice of targets", targets, len(motifs))
    return motifs


def compare(queries: Sequence[Motif], targets: Sequence[Motif], *, max_q: float = 1.0) -> list[list[Match]]:
    """Compare every query with every target by TOMTOM.

    Queries of more than `WIDEST` bp have no matches, with a warning.

    Parameters
    ----------
    queries, targets : at least one each
    max_q : leave out matches with a greater q-value

    Returns
    -------
    for each query its matches, in order of p

    Examples
    --------
    >>> best = [matches[0] for matches in compare(motifs, jaspar_motifs())]  # doctest: +SKIP
    """
    _require_memelite()
    if not targets:
        raise UsageError("a comparison requires at least one target")
    wide = [query.width for query in queries if query.width > WIDEST]
    if wide:
        problem = "%d motifs of up to %d bp are not compared, only up to %d bp; are their sites peaks?"
        logger.warning(problem, len(wide), max(wide), WIDEST)
    found = iter(_compared([query for query in queries if query.width <= WIDEST], targets, max_q))
    return [[] if query.width > WIDEST else next(found) for query in queries]


def _compared(queries: Sequence[Motif], targets: Sequence[Motif], max_q: float) -> list[list[Match]]:
    if not queries:
        return []
    from memelite import tomtom

    with warnings.catch_warnings(), _announced():
        warnings.simplefilter("ignore")  # `load_targets` warns of few targets
        found = tomtom([query.probs.T for query in queries], [target.probs.T for target in targets])
    results = []
    for query, (p, _, offset, overlap, strand) in zip(queries, found.transpose(1, 0, 2)):
        e, q = p * len(targets), q_values(p)
        matches = [
            Match(query, target, float(p[i]), float(e[i]), float(q[i]), int(offset[i]), int(overlap[i]), orientation)
            for i, (target, orientation) in enumerate(zip(targets, np.where(strand, "-", "+").tolist()))
        ]
        results.append(sorted((match for match in matches if match.q <= max_q), key=lambda match: match.p))
    return results


@contextmanager
def _announced() -> Iterator[None]:
    """A message if it takes long: memelite is compiled when it first runs."""
    timer = threading.Timer(SLOW, logger.info, ["comparing motifs: the first time takes up to two minutes"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def comparison_table(matches: Iterable[Match]) -> str:
    """Matches as a tab-separated table, with a header line."""
    rows = ["\t".join(HEADER)]
    for match in matches:
        names = map(name_field, (match.query.id, match.target.id, match.target.label))
        numbers = [f"{value:.3g}" for value in (match.p, match.e, match.q)]
        rows.append("\t".join([*names, *numbers, str(match.offset), str(match.overlap), match.orientation]))
    return "\n".join(rows) + "\n"
