"""The rules for a track hub in one file, as far as UCSC's public documentation states them.

Hub Track Database Definition (v3): https://genome.ucsc.edu/goldenPath/help/trackDb/trackDbHub.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pyBigWig

TYPES = {"bigBed", "bigWig"}  # of those that hubs may contain
VISIBILITIES = {"hide", "dense", "squish", "pack", "full"}
FILTER_TYPES = {"single", "singleList", "multiple", "multipleListOr", "multipleListAnd", "multipleListOnlyOr"}
COMMON = {"track", "type", "shortLabel", "longLabel", "parent", "bigDataUrl", "html", "visibility", "priority", "color"}
GROUPS = {"compositeTrack", "subGroups", "dimensions", "sortOrder"} | {f"subGroup{number}" for number in range(1, 10)}
OF_TYPE = {"bigBed": {"itemRgb", "mouseOver"}, "bigWig": {"maxHeightPixels", "viewLimits", "autoScale"}}
FILTER = re.compile(r"(filter|filterByRange|filterLimits|filterLabel|filterValues|filterType)\.(\w+)")
NUMBER = r"-?\d+(\.\d+)?(e[+-]?\d+)?"
Stanza = dict[str, str]


def faults(directory: Path) -> list[str]:
    """What is wrong with the hub in a directory; empty if nothing is."""
    text = (directory / "hub.txt").read_text()
    found = [f"not ASCII: {letter!r}" for letter in set(text) if not letter.isascii()]
    stanzas: list[Stanza] = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        pairs = [line.strip().partition(" ")[::2] for line in block.splitlines()]
        found += [f"{key}: has no value" for key, value in pairs if not value.strip()]
        stanzas.append(dict(pairs))
        if len(stanzas[-1]) < len(pairs):
            found.append(f"{pairs[0]}: a setting occurs twice")
    return found + [*_hub_faults(directory, *stanzas[:2])] + [*_track_faults(directory, stanzas[2:])]


def _hub_faults(directory: Path, hub: Stanza, genome: Stanza) -> Iterator[str]:
    for key in ("hub", "shortLabel", "longLabel", "useOneFile", "email"):
        if key not in hub:
            yield f"hub: {key} is missing"
    if " " in hub.get("hub", "") or len(hub.get("shortLabel", "")) >= 20 or len(hub.get("longLabel", "")) >= 70:
        yield "hub: a name or label has spaces or is too long"
    if hub.get("useOneFile") != "on" or list(genome) != ["genome"] or " " in genome.get("genome", " "):
        yield "hub: expected `useOneFile on`, and one genome"
    if "descriptionUrl" in hub and not (directory / hub["descriptionUrl"]).is_file():
        yield "hub: the description does not exist"


def _track_faults(directory: Path, tracks: list[Stanza]) -> Iterator[str]:
    by_name = {track.get("track", ""): track for track in tracks}
    if len({name.lower() for name in by_name}) < len(tracks):
        yield "a track's name is missing or occurs twice"
    parent: Stanza = {}
    for track in tracks:
        name = track.get("track", "")
        problems = [*_common_faults(directory, track)]
        if "parent" in track:
            problems += _child_faults(directory, track, parent)
        else:
            parent = track
            if track.get("compositeTrack") != "on" or "bigDataUrl" in track:
                problems.append("is neither a composite track nor a child of one")
            problems += _composite_faults(track)
        yield from (f"{name}: {problem}" for problem in problems)


def _common_faults(directory: Path, track: Stanza) -> Iterator[str]:
    kind = track.get("type", "").split(" ")[0]
    if next(iter(track)) != "track" or not re.fullmatch("[a-zA-Z][a-zA-Z0-9_-]*", track.get("track", "")):
        yield "begins without the name of a track, or the name has other characters"
    if kind not in TYPES or not re.fullmatch(
        rf"bigBed ([3-9]|1[0-2])( [+.])?|bigWig( {NUMBER} {NUMBER})?", track["type"]
    ):
        yield f"type is {track.get('type')}"
    for key, longest in (("shortLabel", 17), ("longLabel", 76)):
        if not 0 < len(track.get(key, "")) <= longest or not track[key].isprintable():
            yield f"{key} is missing or too long"
    if (
        track.get("visibility", "hide") not in VISIBILITIES
        or "html" in track
        and not (directory / track["html"]).is_file()
    ):
        yield "the visibility or the description does not exist"
    for key, form in (
        ("color", r"\d+,\d+,\d+"),
        ("priority", NUMBER),
        ("itemRgb", "on"),
        ("viewLimits", f"{NUMBER}:{NUMBER}"),
    ):
        if key in track and not re.fullmatch(form, track[key]):
            yield f"{key} is {track[key]}"
    for key in set(track) - COMMON - GROUPS - OF_TYPE.get(kind, set()):
        if kind != "bigBed" or not FILTER.fullmatch(key):
            yield f"{key} is not a setting of {kind}"


def _groups(composite: Stanza) -> dict[str, set[str]]:
    """The tags of the members of each subgroup."""
    groups = {}
    for number in range(1, 10):
        words = composite.get(f"subGroup{number}", "").split()
        if words:
            groups[words[0]] = {member.partition("=")[0] for member in words[2:]}
    return groups


def _composite_faults(track: Stanza) -> Iterator[str]:
    groups = _groups(track)
    dimensions = dict(word.partition("=")[::2] for word in track.get("dimensions", "").split())
    if dimensions and next(iter(dimensions)) != "dimX" or set(dimensions.values()) - set(groups):
        yield "dimensions are not subgroups, or do not begin with dimX"
    if {word.rstrip("+-").rstrip("=") for word in track.get("sortOrder", "").split()} - set(groups):
        yield "sortOrder is not of subgroups"
    for number in range(1, 10):
        if any(not re.fullmatch(r"[A-Za-z]\w*=\S+", word) for word in track.get(f"subGroup{number}", "").split()[2:]):
            yield f"subGroup{number} has a member that is not tag=title"


def _child_faults(directory: Path, track: Stanza, parent: Stanza) -> Iterator[str]:
    if not re.fullmatch("on|off", track["parent"].partition(" ")[2]) or track["parent"].split()[0] != parent.get(
        "track"
    ):
        yield "does not follow its parent, or is neither on nor off"
    kind, expected = track.get("type", ""), parent.get("type", "")
    if (
        kind.split()[:1] != expected.split()[:1]
        or kind.startswith("bigBed")
        and kind != expected
        or "visibility" in track
    ):
        yield "has another type than its parent, or a visibility, which UCSC ignores"
    members = dict(word.partition("=")[::2] for word in track.get("subGroups", "").split())
    groups = _groups(parent)
    if set(members) != set(groups) or any(members[group] not in groups[group] for group in members):
        yield "is not a member of all subgroups"
    url = track.get("bigDataUrl", "")
    if re.match(r"/|\w+:|.*\.\./", url) or not (directory / url).is_file():
        yield f"bigDataUrl {url!r} is not a relative path to a file"
        return
    with pyBigWig.open(str(directory / url)) as file:
        if file.isBigBed() != kind.startswith("bigBed"):
            yield "the file is of another type"
        elif file.isBigBed():
            columns = re.findall(r'(\w+)\s*;\s*"', file.SQL().decode())
            yield from _bigbed_faults({**parent, **track}, columns)


def _bigbed_faults(settings: Stanza, columns: list[str]) -> Iterator[str]:
    """Faults of settings that name columns of the file."""
    standard = int(settings["type"].split()[1])
    if (len(columns) > standard) != settings["type"].endswith("+"):
        yield "+ in the type does not agree with the number of columns"
    if "itemRgb" in settings and standard < 9:
        yield "itemRgb requires nine columns"
    for name in re.findall(r"\$\{?(\w+)", settings.get("mouseOver", "")):
        if name not in columns:
            yield f"mouseOver: the file has no column {name}"
    for key, value in settings.items():
        if match := FILTER.fullmatch(key):
            setting, column = match.groups()
            if column not in columns:
                yield f"{key}: the file has no column {column}"
            if setting in ("filter", "filterLimits"):
                numbers = value.split(":")
                if not all(re.fullmatch(NUMBER, number) for number in numbers) or float(numbers[0]) > float(
                    numbers[-1]
                ):
                    yield f"{key} is {value}"
            if setting == "filterByRange" and value not in ("on", "off"):
                yield f"{key} is {value}"
            if setting == "filterType" and value not in FILTER_TYPES:
                yield f"{key} is {value}"
            if setting == "filterValues" and "" in value.split(","):
                yield f"{key} has an empty value"
