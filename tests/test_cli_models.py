import json
import shutil

from bertsnr_tools.cli.models import SHIPPED, properties
from bertsnr_tools.models.files import load_model
from bertsnr_tools.models.registry import WEIGHTS, find_model, shipped_models


def test_the_table_of_shipped_models_agrees_with_the_model_files(request):
    rows = {name: properties(load_model(find_model(name)).info) for name in shipped_models()}
    if request.config.getoption("--update-expected"):
        (WEIGHTS / SHIPPED).write_text(json.dumps(rows, indent=2) + "\n")
    assert json.loads((WEIGHTS / SHIPPED).read_text()) == rows


def test_shipped_models_and_files(run_here, tmp_path, toy_model_file):
    outcome = run_here("models")
    header, *rows = (line.split("\t") for line in outcome.out.splitlines())
    assert outcome.status == 0 and [row[0] for row in rows] == shipped_models()
    assert all(len(row) == len(header) for row in rows)
    ctcf = dict(zip(header, rows[shipped_models().index("CTCF")]))
    info = load_model(ctcf["file"]).info
    assert ctcf["site_width"] == str(info.site_width) and ctcf["p_values"] == "yes" and int(ctcf["positives"]) > 4000
    assert float(ctcf["nucleotide_aupr"]) == round(info.training["validation"]["nucleotide"]["aupr"], 4)
    shutil.copy(WEIGHTS / "CTCF.pt", tmp_path / "mine.pt")
    mine, toy = (line.split("\t") for line in run_here("models", "mine.pt", toy_model_file).out.splitlines()[1:])
    assert mine[:-1] == rows[shipped_models().index("CTCF")][:-1] and mine[-1] == "mine.pt"
    assert toy[0] == "TOY" and toy[5:10] == ["-", "-", "-", "-", "no"]


def test_no_such_model(run_here):
    outcome = run_here("models", "NOPE")
    assert outcome.status == 1 and outcome.out == "" and "NOPE: no such file" in outcome.err
    assert "(shipped: CDX2" in outcome.err
