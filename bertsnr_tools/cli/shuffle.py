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
    help="Number of shuffles of each record.",
)
@options.seed
def shuffle(fasta: str, output: str, kmer: int, copies: int, seed: int) -> None:
    """Shuffle each record of FASTA and preserve its k-mer counts exactly.

    FASTA (- or nothing is standard input) may be gzip. The first and last k-1 letters of a run of ACGT keep their
    positions (for k = 1 its first and last letter), as do all other letters such as N; the result is uniform over all
    such sequences. Shuffles are named <name>_shuf1, <name>_shuf2, … and depend only on the record's name and sequence,
    --seed and -k.

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
