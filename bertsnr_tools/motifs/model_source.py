"""Motif instances from FASTA whose bases are called by models. Imports torch; the other sources do not."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UsageError
from ..io.fasta import Record, as_records
from ..io.motif_files import Motif
from ..models.batching import probabilities_of_models
from ..models.device import Runtime
from ..models.many_factor import shared_model
from ..predict.scan import assemble_records, window_step
from ..predict.threshold_text import Threshold
from ..predict.thresholds import base_threshold, parse_threshold
from ..sequence.blocks import in_blocks
from ..sequence.encoding import bases_from_tokens, reverse_complement_codes
from .discovery import discover
from .instances import DEFAULT_RULE, Instance, InstanceRule, called_instances
from .sources import InstanceSource

if TYPE_CHECKING:
    from ..models.interface import Model

BLOCK_BASES = 1 << 17  # of records that are scored together
MAX_SCORES = 1 << 25  # of bases, of several factors; bounds the memory


@dataclass(frozen=True)
class BaseCaller:
    """A model with the settings at which it calls bases.

    Attributes
    ----------
    threshold : base probability above which a base is called
    step : distance between window starts, bp
    forward : score only the forward strand of records
    """

    model: Model
    threshold: float
    step: int
    forward: bool = False

    @classmethod
    def for_model(
        cls, model: Model, threshold: Threshold | None = None, step: int | None = None, forward: bool = False
    ) -> BaseCaller:
        """Settings as requested, or else the model's own.

        Parameters
        ----------
        threshold : kind and value, see `predict.thresholds.base_threshold`

        Raises
        ------
        UsageError : the model does not support such a threshold, or the step is longer than its window.
        """
        return cls(model, base_threshold(threshold, model), window_step(step, model.info), forward)


class ModelSource(InstanceSource):
    """Instances in the base calls of one or more models, one motif for each model.

    Parameters
    ----------
    records : sequences; read once, in blocks

    Raises
    ------
    UsageError : two models have the same name.
    """

    def __init__(
        self,
        records: Iterable[Record],
        callers: Sequence[BaseCaller],
        rule: InstanceRule,
        runtime: Runtime,
        path: str = "sequences",
    ):
        for name, count in Counter(caller.model.info.name for caller in callers).items():
            if count > 1:
                raise UsageError(f"{count} models are named {name}; give models with different names")
        super().__init__(path, {c.model.info.name: rule.width or c.model.info.site_width for c in callers}, rule)
        self._records, self._callers, self._runtime = records, callers, runtime

    def instances(self) -> Iterator[Instance]:
        """The instances of each record, in the order of the records and, within a record, of the models."""
        for block in in_blocks(self._records, BLOCK_BASES):
            found: list[list[Instance]] = [[] for _ in block]
            for group in self._groups(sum(len(record.sequence) for record in block)):
                for instances, (record, scores) in zip(found, self._base_scores(group, block)):
                    for caller, strand_scores in zip(group, scores.reshape(len(group), 2, -1)):
                        name = caller.model.info.name
                        sites = called_instances(strand_scores, caller.threshold, self.widths[name], self.rule)
                        instances += self.locate(record, sites, name)
            yield from itertools.chain(*found)

    def _groups(self, bases: int) -> Iterator[list[BaseCaller]]:
        """The callers, neighbours that share an encoder together, as far as the scores of `bases` fit into memory."""
        at_once = max(1, MAX_SCORES // (2 * bases + 1))
        for many, group in itertools.groupby(self._callers, lambda caller: shared_model(caller.model)):
            while chosen := list(itertools.islice(group, at_once if many else 1)):
                yield chosen

    def _base_scores(self, group: Sequence[BaseCaller], block: list[Record]) -> Iterator[tuple[Record, np.ndarray]]:
        """Each record with the base scores of a group, shape (2 callers, n): both strands of each in turn."""
        first, models = group[0], [caller.model for caller in group]

        def bases(codes: np.ndarray) -> Iterator[np.ndarray]:
            for _, tokens in probabilities_of_models(models, codes, self._runtime):
                yield bases_from_tokens(tokens, first.model.info.k)

        def score(windows: np.ndarray, cores: np.ndarray) -> Iterator[np.ndarray]:
            zeros = itertools.repeat(np.zeros(windows.shape, dtype=np.float32))
            reverse = zeros if first.forward else bases(reverse_complement_codes(windows))
            for forward_scores, reverse_scores in zip(bases(windows), reverse):
                yield forward_scores
                yield reverse_scores[:, ::-1]

        return assemble_records(first.model, block, first.step, score, 2 * len(group), 0)


def find_motif(
    model: Model,
    sequences: str | os.PathLike[str] | Iterable[str | bytes | Record],
    *,
    rule: InstanceRule = DEFAULT_RULE,
    forward: bool = False,
    threshold: str | float | None = None,
    runtime: Runtime | None = None,
) -> Motif:
    """Make the motif of a model from the bases that it calls in sequences.

    Parameters
    ----------
    sequences : FASTA file, or sequences
    rule : how instances are taken; width None is the median site of the model's training
    forward : score only the forward strand of sequences
    threshold : base probability above which a base is called, or "p=1e-4" or "score=12"; None for the model's own
    runtime : device, precision and batch size; None for the CPU in fp32

    Raises
    ------
    DataError : no instances were found.

    Examples
    --------
    >>> motif = find_motif(load_model("CTCF"), "peaks.fa")  # doctest: +SKIP
    """
    caller = BaseCaller.for_model(model, parse_threshold(threshold), forward=forward)
    path = str(sequences) if isinstance(sequences, (str, os.PathLike)) else "sequences"
    return discover(ModelSource(as_records(sequences), [caller], rule, runtime or Runtime(), path))[0]
