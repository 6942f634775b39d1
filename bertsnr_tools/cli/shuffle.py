"""`bertsnr shuffle`: sequences in, sequences with the same k-mer counts out."""

from __future__ import annotations

import click

from . import options


@options.command
@click.argument("fasta", default="-")
@options.output
@click.option(
    "-k",
    "--kmer",
    type=click.IntRange(1, 6),
    default=2,
    metavar="INT",
    help="Length of the k-mers whose counts are preserved, 1 to 6.",
)
@click.option(
    "-c",
    "--copies",
    type=click.IntRange(1, 1_000_000),
    default=1,
    metavar="INT",
    help="Shuffles per record.",
)
@options.seed("the shuffles")
def shuffle(fasta: str, output: str, kmer: int, copies: int, seed: int) -> None:
    """Shuffle each record of FASTA, preserving its k-mer counts exactly.

    FASTA may be gzipped; - or no argument is standard input. The first and last k-1 letters of each run of ACGT (for
    k = 1, the first and last letter) keep their positions, as do all other letters such as N; the result is drawn
    uniformly from all such sequences. Shuffles are named <name>_shuf1, <name>_shuf2, … and depend only on the name and
    sequence of the record, --seed and -k.

    \b
    Example:
      bertsnr shuffle pos.fa > neg.fa
    """
    from ..io.fasta import fasta_text, read_records
    from ..io.files import check_output, open_output
    from ..sequence.shuffle import shuffled_records

    check_output(output, [fasta])
    with open_output(output) as stream:
        stream.write_all(fasta_text(*record) for record in shuffled_records(read_records(fasta), kmer, copies, seed))
