"""The description page of a hub, in HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from .. import __version__
from .sites import FactorTrack
from .trackdb import SignalTrack

JASPAR = "https://jaspar.elixir.no/matrix"
COLUMNS = {  # of the models' table -> heading
    "positives": "Windows in training",
    "nucleotide_aupr": "AUPR over bases",
    "sequence_aupr": "AUPR over windows",
    "quality": "Quality",
    "matrix": "JASPAR matrix",
}
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Binding sites by bertsnr_tools</title>
<style>
body {{ font-family: sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }}
table {{ border-collapse: collapse; margin-bottom: 1em; }}
th, td {{ border: 1px solid #999; padding: 0.2em 0.6em; text-align: left; }}
td.number {{ text-align: right; }}
</style>
</head>
<body>
<h2>Description</h2>
<p>{description}</p>
<h2>Display Conventions and Configuration</h2>
<p>{display}</p>
<h2>Methods</h2>
<p>This hub was made by bertsnr_tools {version}, which calls sites with BertSNR, a DNA language model that is fine-tuned
for two tasks: whether a sequence contains a binding site, and which of its bases are the site. The score of a site is
1000 times the mean probability of its bases, or 100 times -log10 of its p-value, as chosen when the sites were called.
The p-value is the fraction of genomic background windows with an equally strong or stronger site; for a position weight
matrix, it is the fraction of random words that score as high.</p>
{tables}
<h2>References</h2>
<p>Luo H. <em>et al.</em> BertSNR: an interpretable deep learning framework for single-nucleotide resolution
identification of transcription factor binding sites based on DNA language model. <em>Bioinformatics</em> 2024.</p>
</body>
</html>
"""


def page_html(
    assembly: str,
    sites: Sequence[FactorTrack],
    signals: Sequence[SignalTrack],
    properties: Mapping[str, Mapping[str, str]],
) -> str:
    """The page.

    Parameters
    ----------
    properties : of the models by name, see `cli.models.properties`; a factor may be missing
    """
    total = sum(track.sites for track in sites)
    description = f"{total:,} transcription factor binding sites of {len({track.factor for track in sites})} factors"
    description += f" on {escape(assembly)}" + (f", and base scores ({len(signals)} bigWig)." if signals else ".")
    display = "Each factor has a track. Sites are coloured by strand: blue on +, red on -, unless they were called with"
    display += " other colours. They can be filtered by score, by -log10 of the p-value if it is known, and by factor."
    tables = [_factor_table(sites, properties)] if sites else []
    if signals:
        tables.append(_table(["Base scores", "File"], [[track.source, f"{track.name}.bw"] for track in signals]))
    return _PAGE.format(description=description, display=display, version=escape(__version__), tables="\n".join(tables))


def _factor_table(sites: Sequence[FactorTrack], properties: Mapping[str, Mapping[str, str]]) -> str:
    shown = COLUMNS if properties else {}
    rows = []
    for track in sites:
        known = properties.get(track.factor, {})
        rows.append([track.factor, track.source, f"{track.sites:,}", *(known.get(column, "-") for column in shown)])
    return _table(["Factor", "File", "Sites", *shown.values()], rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "\n".join(f"<tr>{''.join(map(_cell, heads, row))}</tr>" for row in rows)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _cell(head: str, text: str) -> str:
    if head == COLUMNS["matrix"] and text != "-":
        return f'<td><a href="{JASPAR}/{escape(text)}/">{escape(text)}</a></td>'
    number = ' class="number"' if text.replace(",", "").replace(".", "").isdigit() else ""
    return f"<td{number}>{escape(text)}</td>"
