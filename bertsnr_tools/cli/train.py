"""`bertsnr train`: labelled windows of one factor or of many in, one model file out."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from . import options
from .model_outputs import ModelOutputs

if TYPE_CHECKING:
    from ..training.data import TrainingFiles
    from ..training.factor_files import FactorFiles


def _chroms(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    names = tuple(sorted({name for name in (value or "").split(",") if name}))
    if value and not names:
        raise click.BadParameter(f"{value!r} names no chromosome")
    return names


@options.command
@click.argument("positives", nargs=-1, required=True, metavar="[TF=]FASTA…|DIR")
@click.option(
    "--by-name",
    is_flag=True,
    help="Train a many-factor model: the name of a window before its last :: is its factor.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    help="Write the model to FILE. During training, FILE.ckpt is the checkpoint for --resume.",
)
@click.option(
    "-n",
    "--negatives",
    multiple=True,
    metavar="FASTA",
    help="Negative windows (without a site); may be repeated.  [default: new shuffles of the positives in every epoch]",
)
@options.fasta
@options.exclude
@click.option(
    "--within",
    multiple=True,
    metavar="BED",
    help="With -f: draw background windows from these accessible regions (ATAC-seq or DNase-seq peaks); may be "
    "repeated.",
)
@click.option(
    "--within-fraction",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="FRACTION",
    help="With --within: fraction of the background windows from there, the others from elsewhere.  [default: 1]",
)
@click.option(
    "--background",
    metavar="FASTA",
    help="Background windows from `windows --background`, instead of windows drawn from -f.",
)
@click.option(
    "--background-ratio",
    type=click.FloatRange(0),
    metavar="RATIO",
    help="With -f or --background: background windows per positive window in an epoch; for many factors, the weight "
    "of the background windows in the loss.  [default: 4, for many factors 1]",
)
@click.option(
    "--hard-negatives",
    is_flag=True,
    help="With -f or --background: train a first model, then the final one, also on hard negatives: the background "
    "windows that the first scores highest. With --teacher, the teachers score them instead.",
)
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    metavar="MODEL",
    help="Distil this model: train on its probabilities instead of the labels; repeat to use the mean log odds, or to "
    "give a teacher for each of many factors.",
)
@click.option(
    "--prefilter",
    is_flag=True,
    help="With -f or --background: also train a prefilter for `predict --prefilter`; takes a few minutes.",
)
@click.option(
    "--name",
    metavar="TF",
    help="Name of the transcription factor, column 4 of predictions.  [default: FILE without .pt]",
)
@click.option(
    "--arch",
    type=click.Choice(["bertsnr", "deepsnr", "d-aednet"]),
    default="bertsnr",
    help="Network: BertSNR, or a baseline.",
)
@click.option(
    "--encoder",
    default="compact",
    metavar="compact|new|new:HxL|FILE|DIR",
    help="Encoder: compact, from the shipped many-factor model (k = 3); new, the same with random weights; "
    "new:HxL, with hidden states of H units and L layers instead of 128x4; a model file, whose encoder is used; or a "
    "directory with config.json, vocab.txt and weights, such as DNABERT.",
)
@click.option(
    "-k",
    "--kmer",
    type=click.IntRange(3, 6),
    metavar="INT",
    help="Bases per token, 3 to 6.  [default: 3, or as in FILE or DIR]",
)
@click.option(
    "--lambda",
    "task_weight",
    type=click.FloatRange(0, 1),
    default=0.15,
    metavar="L",
    help="Weight of the sequence task in the loss; 0 trains on the token task alone.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    metavar="INT",
    help="Maximum number of epochs.  [default: 1,500 steps, 8 to 40 epochs; from random weights 4,000 steps, 10 to 30 "
    "epochs; for many factors 40; with DIR 10]",
)
@click.option(
    "--patience",
    type=click.IntRange(1),
    metavar="INT",
    help="Early stopping: stop after INT epochs without a better validation AUPR.  [default: 10, with DIR 3]",
)
@click.option(
    "--lr",
    "learning_rate",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="RATE",
    help="Maximum learning rate.  [default: 0.001; for many factors 0.001 at a batch size of 128, proportional to its "
    "square root, at most 0.002; with DIR 0.0002]",
)
@click.option(
    "--swap",
    "swap_fraction",
    type=click.FloatRange(0, 1),
    metavar="FRACTION",
    help="Augmentation: fraction of the positives that get the site of another in every epoch.  [default: 0.5, less "
    "above 1,000 positives; with DIR 0]",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    metavar="INT",
    help="Windows per training step.  [default: 32; for many factors 32 for each, at most 1,024]",
)
@click.option(
    "--val-fraction",
    type=click.FloatRange(0, 0.5, min_open=True),
    default=0.1,
    metavar="FRACTION",
    help="Fraction of the loci held out for validation.",
)
@click.option("--val-chroms", callback=_chroms, metavar="CHROM,…", help="Validate on these chromosomes instead.")
@click.option("--folds", type=click.IntRange(2), metavar="INT", help="Cross-validate with INT folds before training.")
@click.option("--resume", is_flag=True, help="Continue from FILE.ckpt if it exists.")
@click.option("--json", "report", metavar="FILE", help="Write the metrics of every epoch and of the model to FILE.")
@click.option("--plot", metavar="FILE", help="Plot loss and precision-recall curves to FILE.png, .pdf or .svg.")
@options.seed("weights, validation windows, shuffles, order and dropout")
@options.runtime(training=True)
def train(
    positives: tuple[str, ...],
    by_name: bool,
    output: str,
    negatives: tuple[str, ...],
    fasta: str | None,
    exclude: tuple[str, ...],
    within: tuple[str, ...],
    within_fraction: float | None,
    background: str | None,
    teachers: tuple[str, ...],
    prefilter: bool,
    name: str | None,
    arch: str,
    encoder: str,
    kmer: int | None,
    folds: int | None,
    resume: bool,
    report: str | None,
    plot: str | None,
    runtime: options.RuntimeOptions,
    **recipe: Any,
) -> None:
    """Train a model on positive windows (FASTA from `bertsnr windows`) and negatives.

    With several FASTA files (TF=FASTA, or named after their factors), a directory of them, or --by-name, the result
    is a many-factor model: one encoder, and for each factor its own threshold, metrics and p-values. A window is
    labelled for its own factor only. With -f or --background, background windows are negatives for all factors except
    those with a positive window or an interval of --exclude there; an interval is excluded for the factor in column 4
    of the BED file, or for all if this is not one of the factors.

    Validation windows are held out by locus: windows that overlap on the genome, and their shuffles, stay together. The
    epoch with the best area under the precision-recall curve over the bases of the validation windows is kept. On one
    kind of CPU, one seed gives one model, even if the run is interrupted and resumed. Under torchrun, the processes
    divide each batch among them.

    With a genome (-f) or --background, an epoch contains shuffles and genomic background windows. Do this for a model
    that scans a genome. Only such a model reports p-values; half of the background windows are held out for its null
    distribution. From -f, up to 100,000 windows are drawn that overlap no positive window and, for one factor, no
    interval of --exclude; with --within, from accessible regions only.

    \b
    Examples:
      bertsnr windows -f hg38.fa sites.bed > pos.fa
      bertsnr train -o MYTF.pt --json MYTF.json --plot MYTF.png pos.fa
      bertsnr train -o MYTF.pt -f hg38.fa --exclude peaks.bed pos.fa
      bertsnr train -o my.pt -f hg38.fa SOX2=sox2.fa TP53=tp53.fa MYC=myc.fa
    """
    from ..errors import UsageError
    from ..training.data import WITHIN_FRACTION, TrainingFiles
    from ..training.factor_files import FactorFiles

    if within_fraction and not within:
        raise UsageError("--within-fraction requires --within")
    outputs = ModelOutputs(output, report, plot, resume)
    sources: dict[str, Any] = {"background": background, "genome": fasta, "exclude": exclude, "within": within}
    sources["within_fraction"] = within_fraction or WITHIN_FRACTION
    many = FactorFiles.find(positives, by_name=by_name, **sources)
    if many:
        for_one = {"-n": negatives, "--prefilter": prefilter, "--name": name, "--folds": folds}
        for_one |= {"--plot": plot, "--hard-negatives": recipe.pop("hard_negatives")}
        for_one["--swap"] = recipe.pop("swap_fraction") is not None
        _check_many(many, for_one, arch, weighted=recipe["background_ratio"] is not None)
        outputs.check()
        if outputs.nothing_to_do():
            return
        _train_many(many, outputs, teachers, encoder, kmer, runtime, recipe)
        return
    files = TrainingFiles(positives[0], negatives, teachers=teachers, **sources)
    _check_options(files, arch, folds, prefilter=prefilter, recipe=recipe)
    outputs.check()
    if outputs.nothing_to_do():
        return
    _train_one(files, outputs, name, (arch, kmer, encoder), folds or 0, prefilter, runtime, recipe)


def _train_one(
    files: TrainingFiles,
    outputs: ModelOutputs,
    name: str | None,
    design_options: tuple[str, int | None, str],
    folds: int,
    prefilter: bool,
    runtime: options.RuntimeOptions,
    recipe: dict[str, Any],
) -> None:
    """Train a model of one factor; `design_options` are --arch, -k and --encoder."""
    from ..io.files import check_inputs, check_outputs, files_in
    from ..models.registry import find_model
    from ..plots.style import check_plot

    check_inputs(*files.names())
    inputs = [*files.names(), *map(find_model, files.teachers), *files_in(design_options[2])]
    check_outputs(outputs.files(), inputs)
    name = _model_name(name, outputs.model)
    if outputs.plot:
        check_plot(outputs.plot)

    from ..training.checkpoint import Checkpoint
    from ..training.config import ModelDesign
    from ..training.distillation import load_teachers
    from ..training.processes import rank
    from ..training.run import TrainingRun

    built = runtime.build_for_training(*files.names())
    design = ModelDesign.choose(*design_options)
    settings = {"precision": built.precision} | {key: value for key, value in recipe.items() if value is not None}
    data = files.read(design.k, recipe["seed"])
    window = data.positives.codes.shape[1]
    tutors = load_teachers(files.teachers, design.k, window, recipe["val_chroms"], built.device)
    run = TrainingRun(name, replace(data, teachers=tutors), design, settings, built.device, folds, prefilter)
    checkpoint = Checkpoint(outputs.checkpoint, run.key(), outputs.resume)
    result = run.train(checkpoint)
    if rank():
        return

    def plot(path: str) -> None:
        from ..plots.curves import plot_training

        plot_training(path, run.name, result.history, run.data.validation.labels, result.scores)

    outputs.write(result.model, result.history, run.report(result), plot)
    checkpoint.remove()


def _check_sources(files: TrainingFiles | FactorFiles) -> None:
    from ..errors import UsageError

    if files.genome and files.background:
        raise UsageError("give -f or --background, not both: each is a source of background windows")
    if files.within and not files.genome:
        raise UsageError("--within requires -f")


def _check_options(
    files: TrainingFiles, arch: str, folds: int | None, *, prefilter: bool, recipe: dict[str, Any]
) -> None:
    """Reject options that contradict each other."""
    from ..errors import UsageError

    _check_sources(files)
    if files.exclude and not files.genome:
        raise UsageError("--exclude requires -f")
    of_background = {"--background-ratio": recipe["background_ratio"] is not None, "--prefilter": prefilter}
    of_background["--hard-negatives"] = recipe["hard_negatives"]
    given = [option for option, value in of_background.items() if value]
    if given and not (files.genome or files.background):
        raise UsageError(f"{', '.join(given)}: only with background windows; add -f or --background")
    if prefilter and arch != "bertsnr":
        raise UsageError(f"--arch {arch} has no prefilter; leave out --prefilter")
    if folds and recipe["hard_negatives"]:
        raise UsageError("--folds does not support hard negatives; leave out --folds or --hard-negatives")
    if folds and files.teachers:
        raise UsageError(
            "--folds tests on windows that a teacher may have learned from; leave out --folds or --teacher"
        )


def _check_many(files: FactorFiles, single: dict[str, Any], arch: str, *, weighted: bool) -> None:
    """Reject options that a many-factor model does not have, and options that contradict each other."""
    from ..errors import UsageError

    given = [option for option, value in single.items() if value]
    if given or arch != "bertsnr":
        raise UsageError(f"{', '.join(given) or '--arch'}: only for a model of one factor; leave it out")
    _check_sources(files)
    if (files.exclude or weighted) and not (files.genome or files.background):
        option = "--exclude" if files.exclude else "--background-ratio"
        raise UsageError(f"{option}: only with background windows; add -f or --background")


def _train_many(
    files: FactorFiles,
    outputs: ModelOutputs,
    teachers: tuple[str, ...],
    encoder: str,
    kmer: int | None,
    runtime: options.RuntimeOptions,
    recipe: dict[str, Any],
) -> None:
    """Train a many-factor model."""
    from ..io.files import check_inputs, check_outputs, files_in
    from ..models.registry import find_model

    check_inputs(*files.names())
    check_outputs(outputs.files(), [*files.names(), *map(find_model, teachers), *files_in(encoder)])
    from ..training.checkpoint import Checkpoint
    from ..training.config import ModelDesign
    from ..training.distillation import load_factor_teachers
    from ..training.many_run import ManyFactorRun
    from ..training.processes import rank

    built = runtime.build_for_training(*files.names())
    design = ModelDesign.choose(k=kmer, encoder=encoder)
    settings = {"precision": built.precision} | {key: value for key, value in recipe.items() if value is not None}
    inputs = files.read(design.k, recipe["seed"])
    window = next(iter(inputs.sets.values())).codes.shape[1]
    tutors = load_factor_teachers(teachers, list(inputs.sets), design.k, window, recipe["val_chroms"], built.device)
    inputs = inputs._replace(teachers=tutors, sources={**inputs.sources, "teachers": list(teachers)})
    run = ManyFactorRun(inputs, design, settings, built.device)
    checkpoint = Checkpoint(outputs.checkpoint, run.key(), outputs.resume)
    model, history = run.train(checkpoint)
    if rank():
        return
    outputs.write(model, history, run.report(model, history))
    checkpoint.remove()


def _model_name(name: str | None, output: str) -> str:
    """The name of the factor, or else of the file."""
    from ..errors import UsageError

    chosen = name or os.path.basename(output).removesuffix(".pt")
    if chosen and chosen.isprintable() and not set(" ,") & set(chosen):
        return chosen
    if name:
        raise UsageError(f"--name {name!r}: expected a name without white space and commas")
    raise UsageError(f"-o {output!r}: the model is named after its file, without white space and commas; add --name TF")
