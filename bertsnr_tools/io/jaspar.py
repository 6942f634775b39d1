"""Motifs of JASPAR releases, offline: all of a release, or some by name or id. Only this module imports pyjaspar."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError, UsageError, did_you_mean
from ..log import logger
from .motif import BASES, Motif

HUMAN = "9606"  # NCBI taxonomy
NAME = re.compile(r"(?P<release>jaspar(?:\d{4})?):(?P<names>.+)", re.IGNORECASE)
ID = re.compile(r"(?P<base>[A-Z]{2}\d{4,})(?:\.(?P<version>\d+))?", re.IGNORECASE)
MAX_LISTED = 5  # other profiles in a message
_PROFILES = """
    SELECT m.BASE_ID, m.VERSION, m.NAME, m.COLLECTION = 'CORE', COALESCE(MAX(a.VAL = 'vertebrates'), 0),
        COALESCE(MAX(s.TAX_ID = ?), 0)
    FROM MATRIX m LEFT JOIN MATRIX_SPECIES s ON s.ID = m.ID
        LEFT JOIN MATRIX_ANNOTATION a ON a.ID = m.ID AND a.TAG = 'tax_group'
    GROUP BY m.ID ORDER BY m.BASE_ID, m.VERSION
"""


class Profile(NamedTuple):
    """A version of a matrix in a release; `core`: in the CORE collection, curated."""

    base: str
    version: int
    name: str
    core: bool
    vertebrate: bool
    human: bool

    @property
    def id(self) -> str:
        """Such as MA0139.2."""
        return f"{self.base}.{self.version}"

    @property
    def preference(self) -> tuple[Any, ...]:
        """Sorts profiles of a name: curated, of vertebrates and of humans first, then those revised most often."""
        return not self.core, not self.vertebrate, not self.human, -self.version, self.base


def is_jaspar_name(name: str) -> bool:
    """Whether a name is `jaspar:`, or `jaspar` and a year and a colon, and names or ids of motifs."""
    return bool(NAME.fullmatch(name))


def jaspar_motifs(release: str = "jaspar") -> list[Motif]:
    """Vertebrate CORE motifs of a JASPAR release that pyjaspar contains, by default the latest; in order of their ids.

    Raises
    ------
    UsageError : pyjaspar is not installed, or it does not contain the release.
    """
    records = _database(release).fetch_motifs(collection="CORE", tax_group=["vertebrates"])
    return sorted(map(_motif, records), key=lambda motif: motif.id)


def named_motifs(name: str) -> list[Motif]:
    """Motifs by name or id: "jaspar:GATA3", "jaspar2022:MA0037,CTCF"; case is ignored.

    An id without version stands for the newest version. Of several profiles with one name, `Profile.preference`
    chooses, and a message lists the others.

    Raises
    ------
    UsageError : see `jaspar_motifs`.
    DataError : no such profile.
    """
    parts = NAME.fullmatch(name)
    assert parts
    database = _database(parts["release"].lower())
    profiles = [Profile(*row) for row in database.conn.execute(_PROFILES, [HUMAN])]
    chosen = [_choose(wanted, profiles, name) for wanted in parts["names"].split(",")]
    return [_motif(database.fetch_motif_by_id(profile.id)) for profile in chosen]


def _database(release: str) -> Any:
    try:
        from pyjaspar import jaspar_releases, jaspardb
    except ImportError as error:
        problem = f"{release}: requires pyjaspar; pip install 'bertsnr_tools[jaspar]', or give a motif file"
        raise UsageError(problem) from error
    if release != "jaspar" and release.upper() not in jaspar_releases:
        known = ", ".join(sorted(name.lower() for name in jaspar_releases))
        raise UsageError(f"{release}: not a release in pyjaspar; choose from {known}")
    return jaspardb() if release == "jaspar" else jaspardb(release=release.upper())


def _motif(record: Any) -> Motif:
    counts = np.array([record.counts[letter] for letter in BASES], dtype=float).T
    return Motif(record.matrix_id, counts, record.name)


def _choose(wanted: str, profiles: Sequence[Profile], name: str) -> Profile:
    """The profile with a name or id; `name` is for messages."""
    by_id = ID.fullmatch(wanted)
    if by_id:
        found = [profile for profile in profiles if profile.base == by_id["base"].upper()]
        preferred = found[-1:]  # versions ascend
    else:
        found = [profile for profile in profiles if profile.name.upper() == wanted.upper()]
        newest = {profile.base: profile for profile in found}
        preferred = sorted(newest.values(), key=lambda profile: profile.preference)
    if not found:
        hint = "" if by_id else did_you_mean(wanted, [profile.name for profile in profiles])
        raise DataError(f"no profile {wanted!r} in this release of JASPAR{hint}", name)
    if by_id and by_id["version"]:
        exact = [profile for profile in found if profile.version == int(by_id["version"])]
        if not exact:
            known = ", ".join(profile.id for profile in found)
            raise DataError(f"no version {wanted!r} in this release of JASPAR; choose from {known}", name)
        return exact[0]
    _report_others(preferred[0], found, name)
    return preferred[0]


def _report_others(chosen: Profile, found: Sequence[Profile], name: str) -> None:
    others = [profile for profile in found if profile != chosen]
    if others:
        others.sort(key=lambda profile: (profile.base != chosen.base, profile.base, -profile.version))
        listed = ", ".join(profile.id for profile in others[:MAX_LISTED])
        more = f" and {len(others) - MAX_LISTED} more" if len(others) > MAX_LISTED else ""
        logger.info("%s: uses %s (%s); others: %s%s", name, chosen.id, chosen.name, listed, more)
