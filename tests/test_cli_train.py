import json
import random
import subprocess
import time

import pytest
import torch

from bertsnr_tools.models.files import load_model
from conftest import BIN, DATA


@pytest.fixture(scope="module")
def windows(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    (folder / "genome.fa").write_bytes((DATA / "genome.fa").read_bytes())
    path = folder / "pos.fa"
    sites = "".join((DATA / "sites.bed").read_text().splitlines(keepends=True)[:80])
    path.write_text(run("windows", "-q", "-f", folder / "genome.fa", stdin=sites.encode()).out)
    return path


def test_model_report_and_plot(run, windows, tmp_path):
    outputs = ("-o", tmp_path / "MYTF.pt", "--json", tmp_path / "m.json", "--plot", tmp_path / "m.png")
    outcome = run("train", *outputs, "--epochs", 2, "--folds", 2, "-@", 2, windows)
    assert outcome.status == 0, outcome.err
    assert outcome.err.count(": epoch ") == 6 and outcome.out == ""
    assert "MYTF.pt: the model of epoch " in outcome.err and "AUPR" in outcome.err
    info = load_model(str(tmp_path / "MYTF.pt")).info
    assert (info.name, info.k, info.window, info.site_width) == ("MYTF", 3, 100, 19)
    report = json.loads((tmp_path / "m.json").read_text())
    assert report["version"] == 2 and [row["epoch"] for row in report["history"]] == [1, 2]
    assert set(report["history"][0]) == {"epoch", "loss", "validation_loss", "aupr"}
    assert len(report["folds"]) == 2 and report["folds"] == info.training["folds"]
    assert set(report["validation"]["nucleotide"]) == {"accuracy", "precision", "recall", "f1", "auc", "aupr"}
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["MYTF.pt", "m.json", "m.png"]


def test_kill_and_resume_give_the_same_file(run, windows, tmp_path):
    options = ("--name", "X", "--epochs", "3", "-@", "1", "-q", "-k", "4", "--lambda", "0", windows)
    assert run("train", "-o", tmp_path / "whole.pt", *options).status == 0
    process = subprocess.Popen([BIN / "bertsnr-train", "-o", tmp_path / "broken.pt", *options])
    checkpoint = tmp_path / "broken.pt.ckpt"
    deadline = time.time() + 120
    while not checkpoint.exists() and process.poll() is None and time.time() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert checkpoint.exists() and not (tmp_path / "broken.pt").exists()
    assert 1 <= len(torch.load(checkpoint, weights_only=True)["fit"]["history"]) < 3
    options = [option for option in options if option != "-q"]
    resumed = run("train", "-o", tmp_path / "broken.pt", "--resume", *options)
    assert resumed.status == 0 and f"continuing from the checkpoint {checkpoint}" in resumed.err
    assert (tmp_path / "broken.pt").read_bytes() == (tmp_path / "whole.pt").read_bytes()
    assert not checkpoint.exists()
    written = (tmp_path / "broken.pt").stat().st_mtime_ns
    again = run("train", "-o", tmp_path / "broken.pt", "--resume", *options)
    assert again.status == 0 and "broken.pt is complete; nothing to do; delete it to train again" in again.err
    assert (tmp_path / "broken.pt").stat().st_mtime_ns == written


def test_a_loss_that_is_not_finite_ends_the_training(run_here, windows, tmp_path, monkeypatch):
    monkeypatch.setattr("bertsnr_tools.training.fit.Trainer.train_epoch", lambda *_: float("nan"))
    outcome = run_here("train", "-o", "x.pt", "--epochs", 2, windows)
    assert outcome.status == 1 and "the loss is not finite after epoch 1; lower the learning rate (--lr)" in outcome.err
    assert list(tmp_path.glob("x.pt*")) == []


def test_one_pipeline_from_sites_to_calls(tmp_path):
    """The command line of the documentation, in a shell; pos.fa does not exist when `train` starts."""
    for name in ("genome.fa", "sites.bed", "region.fa"):
        (tmp_path / name).write_bytes((DATA / name).read_bytes())
    script = """
        set -o pipefail
        bertsnr windows -q -f genome.fa sites.bed | tee pos.fa | bertsnr shuffle - |
            bertsnr train -q --epochs 12 -o X.pt pos.fa -n - &&
        bertsnr predict -m X.pt region.fa > all.bed && set +o pipefail && bertsnr predict -m X.pt region.fa | head -3
    """
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={"PATH": f"{BIN}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0 and done.stderr == ""
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(rows) == 3 and all(len(row) == 6 and row[0] == "chr20" and row[3] == "X" for row in rows)
    truth = [line.split("\t") for line in (DATA / "region.truth.bed").read_text().splitlines()]
    calls = [line.split("\t") for line in (tmp_path / "all.bed").read_text().splitlines()]
    found = [any(int(c[1]) < int(t[2]) and int(c[2]) > int(t[1]) and c[5] == t[5] for c in calls) for t in truth]
    assert sum(found) >= 2, calls  # a model of 300 windows and a few epochs


def test_background_windows_of_a_genome(run, windows, tmp_path):
    genome = windows.with_name("genome.fa")
    (tmp_path / "peaks.bed").write_text("chr1\t0\t30000\n")
    arguments = ("--name", "X", "--epochs", 1, "-f", genome, "--exclude", tmp_path / "peaks.bed")
    outcome = run("train", "-o", tmp_path / "X.pt", *arguments, "--background-ratio", 1.5, windows)
    assert outcome.status == 0 and "background windows are left for p-values (at least 1000 required)" in outcome.err
    info = load_model(str(tmp_path / "X.pt")).info
    assert not info.null and info.training["recipe"]["background_ratio"] == 1.5
    assert info.training["data"]["background_windows"] == str(genome) and info.training["data"]["background"] > 0
    elsewhere = tmp_path / "w.fa"
    elsewhere.write_text(windows.read_text().replace("::chr1", "::chrZ"))
    outcome = run("train", "-o", tmp_path / "Y.pt", *arguments, elsewhere)
    assert outcome.status == 2 and "::chrZ" in outcome.err and f"is not on {genome}; expected a name" in outcome.err
    assert not (tmp_path / "Y.pt").exists()


def test_old_option_names_still_work(run_here, windows, tmp_path):
    outcome = run_here("train", "--epochs", 1, "-o", "X.pt", "--natural=0.5", "--val-share", 0.2, "-f", "g.fa", windows)
    assert outcome.status == 1 and "g.fa: No such file" in outcome.err
    assert "--natural is deprecated; use --background-ratio" in outcome.err
    assert "--val-share is deprecated; use --val-fraction" in outcome.err


@pytest.mark.parametrize(
    ("outputs", "problem"),
    [
        (("-o", "x.pt", "--json", "x.pt"), "x.pt: is given for two outputs"),
        (("-o", "x.pt", "--plot", "./x.pt"), "x.pt: is given for two outputs"),
        (("-o", "x.pt", "--json", "x.pt.ckpt"), "x.pt.ckpt: is given for two outputs"),
        (("-o", "t.pt", "--teacher", "t.pt"), "t.pt: is also an input"),
        (("-o", "x.pt", "--json", "t.pt", "--teacher", "CTCF", "--teacher", "t.pt"), "t.pt: is also an input"),
    ],
)
def test_outputs_replace_neither_each_other_nor_an_input(run_here, windows, tmp_path, outputs, problem):
    (tmp_path / "t.pt").write_bytes(b"teacher")
    outcome = run_here("train", *outputs, windows)
    assert outcome.status == 2 and problem in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["t.pt"] and (tmp_path / "t.pt").read_bytes() == b"teacher"


def test_background_windows_give_the_model_p_values(run, windows, tmp_path):
    rng = random.Random(1)
    background = tmp_path / "b.fa"
    background.write_text("".join(f">n{i}\n{''.join(rng.choices('ACGT', k=100))}\n" for i in range(2400)))
    negatives = ("--background", background, "--background-ratio", 2, "--hard-negatives")
    outcome = run("train", "-q", "-o", tmp_path / "X.pt", "--epochs", 2, *negatives, windows)
    assert outcome.status == 0, outcome.err
    info = load_model(str(tmp_path / "X.pt")).info
    counts = info.training["data"]
    assert counts["hard_negatives"] == min(counts["positives"], counts["background"] // 10) > 0
    assert info.null["windows"] > 1000
    called = run("predict", "-m", tmp_path / "X.pt", "-t", "p=0.05", "--format", "narrowpeak", DATA / "region.fa")
    sites = [line.split("\t") for line in called.out.splitlines()]
    assert sites and all(float(site[7]) > 1.3 for site in sites)


def test_a_prefilter_is_trained(run_here, windows, tmp_path, monkeypatch):
    monkeypatch.setattr("bertsnr_tools.training.prefilter.STEPS", 60)
    monkeypatch.setattr("bertsnr_tools.training.prefilter.VARIANTS_PER_SITE", 1)
    rng = random.Random(1)
    (tmp_path / "b.fa").write_text("".join(f">n{i}\n{''.join(rng.choices('ACGT', k=100))}\n" for i in range(300)))
    models = []
    for name in "XY":
        arguments = ("--epochs", 1, "--name", "X", "--background", "b.fa", "--prefilter", windows)
        outcome = run_here("train", "-o", f"{name}.pt", *arguments)
        assert outcome.status == 0 and " of the background windows pass, on either strand" in outcome.err
        models.append((tmp_path / f"{name}.pt").read_bytes())
    assert models[0] == models[1]
    model = load_model(str(tmp_path / "X.pt"))
    assert model.info.prefilter["shortest"] == 10 and model.prefilter.cut == model.info.prefilter["cut"]
    assert run_here("predict", "--prefilter", "-m", "X.pt", DATA / "region.fa").status == 0


def test_a_student_of_two_models(run_here, windows, tmp_path):
    rng = random.Random(1)
    (tmp_path / "b.fa").write_text("".join(f">n{i}\n{''.join(rng.choices('ACGT', k=100))}\n" for i in range(300)))
    once = ("train", "--epochs", 1, "--name", "X", windows)
    assert run_here(*once, "-o", "T.pt", "--seed", 2).status == 0
    student = (*once, "--background", "b.fa", "--hard-negatives", "--teacher", "CTCF", "--teacher", "T.pt")
    outcome = run_here(*student, "-o", "X.pt", "--json", "X.json")
    assert outcome.status == 0 and outcome.err.count(": epoch ") == 1
    assert "--teacher CTCF, T.pt may have been trained on validation windows" in outcome.err
    report = json.loads((tmp_path / "X.json").read_text())
    assert report["data"]["teachers"] == ["CTCF", "T.pt"]
    assert report["data"]["hard_negatives"] == report["data"]["background"] // 10
    assert run_here(*student, "-o", "Y.pt").status == 0
    assert (tmp_path / "X.pt").read_bytes() == (tmp_path / "Y.pt").read_bytes()
    outcome = run_here(*once, "-o", "Z.pt", "--teacher", "CTCF", "-k", 4)
    assert outcome.status == 2
    assert "--teacher CTCF: reads windows of 100 bp in 3-mers; expected 100 bp and 4-mers" in outcome.err
    outcome = run_here(*once, "-o", "Z.pt", "--teacher", "CTCF", "--folds", 2)
    assert outcome.status == 2 and "leave out --folds or --teacher" in outcome.err
    assert not (tmp_path / "Z.pt").exists()


@pytest.mark.parametrize(("chroms", "warned"), [("chr8", False), ("chr2,chr8", True)])
def test_a_teacher_that_may_have_been_trained_on_validation_windows(run_here, windows, tmp_path, chroms, warned):
    """CTCF's model was trained without chr8, not without chr2."""
    records = windows.read_text().split(">")[1:]
    (tmp_path / "w.fa").write_text(
        "".join(
            ">" + record.replace("::chr1:", f"::chr{(1, 2, 8)[number % 3]}:") for number, record in enumerate(records)
        )
    )
    outcome = run_here("train", "--epochs", 1, "-o", "X.pt", "--teacher", "CTCF", "--val-chroms", chroms, "w.fa")
    warning = "--teacher CTCF may have been trained on validation windows"
    assert outcome.status == 0 and (warning in outcome.err) == warned
