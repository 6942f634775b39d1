"""Files that `bertsnr predict` writes."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..io.outputs import Failures
    from ..models.interface import Model
    from ..predict.scan import Scanner
    from ..predict.site_files import SiteSink
    from ..predict.writers import SignalFile, SignalWriter

ENDINGS = {  # of file names -> format of the sites
    ".narrowpeak": "narrowpeak",
    ".narrowpeak.gz": "narrowpeak",
    ".bb": "bigbed",
    ".bigbed": "bigbed",
    ".parquet": "parquet",
    ".bed9": "bed9",
    ".bed9.gz": "bed9",
}
BINARY = {"bigbed": "a bigBed file", "parquet": "a Parquet file"}


class ScanOutputs(NamedTuple):
    """Files to write.

    Attributes
    ----------
    sites : "-" is standard output
    kind, rgb, track, scale : see `predict.writers.SiteFormat`
    signals : of --bigwig, --bigwig-plus, --bigwig-minus and --bedgraph, the path
    report : JSON
    """

    sites: str
    kind: str
    rgb: str | None
    track: str | None
    scale: str
    signals: dict[str, str | None]
    report: str | None

    def check(self) -> None:
        """Check before the work begins that files of these names can be written.

        Raises
        ------
        UsageError : a binary format for a stream, two outputs to standard output, or a missing package.
        """
        from ..errors import UsageError
        from ..io.tracks import check_bigwig

        self._check_sites()
        for option, path in self.signals.items():
            if path and option != "--bedgraph":
                check_bigwig(path)
        paths = {"sites": self.sites, "--bedgraph": self.signals["--bedgraph"], "--json": self.report}
        to_stdout = [name for name, path in paths.items() if path == "-"]
        if len(to_stdout) > 1:
            remedy = "add -o FILE" if "sites" in to_stdout else "give file names"
            raise UsageError(f"{' and '.join(to_stdout)} both go to standard output; {remedy}")
        if self.track is not None and not (self.track.isalnum() and self.track.isascii()):
            raise UsageError(f"--track {self.track!r}: expected the name of a UCSC genome, such as hg38")

    def _check_sites(self) -> None:
        from ..errors import UsageError
        from ..io.files import check_regular
        from ..io.parquet import check_pyarrow

        if self.sites.lower().endswith((".bw", ".bigwig")):
            raise UsageError(f"-o {self.sites}: sites are written as BED, not as bigWig; see --bigwig")
        if self.sites.lower().endswith(".gz") and format_of(self.sites[:-3]) in BINARY:
            raise UsageError(f"-o {self.sites}: {BINARY[format_of(self.sites[:-3])]} is compressed; leave out .gz")
        if self.rgb and self.kind not in ("bed9", "bigbed"):
            raise UsageError(f"--rgb: {self.kind} has no colours; add --format bed9")
        if self.scale == "jaspar" and self.kind == "parquet":
            raise UsageError("--score-scale: Parquet has all scores, and no column 5")
        what = BINARY.get(self.kind)
        if what is None:
            if format_of(self.sites) in BINARY:
                raise UsageError(f"-o {self.sites}: --format {self.kind} is text; give another file name")
            return
        if self.sites == "-":
            raise UsageError(f"{what} cannot be written to standard output; give a file name with -o")
        if self.track and not self.signals["--bedgraph"]:
            raise UsageError(f"--track {self.track}: {what} has no track line")
        check_regular(self.sites, what)
        if self.kind == "parquet":
            check_pyarrow()

    @contextmanager
    def open(
        self,
        files: list[SignalFile],
        models: list[Model],
        lengths: Mapping[str, int] | None,
        failures: Failures,
        *,
        first: bool,
    ) -> Iterator[tuple[SignalWriter, SiteSink]]:
        """Open the files of base scores and of sites, which are complete in the reverse order.

        Parameters
        ----------
        files : of base scores
        lengths : of the chromosomes, if known
        first : of the shards, which alone has a track line

        Raises
        ------
        UsageError : scores made of p-values, and a model that does not report them.
        """
        from ..predict.significance import null_of
        from ..predict.site_files import open_sites
        from ..predict.writers import SignalWriter, SiteFormat

        for model in models if self.scale == "jaspar" else ():
            null_of(model)
        names, track = [model.info.name for model in models], self.track if first else None
        site_format = SiteFormat(self.kind, self.rgb or "strand", track, self.scale)
        with (
            SignalWriter(files, names, lengths, track, failures) as signal,  # complete after the sites
            open_sites(self.sites, site_format, names, lengths, failures) as sites,
        ):
            yield signal, sites

    def write_report(self, scanner: Scanner, counts: Counter[str], began: float, failures: Failures) -> None:
        """Write the report, if it was requested.

        Parameters
        ----------
        counts : sites of each model
        began : `time.perf_counter()` at the start
        """
        from ..predict.scan_report import write_scan_report

        if self.report:
            run = {"command": ["bertsnr", "predict", *_arguments()], "seconds": round(time.perf_counter() - began, 3)}
            with failures.kept():
                write_scan_report(self.report, scanner, counts, run)


def _arguments() -> list[str]:
    """The words of the command line after the command, as text that JSON can contain."""
    words = [os.fsencode(word).decode(errors="backslashreplace") for word in sys.argv[1:]]
    return words[1:] if words[:1] == ["predict"] else words


def format_of(path: str) -> str:
    """The format of sites that belongs to a file name; "bed" for other names."""
    return next((kind for ending, kind in ENDINGS.items() if path.lower().endswith(ending)), "bed")
