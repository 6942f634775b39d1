"""`bertsnr pretrain`: genome sequence in, the directory of an encoder out."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from . import options
from .model_outputs import is_complete

if TYPE_CHECKING:
    from ..training.pretrain import PretrainRun


@options.command
@click.argument("sequences", nargs=-1, required=True, metavar="FASTA…")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="DIR",
    help="Write the encoder to DIR. During training, DIR.ckpt is the checkpoint for --resume.",
)
@click.option(
    "--encoder",
    default="new",
    metavar="new|new:HxL|DIR",
    help="Encoder: new, the compact one with random weights; new:HxL, with hidden states of H units and L layers "
    "instead of 128x4; or a directory to continue from.",
)
@click.option(
    "-k",
    "--kmer",
    type=click.IntRange(3, 6),
    metavar="INT",
    help="Bases per token, 3 to 6.  [default: 3, or as in DIR]",
)
@options.window
@click.option("--steps", type=click.IntRange(1), default=10_000, metavar="INT", help="Training steps.")
@click.option(
    "--lr", type=click.FloatRange(0, 1, min_open=True), default=1e-3, metavar="RATE", help="Maximum learning rate."
)
@click.option(
    "--batch-size", type=click.IntRange(1), default=128, metavar="INT", help="Windows per step, over all processes."
)
@click.option(
    "--mask",
    "mask_fraction",
    type=click.FloatRange(0, 0.9, min_open=True, max_open=True),
    default=0.15,
    metavar="FRACTION",
    help="Fraction of the tokens to mask, in spans of k.",
)
@click.option("--every", type=click.IntRange(1), default=500, metavar="INT", help="Steps between checkpoints.")
@click.option("--resume", is_flag=True, help="Continue from DIR.ckpt if it exists.")
@click.option("--json", "report", metavar="FILE", help="Write loss and accuracy to FILE.")
@options.seed("weights, windows, masks and dropout")
@options.runtime(training=True)
def pretrain(
    sequences: tuple[str, ...],
    output: str,
    encoder: str,
    kmer: int | None,
    window: int,
    steps: int,
    lr: float,
    batch_size: int,
    mask_fraction: float,
    every: int,
    resume: bool,
    report: str | None,
    seed: int,
    runtime: options.RuntimeOptions,
) -> None:
    """Pretrain an encoder from which models can be trained (`bertsnr train --encoder`).

    The task is masked language modelling over k-mers. FASTA (plain or gzip) is read once per pass; windows come in
    random order, each on a random strand, and windows with letters other than ACGT are skipped. Under torchrun, the
    processes divide each batch among them.

    \b
    Examples:
      bertsnr pretrain -o encoder/ --steps 50000 --resume hg38.fa
      bertsnr train --encoder encoder/ -o MYTF.pt pos.fa
    """
    from ..errors import UsageError
    from ..io.files import check_output, check_outputs, check_rereadable, files_in

    if "-" in (output, *sequences):
        raise UsageError("pretrain reads its input several times and writes a directory; - is not supported")
    check_rereadable(*sequences)
    output = output.rstrip("/") or output
    inputs = [*sequences, *files_in(encoder)]
    check_output(output, inputs, directory=True)
    check_outputs([f"{output}.ckpt", report], [*inputs, output])
    if resume and is_complete(output, f"{output}.ckpt"):
        return
    from .. import __version__
    from ..training.checkpoint import Checkpoint, digest
    from ..training.config import ModelDesign, PretrainConfig
    from ..training.pretrain import PretrainRun, check_encoder_directory, check_window
    from ..training.processes import rank

    check_encoder_directory(output)
    built = runtime.build_for_training(*sequences)
    design = ModelDesign.choose(k=kmer, encoder=encoder)
    config = PretrainConfig(
        k=design.k,
        window=window,
        steps=steps,
        batch_size=batch_size,
        learning_rate=lr,
        mask_fraction=mask_fraction,
        seed=seed,
        precision=built.precision,
        size=design.size,
    )
    check_window(config, design.pretrained)
    sizes = [(path, os.path.getsize(path) if os.path.exists(path) else 0) for path in sequences]
    start = design.pretrained and design.pretrained.digest()
    key = digest(plan=config, encoder=start, files=sizes, version=__version__)
    checkpoint = Checkpoint(f"{output}.ckpt", key, resume)
    run = PretrainRun(sequences, config, design.pretrained, built.device, checkpoint)
    history = run.train(every)
    if rank():
        return
    _write_outputs(run, history, output, report)
    checkpoint.remove()


def _write_outputs(run: PretrainRun, history: list[dict[str, float]], output: str, report: str | None) -> None:
    from ..io.outputs import Failures, write_json

    with Failures(output, report) as failures:
        with failures.kept():
            run.save(output)
        if report:
            with failures.kept():
                write_json(report, {"version": 2, "history": history, "plan": asdict(run.config)})
