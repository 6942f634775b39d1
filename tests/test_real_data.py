"""Published windows and real sequence; these tests skip themselves where the data are not at hand."""

import sys

import pytest

from conftest import ROOT, SHARED, needs_shared

sys.path.insert(0, str(ROOT / "benchmarks"))

pytestmark = needs_shared


@pytest.mark.parametrize("tf", ["CDX2", "SRF", "NR1H4"])
def test_windows_agree_with_the_published_ones(tf):
    from windows_agree import agreement

    count = agreement(SHARED, tf, {})
    assert count["windows"] >= 0.99 * count["sites"] and count["minus"] > 100
    assert count["compared"] > 90 * count["windows"]
    assert count["other_base"] == count["other_label"] == 0


def test_shipped_model_on_chromosomes_it_has_not_seen():
    """The same protocol as in training, labels of neighbouring sites included, on the sites of the chromosomes left out."""
    from collections import Counter

    from bertsnr_tools.evaluate import evaluate
    from bertsnr_tools.io.fasta import Genome
    from bertsnr_tools.io.intervals import read_bed
    from bertsnr_tools.models.files import load_model
    from bertsnr_tools.models.registry import find_model
    from bertsnr_tools.sequence.shuffle import shuffled_records
    from bertsnr_tools.sequence.windows import Windows, cut_windows

    held = [
        site
        for site in read_bed(str(SHARED / "sites" / "CDX2.bed.gz"))
        if site.chrom in ("chr6", "chr17", "chr20", "chr22")
    ]
    records = list(cut_windows(held, Genome(str(SHARED / "genome" / "hg19.sparse.fa.gz")), 100, 0, 1, Counter()))
    positives = Windows.unlabelled(records)
    for record, row in zip(records, positives.labels):
        for span in record.description.removeprefix("site=").split(","):
            start, end = map(int, span.split("-"))
            row[start:end] = 1
    test = Windows.joined([positives, Windows.unlabelled(list(shuffled_records(records)))])
    metrics = evaluate(load_model(find_model("CDX2")), test, "fp32")
    assert len(records) > 150 and metrics["nucleotide"]["aupr"] > 0.94, metrics
