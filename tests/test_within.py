"""Background windows from accessible regions: `train --within`."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from bertsnr_tools.errors import DataError
from bertsnr_tools.io.fasta import Genome
from bertsnr_tools.io.intervals import Interval, interval_from_name
from bertsnr_tools.models.files import load_model
from bertsnr_tools.sequence.windows import Windows
from bertsnr_tools.training.config import ModelDesign
from bertsnr_tools.training.data import TrainingFiles, draw_background
from bertsnr_tools.training.factor_files import FactorFiles
from bertsnr_tools.training.run import TrainingRun
from conftest import DATA

POSITIVE = Windows(["w::chr1:10000-10050(+)"], np.zeros((1, 50), dtype=np.uint8), np.ones((1, 50), dtype=np.uint8))
OPEN = [Interval("chr1", 9_000, 14_000), Interval("chr2", 100, 2_100), Interval("chrZ", 0, 900)]


@pytest.fixture(scope="module")
def random_genome(tmp_path_factory):
    rng = random.Random(6)
    path = tmp_path_factory.mktemp("g") / "g.fa"
    path.write_text("".join(f">chr{n}\n{''.join(rng.choices('ACGT', k=30_000))}\n" for n in (1, 2)))
    return Genome(str(path))


def drawn(genome, **options):
    return [interval_from_name(name, 50) for name in draw_background(genome, POSITIVE, **options).names]


def inside(window, regions):
    return any(window.chrom == r.chrom and r.start <= window.start and window.end <= r.end for r in regions)


def overlaps(window, regions):
    return any(window.chrom == r.chrom and r.start < window.end and window.start < r.end for r in regions)


def test_all_windows_are_in_accessible_regions(random_genome, caplog):
    closed = [Interval("chr1", 12_000, 13_000)]
    with caplog.at_level("INFO"):
        found = drawn(random_genome, within=OPEN, exclude=closed)
    # 1,000 + 1,950 + 1,000 bp of chr1 around the positive window and the excluded interval, 2,000 bp of chr2
    assert len(found) == 20 + 39 + 20 + 40 and all(inside(window, OPEN) for window in found)
    assert not any(overlaps(window, [*closed, Interval("chr1", 10_000, 10_050)]) for window in found)
    assert "accessible regions (--within) contain only 119 of" in caplog.text


def test_a_fraction_of_the_windows(random_genome, monkeypatch):
    monkeypatch.setattr("bertsnr_tools.training.data.BACKGROUND_WINDOWS", 100)
    found = drawn(random_genome, within=OPEN, within_fraction=0.6)
    assert len(found) == 100 and sum(inside(window, OPEN) for window in found) == 60
    assert sum(overlaps(window, OPEN) for window in found) == 60
    found = drawn(random_genome, within=OPEN[1:2], within_fraction=0.6)  # there are 40 of 60 windows
    assert sum(overlaps(window, OPEN[1:2]) for window in found) == 40 and len(found) == 40 + 27
    assert len(drawn(random_genome)) == 100


def test_short_regions_are_extended(random_genome):
    small = [Interval("chr1", 500, 521), Interval("chr1", 5, 10), Interval("chr2", 29_990, 31_000)]
    found = drawn(random_genome, within=[*small, Interval("chr2", 700, 749)])
    expected = [("chr1", 0), ("chr1", 486), ("chr2", 700), ("chr2", 29_950)]
    assert sorted((window.chrom, window.start) for window in found) == expected
    with pytest.raises(DataError, match=r"too few windows of 50 bp \(1\) .* in accessible regions"):
        drawn(random_genome, within=small[:1])


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, launch):
    directory = tmp_path_factory.mktemp("within")
    (directory / "g.fa").write_bytes((DATA / "genome.fa").read_bytes())
    windows = launch("windows", "-q", "-f", directory / "g.fa", "-o", directory / "w.fa", DATA / "sites.bed")
    assert windows.status == 0
    (directory / "open.bed").write_text("chr1\t0\t20000\nchr2\t0\t20000\nchrZ\t0\t20000\n")
    return directory


def test_one_model(inputs, run, tmp_path):
    genome = ("-f", inputs / "g.fa", "--epochs", 1, "--name", "X")
    accessible = (*genome, "--within", inputs / "open.bed", "--within-fraction", 0.5)
    outcome = run("train", "-o", tmp_path / "X.pt", *accessible, inputs / "w.fa")
    assert outcome.status == 0 and "open.bed: 1 of 3 intervals are on sequences that are not in the" in outcome.err
    data = load_model(str(tmp_path / "X.pt")).info.training["data"]
    assert (data["within"], data["within_fraction"]) == ([str(inputs / "open.bed")], 0.5)
    assert run("train", "-o", tmp_path / "Y.pt", *genome, inputs / "w.fa").status == 0
    assert "within" not in load_model(str(tmp_path / "Y.pt")).info.training["data"]


def test_the_checkpoint_is_of_these_regions(inputs):
    files = TrainingFiles(str(inputs / "w.fa"), genome=str(inputs / "g.fa"), within=(str(inputs / "open.bed"),))

    def key(files):
        return TrainingRun("X", files.read(3, 1), ModelDesign(), {"epochs": 1}, torch.device("cpu")).key()

    everywhere, half = files._replace(within=()), files._replace(within_fraction=0.5)
    assert len({key(files), key(everywhere), key(half)}) == 3 and key(files) == key(files)


def test_many_factors(inputs):
    paths = {"A": str(inputs / "w.fa"), "B": str(inputs / "w.fa")}
    files = FactorFiles(paths, genome=str(inputs / "g.fa"), within=(str(inputs / "open.bed"),))
    read, everywhere = files.read(3, 1), replace(files, within=()).read(3, 1)
    assert read.sources["within"] == [str(inputs / "open.bed")] and "within" not in everywhere.sources
    assert 0 < len(read.background) < len(everywhere.background)
    assert all(interval_from_name(name, 100).end <= 20_000 for name in read.background.names)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--within", "o.bed"), "--within requires -f"),
        (("--within-fraction", 0.5, "-f", "g.fa"), "--within-fraction requires --within"),
        (("--within", "-", "-f", "g.fa", "--exclude", "-"), "standard input (-) is given twice"),
    ],
)
@pytest.mark.parametrize("positives", [["w.fa"], ["A=w.fa", "B=w.fa"]])
def test_options(run_here, arguments, problem, positives):
    outcome = run_here("train", "-o", "X.pt", *arguments, *positives)
    assert outcome.status == 2 and problem in outcome.err
