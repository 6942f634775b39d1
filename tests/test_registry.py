"""Names of models: shipped ones, files, and factors of both."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from bertsnr_tools.errors import DataError, UsageError
from bertsnr_tools.models import batching
from bertsnr_tools.models.batching import token_probabilities
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.registry import (
    ModelChoice,
    factors_of,
    find,
    find_model,
    load_models,
    load_one,
    shipped_factors,
    shipped_models,
)
from conftest import FACTORS


def names(models):
    return [model.info.name for model in models]


def test_names_of_shipped_factors(shipped):
    assert shipped_models() == sorted(FACTORS) and shipped_factors() == dict.fromkeys(FACTORS, "human")
    human = str(shipped / "human.pt")
    for name, choice in {
        "CTCF": ModelChoice(str(shipped / "CTCF.pt")),
        "SOX2": ModelChoice(human, ("SOX2",)),
        "TAL1::TCF3": ModelChoice(human, ("TAL1::TCF3",)),
        "human": ModelChoice(human),
        "human:CTCF": ModelChoice(human, ("CTCF",)),
        "human:SOX10,TAL1::TCF3": ModelChoice(human, ("SOX10", "TAL1::TCF3")),
        "./CTCF": ModelChoice("./CTCF"),
    }.items():
        assert find(name) == choice and find_model(name) == choice.path
    for name, problem in {
        "sox10": r"sox10: no such file, and .* name; did you mean SOX10\? \(see `bertsnr models`\)",
        "Human": r"Human: .*; did you mean human\?",
        "HUMAN:SOX2": r"HUMAN:SOX2: .*; did you mean human:SOX2\?",
        "SOX": "SOX: .*; did you mean SOX2 or SOX10",
        "XYZ": r"XYZ: no such file, and no shipped model of that name \(see `bertsnr models`\)",
        "CTCF,SOX2": r"CTCF,SOX2: .*; for several, give -m CTCF -m SOX2 \(see",
        "human:sox2": r"human: contains no factor 'sox2'; did you mean SOX2\? \(see `bertsnr models human`\)",
        "human:": "human:: expected factors after the colon",
        "human:SOX2,": "human:SOX2,: expected factors after the colon",
        "mouse:SOX2": "mouse:SOX2: no such file",
    }.items():
        with pytest.raises(DataError, match=problem):
            find(name)


def test_paths_with_a_colon(tmp_path, monkeypatch, many_factor_file, shipped):
    monkeypatch.chdir(tmp_path)
    for name in ("my.pt", "a:b.pt"):
        (tmp_path / name).write_bytes(many_factor_file.read_bytes())
    assert find("my.pt:SOX2") == find("my.pt")._replace(factors=("SOX2",)) == ModelChoice("my.pt", ("SOX2",))
    assert find("a:b.pt") == ModelChoice("a:b.pt") and find("a:b.pt:SOX2,CTCF") == ModelChoice(
        "a:b.pt", ("SOX2", "CTCF")
    )
    assert find(f"{tmp_path}/my.pt:TAL1::TCF3").factors == ("TAL1::TCF3",)
    for name in ("my.pt:SOX2", "human:CTCF", "SOX2"):
        (tmp_path / name).write_text("")
    # a file wins over the reading with a colon, a shipped name over a file
    assert find("my.pt:SOX2") == ModelChoice("my.pt:SOX2") and find("human:CTCF") == ModelChoice("human:CTCF")
    assert find("SOX2").path == str(shipped / "human.pt")


def test_factors_share_their_encoder(shipped, many_factor_model):
    models = load_models(["SOX10", "human:SOX2", "human"], Runtime())
    assert names(models) == ["SOX10", "SOX2", "CTCF", "TAL1::TCF3"]
    assert len({id(model.encoder) for model in models}) == len({id(model.shared.model) for model in models}) == 1
    codes = np.random.default_rng(2).integers(0, 4, (3, 100)).astype(np.uint8)
    for model in models:
        whole = many_factor_model.factor(FACTORS.index(model.info.name))
        for one, other in zip(
            token_probabilities(model, codes, Runtime()), token_probabilities(whole, codes, Runtime())
        ):
            assert np.allclose(one, other, atol=0.02)  # the file has half precision


def test_repeats(shipped, many_factor_file, toy_model_file, tmp_path):
    """A model counts once, by whatever name it is given."""
    assert names(load_models(["human:SOX2,SOX2", "SOX2", "human:SOX2"], Runtime())) == ["SOX2"]
    (tmp_path / "link.pt").symlink_to(shipped / "human.pt")
    assert names(load_models(["SOX2", f"{tmp_path}/link.pt:SOX2"], Runtime())) == ["SOX2"]
    (tmp_path / "toy.pt").symlink_to(toy_model_file)
    files = [str(toy_model_file), str(tmp_path / "toy.pt"), f"{toy_model_file}:TOY"]
    assert names(load_models(["CTCF", *files, "CTCF"], Runtime())) == ["CTCF", "TOY"]


def test_equal_names_are_told_apart(shipped, many_factor_file, tmp_path):
    """Sites, signal files and motifs carry the model's name."""
    assert names(load_models(["CTCF", "human"], Runtime())) == ["CTCF", "human:CTCF", *FACTORS[1:]]
    assert names(load_models(["SOX2", f"{many_factor_file}:SOX2,CTCF"], Runtime())) == [
        "human:SOX2",
        "many:SOX2",
        "CTCF",
    ]
    motif = tmp_path / "m.jaspar"
    motif.write_text(">M1 SOX2\nA [ 9 0 0 ]\nC [ 0 9 0 ]\nG [ 0 0 9 ]\nT [ 0 0 0 ]\n")
    models = load_models([str(motif), "human:SOX2"], Runtime())
    assert names(models) == ["SOX2", "human:SOX2"] and models[1].shared.factor == "SOX2"


def test_unknown_factors_of_files(many_factor_file, toy_model_file, tmp_path):
    for file, problem in (
        (many_factor_file, "many.pt: contains no factor 'toy'"),
        (toy_model_file, "did you mean TOY?"),
    ):
        with pytest.raises(DataError, match=problem.replace("?", r"\?")):
            load_models([f"{file}:toy"], Runtime())
    assert names(load_models([f"{toy_model_file}:TOY"], Runtime())) == ["TOY"]
    with pytest.raises(DataError, match="contains no factor 'toy'"):
        load_models([str(many_factor_file), f"{many_factor_file}:toy"], Runtime())
    motif = tmp_path / "m.jaspar"
    motif.write_text(">M1 ONE\nA [ 9 0 ]\nC [ 0 9 ]\nG [ 0 0 ]\nT [ 0 0 ]\n")
    with pytest.raises(DataError, match="factors can be chosen from model files only"):
        load_models([f"{motif}:ONE"], Runtime())


def test_one_model_where_one_is_expected(shipped, many_factor_file):
    assert load_one("human:SOX10", Runtime()).info.name == load_one("SOX10", Runtime()).info.name == "SOX10"
    assert load_one("CTCF", Runtime()).shared is None and load_one("human:CTCF", Runtime()).shared
    for name, advice in {
        "human": "human: 4 factors; choose one, such as human:CTCF",
        "human:SOX10,SOX2": "human:SOX10,SOX2: 2 factors; choose one, such as human:SOX10",
        str(many_factor_file): f"many.pt: 4 factors; choose one, such as {many_factor_file}:CTCF",
    }.items():
        with pytest.raises(UsageError, match=advice):
            load_one(name, Runtime())


def test_replicas_share_an_encoder_too(shipped):
    devices = (torch.device("cpu"), torch.device("cpu"))
    one, other = load_models(["human:SOX2,CTCF"], Runtime(devices))
    (replica,) = one.shared.model.replicas
    assert replica is one.replicas[0].shared.model is other.replicas[0].shared.model is not one.shared.model
    assert one.replicas[0].info.name == "SOX2" and replica.infos[other.shared.number].name == "CTCF"


def test_factors_of_a_name(shipped, many_factor_file, toy_model_file):
    assert factors_of("human") == factors_of(str(many_factor_file)) == list(FACTORS)
    assert factors_of("CTCF") == ["CTCF"] and factors_of("human:SOX2,CTCF") == ["SOX2", "CTCF"]
    assert factors_of(f"{many_factor_file}:SOX2") == ["SOX2"] and factors_of(str(toy_model_file)) == ["TOY"]


def test_names_need_no_torch():
    code = (
        "import sys; from bertsnr_tools.models.registry import find, shipped_models; "
        "assert find('CTCF') and 'CTCF' in shipped_models() and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("limit", [1, 2 * 300, 1 << 25])
def test_probabilities_of_several_models(many_factor_model, toy_model, monkeypatch, limit):
    """Whatever fits into the memory at once, and for any choice of factors, they are the same."""
    monkeypatch.setattr(batching, "MAX_PROBABILITIES", limit)
    models = [many_factor_model.factor(2), many_factor_model.factor(0), toy_model, many_factor_model.factor(3)]
    codes = np.random.default_rng(4).integers(0, 4, (3, 100)).astype(np.uint8)
    found = list(batching.probabilities_of_models(models, codes, Runtime()))
    assert len(found) == len(models)
    for model, probabilities in zip(models, found):
        for one, other in zip(probabilities, token_probabilities(model, codes, Runtime())):
            assert one.shape == other.shape and np.allclose(one, other, atol=1e-5)
        (alone,) = batching.probabilities_of_models([model], codes, Runtime())
        assert all(np.array_equal(one, other) for one, other in zip(probabilities, alone))


def test_motifs_of_jaspar_are_models(shipped, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO")
    assert find("jaspar:GATA3") == ModelChoice("jaspar:GATA3") and factors_of("JASPAR2022:MA0037.2") == ["GATA3"]
    assert not caplog.messages  # an id with its version is a single profile
    assert load_one("jaspar2020:srf", Runtime()).info.name == "SRF"
    loaded = load_models(["jaspar2020:CTCF,MA0139", "jaspar:MA0139.2", "CTCF"], Runtime())
    assert names(loaded) == ["CTCF_MA0139.1", "CTCF_MA0139.1-2", "CTCF_MA0139.2", "CTCF"]
    with pytest.raises(UsageError, match="jaspar:SRF,YY1: contains 2 matrices; expected one"):
        load_one("jaspar:SRF,YY1", Runtime())
    (tmp_path / "jaspar:SRF").write_text(">M1 MINE\n" + "1 9 9 9 9\n" * 4)
    assert names(load_models(["jaspar:SRF"], Runtime())) == ["MINE"]  # a file of that name wins


@pytest.mark.parametrize("command", [["predict"], ["evaluate"], ["motifs"]])
def test_commands_take_names_of_jaspar(run, command):
    windows = ">w1 site=40-59\n" + "ACGT" * 10 + "TGGCCACCAGGGGGCGCTA" + "ACGT" * 10 + "A\n"
    outcome = run(*command, "-m", "jaspar2020:ctcf", "-", stdin=windows.encode())
    assert outcome.status == 0 and "CTCF" in outcome.out
    message = "jaspar2020:ctcf: uses MA0139.1 (CTCF); others: MA0531.1"
    assert outcome.err.splitlines()[0] == f"bertsnr-{command[0]}: {message}"
    outcome = run(*command, "-m", "jaspar:CTCFF", "-", stdin=windows.encode())
    message = "jaspar:CTCFF: no profile 'CTCFF' in this release of JASPAR; did you mean CTCF or CTCFL or "
    assert (outcome.status, outcome.out) == (1, "") and message in outcome.err and outcome.err.count("\n") == 1
