"""Several processes share the batches of a training, as `torchrun` starts them."""

import json
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from bertsnr_tools.errors import UsageError
from bertsnr_tools.models import bertsnr, many_factor
from bertsnr_tools.models.files import load_factors
from bertsnr_tools.models.pretrained import shipped_encoder
from bertsnr_tools.training import processes
from conftest import DATA

OPTIONS = "-q --precision fp32 --device cpu -@ 1"
DRIVER = """
import sys
from bertsnr_tools.models import bertsnr
bertsnr.DROPOUT = 0.0  # masks depend on the number of processes
from bertsnr_tools.cli import command
command("train").main(sys.argv[1:], standalone_mode=False)
"""
TRAININGS = {
    "one factor": "--epochs 2 --batch-size 18 A.fa",
    "many factors": "--epochs 1 --batch-size 160 --background bg.fa A.fa B.fa",
}


@pytest.fixture
def windows(tmp_path):
    """Windows of two factors, and background windows."""
    records = (DATA / "expected" / "windows.fa").read_text().split(">")[1:]
    for name, chosen in {"A": records[:60], "B": records[60:70]}.items():
        (tmp_path / f"{name}.fa").write_text("".join(f">{record}" for record in chosen))
    rng = random.Random(1)
    texts = ("".join(rng.choices("ACGT", k=100)) for _ in range(40))
    (tmp_path / "bg.fa").write_text("".join(f">b{number}\n{text}\n" for number, text in enumerate(texts)))
    (tmp_path / "driver.py").write_text(DRIVER)
    return tmp_path


@pytest.mark.parametrize("training", TRAININGS)
def test_two_processes_train_the_model_of_one(windows, training, run_here, monkeypatch):
    """But for the order in which numbers are added; only the first writes."""

    def options(name):
        return [*OPTIONS.split(), "-o", f"{name}.pt", "--json", f"{name}.json", *TRAININGS[training].split()]

    for module in (bertsnr, many_factor):
        monkeypatch.setattr(module, "DROPOUT", 0.0)
    assert run_here("train", *options("alone")).status == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29519"]
    line = [*torchrun, "driver.py", *options("two")]
    done = subprocess.run(line, capture_output=True, text=True, cwd=windows, timeout=300)
    assert done.returncode == 0, done.stderr
    alone, two = (load_factors(str(windows / f"{name}.pt"))[0].encoder.state_dict() for name in ("alone", "two"))
    start = shipped_encoder(3).weights
    learned, differing = (
        sum(float((alone[name] - other[name]).norm() ** 2) for name in start) ** 0.5 for other in (start, two)
    )
    reports = [json.loads((windows / f"{name}.json").read_text()) for name in ("alone", "two")]
    losses = [[row["loss"] for row in report.get("history") or report["epochs"]] for report in reports]
    print(f"{training}: learned {learned:.3g}, differing {differing:.3g}, losses {losses}")
    assert differing < 0.01 * learned
    assert np.allclose(*losses, rtol=1e-3)
    assert not list(windows.glob("*.ckpt"))


@pytest.fixture
def second_of_three(monkeypatch):
    for name, value in {"WORLD_SIZE": 3, "RANK": 1, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 3, "MASTER_ADDR": "h"}.items():
        monkeypatch.setenv(name, str(value))


def test_each_process_has_its_rows(second_of_three):
    assert (processes.count(), processes.rank(), processes.local_count()) == (3, 1, 3)
    assert processes.own_rows(torch.arange(9)).tolist() == [1, 4, 7]
    rows, weight = processes.share(torch.arange(8))
    assert rows.tolist() == [1, 4, 7] and weight == 9 / 8
    rows, weight = processes.share(torch.tensor([5]))
    assert rows.tolist() == [5] and weight == 0
    processes.check_divisible(48, 8)
    with pytest.raises(UsageError, match="3 processes cannot share batches of 40; use a multiple of 24"):
        processes.check_divisible(40, 8)


def test_tensors_are_averaged(second_of_three, monkeypatch):
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda joined: joined.add_(torch.tensor([1.0, 2, 3])))
    one, other = torch.tensor([[2.0, 4]]), torch.tensor([6.0])
    processes.average([one, other])
    assert one.tolist() == [[1, 2]] and other.tolist() == [3]


def test_variables_of_another_program_start_no_processes(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert (processes.count(), processes.rank()) == (1, 0)
    assert processes.own_rows(np.arange(2)).tolist() == [0, 1] and processes.agreed(0.5, torch.device("cpu")) == 0.5


def test_processes_cannot_share_standard_input(run_here, second_of_three):
    outcome = run_here("train", "-o", "m.pt", "-")
    assert outcome.status == 2 and "several processes cannot all read standard input (-)" in outcome.err
