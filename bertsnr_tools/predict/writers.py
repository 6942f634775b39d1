"""Write the results of a scan as text (`SiteWriter`: sites as BED6, BED9 or narrowPeak) and base scores as bigWig."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..errors import UsageError
from ..io.files import OutputStream
from ..io.outputs import Failures, KeptStream, SortOrder, index_if_sorted
from ..io.tracks import (
    MAX_TRACK_NAME,
    BigWig,
    bed_line,
    bedgraph_lines,
    jaspar_score,
    narrowpeak_columns,
    track_line,
    warn_of_names,
)
from .significance import RankedSite

MAX_TITLE_NAMES = 10  # of models, in the description of a track


class SiteFormat(NamedTuple):
    """How sites are written.

    Attributes
    ----------
    kind : "bed" (BED6), "bed9", "narrowpeak", "bigbed" or "parquet"
    rgb : colour of sites in BED9 and bigBed: "strand" or "score"
    track : start with a track line for this UCSC genome, such as "hg38"; None for no track line
    scale : column 5: "probability", 1000 times the mean of the bases, or "jaspar", see `io.tracks.jaspar_score`
    """

    kind: str = "bed"
    rgb: str = "strand"
    track: str | None = None
    scale: str = "probability"

    def line(self, ranked: RankedSite) -> str:
        """One site as a line; for bigBed, see `io.tracks.site_schema`."""
        score = jaspar_score(ranked.neg_log10_p) if self.scale == "jaspar" else None
        line = bed_line(ranked, self.rgb if self.kind in ("bed9", "bigbed") else None, score)
        if self.kind in ("bed", "bed9"):
            return line
        last = ranked.summit if self.kind == "narrowpeak" else ranked.name
        columns = narrowpeak_columns(ranked.log_odds, ranked.neg_log10_p, ranked.neg_log10_q)
        return f"{line[:-1]}\t{columns}\t{last}\n"


class SiteWriter:
    """Write sites to a file as they come.

    Attributes
    ----------
    order : whether they are sorted
    """

    def __init__(self, stream: OutputStream, site_format: SiteFormat):
        self._stream, self._format = stream, site_format
        self.order = SortOrder()

    @classmethod
    @contextmanager
    def open(cls, path: str, site_format: SiteFormat, names: Sequence[str], failures: Failures) -> Iterator[SiteWriter]:
        """Open a file, which is written atomically; `.gz` is compressed with bgzip and, if sorted, indexed by tabix.

        Parameters
        ----------
        path : "-" is standard output
        names : of the models, for the track line
        failures : receives an error of the file or its index
        """
        with KeptStream(path, failures) as stream:
            writer = cls(stream, site_format)
            if site_format.track:
                listed, number = ", ".join(dict.fromkeys(names)), f"{len(names)} factors"
                title = listed if len(names) == 1 or len(listed) <= MAX_TRACK_NAME else number
                described = listed if len(names) <= MAX_TITLE_NAMES else number
                description = f"{described}: binding sites by bertsnr_tools"
                stream.write(track_line(site_format.kind, title, description, site_format.track).encode())
            yield writer
        if site_format.track:
            warn_of_names(writer.order.chroms(), f"--track {site_format.track}")
        elif not stream.failed:
            index_if_sorted(path, writer.order, "bed", failures)

    def write(self, ranked: Iterable[RankedSite]) -> None:
        """Write sites and flush the stream."""
        self._stream.write_all(self._line(site) for site in ranked)
        self._stream.flush()

    def _line(self, site: RankedSite) -> bytes:
        self.order.add(site.chrom, site.start, site.end)
        return self._format.line(site).encode()


class SignalFile(NamedTuple):
    """A file of base scores: of the model with this index, for the option that requests it."""

    model: int
    option: str
    path: str


def signal_files(options: Mapping[str, str | None], names: Sequence[str]) -> list[SignalFile]:
    """The files of base scores, one for each model and option with a path.

    Parameters
    ----------
    options : of --bigwig, --bigwig-plus, --bigwig-minus and --bedgraph, the path; {} in it stands for the model's name
    names : of the models

    Raises
    ------
    UsageError : several models, and a path without {}.
    """
    files = []
    for option, path in options.items():
        if path and len(names) > 1 and "{}" not in path:
            raise UsageError(f"{option} {path}: with {len(names)} models, put {{}} into the file name for their names")
        if path:
            paths = [path.replace("{}", name.replace("/", "_")) for name in names]
            files += [SignalFile(model, option, filled) for model, filled in enumerate(paths)]
    return files


class SignalWriter:
    """Write base scores of a scan, with three decimals: the maximum of both strands, or one strand.

    It is called as a `scan.SignalSink` within a `with` block; files are written atomically when the block ends without
    an error.

    Parameters
    ----------
    names : of the models
    lengths : of the chromosomes (bp); None where not known
    track : see `SiteFormat`, for bedGraph
    failures : receives the errors of files
    """

    def __init__(
        self,
        files: Sequence[SignalFile],
        names: Sequence[str],
        lengths: Mapping[str, int] | None,
        track: str | None,
        failures: Failures,
    ):
        self._files, self._names, self._lengths, self._track = files, names, lengths, track
        self._failures = failures
        self._stack = ExitStack()  # of bedGraph files
        self._bigwigs: list[BigWig] = []
        self._sinks: dict[int, list[tuple[str, Callable[[str, int, np.ndarray], None]]]] = {}  # option, by model

    def __enter__(self) -> SignalWriter:
        with ExitStack() as stack:
            for file in self._files:
                sinks = self._sinks.setdefault(file.model, [])
                if file.option == "--bedgraph":
                    stream = stack.enter_context(KeptStream(file.path, self._failures))
                    self._start_bedgraph(stream, self._names[file.model])
                    sinks.append((file.option, partial(_write_bedgraph, stream)))
                else:
                    self._bigwigs.append(BigWig(file.path, self._lengths, merge=True))
                    sinks.append((file.option, self._bigwigs[-1].add))
            self._stack = stack.pop_all()
        return self

    def _start_bedgraph(self, stream: OutputStream, name: str) -> None:
        if self._track:
            description = f"{name}: base probabilities by bertsnr_tools"
            stream.write(track_line("bedgraph", name, description, self._track).encode())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._stack.__exit__(kind, error, trace)
        if error:
            return
        for bigwig in self._bigwigs:
            with self._failures.kept():
                bigwig.write()

    def __call__(self, model: int, chrom: str, start: int, strand_scores: np.ndarray) -> None:
        """Take the base scores of a model from `start` on, shape (2, n)."""
        for option, sink in self._sinks.get(model, ()):
            if option == "--bigwig-plus":
                scores = strand_scores[0]
            elif option == "--bigwig-minus":
                scores = strand_scores[1]
            else:
                scores = np.fmax.reduce(strand_scores)
            sink(chrom, start, scores.round(3))


def _write_bedgraph(stream: OutputStream, chrom: str, start: int, scores: np.ndarray) -> None:
    stream.write(bedgraph_lines(chrom, start, scores).encode())
