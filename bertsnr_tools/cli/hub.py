"""`bertsnr hub`: sites and base scores in, a track hub for genome browsers out."""

from __future__ import annotations

import click

from . import options


@options.command
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option("--assembly", required=True, metavar="NAME", help="UCSC's name of the assembly, such as hg38.")
@click.option("-o", "--output", required=True, metavar="DIR", help="Directory of the hub; files in it are replaced.")
@click.option(
    "-f",
    "--fasta",
    metavar="FASTA",
    help="Genome FASTA, or a table of chromosome sizes (.fai, chrom.sizes); required for BED.",
)
@options.models("Model that called the sites, whose properties go on the description page; may be repeated.")
@click.option(
    "--url", metavar="URL", help="Web address at which DIR will be found.  [default: https://example.org/DIR]"
)
@click.option("--email", default="nobody@example.org", metavar="ADDRESS", help="Contact, which UCSC requires.")
def hub(
    files: tuple[str, ...],
    assembly: str,
    output: str,
    fasta: str | None,
    models: tuple[str, ...],
    url: str | None,
    email: str,
) -> None:
    """Make a track hub of called sites and base scores.

    Input is bigBed and bigWig, as written by `bertsnr predict`, and BED or narrowPeak (converted). DIR is
    complete and has relative paths: copy it to a web server. Each factor gets a track, which can be filtered by score,
    p-value and factor. Output is a table (TSV): the address to paste into a browser for UCSC, and the files for IGV.

    \b
    Examples:
      bertsnr hub --assembly hg38 -o hub CTCF.bb CTCF.bw
      bertsnr hub --assembly hg38 -o hub -f hg38.fa -m human --url https://lab.org/hub sites.bed
    """
    import os
    import re
    from urllib.parse import quote

    from ..errors import UsageError
    from ..io.files import check_output

    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.]*", assembly):
        raise UsageError(f"--assembly {assembly!r}: expected UCSC's name, such as hg38")
    if not re.fullmatch(r"[^\s@]+@[^\s@]+", email):
        raise UsageError(f"--email {email!r}: expected an e-mail address")
    if url and not re.fullmatch(r"[!-~]+", url):
        raise UsageError(f"--url {url!r}: expected an address without spaces; write %20 for a space")
    check_output(output, [], directory=True)
    if os.path.exists(output) and not os.path.isdir(output):
        raise UsageError(f"{output}: is not a directory; give another name")
    for file in files:
        if os.path.realpath(os.path.dirname(os.path.abspath(file))) == os.path.realpath(output):
            raise UsageError(f"{file}: is in the directory of the hub; give another directory")

    from ..hub.build import build_hub
    from ..hub.sites import read_lengths
    from ..hub.trackdb import HubText
    from ..io.fields import path_field
    from ..log import logger

    properties = {row["model"]: row for name in models for row in _rows(name)}
    lengths = read_lengths(fasta) if fasta else None
    names = build_hub(output, files, HubText(assembly, email), lengths, properties)
    first_line = "the first line" if url else "the first line, with its address instead of https://example.org,"
    logger.info("copy %s to a web server with HTTP range requests, and paste %s into a browser", output, first_line)
    base = (url or f"https://example.org/{os.path.basename(os.path.abspath(output))}").rstrip("/")
    address = quote(os.fsencode(f"{base}/hub.txt"), safe=":/")  # the name may not be UTF-8
    click.echo(f"ucsc\thttps://genome.ucsc.edu/cgi-bin/hgTracks?db={assembly}&hubUrl={address}")
    for name in names:
        click.echo(f"igv\t{path_field(os.path.join(output, name))}")


def _rows(model: str) -> list[dict[str, str]]:
    """The properties of models; PWMs have none."""
    from ..io.jaspar import is_jaspar_name
    from ..io.motif_files import is_motif_file
    from ..models.registry import find_model
    from .models import model_rows

    return [] if is_jaspar_name(model) or is_motif_file(find_model(model)) else model_rows(model)
