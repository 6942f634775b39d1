"""Options of `bertsnr train` that contradict each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..training.data import TrainingFiles
    from ..training.factor_files import FactorFiles


def check_one(files: TrainingFiles, arch: str, folds: int | None, *, prefilter: bool, recipe: dict[str, Any]) -> None:
    """Reject options that contradict each other."""
    from ..errors import UsageError

    _check_background(files)
    if files.exclude and not files.genome:
        raise UsageError("--exclude requires -f")
    needs_background = recipe["background_ratio"] is not None or recipe["hard_negatives"] or prefilter
    if needs_background and not (files.genome or files.background):
        raise UsageError("--background-ratio, --hard-negatives and --prefilter require -f or --background")
    if prefilter and arch != "bertsnr":
        raise UsageError(f"--arch {arch} has no prefilter; leave out --prefilter")
    if folds and recipe["hard_negatives"]:
        raise UsageError("--folds does not support hard negatives; leave out --folds or --hard-negatives")
    if folds and files.teachers:
        raise UsageError(
            "--folds tests on windows that a teacher may have learned from; leave out --folds or --teacher"
        )


def check_many(files: FactorFiles, single: dict[str, Any], arch: str) -> None:
    """Reject options that a model of many factors does not have."""
    from ..errors import UsageError

    given = [option for option, value in single.items() if value]
    if given or arch != "bertsnr":
        raise UsageError(f"{', '.join(given) or '--arch'}: only for a model of one factor; leave it out")
    _check_background(files)
    if files.exclude and not (files.genome or files.background):
        raise UsageError("--exclude requires -f or --background")


def _check_background(files: TrainingFiles | FactorFiles) -> None:
    """What both kinds of models require of their files."""
    from ..errors import UsageError

    if files.names().count("-") > 1:
        raise UsageError("standard input (-) is given twice, but can be read only once")
    if files.genome and files.background:
        raise UsageError("give -f or --background, not both: each is a source of background windows")
    if files.within and not files.genome:
        raise UsageError("--within requires -f")
