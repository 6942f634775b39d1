"""The converter of published pairs of files, a script beside the benchmarks."""

import gzip
import subprocess
import sys

import pytest

from bertsnr_tools.sequence.windows import read_windows
from conftest import ROOT

SCRIPT = ROOT / "benchmarks" / "published.py"


def test_pairs_become_windows(tmp_path):
    (tmp_path / "s.txt.gz").write_bytes(gzip.compress(b"ACGTACGTAC\nTTTTTTTTTT\nACGTNCGTAC\n"))
    (tmp_path / "l.txt").write_text("0111000110\n0000000000\n1110000000\n")
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "s.txt.gz", tmp_path / "l.txt"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    heads = [line for line in done.stdout.splitlines() if line.startswith(">")]
    assert heads == [">line1 site=1-4,7-9", ">line2", ">line3 site=0-3"]
    (tmp_path / "w.fa").write_text(done.stdout)
    windows = read_windows(str(tmp_path / "w.fa"), None, 1)
    assert ["".join(map(str, row)) for row in windows.labels.tolist()] == (tmp_path / "l.txt").read_text().split()


@pytest.mark.parametrize(
    ("labels", "problem"), [("0111\n000\n", "line 2: 4 bases"), ("0111\n0002\n", "line 2"), ("0111\n", "has 2 lines")]
)
def test_what_does_not_pair_up_is_refused(tmp_path, labels, problem):
    (tmp_path / "s.txt").write_text("ACGT\nTTTT\n")
    (tmp_path / "l.txt").write_text(labels)
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "s.txt", tmp_path / "l.txt"], capture_output=True, text=True
    )
    assert done.returncode != 0 and problem in done.stderr and done.stdout == ""
