#!/usr/bin/env python3
"""The summary of peaks.smk: one HTML page that contains its figures.

peaks_page.py TITLE TEST_CHROMS PEAKS SITES WINDOWS CALLS MOTIF.tsv MOTIF.png EVALUATION.tsv EVALUATION.png PAGE
"""

from __future__ import annotations

import base64
import html
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from bertsnr_tools.io.files import open_output
from bertsnr_tools.io.intervals import Interval, read_bed
from bertsnr_tools.plots.style import BLUE, new_figure, save_figure

AROUND_SUMMIT = 150  # bp, of the histogram
MATCHES = 5  # lines of the table of motifs
STYLE = """body { font: 15px/1.45 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0 } th, td { padding: 0.2em 0.8em; text-align: right }
th:first-child, td:first-child { text-align: left } tr { border-bottom: 1px solid #ddd } img { max-width: 100% }"""


def nearest_calls(peaks: Sequence[Interval], calls: Iterable[Interval]) -> tuple[np.ndarray, np.ndarray]:
    """Whether each peak contains the middle of a call, and how far the nearest one is from its summit (bp).

    Peaks without a summit are measured from their middle. The distance is signed, or nan on a chromosome without calls.
    """
    middles: dict[str, list[int]] = {}
    for call in calls:
        middles.setdefault(call.chrom, []).append((call.start + call.end) // 2)
    ordered = {chrom: np.unique(values) for chrom, values in middles.items()}
    found, distances = np.zeros(len(peaks), dtype=bool), np.full(len(peaks), np.nan)
    for number, peak in enumerate(peaks):
        at = ordered.get(peak.chrom)
        if at is not None:
            first, last = np.searchsorted(at, (peak.start, peak.end))
            found[number] = first < last
            summit = (peak.start + peak.end) // 2 if peak.summit is None else peak.summit
            distances[number] = _nearest(at, summit)
    return found, distances


def _nearest(ordered: np.ndarray, position: int) -> int:
    after = int(np.searchsorted(ordered, position))
    return min((int(value) - position for value in ordered[max(0, after - 1) : after + 1]), key=abs)


def image(png: bytes, text: str) -> str:
    return f'<img alt="{html.escape(text)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def table(rows: Iterable[Sequence[object]]) -> str:
    """An HTML table; the first row is its head."""
    head, *lines = ([html.escape(str(value)) for value in row] for row in rows)
    cells = "".join(f"<tr>{''.join(f'<td>{value}</td>' for value in line)}</tr>" for line in lines)
    return f"<table><tr>{''.join(f'<th>{value}</th>' for value in head)}</tr>{cells}</table>"


def histogram(distances: np.ndarray) -> bytes:
    """PNG of the distances of calls from summits."""
    figure = new_figure(6, 2.5)
    axes = figure.subplots()
    axes.hist(distances, bins=np.arange(-AROUND_SUMMIT - 5, AROUND_SUMMIT + 6, 10), color=BLUE)
    axes.set(xlabel="called site nearest to the summit (bp)", ylabel="peaks")
    with tempfile.TemporaryDirectory() as directory:
        save_figure(figure, f"{directory}/histogram.png")
        return Path(directory, "histogram.png").read_bytes()


def evaluation_rows(path: str) -> list[list[str]]:
    """Some columns of the table of `bertsnr evaluate`."""
    names = ("data", "windows", "with_sites", "nucleotide_precision", "nucleotide_recall", "nucleotide_aupr")
    head, *rows = (line.split("\t") for line in Path(path).read_text().splitlines())
    columns = [head.index(name) for name in (*names, "sequence_aupr")]
    return [[row[column].replace("_", " ") for column in columns] for row in (head, *rows)]


def counts(peaks: Sequence[Interval], found: np.ndarray, sites: str, calls: Sequence[Interval], test: list[str]):
    """Rows of the table of peaks: how many, with a site, and with a call, on all and on the test chromosomes."""
    tested = np.array([peak.chrom in test for peak in peaks])
    starts = list(read_bed(sites))
    yield "", "all chromosomes", f"test: {', '.join(test)}"
    yield "peaks", f"{len(peaks):,}", f"{tested.sum():,}"
    yield "best matches of the matrix", f"{len(starts):,}", f"{sum(site.chrom in test for site in starts):,}"
    yield "peaks with a called site", *(f"{part.sum():,} ({part.mean():.0%})" for part in (found, found[tested]))
    yield "called sites", f"{len(calls):,}", f"{sum(call.chrom in test for call in calls):,}"


def main(title: str, test: str, peaks: str, sites: str, windows: str, calls: str, *results: str) -> None:
    motif, logo, evaluation, curves, page = results
    every, called = list(read_bed(peaks, summits=True)), list(read_bed(calls))
    found, distances = nearest_calls(every, called)
    trained = Path(windows).read_text().count(">")
    matches = [line.split("\t") for line in Path(motif).read_text().splitlines()[: MATCHES + 1]]
    body = [
        f"<h1>{html.escape(title)}</h1>",
        table(counts(every, found, sites, called, test.split(","))),
        f"<p>The model was trained on {trained:,} windows, none of them on a test chromosome.</p>",
        image(histogram(distances), "distances of called sites from summits"),
        "<h2>Motif of the called sites</h2>",
        image(Path(logo).read_bytes(), "logo of the motif"),
        table(matches),
        "<h2>Test windows</h2>",
        "<p>Sites of the matrix on the test chromosomes, with their shuffles or with background windows.</p>",
        table(evaluation_rows(evaluation)),
        image(Path(curves).read_bytes(), "ROC and precision-recall curves"),
    ]
    with open_output(page) as stream:
        head = f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        stream.write(f"{head}<style>{STYLE}</style><body>{''.join(body)}</body></html>\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
