"""The text of a track hub: one file with the stanzas of UCSC's "useOneFile on".

References
----------
UCSC Genome Browser, Hub Track Database Definition (v3)
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from .sites import FactorTrack

PAGE = "description.html"
MAX_SHORT_LABEL, MAX_LONG_LABEL = 17, 76  # characters of a track
MOST_SHOWN = 20  # tracks that are on at first
SITES, SIGNAL = "bertsnr_sites", "bertsnr_signal"  # the composite tracks
Stanza = list[tuple[str, str]]


class SignalTrack(NamedTuple):
    """A bigWig file of a hub: name of its track, the file's former name without ending, and its range of values."""

    name: str
    source: str
    low: float
    high: float


class HubText(NamedTuple):
    """What a hub is called and for.

    Attributes
    ----------
    assembly : UCSC's name, such as "hg38"
    email : whom UCSC's users may ask
    """

    assembly: str
    email: str


class TrackNames:
    """Gives every track a name that UCSC allows: a letter first, then letters, digits and "_", unique in any case.

    Attributes
    ----------
    given : all names so far
    """

    def __init__(self) -> None:
        self._taken = {SITES, SIGNAL}
        self.given: list[str] = []

    def __call__(self, text: str) -> str:
        plain = re.sub("[^A-Za-z0-9_]+", "_", text).strip("_")
        plain = plain if plain[:1].isalpha() else f"t_{plain}"
        number, chosen = 1, plain
        while chosen.lower() in self._taken:
            number += 1
            chosen = f"{plain}_{number}"
        self._taken.add(chosen.lower())
        self.given.append(chosen)
        return chosen


def hub_text(hub: HubText, sites: Sequence[FactorTrack], signals: Sequence[SignalTrack]) -> str:
    """The content of hub.txt."""
    stanzas = [
        [
            ("hub", "bertsnr"),
            ("shortLabel", "bertsnr"),
            ("longLabel", "Binding sites by bertsnr_tools"),
            ("useOneFile", "on"),
            ("email", hub.email),
            ("descriptionUrl", PAGE),
        ],
        [("genome", hub.assembly)],
        *(_site_stanzas(sites) if sites else ()),
        *(_signal_stanzas(signals) if signals else ()),
    ]
    return "\n".join(map(_text, stanzas))


def _text(stanza: Stanza) -> str:
    indent = "    " if any(key == "parent" for key, _ in stanza) else ""
    return "".join(f"{indent}{key} {value}\n" for key, value in stanza)


def _site_stanzas(tracks: Sequence[FactorTrack]) -> Iterator[Stanza]:
    factors, sources = _tags(track.factor for track in tracks), _tags(track.source for track in tracks)
    ranked = sorted(tracks, key=lambda track: -track.sites)
    shown = {track.name for track in ranked[:MOST_SHOWN]}
    yield [
        ("track", SITES),
        ("compositeTrack", "on"),
        ("type", "bigBed 9 +"),
        ("shortLabel", "Binding sites"),
        ("longLabel", "Transcription factor binding sites by bertsnr_tools"),
        ("html", PAGE),
        ("visibility", "pack"),
        ("itemRgb", "on"),
        ("subGroup1", " ".join(["factor Factor", *(f"{tag}={_title(name)}" for name, tag in factors.items())])),
        ("subGroup2", " ".join(["source File", *(f"{tag}={_title(name)}" for name, tag in sources.items())])),
        ("dimensions", "dimX=source dimY=factor"),
        ("sortOrder", "source=+ factor=+"),
        *_filters(tracks, list(factors)),
    ]
    for number, track in enumerate(tracks, 1):
        label = track.factor if len(sources) == 1 else f"{track.factor} {track.source}"
        yield [
            ("track", track.name),
            ("parent", f"{SITES} {'on' if track.name in shown else 'off'}"),
            ("bigDataUrl", f"{track.name}.bb"),
            ("type", "bigBed 9 +"),
            ("shortLabel", _label(label, MAX_SHORT_LABEL)),
            ("longLabel", _label(f"{track.factor}: {track.sites:,} binding sites of {track.source}", MAX_LONG_LABEL)),
            ("subGroups", f"factor={factors[track.factor]} source={sources[track.source]}"),
            ("priority", str(number)),
        ]


def _filters(tracks: Sequence[FactorTrack], factors: list[str]) -> Stanza:
    """Filters by score and factor, and by p if all tracks have p-values."""
    filters = _range_filter("score", "Score", 0, 1000)
    mouse_over = "$name, strand $strand, score $score"
    lows = [track.low_p for track in tracks if track.low_p is not None]
    if len(lows) == len(tracks):
        high = max(1, *(math.ceil(track.high_p or 0) for track in tracks))
        filters += _range_filter("negLog10P", "-log10 of the p-value", min(0, math.floor(min(lows))), high)
        mouse_over += ", -log10 p $negLog10P"
    filters += [
        ("filterValues.factor", ",".join(factors)),
        ("filterType.factor", "multiple"),
        ("filterLabel.factor", "Factor"),
        ("mouseOver", mouse_over),
    ]
    return filters


def _range_filter(field: str, label: str, low: int, high: int) -> Stanza:
    """A filter that lets everything pass at first."""
    return [
        (f"filter.{field}", f"{low}:{high}"),
        (f"filterByRange.{field}", "on"),
        (f"filterLimits.{field}", f"{low}:{high}"),
        (f"filterLabel.{field}", label),
    ]


def _signal_stanzas(tracks: Sequence[SignalTrack]) -> Iterator[Stanza]:
    low, high = min(0.0, *(track.low for track in tracks)), max(1.0, *(track.high for track in tracks))
    yield [
        ("track", SIGNAL),
        ("compositeTrack", "on"),
        ("type", "bigWig"),
        ("shortLabel", "Base scores"),
        ("longLabel", "Scores of bases by bertsnr_tools"),
        ("html", PAGE),
        ("visibility", "full"),
        ("color", "0,90,181"),
        ("maxHeightPixels", "100:40:8"),
        ("viewLimits", f"{low:g}:{high:g}"),
    ]
    for number, track in enumerate(tracks, 1):
        yield [
            ("track", track.name),
            ("parent", f"{SIGNAL} {'on' if number <= MOST_SHOWN else 'off'}"),
            ("bigDataUrl", f"{track.name}.bw"),
            ("type", f"bigWig {track.low:g} {track.high:g}"),
            ("shortLabel", _label(track.source, MAX_SHORT_LABEL)),
            ("longLabel", _label(f"Scores of bases, {track.source}", MAX_LONG_LABEL)),
            ("priority", str(number)),
        ]


def _tags(names: Iterable[str]) -> dict[str, str]:
    """A tag for each name, in alphabetical order."""
    new_tag = TrackNames()
    return {name: new_tag(name) for name in sorted(set(names))}


def _title(name: str) -> str:
    """The title of a member of a subgroup, which has no space; UCSC shows "_" as one."""
    return re.sub(r"[\s=]+", "_", name)


def _label(text: str, longest: int) -> str:
    plain = "".join(letter for letter in text if letter.isprintable() and letter.isascii()) or "track"
    return plain[:longest].strip()
