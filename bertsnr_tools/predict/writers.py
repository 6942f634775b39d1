"""What genome browsers read: lines of sites, track lines, bedGraph and bigWig. This module alone imports pyBigWig."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

import numpy as np

from ..io.files import open_output
from ..io.tracks import BigWig, bedgraph_lines, track_line


class SignalWriter:
    """Base probabilities of a scan on their way into files; called as `inference.Signal`.

    A base has a probability with three decimals, the higher of both strands but for the options that name a strand.

    Parameters
    ----------
    files : number of the model, one of --bigwig --bigwig-plus --bigwig-minus --bedgraph, file name
    names : of the models
    lengths : of the chromosomes, where they are known
    genome : for bedGraph's track line, or None
    stack : closes the bedGraph files
    """

    def __init__(
        self,
        files: Sequence[tuple[int, str, str]],
        names: Sequence[str],
        lengths: Mapping[str, int] | None,
        genome: str | None,
        stack: ExitStack,
    ):
        self._takers: list[tuple[int, str, Callable[[str, int, np.ndarray], None]]] = []
        self._bigwigs: list[BigWig] = []
        for number, option, path in files:
            if option == "--bedgraph":
                stream = stack.enter_context(open_output(path))
                if genome:
                    stream.write(
                        track_line(
                            "bedgraph", names[number], f"{names[number]}: base probabilities by bertsnr_tools", genome
                        ).encode()
                    )
                self._takers.append(
                    (number, option, lambda *piece, stream=stream: stream.write(bedgraph_lines(*piece).encode()))
                )
            else:
                self._bigwigs.append(BigWig(path, lengths, merge=True))
                self._takers.append((number, option, self._bigwigs[-1].add))

    def __call__(self, model: int, chrom: str, start: int, track: np.ndarray) -> None:
        """Take the probabilities of bases from `start` on, forward and reverse strand, shape (2, n)."""
        for number, option, take in self._takers:
            if number == model:
                values = (
                    track[0]
                    if option == "--bigwig-plus"
                    else track[1]
                    if option == "--bigwig-minus"
                    else np.fmax.reduce(track)
                )
                take(chrom, start, values.round(3))

    def write(self) -> None:
        """Write the bigWig files."""
        for file in self._bigwigs:
            file.write()
