"""The Python API: models ready to run, and one function for each command. `bertsnr_tools` imports it on first use."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from . import attention, evaluation
from .errors import UsageError
from .io.fasta import Genome, Record, as_records
from .io.motif_files import Motif
from .models import files, registry
from .models.bertsnr import BertSNR
from .models.device import Runtime
from .models.interface import Model, ModelInfo, check_name
from .models.onehot import OneHotModule
from .models.pwm import PwmModel
from .motifs import model_source
from .motifs.instances import ALIGNED, InstanceRule
from .plots.report_page import write_report
from .predict.chunks import Regions
from .predict.scan import base_scores, scan_sites
from .predict.significance import RankedSite
from .predict.thresholds import parse_threshold
from .sequence.shuffle import shuffled_records
from .sequence.windows import Windows
from .training.config import ModelDesign, Recipe
from .training.run import train_model
from .variation import run as variant_run
from .variation.rows import ScoredAllele
from .variation.saturate import regions_to_saturate, saturation
from .variation.scoring import DEFAULT_FLANK, VariantScorer

PathName = str | os.PathLike[str]


class SiteModel:
    """A model with the device and precision in which it runs.

    Attributes
    ----------
    network : the torch module, see `models.interface.Model`; a PWM has the same interface
    runtime : device, precision and batch size
    info : name, window, site width, threshold, training summary, see `models.interface.ModelInfo`
    """

    def __init__(self, network: Model, runtime: Runtime):
        self.network, self.runtime = network, runtime

    def __repr__(self) -> str:
        return f"<SiteModel {self.name}: windows of {self.info.window} bp, sites of {self.info.site_width} bp>"

    @property
    def info(self) -> ModelInfo:
        return self.network.info

    @property
    def name(self) -> str:
        """The transcription factor."""
        return self.info.name

    def predict_bases(self, sequences: Sequence[str | bytes]) -> list[np.ndarray]:
        """Base probabilities of sequences of any length.

        Returns
        -------
        for each sequence float32, shape (2, length): forward and reverse strand, both in forward order; NaN at letters
        other than A, C, G and T, and in runs of ACGT shorter than a token

        Raises
        ------
        DataError : a letter that is not an IUPAC code of DNA. Line breaks are left out.
        """
        if isinstance(sequences, (str, bytes)):
            raise UsageError("predict_bases takes a list of sequences; put a single one into a list")
        return base_scores(self.network, sequences, runtime=self.runtime)

    def as_onehot_module(self, output: Literal["sequence", "bases"] = "sequence") -> nn.Module:
        """The model as a differentiable torch module on one-hot sequence, float (B, 4, L), rows A, C, G, T.

        It scores the strand given, in fp32, of at most `info.window` bp. Use it for gradients, integrated gradients,
        mutagenesis and design; DeepLIFT has no rules for attention, and its attributions do not add up.

        Parameters
        ----------
        output : "sequence" for the logit of a site anywhere in the sequence, shape (B, 1); "bases" for the logits of
            the bases, shape (B, L)

        Raises
        ------
        UsageError : the model is a PWM or a published baseline, not a BertSNR network.
        """
        if not isinstance(self.network, BertSNR):
            raise UsageError(f"{self.name} is not a BertSNR network; only these have a one-hot module")
        return OneHotModule(self.network, output)

    def save(self, path: PathName) -> None:
        """Write the model file, atomically.

        Raises
        ------
        UsageError : the model is a PWM, which a MEME file stores.
        """
        if isinstance(self.network, PwmModel):
            raise UsageError(f"{self.name} is a PWM; write_motifs writes it")
        files.save_model(os.fspath(path), self.network)


def load_models(names: Iterable[PathName], *, runtime: Runtime | None = None) -> list[SiteModel]:
    """Load models as `bertsnr predict -m` does.

    Parameters
    ----------
    names : names of shipped models ("CTCF", "human:CTCF,SOX10", "human"), model files ("my.pt", "my.pt:CTCF"), names in
        JASPAR ("jaspar:REST"), or MEME and JASPAR files, each matrix of which is a model
    runtime : device, precision and batch size; by default a GPU if there is one, and the fastest precision

    Raises
    ------
    DataError : a file that is missing or not a model.
    """
    if isinstance(names, (str, os.PathLike)):
        raise UsageError(f"load_models takes a list of names; use load_models([{os.fspath(names)!r}])")
    runtime = runtime or Runtime.choose()
    return [SiteModel(model, runtime) for model in registry.load_models([os.fspath(name) for name in names], runtime)]


def load_model(name: PathName, *, runtime: Runtime | None = None) -> SiteModel:
    """Load one model; see `load_models`, which also loads all factors or matrices of a file.

    Raises
    ------
    DataError : a file that is missing or not a model.
    UsageError : a file of several factors or matrices.
    """
    runtime = runtime or Runtime.choose()
    return SiteModel(registry.load_one(os.fspath(name), runtime), runtime)


def scan(
    models: SiteModel | Sequence[SiteModel],
    source: PathName | Genome,
    *,
    regions: PathName | Regions | None = None,
    threshold: str | float | None = None,
    step: int | None = None,
    prefilter: bool = False,
    best: int | None = None,
) -> Iterator[RankedSite]:
    """Call sites on both strands, streamed in the order of the sequence.

    Parameters
    ----------
    models : one or several
    source : FASTA file ("-" is standard input), or an indexed genome
    regions : of a genome: a BED file, an interval, or a list of intervals and `chrom:from-to` (1-based inclusive);
        default: all chromosomes
    threshold : base probability, "p=1e-4", "q=0.05" or "score=12" (bits, for PWMs); default: each model's own, for
        factors of a many-factor model "p=0.01"
    step : distance between window starts (bp); default: half a window
    prefilter : score only windows that pass the models' prefilters
    best : only the best sites of each region and model, at most this number

    Returns
    -------
    iterator of sites with chrom, start, end (0-based, half-open), name, score, strand, p and q; q is known only with a
    threshold "q=…", for which everything is scanned before the first site. `site.as_dict()` is a row for pandas.

    Raises
    ------
    UsageError, DataError : a threshold, region or input that cannot be used.

    Examples
    --------
    >>> sites = scan(load_model("CTCF"), Genome("hg38.fa"), regions=["chr20:1,000,000-2,000,000"])  # doctest: +SKIP
    """
    chosen = _site_models(models)
    networks = [model.network for model in chosen]
    options: dict[str, Any] = {"threshold": threshold, "step": step, "prefilter": prefilter, "best": best}
    return scan_sites(networks, source, regions=regions, runtime=chosen[0].runtime, **options)


def _site_models(models: SiteModel | Iterable[SiteModel]) -> list[SiteModel]:
    chosen = [models] if isinstance(models, (SiteModel, str)) else list(models)
    if not chosen or not all(isinstance(model, SiteModel) for model in chosen):
        raise UsageError("expected at least one model, as load_model returns it")
    return chosen


def train(
    windows: Windows,
    *,
    negatives: Windows | None = None,
    background: Windows | Genome | None = None,
    recipe: Recipe | Mapping[str, Any] | None = None,
    design: ModelDesign | None = None,
    name: str = "TF",
    runtime: Runtime | None = None,
    checkpoint: PathName | None = None,
) -> SiteModel:
    """Train a model on labelled windows.

    Parameters
    ----------
    windows : positive windows, see `read_windows`
    negatives : windows without a site; by default, new dinucleotide shuffles of the positives in every epoch
    background : genomic background windows, or a genome to draw 100,000 of them from (see `draw_background`); a model
        trained with them reports p-values
    recipe : a whole `Recipe`, or fields that replace the defaults for these data, such as {"epochs": 5}
    design : network, k and encoder, see `ModelDesign.choose`; by default, the shipped compact encoder for k = 3
    name : name of the factor, column 4 of its sites
    runtime : device and precision; by default a GPU if there is one, and bf16 where the hardware has it, else fp32
    checkpoint : file to resume an interrupted training from; by default, no file is written

    Returns
    -------
    the model of the epoch with the best AUPR over the bases of the validation windows

    Raises
    ------
    UsageError : an argument of another kind, or windows that cannot be divided into training and validation.
    DataError : the checkpoint is of another training, or the loss is not finite.
    """
    runtime = runtime or Runtime.choose(training=True)
    path = None if checkpoint is None else os.fspath(checkpoint)
    try:
        check_name(name)
    except ValueError as error:
        raise UsageError(str(error)) from error
    for part, given in (("windows", windows), ("negatives", negatives), ("background", background)):
        optional = part != "windows" and given is None
        if not (optional or isinstance(given, Windows) or (part == "background" and isinstance(given, Genome))):
            raise UsageError(f"{part}: expected Windows, as read_windows returns them")
        if part != "windows" and isinstance(given, Windows) and given.labels.any():
            raise UsageError(f"{part}: {int(given.positive.sum()):,} windows have sites")
    if not windows.positive.all():
        raise UsageError(f"windows: {int((~windows.positive).sum()):,} have no site; give those as negatives")
    data: dict[str, Any] = {"negatives": negatives, "background": background, "checkpoint": path}
    with torch.random.fork_rng([] if runtime.device.type == "cpu" else [runtime.device]):  # the caller's stays as it is
        network = train_model(windows, recipe=recipe, design=design, name=name, runtime=runtime, **data)
    return SiteModel(network, runtime)


def evaluate(model: SiteModel, windows: Windows) -> dict[str, dict[str, float]]:
    """Six metrics on labelled windows, over bases ("nucleotide") and over windows ("sequence").

    These are accuracy, precision, recall, F1, AUC and AUPR.
    """
    if not isinstance(windows, Windows):
        raise UsageError("expected Windows, as read_windows returns them")
    return evaluation.evaluate(model.network, windows, model.runtime)


def shuffle(
    sequences: PathName | Iterable[str | bytes | Record], *, k: int = 2, copies: int = 1, seed: int = 1
) -> Iterator[Record]:
    """Shuffle sequences uniformly, with k-mer counts and the first and last k - 1 letters preserved.

    Parameters
    ----------
    sequences : FASTA file, or sequences
    """
    return shuffled_records(as_records(sequences), k, copies, seed)


def find_motif(
    model: SiteModel,
    sequences: PathName | Iterable[str | bytes | Record],
    *,
    width: int | None = None,
    coverage: float = 0.8,
    every: bool = False,
    align: int = ALIGNED,
    forward: bool = False,
    threshold: str | float | None = None,
) -> Motif:
    """Make the motif of a model from the bases that it calls.

    Parameters
    ----------
    sequences : FASTA file, or sequences
    width : bases of an instance; by default, the median site of the model's training
    coverage : minimum fraction of an instance that must be called
    every : take every instance of a sequence, not only one
    align : bases that an instance may move to agree with the others; 0 leaves all where the paper has them
    forward : read the given strand only
    threshold : what is called, see `scan`; by default the model's own

    Raises
    ------
    DataError : no instance was found, or the sequences cannot be read.
    UsageError : a value out of range.
    """
    rule = InstanceRule(width, coverage, every, align)
    return model_source.find_motif(
        model.network, sequences, rule=rule, forward=forward, threshold=threshold, runtime=model.runtime
    )


def variants(
    models: SiteModel | Sequence[SiteModel],
    source: PathName,
    genome: PathName | Genome,
    *,
    regions: PathName | Regions | None = None,
    threshold: str | float | None = None,
    flank: int = DEFAULT_FLANK,
    haplotypes: str | None = None,
    prefilter: bool = False,
) -> Iterator[ScoredAllele]:
    """Score the alternative alleles of a VCF or BCF file, streamed in the order of its rows.

    Each has `effects`, one for each model: class, scores of both alleles, change of log odds, p-value and bounds; see
    `variation.scoring.Effect`. `as_dicts()` gives them as rows of a table.

    Parameters
    ----------
    models : one or several
    source : VCF or BCF file ("-" is standard input)
    genome : indexed FASTA
    regions : only rows whose POS lies in a BED file, an interval, or a list of intervals and `chrom:from-to` (1-based
        inclusive); requires an index
    threshold : what is called, see `scan`; default: each model's own
    flank : sites up to this far from the change are considered (bp)
    haplotypes : sample whose alleles of one haplotype are applied together
    prefilter : score only changes of which an allele has a window that passes the model's prefilter

    Raises
    ------
    UsageError, DataError : an argument or input that cannot be used.

    Examples
    --------
    >>> alleles = variants(load_model("CTCF"), "snps.vcf.gz", "hg38.fa")  # doctest: +SKIP
    """
    scorer = _variant_scorer(models, threshold, flank, prefilter)
    found = genome if isinstance(genome, Genome) else Genome(genome)
    return variant_run.variant_effects(scorer, source, found, regions=regions, haplotypes=haplotypes)


def saturate(
    models: SiteModel | Sequence[SiteModel],
    region: PathName,
    genome: PathName | Genome,
    *,
    threshold: str | float | None = None,
    flank: int = DEFAULT_FLANK,
) -> Iterator[ScoredAllele]:
    """Score every substitution in a region `chrom:from-to` (1-based, inclusive) or a BED file, as `variants`."""
    scorer = _variant_scorer(models, threshold, flank, False)
    found = genome if isinstance(genome, Genome) else Genome(genome)
    blocks = saturation(regions_to_saturate(os.fspath(region), found), found, scorer)
    return (allele for block in blocks for allele in block.alleles)


def _variant_scorer(
    models: SiteModel | Sequence[SiteModel], threshold: str | float | None, flank: int, prefilter: bool
) -> VariantScorer:
    chosen = _site_models(models)
    networks, asked = [model.network for model in chosen], parse_threshold(threshold)
    return variant_run.new_scorer(networks, chosen[0].runtime, threshold=asked, flank=flank, prefilter=prefilter)


def report(output: PathName, sites: Sequence[PathName], genome: PathName | Genome, **options: Any) -> None:
    """Write an HTML page of called sites; see `plots.report_page.write_report`."""
    write_report(output, sites, genome, **options)


def attention_scores(
    model: SiteModel,
    sequences: PathName | Iterable[str | bytes | Record],
    *,
    layer: int = -1,
    head: int | None = None,
) -> list[np.ndarray]:
    """Attention from [CLS] to every base, float32 (length,) for each sequence.

    Parameters
    ----------
    sequences : FASTA file, or sequences
    layer, head : counted from 0, negative from the last; head None is the sum over all heads

    Raises
    ------
    DataError : the model has no attention.
    UsageError : it does not have this layer or head.
    """
    return attention.attention(model.network, sequences, layer=layer, head=head, runtime=model.runtime)
