"""The Snakemake workflows: their shell lines, and for peaks.smk the summary and, with Snakemake, a run."""

import ast
import os
import re
import runpy
import shutil
import subprocess

import numpy as np
import pytest

from bertsnr_tools.io.intervals import Interval
from conftest import BIN, DATA, ROOT

WORKFLOWS = sorted((ROOT / "workflow").glob("*.smk")) + [ROOT / "workflow" / "Snakefile"]
page = runpy.run_path(str(ROOT / "workflow" / "peaks_page.py"))


def shell_lines(path):
    """The command lines of a workflow, with a word instead of each value that Snakemake fills in."""
    found = re.findall(r"\n {4,8}shell:\n((?: +\".*\"\n)+)", path.read_text())
    lines = [ast.literal_eval(f"({text})") for text in found]
    return [re.sub(r"(?<!\{)\{[^{}]+\}(?!\})", "word", line).replace("{{", "{").replace("}}", "}") for line in lines]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_shell_lines_parse(path):
    lines = shell_lines(path)
    assert len(lines) == path.read_text().count("shell:") > 3
    for line in lines:
        done = subprocess.run(["bash", "-n", "-c", line], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), line


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_commands_have_their_options(path, launch):
    """Every option in a command line is an option of that command."""
    for line in shell_lines(path):
        for command, arguments in re.findall(r"bertsnr (\w+)([^|;]*)", re.sub(r"\$\(\(.*\)\)", "1", line)):
            known = set(re.findall(r"(?<![\w-])--?[a-z@][a-z-]*", launch(command, "--help").out))
            used = set(re.findall(r"(?<!\S)--?[a-z@][a-z-]*(?!\S)", arguments))
            assert used <= known, (command, used - known)


def test_calls_and_peaks():
    peaks = [
        Interval("chr1", 100, 200, summit=120),
        Interval("chr1", 150, 300),
        Interval("chr2", 0, 50, summit=10),
        Interval("chr3", 0, 50),
    ]
    calls = [Interval("chr1", 110, 121), Interval("chr1", 190, 210), Interval("chr2", 60, 70)]
    found, distances = page["nearest_calls"](peaks, calls)
    assert found.tolist() == [True, True, False, False]
    np.testing.assert_equal(distances, [-5, -25, 55, np.nan])


def test_tables_are_escaped():
    assert page["table"]([["a<b"], [1]]) == "<table><tr><th>a&lt;b</th></tr><tr><td>1</td></tr></table>"


@pytest.fixture(scope="module")
def peaks(tmp_path_factory):
    """A directory with a genome, and peaks whose summits are at its sites; every fifth peak has no summit."""
    directory = tmp_path_factory.mktemp("peaks")
    (directory / "g.fa").write_bytes((DATA / "genome.fa").read_bytes())
    rows = []
    for number, line in enumerate((DATA / "sites.bed").read_text().splitlines()):
        chrom, start, end, *_ = line.split("\t")
        first, last = max(0, int(start) - 40), int(end) + 40
        summit = -1 if number % 5 == 4 else int(start) + 9 - first
        rows.append(f"{chrom}\t{first}\t{last}\tpeak{number}\t0\t.\t9\t-1\t-1\t{summit}\n")
    (directory / "p.narrowPeak").write_text("".join(rows))
    (directory / "open.bed").write_text("chr1\t0\t40000\nchr2\t0\t25000\nchr3\t0\t15000\n")
    return directory


@pytest.mark.skipif(not shutil.which("snakemake"), reason="Snakemake is not installed")
def test_from_peaks_to_a_model(peaks):
    settings = "peaks=p.narrowPeak fasta=g.fa matrix=jaspar:MA0139.1 atac=open.bed reach=40 test_chroms=chr2".split()
    settings += ["val_chroms=chr3", "rounds=2", "train=--epochs 1 --background-ratio 1"]
    command = ["snakemake", "-s", str(ROOT / "workflow" / "peaks.smk"), "--cores", "2", "--config", *settings]
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}

    def snakemake(*more):
        done = subprocess.run([*command, *more], cwd=peaks, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    snakemake()
    out = peaks / "CTCF"  # the name of MA0139.1
    assert {"CTCF.pt", "calls.narrowPeak", "motif.meme", "evaluation.tsv"} < {path.name for path in out.iterdir()}
    trained = (out / "round1" / "train.fa").read_text()
    assert trained.count(">") > 150 and "chr2" not in trained and "chr2" in (out / "test_and_shuffles.fa").read_text()
    assert "chr2" not in (out / "background.train.fa").read_text()
    summary = (out / "summary.html").read_text()
    assert summary.count("data:image/png;base64,") == 3 and "http" not in summary
    assert "<td>peaks</td><td>320</td><td>100</td>" in summary
    assert "Nothing to be done" in snakemake("-n")
    for changed, rule in (("reach=5", "sites"), ("val_chroms=chr1", "train"), ("test_chroms=chr1", "test_windows")):
        assert f"rule {rule}:" in snakemake(changed, "-n")
