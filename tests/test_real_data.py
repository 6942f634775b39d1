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


def test_a_shipped_model_on_chromosomes_it_was_not_trained_on():
    """The protocol of training, labels of neighbouring sites included, on the sites of the held-out chromosomes."""
    from bertsnr_tools.evaluation import evaluate
    from bertsnr_tools.io.fasta import Genome
    from bertsnr_tools.io.intervals import read_bed
    from bertsnr_tools.models.device import Runtime
    from bertsnr_tools.models.files import load_model
    from bertsnr_tools.models.registry import find_model
    from bertsnr_tools.sequence.shuffle import shuffled_records
    from bertsnr_tools.sequence.windows import WindowCutter, Windows

    chroms = ("chr6", "chr17", "chr20", "chr22")
    held = [site for site in read_bed(str(SHARED / "sites" / "CDX2.bed.gz")) if site.chrom in chroms]
    records = list(WindowCutter(Genome(str(SHARED / "genome" / "hg19.sparse.fa.gz")), 100).cut(held))
    positives = Windows.unlabelled(records)
    for record, row in zip(records, positives.labels):
        for span in record.description.removeprefix("site=").split(","):
            start, end = map(int, span.split("-"))
            row[start:end] = 1
    test = Windows.joined([positives, Windows.unlabelled(list(shuffled_records(records)))])
    metrics = evaluate(load_model(find_model("CDX2")), test, Runtime(batch_size=64))
    assert len(records) > 150 and metrics["nucleotide"]["aupr"] > 0.94, metrics
