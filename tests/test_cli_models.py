import shutil

import pytest

from bertsnr_tools.cli.models import table_of_models
from bertsnr_tools.models.files import load_model
from bertsnr_tools.models.registry import TABLE, WEIGHTS, find_model, shipped_files
from conftest import FACTORS


def table(outcome):
    """The rows of a table, by column."""
    assert outcome.status == 0, outcome.err
    header, *rows = (line.split("\t") for line in outcome.out.splitlines())
    assert all(len(row) == len(header) for row in rows)
    return [dict(zip(header, row)) for row in rows]


def test_the_table_of_shipped_models_agrees_with_the_model_files(request):
    if request.config.getoption("--update-expected"):
        (WEIGHTS / TABLE).write_text(table_of_models())
    assert (WEIGHTS / TABLE).read_text() == table_of_models()


def test_shipped_models_and_files(run_here, tmp_path, toy_model_file):
    outcome = run_here("models")
    rows = table(outcome)
    assert outcome.out.startswith("model\tk\twindow\tsite_width\tthreshold\tpositives\tbackground\tnucleotide_aupr\t")
    assert [row["model"] for row in rows[:5]] == ["CDX2", "CTCF", "GATA3", "SRF", "YY1"]
    assert {row["file"] for row in rows} == {find_model(name) for name in shipped_files()}
    ctcf = rows[1]
    info = load_model(ctcf["file"]).info
    assert ctcf["site_width"] == str(info.site_width) and ctcf["p_values"] == "yes" and int(ctcf["positives"]) > 4000
    assert float(ctcf["nucleotide_aupr"]) == round(info.training["validation"]["nucleotide"]["aupr"], 4)
    shutil.copy(WEIGHTS / "CTCF.pt", tmp_path / "mine.pt")
    mine, toy = table(run_here("models", "mine.pt", toy_model_file))
    assert mine == ctcf | {"file": "mine.pt"}
    assert list(toy.values())[:1] + list(toy.values())[5:13] == ["TOY", "-", "-", "-", "-", "no", "no", "-", "-"]


def test_factors_of_a_file(run_here, many_factor_file):
    rows = table(run_here("models", many_factor_file))
    assert [row["model"] for row in rows] == list(FACTORS) and {row["file"] for row in rows} == {str(many_factor_file)}
    assert [row["matrix"] for row in rows] == ["MA0000.1", "MA0001.1", "MA0002.1", "MA0003.1"]
    assert [row["quality"] for row in rows] == ["weak", "fair", "good", "good"]
    assert [row["positives"] for row in rows] == ["100", "101", "102", "103"]
    chosen = table(run_here("models", f"{many_factor_file}:SOX10,SOX2"))
    assert [row["model"] for row in chosen] == ["SOX10", "SOX2"]
    outcome = run_here("models", f"{many_factor_file}:sox2")
    assert outcome.status == 1 and "contains no factor 'sox2'; did you mean SOX2?" in outcome.err


def test_few_validation_windows_do_not_make_a_good_model(run_here):
    rows = table(run_here("models", "human:SREBF2,HSF1,AR"))
    assert [(row["model"], row["quality"]) for row in rows] == [("AR", "good"), ("HSF1", "weak"), ("SREBF2", "few")]
    assert float(rows[2]["nucleotide_aupr"]) == 1


def test_pwms(run_here, tmp_path):
    motif = tmp_path / "m.jaspar"
    motif.write_text(">MA0037.3 GATA3\nA [1 9 0 9]\nC [1 0 0 0]\nG [0 0 0 0]\nT [0 0 9 0]\n")
    [row] = table(run_here("models", "m.jaspar"))
    shown = {name: row[name] for name in ("model", "site_width", "p_values", "positives", "matrix", "file")}
    assert list(shown.values()) == ["GATA3", "4", "yes", "-", "MA0037.3", "m.jaspar"]
    pytest.importorskip("pyjaspar")
    [row] = table(run_here("models", "jaspar2018:CTCF"))
    assert (row["model"], row["matrix"], row["site_width"]) == ("CTCF", "MA0139.1", "19")
    assert row["file"] == "jaspar2018:CTCF" and run_here("models", "jaspar:NOSUCH").status == 1


def test_search(run_here, shipped):
    every = table(run_here("models"))
    assert [row["model"] for row in every] == ["CTCF", *FACTORS]
    assert [row["file"] for row in every] == [str(shipped / "CTCF.pt")] + 4 * [str(shipped / "human.pt")]
    for text, expected in {
        "sox": every[2:4],
        "SOX10": every[3:4],
        "ma0003": every[4:],
        "CTCF": every[:2],
        "human": every[1:],
        "human:SOX2": every[2:3],
        str(shipped / "CTCF.pt"): every[:1],
    }.items():
        assert table(run_here("models", text)) == expected
    assert table(run_here("models", "sox1", "tal1")) == every[3:]


def test_no_such_model(run_here, shipped):
    outcome = run_here("models", "NOPE")
    assert outcome.status == 1 and outcome.out == ""
    assert outcome.err == (
        "bertsnr-models: NOPE: no such file, and no shipped model of that name (see `bertsnr models`)\n"
    )
    assert "did you mean SOX2 or SOX10?" in run_here("models", "SOX3").err
