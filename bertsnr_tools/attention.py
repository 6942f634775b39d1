"""Scanning: sequence in, called sites out, streamed in blocks so that memory does not grow with the genome."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from .errors import DataError
from .io.fasta import Record
from .models.batching import _batches, _halve_on_oom
from .models.bertsnr import BertSNR
from .models.device import Runtime, autocast
from .predict.scan import assemble_records
from .sequence.encoding import base_means_from_tokens


def attend(
    model: BertSNR, records: Iterable[Record], step: int, layer: int, head: int | None, runtime: Runtime
) -> Iterator[tuple[Record, np.ndarray]]:
    """Attention from [CLS] to the bases of every record, in the record's own direction.

    Records longer than the model's window are cut into overlapping ones; a base is looked at in the window in which it lies
    nearest to the middle.

    Parameters
    ----------
    layer, head : as of `scoring.cls_attention`

    Yields
    ------
    each record and its values, float32 shape (n,), NaN where no run of ACGT is as long as a token
    """
    return assemble_records(
        model,
        records,
        step,
        lambda windows, _: [cls_attention(model, windows, layer, head, runtime)],
        1,
        np.nan,
    )


def cls_attention(model: BertSNR, codes: np.ndarray, layer: int, head: int | None, runtime: Runtime) -> np.ndarray:
    """Attention from [CLS] to every base, read in the direction given (Luo et al. 2024, section 2.6).

    Parameters
    ----------
    codes : output of `kmers.encode`, shape (n, L), L at least k
    layer, head : counted from 0, negative from the end; head None sums over all heads

    Returns
    -------
    float32, shape (n, L): a base has the mean over the tokens that cover it
    """
    tokens = np.empty((len(codes), codes.shape[1] - model.info.k + 1), dtype=np.float32)

    def attend(size: int) -> None:
        for batch, count, ids in _batches(model, codes, size):
            first = model.encoder(input_ids=ids.to(model.device), output_attentions=True).attentions[layer][
                :count, :, 0, 1:-1
            ]  # (count, heads, T)
            tokens[batch] = (first.float().sum(1) if head is None else first[:, head].float()).cpu().numpy()

    with _attending(model, runtime):
        _halve_on_oom(model, runtime.batch_size, attend)
    return base_means_from_tokens(tokens, model.info.k)


def all_attention(model: BertSNR, codes: np.ndarray, runtime: Runtime) -> np.ndarray:
    """Attention of one sequence, shape (L,), in every layer and head.

    Returns
    -------
    float32, shape (layers, heads, T + 2, T + 2): from the token of a row to that of a column; [CLS] is first, [SEP] last
    """
    with _attending(model, runtime):
        _, _, ids = next(_batches(model, codes[None], 1))
        return np.stack(
            [
                layer[0].float().cpu().numpy()
                for layer in model.encoder(input_ids=ids.to(model.device), output_attentions=True).attentions
            ]
        )


@contextmanager
def _attending(model: BertSNR, runtime: Runtime) -> Iterator[None]:
    """Inference in which attention weights exist: the fused kernels have none."""
    model.encoder.set_attn_implementation("eager")
    try:
        with torch.inference_mode(), autocast(model.device, runtime.precision):
            yield
    finally:
        model.encoder.set_attn_implementation("sdpa")


def layers_and_heads(model: BertSNR) -> tuple[int, int]:
    """How many layers and attention heads the encoder has.

    Raises
    ------
    DataError : it has none.
    """
    if "num_attention_heads" not in model.info.encoder:
        raise DataError(
            f"the model {model.info.name} is of the kind {model.info.encoder['model_type']}, which has no attention"
        )
    return model.info.encoder["num_hidden_layers"], model.info.encoder["num_attention_heads"]


def align_rows(values: Sequence[np.ndarray], anchors: Sequence[int]) -> tuple[np.ndarray, int]:
    """Values of sequences below each other, so that their anchors share a column.

    Parameters
    ----------
    values : of each sequence, shape (length,)
    anchors : a position in each sequence, counted from 0

    Returns
    -------
    matrix, float32, shape (n, any), NaN where a sequence does not reach; and the position of its first column, the anchor being 0
    """
    first = -max(anchors)
    after = max(len(row) - anchor for row, anchor in zip(values, anchors))
    matrix = np.full((len(values), after - first), np.nan, dtype=np.float32)
    for line, row, anchor in zip(matrix, values, anchors):
        line[-first - anchor : -first - anchor + len(row)] = row
    return matrix, first
