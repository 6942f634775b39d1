"""Files that `bertsnr train` writes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple


def is_complete(output: str, checkpoint: str) -> bool:
    """Whether the result of a training exists and no checkpoint does; a message states it."""
    from ..log import logger

    complete = os.path.exists(output) and not os.path.exists(checkpoint)
    if complete:
        logger.info("%s is complete; nothing to do; delete it to train again", output)
    return complete


class ModelOutputs(NamedTuple):
    """Files to write, and whether to continue from the checkpoint."""

    model: str
    report: str | None
    plot: str | None
    resume: bool

    @property
    def checkpoint(self) -> str:
        """The checkpoint of an unfinished training."""
        return f"{self.model}.ckpt"

    def files(self) -> list[str | None]:
        """All of them, None for those not asked for."""
        return [self.model, self.checkpoint, self.report, self.plot]

    def check(self) -> None:
        """Check that a model and its checkpoint can replace files of these names."""
        from ..errors import UsageError
        from ..io.files import check_regular

        if self.model == "-":
            raise UsageError("a model cannot be written to standard output; give a file with -o")
        check_regular(self.model, "a model")
        check_regular(self.checkpoint, "a checkpoint")

    def nothing_to_do(self) -> bool:
        """Whether a training that is to be resumed is complete, see `is_complete`."""
        return self.resume and is_complete(self.model, self.checkpoint)

    def write(
        self,
        model: Any,
        history: list[dict[str, float]],
        report: dict[str, Any],
        plot: Callable[[str], None] | None = None,
    ) -> None:
        """Write the files, each even if another cannot be written."""
        from ..io.outputs import Failures

        with Failures(self.model, self.report, self.plot) as failures:
            with failures.kept():
                self._save(model, history)
            if self.report:
                with failures.kept():
                    _write_report(self.report, report)
            if self.plot and plot:
                with failures.kept():
                    plot(self.plot)

    def _save(self, model: Any, history: list[dict[str, float]]) -> None:
        from ..log import logger
        from ..models.files import save_model

        save_model(self.model, model)
        best = max(history, key=lambda row: row["aupr"])
        logger.info("%s: the model of epoch %d, validation AUPR %.4f", self.model, best["epoch"], best["aupr"])


def _write_report(path: str, report: dict[str, Any]) -> None:
    from ..io.outputs import write_json

    write_json(path, report)
