"""Build a track hub: all its files in one directory, with relative paths."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from ..errors import DataError
from ..io.bbi import open_bbi, read_summary
from ..io.files import file_stem, open_output, replace_atomically
from ..io.motif import unique_id
from ..log import logger
from .page import page_html
from .sites import FactorTrack, Lengths, SiteFile, pack_sites
from .trackdb import PAGE, HubText, SignalTrack, TrackNames, hub_text

BIGWIG_ENDINGS = (".bw", ".bigwig")  # of input
TRACK_ENDINGS = (".bb", ".bw")


def build_hub(
    directory: str,
    files: Sequence[str],
    hub: HubText,
    lengths: Lengths | None = None,
    properties: Mapping[str, Mapping[str, str]] | None = None,
) -> list[str]:
    """Write the files of a hub, hub.txt last.

    Parameters
    ----------
    directory : which is made if it does not exist
    files : of sites (bigBed, BED) and of base scores (bigWig)
    lengths : chromosome sizes, for BED
    properties : of the models, see `page.page_html`

    Returns
    -------
    names of the data files in the directory

    Raises
    ------
    UsageError, DataError : see `sites.pack_sites`; a bigWig file cannot be read, or there is nothing to show.
    """
    names = TrackNames()
    sources: dict[bool, set[str]] = {False: set(), True: set()}  # of sites, and of base scores
    sites: list[FactorTrack] = []
    signals: list[SignalTrack] = []
    with _new_files(directory, names):
        for path in files:
            is_signal = path.lower().endswith(BIGWIG_ENDINGS)
            source = unique_id(file_stem(path), sources[is_signal])
            sources[is_signal].add(source)
            if is_signal:
                signals.append(_copy_signal(path, directory, names(f"{source}_signal"), source))
            elif found := pack_sites(SiteFile(path, source, lengths), directory, names):
                sites += found
            else:
                logger.warning("%s: has no sites", path)
        if not sites and not signals:
            raise DataError("no sites and no base scores to show", directory)
        for name, text in (
            (PAGE, page_html(hub.assembly, sites, signals, properties or {})),
            ("hub.txt", hub_text(hub, sites, signals)),
        ):
            with open_output(os.path.join(directory, name)) as stream:
                stream.write(text.encode())
    return [f"{track.name}.bb" for track in sites] + [f"{track.name}.bw" for track in signals]


@contextmanager
def _new_files(directory: str, names: TrackNames) -> Iterator[None]:
    """Make the directory; after an error, delete it and the files of tracks, except those that were there before.

    Warns of tracks of an earlier hub that remain.
    """
    made = not os.path.isdir(directory)
    if made:
        os.mkdir(directory)
    before = set(os.listdir(directory))
    try:
        yield
    except BaseException:
        written = _track_files(names) | {PAGE}
        for name in written.intersection(os.listdir(directory)) - before:
            os.unlink(os.path.join(directory, name))
        if made:
            with suppress(OSError):
                os.rmdir(directory)
        raise
    earlier = sorted(name for name in before - _track_files(names) if name.endswith(TRACK_ENDINGS))
    if earlier:
        shown = ", ".join(earlier[:3]) + (", …" if len(earlier) > 3 else "")
        logger.warning("%s: has %d track files that are not in this hub (%s)", directory, len(earlier), shown)


def _track_files(names: TrackNames) -> set[str]:
    """All file names that tracks may have."""
    return {f"{name}{ending}" for name in names.given for ending in TRACK_ENDINGS}


def _copy_signal(path: str, directory: str, name: str, source: str) -> SignalTrack:
    """Copy a bigWig file."""
    file = open_bbi(path)
    is_bigwig = file.isBigWig()
    file.close()
    if not is_bigwig:
        raise DataError("is not a bigWig file", path)
    summary = read_summary(path)
    with replace_atomically(os.path.join(directory, f"{name}.bw")) as temporary:
        shutil.copyfile(path, temporary)
    return SignalTrack(name, source, summary.low, summary.high)
