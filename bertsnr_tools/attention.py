"""Attention of a model: from [CLS] to bases, and between all tokens of a sequence (Luo et al. 2024, section 2.6)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch

from .errors import DataError, UsageError
from .io.fasta import Record, as_records
from .io.outputs import Failures, KeptStream
from .io.tracks import BigWig, bedgraph_lines
from .models.batching import batches, halve_on_oom
from .models.bertsnr import BertSNR
from .models.device import Runtime, autocast
from .models.interface import Model
from .predict.calling import MAX_GAP, call_sites, min_site_length
from .predict.scan import assemble_records, score_records, window_step
from .sequence.encoding import base_means_from_tokens
from .sequence.windows import labelled_sites

MAX_MAP_BASES = 500  # length of the longest sequence whose layers and heads are shown


class HeadChoice(NamedTuple):
    """Which attention is read.

    Attributes
    ----------
    layer : 0-based, negative from the last
    head : 0-based; None for the sum over all heads
    """

    layer: int = -1
    head: int | None = None

    @classmethod
    def for_model(cls, model: BertSNR, layer: int | None, head: int | None) -> HeadChoice:
        """The choice from 1-based numbers; None is the last layer and the sum over all heads.

        Raises
        ------
        UsageError : the model does not have this layer or head.
        """
        layers, heads = model.info.encoder["num_hidden_layers"], model.info.encoder["num_attention_heads"]
        for option, number, count in (("--layer", layer, layers), ("--head", head, heads)):
            if number and number > count:
                raise UsageError(f"{option} {number}: the last {option[2:]} of the model {model.info.name} is {count}")
        return cls((layer or layers) - 1, head - 1 if head else None)

    @property
    def title(self) -> str:
        """Description for a figure; `layer` must count from the first."""
        heads = "all heads" if self.head is None else f"head {self.head + 1}"
        return f"attention from [CLS], layer {self.layer + 1}, {heads}"


def require_attention(model: Model) -> BertSNR:
    """The model itself, if it has attention.

    Raises
    ------
    DataError : it has none.
    """
    if not isinstance(model, BertSNR):
        raise DataError(f"the model {model.info.name} has no attention (type {model.info.encoder['model_type']})")
    return model


def attention(
    model: Model,
    sequences: str | os.PathLike[str] | Iterable[str | bytes | Record],
    *,
    layer: int = -1,
    head: int | None = None,
    runtime: Runtime | None = None,
) -> list[np.ndarray]:
    """Attention from [CLS] to every base of sequences, each read on the given strand.

    Parameters
    ----------
    sequences : FASTA file, or sequences
    layer : 0-based, negative from the last
    head : 0-based; None for the sum over all heads
    runtime : device, precision and batch size; None for the CPU in fp32

    Returns
    -------
    for each sequence, float32 of shape (n,), NaN where no run of ACGT is as long as a token

    Raises
    ------
    DataError : the model has no attention.
    UsageError : it does not have this layer or head.

    Examples
    --------
    >>> profile = attention(load_model("CTCF"), ["ACGTTGCAAG..."])[0]  # doctest: +SKIP
    """
    network, step = require_attention(model), window_step(None, model.info)
    records = as_records(sequences)
    layers, heads = (network.info.encoder[f"num_{part}"] for part in ("hidden_layers", "attention_heads"))
    for what, number, count in (("layer", layer, layers), ("head", head or 0, heads)):
        if not -count <= number < count:
            raise UsageError(f"{what} {number}: expected {-count} to {count - 1}, counted from 0")
    profiles = attention_profiles(network, records, HeadChoice(layer, head), step, runtime or Runtime())
    return [profile.values for profile in profiles]


class PlacedValues(NamedTuple):
    """Values of consecutive bases on a chromosome, in forward order; `start` is 0-based."""

    chrom: str
    start: int
    values: np.ndarray


class Profile(NamedTuple):
    """Attention from [CLS] to the bases of a record, read on the given strand.

    Attributes
    ----------
    values : float32, shape (n,), NaN where no run of ACGT is as long as a token
    """

    record: Record
    values: np.ndarray

    def on_chromosome(self) -> PlacedValues:
        """The values on the chromosome interval in the record's header."""
        region = self.record.interval
        return PlacedValues(region.chrom, region.start, self.values if region.strand == "+" else self.values[::-1])

    def bedgraph(self) -> str:
        """A line for each run of equal values."""
        return bedgraph_lines(*self.on_chromosome())


def attention_profiles(
    model: BertSNR, records: Iterable[Record], choice: HeadChoice, step: int, runtime: Runtime
) -> Iterator[Profile]:
    """Attention from [CLS] to the bases of every record, read on the given strand.

    Records longer than the model's window are cut into windows, `step` bp apart, each with its own [CLS]; a base gets
    its value from the window in which it is nearest to the middle.
    """

    def read(windows: np.ndarray, _: np.ndarray) -> list[np.ndarray]:
        return [cls_attention(model, windows, choice, runtime)]

    for record, values in assemble_records(model, records, step, read, 1, np.nan):
        yield Profile(record, values)


def cls_attention(model: BertSNR, codes: np.ndarray, choice: HeadChoice, runtime: Runtime) -> np.ndarray:
    """Attention from [CLS] to every base of equally long sequences.

    Parameters
    ----------
    codes : output of `encoding.encode`, shape (n, L), L at least k

    Returns
    -------
    float32, shape (n, L): a base gets the mean over the tokens that cover it
    """
    tokens = np.empty((len(codes), codes.shape[1] - model.info.k + 1), dtype=np.float32)

    def read(batch_size: int) -> None:
        for rows, count, ids in batches(model, codes, batch_size):
            layer = model.attentions(ids.to(model.device))[choice.layer]
            from_cls = layer[:count, :, 0, 1:-1]  # (count, heads, T)
            chosen = from_cls.float().sum(1) if choice.head is None else from_cls[:, choice.head].float()
            tokens[rows] = chosen.cpu().numpy()

    with torch.inference_mode(), autocast(model.device, runtime.precision):
        halve_on_oom(model, runtime.batch_size, read)
    return base_means_from_tokens(tokens, model.info.k)


def attention_maps(model: BertSNR, codes: np.ndarray, runtime: Runtime) -> np.ndarray:
    """Attention between all tokens of one sequence, shape (L,), in every layer and head.

    Returns
    -------
    float32, shape (layers, heads, T + 2, T + 2): from the token of a row to the token of a column; [CLS] is first,
    [SEP] last
    """
    with torch.inference_mode(), autocast(model.device, runtime.precision):
        _, _, ids = next(batches(model, codes[None], 1))
        return np.stack([layer[0].float().cpu().numpy() for layer in model.attentions(ids.to(model.device))])


def called_spans(model: BertSNR, record: Record, step: int, runtime: Runtime) -> list[tuple[int, int]]:
    """Start and end of the sites that the model calls in a record, read only on the given strand."""
    info = model.info
    _, strand_scores = next(score_records(model, [record], step, True, runtime))
    sites = call_sites(strand_scores, info.threshold, min_site_length(info.site_width, info.k), MAX_GAP)
    return [(site.start, site.end) for site in sites]


@contextmanager
def profile_writer(
    output: str | None, form: str, bigwig: str | None, path: str, failures: Failures
) -> Iterator[Callable[[Profile], None]]:
    """Open the outputs for profiles; files are complete when the block ends without an error.

    Parameters
    ----------
    output : file for text, "-" is standard output
    form : "bedgraph", or "tsv" for a table
    bigwig : bigWig file
    path : input, for error messages
    failures : receives the error of a file that cannot be written, or of a bigWig file whose records overlap

    Raises
    ------
    DataError : (on writing) the records of a table differ in length.
    """
    text = _table_rows(path) if form == "tsv" else Profile.bedgraph
    track = BigWig(bigwig) if bigwig else None
    with KeptStream(output or os.devnull, failures) as stream:

        def write(profile: Profile) -> None:
            if output:
                stream.write(text(profile).encode())
            if track:
                track.add(*profile.on_chromosome())

        yield write
    if track:
        with failures.kept():
            track.write()


def _table_rows(path: str) -> Callable[[Profile], str]:
    """Give a function that makes the tab-separated row of a profile: name, values; a header line before the first.

    Raises
    ------
    DataError : (the function) a record of `path` has another length than the first.
    """
    length: int | None = None

    def row(profile: Profile) -> str:
        nonlocal length
        name, size = profile.record.name, len(profile.values)
        header = "" if length else "\t".join(["name", *map(str, range(1, size + 1))]) + "\n"
        length = length or size
        if size != length:
            problem = f"record {name!r} is {size} bp, but the first is {length} bp; a table requires equal lengths"
            raise DataError(problem, path)
        return header + "\t".join([name, *(f"{value:.6g}" for value in profile.values.tolist())]) + "\n"

    return row


def only_profile(profiles: Iterable[Profile], option: str, path: str, *, as_map: bool) -> Iterator[Profile]:
    """Pass on the only profile, for an option that takes one.

    Parameters
    ----------
    as_map : the option shows all layers and heads, of at most `MAX_MAP_BASES`

    Raises
    ------
    DataError : there are several profiles, or the first is too long.
    """
    for number, profile in enumerate(profiles):
        if number:
            raise DataError(f"contains several records; {option} takes one; extract it with samtools faidx", path)
        name, size = profile.record.name, len(profile.values)
        if as_map and size > MAX_MAP_BASES:
            problem = f"record {name!r} is {size:,} bp; {option} takes up to {MAX_MAP_BASES} bp"
            raise DataError(f"{problem}; extract a part with samtools faidx", path)
        yield profile


class AlignedProfiles(NamedTuple):
    """Aligned profiles, one in each row.

    Attributes
    ----------
    values : float32, shape (n, length), NaN outside a sequence
    first : position of the first column
    label : label of the position axis
    """

    values: np.ndarray
    first: int
    label: str


def align_profiles(profiles: Sequence[Profile], path: str) -> AlignedProfiles:
    """Align profiles at the first base of their first labelled site, when all have one, or else at their first base.

    Raises
    ------
    DataError : records without labelled sites differ in length.
    """
    sites = [labelled_sites(profile.record, path) for profile in profiles]
    rows = [profile.values for profile in profiles]
    if all(sites):
        anchors = [spans[0][0] for spans in sites]
        return AlignedProfiles(align_rows(rows, anchors), -max(anchors), "bp from the first base of the labelled site")
    if len({len(values) for values in rows}) > 1:
        problem = "records differ in length and have no labelled sites (site=a-b), so they cannot be aligned"
        raise DataError(problem, path)
    return AlignedProfiles(np.stack(rows), 1, "position in the sequence (bp)")


def align_rows(values: Sequence[np.ndarray], anchors: Sequence[int]) -> np.ndarray:
    """Values of sequences, shifted so that their anchors share a column.

    Parameters
    ----------
    values : of each sequence, shape (length,)
    anchors : a position in each sequence, 0-based

    Returns
    -------
    float32, shape (n, any), NaN outside a sequence; the anchors are in column `max(anchors)`
    """
    column = max(anchors)
    after = max(len(row) - anchor for row, anchor in zip(values, anchors))
    matrix = np.full((len(values), column + after), np.nan, dtype=np.float32)
    for line, row, anchor in zip(matrix, values, anchors):
        line[column - anchor : column - anchor + len(row)] = row
    return matrix
