import json

import pytest

from bertsnr_tools.metrics import NAMES
from conftest import DATA


@pytest.fixture
def data(run, genome, tmp_path):
    """Windows of the test genome's sites, and their shuffles, in one file."""
    windows = run("windows", "-f", genome, DATA / "sites.bed").out
    path = tmp_path / "ctcf.fa"
    path.write_text(windows + run("shuffle", "-", stdin=windows.encode()).out)
    return path


def rows(text):
    head, *lines = [line.split("\t") for line in text.splitlines()]
    return [dict(zip(head, line)) for line in lines]


def test_models_and_data_sets(run, data, tmp_path, toy_model_file):
    other = tmp_path / "other.fa"
    other.write_text("".join(data.read_text().splitlines(keepends=True)[:40]))
    outcome = run(
        "evaluate",
        "-m",
        "CTCF",
        "-m",
        toy_model_file,
        "--json",
        tmp_path / "r.json",
        "--plot",
        tmp_path / "c.svg",
        "--heatmap",
        tmp_path / "h.svg",
        data,
        other,
    )
    assert outcome.status == 0
    assert outcome.err == (
        f"bertsnr-evaluate: {other}: every window has a site, so metrics over windows are meaningless; "
        "add negatives (cat pos.fa neg.fa)\n"
    )
    table = rows(outcome.out)
    assert [(row["model"], row["data"], row["windows"], row["with_sites"]) for row in table] == [
        ("CTCF", "ctcf", "628", "314"),
        ("TOY", "ctcf", "628", "314"),
        ("CTCF", "other", "20", "20"),
        ("TOY", "other", "20", "20"),
    ]
    assert list(table[0])[4:] == [f"{level}_{name}" for level in ("nucleotide", "sequence") for name in NAMES]
    assert float(table[0]["nucleotide_aupr"]) > 0.9 > 0.5 > float(table[1]["nucleotide_aupr"])
    assert table[2]["sequence_auc"] == "nan"
    report = json.loads((tmp_path / "r.json").read_text())["results"]
    assert [f"{row['nucleotide']['f1']:.4f}" for row in report] == [row["nucleotide_f1"] for row in table]
    assert "AUPR over bases" in (tmp_path / "h.svg").read_text() and "TOY on other" in (tmp_path / "c.svg").read_text()


def test_intervals_contain_the_value(run_here, data):
    (row,) = rows(run_here("evaluate", "-m", "CTCF", "--bootstrap", 200, data).out)
    for level in ("nucleotide", "sequence"):
        for name in NAMES:
            low, value, high = (float(row[f"{level}_{name}{end}"]) for end in ("_low", "", "_high"))
            assert low <= value <= high


@pytest.mark.parametrize("arch", ["deepsnr", "d-aednet"])
def test_baselines_are_models_like_others(run_here, data, genome, arch, tmp_path):
    """Trained, measured, scanned with and turned into motifs by the same commands; attention they have none."""
    positives = tmp_path / "pos.fa"
    positives.write_text("".join(data.read_text().splitlines(keepends=True)[:628]))
    model = tmp_path / "B.pt"
    trained = run_here("train", "--arch", arch, "--epochs", 30, "-o", model, positives)
    assert trained.status == 0, trained.err
    (row,) = rows(run_here("evaluate", "-m", model, data).out)
    assert row["model"] == "B" and float(row["nucleotide_aupr"]) > 0.5  # 0.095 of all bases are labelled
    scan = run_here("predict", "-m", model, "-t", 0.05, DATA / "region.fa")
    assert scan.status == 0 and scan.out
    assert all(line.split("\t")[3] == "B" for line in scan.out.splitlines())
    assert run_here("predict", "-m", model, "-t", 0.05, "--batch-size", 3, DATA / "region.fa").out == scan.out
    assert "MOTIF B" in run_here("motifs", "-m", model, "-t", 0.02, data).out
    outcome = run_here("attn", "-m", model, data)
    assert outcome.status == 1 and outcome.err.endswith(f"the model B has no attention (type {arch})\n")
