"""`bertsnr train`: labelled windows in, one model file out."""

from __future__ import annotations

from typing import Any

import click

from . import options

NATURAL = 100_000  # windows drawn from a genome


def _chroms(context: click.Context, parameter: click.Parameter, value: str | None) -> set[str]:
    return {name for name in (value or "").split(",") if name}


@options.command
@click.argument("positives", metavar="FASTA")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    help="Write the model to FILE; while it is trained, FILE.ckpt holds what --resume needs.",
)
@click.option(
    "-n",
    "--negatives",
    multiple=True,
    metavar="FASTA",
    help="Windows without a site; may be repeated.  [default: new shuffles of the positives in every epoch]",
)
@options.fasta
@options.exclude
@click.option(
    "--background",
    metavar="FASTA",
    help="Natural windows without a site, as of `windows --background`, instead of those drawn from -f.",
)
@click.option(
    "--natural",
    type=click.FloatRange(0),
    metavar="RATIO",
    help="With -f or --background: natural windows for each positive in an epoch.  [default: 4]",
)
@click.option(
    "--hard-negatives",
    is_flag=True,
    help="With -f or --background: train twice, the second time also against the natural windows that the first model scores highest; with --teacher once, against those that the teachers do.",
)
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    metavar="MODEL",
    help="Learn the probabilities of this model in place of the labels; of several, their mean log odds.",
)
@click.option(
    "--prefilter",
    is_flag=True,
    help="With -f or --background: also learn a first pass for `predict --prefilter`, which takes some minutes.",
)
@click.option(
    "--name",
    metavar="TF",
    help="Name of the transcription factor, column 4 of predictions.  [default: FILE without its ending]",
)
@click.option(
    "--arch",
    type=click.Choice(["bertsnr", "deepsnr", "d-aednet"]),
    default="bertsnr",
    help="Network: BertSNR, or one of those it is compared with.",
)
@click.option(
    "--encoder",
    default="compact",
    metavar="compact|new|DIR",
    help="Encoder: a small one that knows many factors' sites (for k = 3), the same with random weights, or that in DIR, such as DNABERT (config.json, vocab.txt, weights).",
)
@click.option(
    "-k",
    "--kmer",
    type=click.IntRange(3, 6),
    metavar="INT",
    help="Bases in a token, 3 to 6.  [default: 3, or that of DIR]",
)
@click.option(
    "--lambda",
    "task_weight",
    type=click.FloatRange(0, 1),
    default=0.15,
    metavar="L",
    help="Share of the sequence task in the loss; 0 trains on the token task alone.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    metavar="INT",
    help="Passes over the data, at most.  [default: as many as make 1,500 steps, 8 to 40; from random weights 4,000 steps, 10 to 30; with DIR 10]",
)
@click.option(
    "--patience",
    type=click.IntRange(1),
    metavar="INT",
    help="Stop after so many epochs without a better validation AUPR.  [default: 10, with DIR 3]",
)
@click.option(
    "--lr",
    type=click.FloatRange(0, min_open=True),
    metavar="RATE",
    help="Highest learning rate.  [default: 0.001, with DIR 0.0002]",
)
@click.option(
    "--swap",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="In every epoch, give this share of the positives the sites of others.  [default: 0.5, less from 1,000 positives on, with DIR 0]",
)
@click.option("--batch-size", type=click.IntRange(1), default=32, metavar="INT", help="Windows in a training step.")
@click.option(
    "--val-share",
    type=click.FloatRange(0, 0.5, min_open=True),
    default=0.1,
    metavar="SHARE",
    help="Share of the loci that is held out for validation.",
)
@click.option(
    "--val-chroms", callback=_chroms, metavar="CHROM,…", help="Hold out these chromosomes for validation instead."
)
@click.option(
    "--folds",
    type=click.IntRange(2),
    metavar="INT",
    help="Cross-validate in so many folds before the model itself is trained.",
)
@click.option("--resume", is_flag=True, help="Go on from FILE.ckpt if it is there.")
@click.option("--json", "report", metavar="FILE", help="Write metrics of every epoch and of the model to FILE.")
@click.option("--plot", metavar="FILE", help="Draw loss and precision-recall curves: FILE.png, .pdf or .svg.")
@options.seed
@options.device
@options.precision
@options.threads
def train(
    positives: str,
    output: str,
    negatives: tuple[str, ...],
    fasta: str | None,
    exclude: tuple[str, ...],
    background: str | None,
    natural: float | None,
    hard_negatives: bool,
    teachers: tuple[str, ...],
    prefilter: bool,
    name: str | None,
    arch: str,
    encoder: str,
    kmer: int | None,
    task_weight: float,
    epochs: int | None,
    patience: int | None,
    lr: float | None,
    swap: float | None,
    batch_size: int,
    val_share: float,
    val_chroms: set[str],
    folds: int | None,
    resume: bool,
    report: str | None,
    plot: str | None,
    seed: int,
    device: str,
    precision: str,
    threads: int | None,
) -> None:
    """Train a model on positive windows (FASTA as `bertsnr windows` writes it) and negative ones.

    Validation data are held out by locus: windows that overlap on the genome, and their shuffles, stay together. The model kept
    is that of the epoch with the best area under the precision-recall curve over the bases of the validation windows. One
    seed gives one model, whether the run was broken and resumed or not.

    With a genome (-f), or windows of it (--background), the negatives of an epoch are shuffles and natural windows. What is to scan a
    genome needs these, and only so does the model know p-values: half of the natural windows are kept from training for them.
    From -f, 100,000 windows are drawn that touch no positive window and no interval of --exclude.

    \b
    Examples:
      bertsnr windows -f hg38.fa sites.bed > pos.fa
      bertsnr train -o MYTF.pt --json MYTF.json --plot MYTF.png pos.fa
      bertsnr train -o MYTF.pt -f hg38.fa --exclude peaks.bed pos.fa
    """
    import os

    from ..errors import UsageError
    from ..io.files import check_output
    from ..plots.figures import check_plot

    if [positives, *negatives, background, *exclude].count("-") > 1:
        raise UsageError("standard input can be read only once")
    if output == "-":
        raise UsageError("a model cannot be written to standard output: -o FILE")
    for path in (output, report, plot):
        if path:
            check_output(path, [positives, *negatives, fasta, background, *exclude])
    if plot:
        check_plot(plot)
    if arch != "bertsnr":
        if kmer or encoder != "compact":
            raise UsageError(
                f"--arch {arch} reads single bases without an encoder: neither -k nor --encoder goes with it"
            )
        kmer, task_weight = 1, 0.0
    if fasta and background:
        raise UsageError("natural windows come from -f or from --background, not from both")
    if exclude and not fasta:
        raise UsageError("--exclude goes with -f")
    if (natural is not None or hard_negatives or prefilter) and not (fasta or background):
        raise UsageError(
            "--natural, --hard-negatives and --prefilter need natural windows: -f GENOME or --background FASTA"
        )
    if prefilter and arch != "bertsnr":
        raise UsageError(f"--arch {arch} has no prefilter")
    if folds and hard_negatives:
        raise UsageError(
            "--folds trains its models once, --hard-negatives this one twice: what the folds show would not be true of it; leave out one"
        )
    if folds and teachers:
        raise UsageError("--folds tests on windows that a teacher may have learned: leave out --folds or --teacher")
    if precision == "fp16":
        raise UsageError("--precision fp16 is for prediction; a model is trained in bf16 or fp32")
    name = name or os.path.basename(output).removesuffix(".pt")
    if not name or any(letter.isspace() for letter in name):
        raise UsageError(f"--name {name!r}: a name without white space is needed")

    import json
    from dataclasses import replace

    import torch

    from .. import __version__
    from ..io.files import open_output
    from ..log import logger
    from ..models.device import choose_device, choose_precision
    from ..models.files import load_model, save_model
    from ..models.pretrained import read_pretrained, shipped_encoder, weights_digest
    from ..models.registry import find_model
    from ..sequence.windows import Windows, read_windows
    from ..train.checkpoint import Checkpoint, digest
    from ..train.config import PAPER, ModelDesign, Recipe, default_epochs, default_swap_fraction
    from ..train.cross_validation import cross_validate
    from ..train.data import split_data
    from ..train.fit import train as run_training
    from ..train.prefilter import train_prefilter as learn_prefilter

    torch.set_num_threads(threads or options.cores())
    on = choose_device(device)
    own = arch != "bertsnr" or encoder in ("compact", "new")
    pretrained = None if own else read_pretrained(encoder)
    if pretrained and kmer not in (None, pretrained.k):
        raise UsageError(f"-k {kmer}: the encoder in {encoder} reads {pretrained.k}-mers")
    kmer = pretrained.k if pretrained else kmer or 3
    if arch == "bertsnr" and encoder == "compact":
        pretrained = shipped_encoder(kmer)
    tutors = tuple(load_model(find_model(path), on) for path in teachers)
    # a pipe is read first: in `tee pos.fa | bertsnr shuffle - | bertsnr train pos.fa -n -` pos.fa is whole only when the pipe has ended
    kinds: dict[str, list[Windows]] = {"positive": [], "negative": [], "natural": []}
    length = None
    sources = [
        (positives, "positive"),
        *((path, "negative") for path in negatives),
        *([(background, "natural")] if background else []),
    ]
    for path, kind in sorted(sources, key=lambda source: source[0] != "-"):
        kinds[kind].append(read_windows(path, kind == "positive", kmer, length))
        length = kinds[kind][-1].codes.shape[1]
    for path, tutor in zip(teachers, tutors):
        if (tutor.info.k, tutor.info.window) != (kmer, length):
            raise UsageError(
                f"--teacher {path}: reads windows of {tutor.info.window} bp in {tutor.info.k}-mers, needed are {length} bp and {kmer}-mers"
            )
        if not val_chroms or not val_chroms <= set(tutor.info.training.get("data", {}).get("validation_chroms", [])):
            logger.warning(
                "--teacher %s may have learned windows for validation: validation metrics of this model may be too good",
                path,
            )
    windows = kinds["positive"][0]
    against = Windows.joined(kinds["negative"]) if negatives else None
    drawn = kinds["natural"][0] if background else _drawn(fasta, windows, exclude, seed) if fasta else None

    recipe = Recipe() if natural is None else Recipe(natural=natural)
    data = split_data(windows, against, val_chroms, val_share, seed, drawn, recipe.natural)
    data = data._replace(teachers=tutors)
    size = (
        len(data.positives)
        + len(data.negatives or data.positives)
        + (min(len(data.natural), round(recipe.natural * len(data.positives))) if data.natural else 0)
    )
    logger.info("%d windows in an epoch, %d for validation", size, len(data.validation))
    own_recipe: dict[str, Any] = {
        "epochs": default_epochs(size, batch_size, pretrained is not None),
        "swap": default_swap_fraction(len(data.positives)),
    }
    recipe = replace(recipe, hard=hard_negatives, **(own_recipe if own else PAPER))
    wanted = {"epochs": epochs, "patience": patience, "learning_rate": lr, "swap": swap}
    given: dict[str, Any] = {option: value for option, value in wanted.items() if value is not None}
    recipe = replace(
        recipe,
        batch_size=batch_size,
        task_weight=task_weight,
        seed=seed,
        precision=choose_precision(precision, on),
        **given,
    )
    design = ModelDesign(arch, kmer, pretrained)
    key = digest(
        windows,
        against,
        drawn,
        name=name,
        arch=arch,
        k=kmer,
        encoder=pretrained and pretrained.digest(),
        teachers=[weights_digest(tutor.state_dict()) for tutor in tutors],
        recipe=recipe,
        folds=folds,
        share=val_share,
        chroms=sorted(val_chroms),
        version=__version__,
    )
    checkpoint = Checkpoint(f"{output}.ckpt", key, resume)
    tested = (
        cross_validate(name, design, recipe, windows, against, drawn, folds, val_share, on, checkpoint) if folds else []
    )
    origins = {
        "positive_windows": positives,
        "negative_windows": list(negatives),
        "natural_windows": fasta or background,
        "excluded": list(exclude),
        "teachers": list(teachers),
    }
    model, history, scores = run_training(
        name,
        design,
        recipe,
        data,
        on,
        checkpoint,
        {**origins, "validation_chroms": sorted(val_chroms), "encoder": encoder},
    )
    if prefilter and data.natural:
        learn_prefilter(
            model,
            data.positives,
            Windows.joined([part for part in (data.natural, data.null) if part]),
            recipe.runtime(on),
            seed,
        )
    if tested:
        model.info.training["folds"] = tested
    save_model(output, model)
    best = max(history, key=lambda row: row["aupr"])
    logger.info("%s: the model of epoch %d, validation AUPR %.4f", output, best["epoch"], best["aupr"])
    if report:
        with open_output(report) as stream:
            stream.write(
                json.dumps({"version": 1, "name": name, "history": history, **model.info.training}, indent=2).encode()
                + b"\n"
            )
    if plot:
        from ..plots.figures import plot_training

        plot_training(plot, name, history, data.validation.labels, scores)
    checkpoint.remove()


def _drawn(fasta: str, positives: Any, exclude: tuple[str, ...], seed: int) -> Any:
    """Natural windows of a genome that touch no positive window.

    Raises
    ------
    UsageError : the names of the positives do not say where they lie.
    """
    import numpy as np

    from ..errors import DataError, UsageError
    from ..io.fasta import Genome
    from ..io.intervals import Interval, interval_from_name
    from ..sequence.background import background_windows
    from ..sequence.windows import Windows

    genome = Genome(fasta)
    length = positives.codes.shape[1]
    places = [interval_from_name(name, length) for name in positives.names]
    lost = [name for name, place in zip(positives.names, places) if place is None or place.chrom not in genome.lengths]
    if lost:
        raise UsageError(
            f"-f: positive window {lost[0]!r} does not lie in {fasta} by its name; needed is name::chrom:start-end(strand)"
        )
    whole = [Interval(name, 0, size) for name, size in genome.lengths.items()]
    avoid = [
        *(place for place in places if place),
        *(interval for path in exclude for interval in genome.intervals(path)),
    ]
    records = list(background_windows(genome, whole, avoid, length, np.array([NATURAL]), seed))
    if len(records) < 2:
        raise DataError(
            f"holds {len(records)} windows of {length} bp without N, positive windows and excluded intervals: too few",
            fasta,
        )
    return Windows.unlabelled(records)
