"""Files with several encoders: each factor is served by the last one that has it, as if by a file of its own."""

import gzip

import numpy as np
import pytest
import torch

from bertsnr_tools.errors import DataError
from bertsnr_tools.models.batching import probabilities_of_models, token_probabilities
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.files import load_factors, save_model
from bertsnr_tools.models.interface import ModelInfo
from bertsnr_tools.models.many_factor import ManyFactorModel, general_model, shared_model
from bertsnr_tools.models.pretrained import model_encoder
from bertsnr_tools.models.registry import load_models

NAMES = ["F5", "F8", "F9", "F12", "F21", "F30"]
REPLACED = ("F21", "F8")


@pytest.fixture(scope="module")
def files(toy_factors, tmp_path_factory):
    """Model files: of all factors ("general"), of the replaced ones ("better"), and of both ("group")."""
    directory = tmp_path_factory.mktemp("groups")
    paths = {name: str(directory / f"{name}.pt") for name in ("general", "better", "group")}
    torch.manual_seed(11)
    encoder = toy_factors.info.encoder
    better = ManyFactorModel([ModelInfo(name, 3, 100, encoder, 10, threshold=0.4) for name in REPLACED])
    with torch.no_grad():
        for parameter in better.parameters():
            parameter.mul_(3 if parameter.dim() > 1 else 1)
        better.token_head.bias.fill_(-2.0)
    save_model(paths["general"], toy_factors)
    save_model(paths["better"], better)
    general, replacing = (load_factors(paths[name])[0].shared.model for name in ("general", "better"))
    general.group = [general, replacing]
    save_model(paths["group"], general)
    return paths


@pytest.fixture(scope="module")
def region(tmp_path_factory):
    letters = np.frombuffer(b"ACGT", np.uint8)[np.random.default_rng(3).integers(0, 4, 4000)]
    path = tmp_path_factory.mktemp("region") / "r.fa"
    path.write_bytes(b">chr1\n" + letters.tobytes() + b"\n")
    return path


def test_each_factor_is_served_by_the_last_encoder_that_has_it(files, tmp_path):
    again = str(tmp_path / "again.pt")
    save_model(again, shared_model(load_factors(files["group"])[0]))
    for path in (files["group"], again):
        models = load_factors(path)
        general, better = models[0].shared.model.group
        assert [model.info.name for model in models] == NAMES
        assert [model.shared.model is better for model in models] == [name in REPLACED for name in NAMES]
        assert all(general_model(model) is general for model in models)
        assert [model.info.threshold for model in models] == [0.4 if name in REPLACED else 0.5 for name in NAMES]
    assert load_factors(files["group"], ["F8"])[0].shared.model.info.name == "F21"
    general = load_factors(files["general"])[0].encoder.state_dict()
    of_group = model_encoder(files["group"]).weights
    assert all(torch.equal(value, of_group[name]) for name, value in general.items())


def sites(run, region, model, *options):
    outcome = run("predict", "-q", "-@", "1", "-m", model, *options, region)
    assert outcome.status == 0, outcome.err
    return [line for line in outcome.out.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("options", [(), ("--format", "narrowpeak", "-t", "0.3")])
def test_sites_are_those_of_files_with_one_encoder(run, region, files, options):
    found = sites(run, region, files["group"], *options)
    general, better = (sites(run, region, files[name], *options) for name in ("general", "better"))
    expected = [line for line in general if line.split("\t")[3] not in REPLACED] + better
    assert sorted(found) == sorted(expected)
    assert {line.split("\t")[3] for line in better} == set(REPLACED) < {line.split("\t")[3] for line in found}
    assert better != [line for line in general if line.split("\t")[3] in REPLACED]
    some = sites(run, region, f"{files['group']}:F8,F30", *options)
    assert some == [line for line in found if line.split("\t")[3] in ("F8", "F30")]


def test_signal_is_that_of_files_with_one_encoder(run, region, files, tmp_path):
    pytest.importorskip("pyBigWig")
    for name, path in files.items():
        run("predict", "-q", "-@", "1", "-m", path, "--bigwig", tmp_path / f"{name}.{{}}.bw", region)
    for factor in NAMES:
        source = "better" if factor in REPLACED else "general"
        group, alone = ((tmp_path / f"{name}.{factor}.bw").read_bytes() for name in ("group", source))
        assert group == alone


@pytest.mark.parametrize("most", [10**9, 1500])
def test_probabilities_are_in_the_order_of_the_models(files, monkeypatch, most):
    """Also if memory suffices for a few factors at a time only."""
    monkeypatch.setattr("bertsnr_tools.models.batching.MAX_PROBABILITIES", most)
    codes = np.random.default_rng(2).integers(0, 4, (5, 100)).astype(np.uint8)
    models = load_factors(files["group"])[::-1]
    for model, found in zip(models, probabilities_of_models(models, codes, Runtime()), strict=True):
        for one, other in zip(found, token_probabilities(model, codes, Runtime())):
            assert np.allclose(one, other, atol=1e-6)


def test_motifs_and_variants_read_all_encoders(run, region, files, tmp_path):
    for name in files:
        run("motifs", "-q", "-m", files[name], "-o", tmp_path / f"{name}.meme", region)
    motifs = {name: dict(_motifs((tmp_path / f"{name}.meme").read_text())) for name in files}
    assert motifs["group"] == {**motifs["general"], **motifs["better"]} and motifs["better"]
    sequence = "".join(region.read_text().splitlines()[1:])
    alts = ",".join(sorted(set("ACGT") - {sequence[1999]}))
    header = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    (tmp_path / "v.vcf").write_text(f"{header}chr1\t2000\t.\t{sequence[1999]}\t{alts}\t.\t.\t.\n")
    tables = {}
    for name, path in files.items():
        run("variants", "-q", "-m", path, "-f", region, "--format", "tsv", "-o", tmp_path / name, tmp_path / "v.vcf")
        tables[name] = (tmp_path / name).read_text().splitlines()[1:]
    in_better = [line for line in tables["general"] if not set(REPLACED) & set(line.split("\t"))] + tables["better"]
    assert sorted(tables["group"]) == sorted(in_better) and len(in_better) > 3


def _motifs(meme):
    """Name and text of each motif."""
    return [(part.split()[0], part) for part in meme.split("MOTIF ")[1:]]


def test_every_encoder_has_replicas(files):
    models = load_models([files["group"]], Runtime((torch.device("cpu"), torch.device("cpu"))))
    for model in models:
        (replica,) = model.shared.model.replicas
        assert replica is model.replicas[0].shared.model is not model.shared.model


def test_damaged_groups_are_refused(files, tmp_path):
    content = torch.load(files["group"], weights_only=True)
    path = str(tmp_path / "x.pt")
    for others, problem in (
        (3, "'others' is of type int, expected list"),
        ([3], "'factors' or 'weights' is missing"),
        ([content["others"][0] | {"factors": [content["others"][0]["factors"][0]] * 2}], "two factors have one name"),
        ([content["others"][0] | {"weights": {}}], "weights do not match it"),
    ):
        torch.save(content | {"others": others}, path)
        with pytest.raises(DataError, match=problem):
            load_factors(path)
    for factor in content["others"][0]["factors"]:
        factor["name"] += "x"
    torch.save(content, path)
    with pytest.raises(DataError, match="contains no factor 'F21x'"):
        load_factors(path)


def test_training_starts_from_the_encoder_of_a_file(run, files, tmp_path):
    letters = np.array(list("ACGT"))[np.random.default_rng(5).integers(0, 4, (30, 100))]
    records = [f">w::chr{row}:100-200 site=40-52\n{''.join(bases)}\n" for row, bases in enumerate(letters)]
    with gzip.open(tmp_path / "w.fa.gz", "wt") as stream:
        stream.writelines(records)
    options = ("-q", "-o", tmp_path / "m.pt", "--epochs", 1, "--lr", 1e-9, tmp_path / "w.fa.gz")
    assert run("train", "--encoder", files["group"], *options).status == 0
    trained, given = load_factors(str(tmp_path / "m.pt"))[0], model_encoder(files["group"]).weights
    for name, value in trained.encoder.state_dict().items():
        assert torch.allclose(value, given[name], atol=1e-6)
    outcome = run("train", "--encoder", files["group"], "-k", 4, *options)
    assert outcome.status == 2 and "reads 3-mers" in outcome.err
    assert run("train", "--arch", "deepsnr", *options).status == 0
    outcome = run("train", "--encoder", tmp_path / "m.pt", "-o", tmp_path / "n.pt", tmp_path / "w.fa.gz")
    assert outcome.status == 1 and "m.pt: contains a deepsnr network, which has no encoder" in outcome.err
