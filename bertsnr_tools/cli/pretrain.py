"""`bertsnr pretrain`: genome sequence in, an encoder's folder out."""

from __future__ import annotations

import os

import click

from . import options


@options.command
@click.argument("sequences", nargs=-1, required=True, metavar="FASTA…")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="DIR",
    help="Write the encoder to DIR; while it is trained, DIR.ckpt holds what --resume needs.",
)
@click.option(
    "--task",
    type=click.Choice(["mask", "sites"]),
    default="mask",
    help="Learn to tell hidden k-mers, or to find the sites of several factors: one FASTA of windows for each.",
)
@click.option(
    "--encoder",
    default="new",
    metavar="new|DIR",
    help="Encoder: a small one with random weights, or that in DIR, to go on with.",
)
@click.option(
    "-k",
    "--kmer",
    type=click.IntRange(3, 6),
    metavar="INT",
    help="Bases in a token, 3 to 6.  [default: 3, or that of DIR]",
)
@options.window
@click.option("--steps", type=click.IntRange(1), default=10_000, metavar="INT", help="Training steps.")
@click.option(
    "--lr", type=click.FloatRange(0, min_open=True), default=1e-3, metavar="RATE", help="Highest learning rate."
)
@click.option(
    "--batch-size", type=click.IntRange(1), default=128, metavar="INT", help="Windows in a step, over all processes."
)
@click.option(
    "--mask",
    "masked",
    type=click.FloatRange(0, 0.9, min_open=True, max_open=True),
    default=0.15,
    metavar="SHARE",
    help="Share of the tokens that is hidden, in spans of k.",
)
@click.option("--every", type=click.IntRange(1), default=500, metavar="INT", help="Steps between two checkpoints.")
@click.option("--resume", is_flag=True, help="Go on from DIR.ckpt if it is there.")
@click.option("--json", "report", metavar="FILE", help="Write loss and accuracy to FILE.")
@options.seed
@options.device
@options.precision
@options.threads
def pretrain(
    sequences: tuple[str, ...],
    output: str,
    task: str,
    encoder: str,
    kmer: int | None,
    window: int,
    steps: int,
    lr: float,
    batch_size: int,
    masked: float,
    every: int,
    resume: bool,
    report: str | None,
    seed: int,
    device: str,
    precision: str,
    threads: int | None,
) -> None:
    """Train an encoder that many models can begin with.

    It learns to tell hidden k-mers from their surroundings: FASTA, plain or gzip, is read again for every pass, windows in a
    random order, each on a random strand, those with letters other than ACGT left out. With --task sites it learns the
    sites of several factors together, from windows as `bertsnr windows` writes them and their shuffles. DIR is what `bertsnr
    train --encoder` reads. Under torchrun, processes share every step.

    \b
    Example:
      bertsnr pretrain -o encoder/ --steps 50000 --resume hg38.fa
      bertsnr pretrain --task sites -o encoder/ AR.fa CDX2.fa GATA3.fa
      bertsnr train --encoder encoder/ -o MYTF.pt pos.fa
    """
    from ..errors import UsageError
    from ..io.files import check_outputs

    if "-" in (output, *sequences):
        raise UsageError("pretrain reads its FASTA several times and writes a folder: neither can be a standard stream")
    output = output.rstrip("/") or output
    check_outputs([output, report], sequences)
    if precision == "fp16":
        raise UsageError("--precision fp16 is for prediction; an encoder is trained in bf16 or fp32")

    import json

    import torch

    from .. import __version__
    from ..io.files import open_output
    from ..models.device import choose_device, choose_precision
    from ..models.pretrained import read_pretrained
    from ..sequence.windows import Windows, read_windows
    from ..train.checkpoint import Checkpoint, digest
    from ..train.pretrain import MaskedTokens, PretrainConfig, SitesOfMany, check_encoder_directory
    from ..train.pretrain import pretrain as run

    check_encoder_directory(output)
    torch.set_num_threads(threads or options.cores())
    on = choose_device(
        f"cuda:{os.environ['LOCAL_RANK']}"
        if "LOCAL_RANK" in os.environ and torch.cuda.is_available() and device != "cpu"
        else device
    )
    start = read_pretrained(encoder) if encoder != "new" else None
    if start and kmer not in (None, start.k):
        raise UsageError(f"-k {kmer}: the encoder in {encoder} reads {start.k}-mers")
    kmer = start.k if start else kmer or 3
    most = start.config.get("max_position_embeddings", 512) if start else 100_002
    sets: list[Windows] = []
    if task == "sites":
        for path in sequences:
            sets.append(read_windows(path, True, kmer, window if sets else None))
            window = sets[0].codes.shape[1]
    if not kmer <= window <= most + kmer - 3:
        raise UsageError(f"-w {window}: the encoder reads {kmer} to {most + kmer - 3} bp")
    plan = PretrainConfig(
        kmer, window, steps, batch_size, lr, masked=masked, seed=seed, precision=choose_precision(precision, on)
    )
    sizes = [(path, os.path.getsize(path) if os.path.exists(path) else 0) for path in sequences]
    checkpoint = Checkpoint(
        f"{output}.ckpt",
        digest(*sets, task=task, plan=plan, encoder=start and start.digest(), files=sizes, version=__version__),
        resume,
    )
    history = run(
        lambda done: SitesOfMany(sets, plan) if sets else MaskedTokens(sequences, plan, done),
        output,
        plan,
        start,
        on,
        checkpoint,
        every,
    )
    if os.environ.get("RANK", "0") == "0":
        if report:
            with open_output(report) as stream:
                stream.write(
                    json.dumps({"version": 1, "history": history, "plan": vars(plan)}, indent=2).encode() + b"\n"
                )
        checkpoint.remove()
