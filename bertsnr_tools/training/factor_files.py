"""Files with the windows of many factors: which they are (`FactorFiles.find`), and how they are read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import DataError, UsageError
from ..io.fasta import Genome
from ..io.files import error_text
from ..io.intervals import Interval, read_bed
from ..sequence.windows import Windows, known_sites, read_windows
from .data import WITHIN_FRACTION, draw_background, within_sources

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..models.bertsnr import BertSNR

ENDINGS = (".fa", ".fasta", ".fna", ".fa.gz", ".fasta.gz", ".fna.gz")


class FactorInputs(NamedTuple):
    """Windows of many factors before the split into training and validation.

    Attributes
    ----------
    sets : positive windows by factor
    background : background windows; None without any
    known : bool, shape (background windows, factors): a site or a peak of the factor may lie in the window
    sources : where all this comes from, plain values for the model's metadata
    teachers : models to distill, of each factor at least one; empty to train on the labels
    """

    sets: Mapping[str, Windows]
    background: Windows | None = None
    known: np.ndarray | None = None
    sources: Mapping[str, Any] = {}
    teachers: Sequence[Sequence[BertSNR]] = ()


@dataclass(frozen=True)
class FactorFiles:
    """Names of the files to train a many-factor model from; "-" is standard input.

    Attributes
    ----------
    paths : FASTA files of positive windows by factor; one file under "" if its windows carry the factors' names
    background : FASTA file of background windows
    genome : FASTA file to draw background windows from
    exclude : BED files of sites and peaks, see `windows.known_sites`
    within : BED files of accessible regions to draw background windows from
    within_fraction : fraction of the background windows that lie there
    """

    paths: Mapping[str, str]
    background: str | None = None
    genome: str | None = None
    exclude: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    within_fraction: float = WITHIN_FRACTION

    @classmethod
    def find(cls, arguments: Sequence[str], *, by_name: bool = False, **others: Any) -> FactorFiles | None:
        """From the arguments of the command: TF=FASTA, FASTA or a directory of FASTA files.

        Returns
        -------
        None for one FASTA file, which trains a model of one factor

        Raises
        ------
        UsageError : two files for one factor, several with `by_name`, a factor without a printable name, or standard
            input without a factor.
        DataError : a directory that cannot be read or has no FASTA file.
        """
        if by_name:
            if len(arguments) > 1 or os.path.isdir(arguments[0]):
                raise UsageError("--by-name reads one FASTA file; leave out --by-name, or give a single file")
            return cls({"": arguments[0]}, **others)
        found = [named for argument in arguments for named in _named_files(argument)]
        if len(found) == 1 and found[0][1] == arguments[0]:
            return None
        paths = dict(found)
        if len(paths) < len(found):
            names = [name for name, _ in found]
            twice = next(name for name in names if names.count(name) > 1)
            raise UsageError(f"two files for the factor {twice}; join them, or name them differently with TF=FASTA")
        for name, path in found:
            if not is_factor_name(name):
                raise UsageError(
                    f"{path}: the factor is named {name!r}; name it with TF=FASTA, in printable characters"
                )
            if name == path == "-":
                raise UsageError("standard input (-) has no name; give the factor as TF=-")
        return cls(paths, **others)

    def names(self) -> list[str | None]:
        """All files, None for those not given."""
        return [*self.paths.values(), self.background, self.genome, *self.exclude, *self.within]

    def read(self, k: int, seed: int) -> FactorInputs:
        """Read all windows and draw background windows from the genome.

        Raises
        ------
        DataError : see `windows.read_windows`, `data.draw_background` and `Genome.exclusions`; a window without the
            name of a factor, or a file of intervals that are all elsewhere than the background windows.
        UsageError : see `data.draw_background`.
        """
        sets = self._read_sets(k)
        length = next(iter(sets.values())).codes.shape[1]
        sources = {
            "background_windows": self.genome or self.background,
            "excluded": list(self.exclude),
            **within_sources(self.within, self.within_fraction),
        }
        if not (self.genome or self.background):
            return FactorInputs(sets, sources=sources)
        if self.genome:
            genome = Genome(self.genome)
            intervals, positives = genome.exclusions(self.exclude), Windows.joined(list(sets.values()))
            within, fraction = genome.exclusions(self.within), self.within_fraction
            background = draw_background(genome, positives, (), seed, within=within, within_fraction=fraction)
        else:
            background = read_windows(str(self.background), False, k, length)
            intervals = _exclusions(self.exclude, background)
        intervals += _located(sets)
        return FactorInputs(sets, background, known_sites(background, list(sets), intervals), sources)

    def _read_sets(self, k: int) -> dict[str, Windows]:
        sets: dict[str, Windows] = {}
        length = None
        for name, path in self.paths.items():
            windows = read_windows(path, True, k, length)
            length = windows.codes.shape[1]
            sets |= {name: windows} if name else _by_factor(windows, path)
        return sets


def _named_files(argument: str) -> list[tuple[str, str]]:
    """Factors and files of one argument."""
    if os.path.isdir(argument):
        try:
            names = sorted(name for name in os.listdir(argument) if name.endswith(ENDINGS))
        except OSError as error:
            raise DataError(error_text(error), argument) from error
        if not names:
            raise DataError(f"no FASTA files; expected names such as TP53{ENDINGS[0]}", argument)
        return [(_stem(name), os.path.join(argument, name)) for name in names]
    name, equals, path = argument.partition("=")
    if equals and name and os.sep not in name and not os.path.exists(argument):
        if not path:
            raise UsageError(f"{argument}: no file after the equals sign; expected TF=FASTA")
        return [(name, path)]
    return [(_stem(os.path.basename(argument)), argument)]


def is_factor_name(name: str) -> bool:
    """Whether a name can be written into a table: not empty, without tabs, line breaks or other unprintable letters."""
    return bool(name.strip()) and name.isprintable()


def _stem(name: str) -> str:
    ending = max((ending for ending in ENDINGS if name.endswith(ending)), key=len, default="")
    return name.removesuffix(ending)


def _by_factor(windows: Windows, path: str) -> dict[str, Windows]:
    """Windows by the name before the last "::"."""
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(windows.names):
        factor, colons, _ = name.rpartition("::")
        if not colons or not is_factor_name(factor):
            raise DataError(f"record {name!r} does not name its factor; expected TF::chrom:start-end(strand)", path)
        rows.setdefault(factor, []).append(row)
    return {factor: windows.take(np.array(chosen)) for factor, chosen in rows.items()}


def _exclusions(paths: Sequence[str], background: Windows) -> list[Interval]:
    """All intervals of BED files; each file has one on a chromosome of the background windows."""
    chroms = {interval.chrom for interval in background.intervals() if interval}
    found: list[Interval] = []
    for path in paths:
        intervals = list(read_bed(path))
        if intervals and not any(interval.chrom in chroms for interval in intervals):
            where = f"lie on {', '.join(sorted(chroms)[:5])}" if chroms else "have no coordinates in their names"
            raise DataError(f"all intervals are elsewhere than the background windows, which {where}", path)
        found += intervals
    return found


def _located(sets: Mapping[str, Windows]) -> list[Interval]:
    """The intervals of the positive windows that have coordinates, named by factor."""
    located = ((factor, interval) for factor, windows in sets.items() for interval in windows.intervals())
    return [interval._replace(name=factor) for factor, interval in located if interval]
