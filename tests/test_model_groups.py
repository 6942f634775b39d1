"""Files with several encoders: the logits of a factor are a weighted mean over the encoders that have it."""

import gzip
import itertools

import numpy as np
import pytest
import torch

from bertsnr_tools.errors import DataError
from bertsnr_tools.models.batching import probabilities_of_models, token_probabilities
from bertsnr_tools.models.bertsnr import token_ids
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.files import load_factors, save_model
from bertsnr_tools.models.interface import ModelInfo
from bertsnr_tools.models.many_factor import ManyFactorModel, general_model, joined, shared_model
from bertsnr_tools.models.onehot import OneHotModule
from bertsnr_tools.models.pretrained import model_encoder
from bertsnr_tools.models.registry import load_models
from bertsnr_tools.sequence.encoding import CODE_LETTERS

NAMES = ["F5", "F8", "F9", "F12", "F21", "F30"]
SPECIAL = ("F21", "F8")


@pytest.fixture(scope="module")
def files(toy_factors, tmp_path_factory):
    """Model files: of all factors ("general"), of some ("special"), and of both ("group")."""
    directory = tmp_path_factory.mktemp("groups")
    paths = {name: str(directory / f"{name}.pt") for name in ("general", "special", "group")}
    torch.manual_seed(11)
    encoder = toy_factors.info.encoder
    special = ManyFactorModel([ModelInfo(name, 3, 100, encoder, 10, threshold=0.4) for name in SPECIAL])
    with torch.no_grad():
        for parameter in special.parameters():
            parameter.mul_(3 if parameter.dim() > 1 else 1)
        special.token_head.bias.fill_(-2.0)
    save_model(paths["general"], toy_factors)
    save_model(paths["special"], special)
    save_model(paths["group"], joined([load_factors(paths[name])[0].shared.model for name in ("general", "special")]))
    return paths


def test_encoders_of_different_sizes(toy_factors, tmp_path):
    """The description of a factor is of the encoder that all share; its own file has both."""
    config = {**toy_factors.info.encoder, "num_hidden_layers": toy_factors.info.encoder["num_hidden_layers"] + 1}
    config["layer_types"] = ["full_attention"] * config["num_hidden_layers"]
    config.pop("global_attn_every_n_layers", None)
    special = ManyFactorModel([ModelInfo("F8", 3, 100, config, 10)])
    save_model(str(tmp_path / "both.pt"), joined([toy_factors, special]))
    (both,) = load_factors(str(tmp_path / "both.pt"), ["F8"])
    assert both.info.encoder == toy_factors.info.encoder and both.other.info.encoder == config
    save_model(str(tmp_path / "F8.pt"), both)
    (alone,) = load_factors(str(tmp_path / "F8.pt"))
    with torch.inference_mode():
        assert torch.equal(alone(token_ids(codes(), 3))[1], both(token_ids(codes(), 3))[1])


@pytest.fixture(scope="module")
def region(tmp_path_factory):
    letters = np.frombuffer(b"ACGT", np.uint8)[np.random.default_rng(3).integers(0, 4, 4000)]
    path = tmp_path_factory.mktemp("region") / "r.fa"
    path.write_bytes(b">chr1\n" + letters.tobytes() + b"\n")
    return path


def codes(count=5):
    return np.random.default_rng(2).integers(0, 4, (count, 100)).astype(np.uint8)


def logits(path, name):
    """Of the model of a factor alone."""
    (model,) = load_factors(path, [name])
    with torch.inference_mode():
        return model(token_ids(codes(), 3))


def test_logits_are_weighted_means(files, tmp_path):
    again = str(tmp_path / "again.pt")
    save_model(again, shared_model(load_factors(files["group"])[0]))
    for path in (files["group"], again):
        models = load_factors(path)
        assert [model.info.name for model in models] == NAMES
        assert [model.info.threshold for model in models] == [0.4 if name in SPECIAL else 0.5 for name in NAMES]
        assert [info.threshold for info in general_model(models[0]).infos] == [0.5] * len(NAMES)
        with torch.inference_mode():
            together = models[0].shared.model(token_ids(codes(), 3))
        for number, model in enumerate(models):
            own = logits(path, model.info.name)
            expected = logits(files["general"], model.info.name)
            if model.info.name in SPECIAL:
                other = logits(files["special"], model.info.name)
                assert not torch.allclose(expected[1], other[1], atol=0.1)
                expected = [a / 3 + b * 2 / 3 for a, b in zip(expected, other)]
            for one, all_, mean in zip(own, together, expected):
                assert torch.allclose(one, mean, atol=1e-5) and torch.allclose(all_[..., number], mean, atol=1e-5)
    general = load_factors(files["general"])[0].encoder.state_dict()
    of_group = model_encoder(files["group"]).weights
    assert all(torch.equal(value, of_group[name]) for name, value in general.items())


def sites(run, region, model, *options):
    outcome = run("predict", "-q", "-@", "1", "-m", model, *options, region)
    assert outcome.status == 0, outcome.err
    return [line for line in outcome.out.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("options", [(), ("--format", "narrowpeak", "-t", "0.3")])
def test_sites_do_not_depend_on_the_chosen_factors(run, region, files, options, tmp_path):
    found = sites(run, region, files["group"], *options)
    general, special = (sites(run, region, files[name], *options) for name in ("general", "special"))

    def of(lines, *names):
        return [line for line in lines if line.split("\t")[3] in names]

    others = [name for name in NAMES if name not in SPECIAL]
    assert of(found, *others) == of(general, *others)
    assert of(found, *SPECIAL) and of(found, *SPECIAL) not in (of(general, *SPECIAL), special)
    for chosen in (["F8", "F30"], ["F21"], ["F9", "F5"]):
        assert sites(run, region, f"{files['group']}:{','.join(chosen)}", *options) == of(found, *chosen)
    save_model(str(tmp_path / "F8.pt"), load_factors(files["group"], ["F8"])[0])
    of_file = sites(run, region, tmp_path / "F8.pt", *options)
    for line, expected in zip(of_file, of(found, "F8"), strict=True):
        # heads of one and of many factors sum in another order, which may show in the last digit
        columns, others = line.split("\t"), expected.split("\t")
        assert columns[:4] + columns[5:6] == others[:4] + others[5:6]
        score, *rest = (abs(float(a) - float(b)) for a, b in zip(columns[4:5] + columns[6:], others[4:5] + others[6:]))
        assert score <= 1 and all(value < 1.5e-4 for value in rest)


@pytest.mark.parametrize("most", [10**9, 1500])
def test_probabilities_are_in_the_order_of_the_models(files, monkeypatch, most):
    """Also if memory suffices for a few factors at a time only."""
    monkeypatch.setattr("bertsnr_tools.models.batching.MAX_PROBABILITIES", most)
    models = load_factors(files["group"])[::-1]
    for precision in ("fp32", "auto"):
        runtime = Runtime.choose("cpu", precision)
        for model, found in zip(models, probabilities_of_models(models, codes(), runtime), strict=True):
            for one, other in zip(found, token_probabilities(model, codes(), runtime)):
                assert np.allclose(one, other, atol=1e-6 if precision == "fp32" else 0.01)
            expected = logits(files["group"], model.info.name)[1].sigmoid().numpy()
            assert np.allclose(found[1], expected, atol=1e-5 if precision == "fp32" else 0.05)


def test_gradients_reach_both_encoders(files):
    (model,) = load_factors(files["group"], ["F8"])
    letters = np.frombuffer(CODE_LETTERS, np.uint8)[codes()]
    onehot = torch.from_numpy(np.stack([letters == letter for letter in b"ACGT"], axis=1).astype(np.float32))
    module = OneHotModule(model)
    found = module(onehot)
    assert torch.allclose(found[:, 0], logits(files["group"], "F8")[0], atol=1e-4)
    found.sum().backward()
    for part in (model, model.other):
        assert part.token_embedding.weight.grad.abs().sum() > 0


def test_motifs_and_variants_read_all_encoders(run, region, files, tmp_path):
    sequence = "".join(region.read_text().splitlines()[1:])
    alts = ",".join(sorted(set("ACGT") - {sequence[1999]}))
    header = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    (tmp_path / "v.vcf").write_text(f"{header}chr1\t2000\t.\t{sequence[1999]}\t{alts}\t.\t.\t.\n")
    models = {"group": files["group"], "general": files["general"]}
    models |= {name: f"{files['group']}:{name}" for name in NAMES}
    motifs, tables = {}, {}
    for name, path in models.items():
        motifs[name] = run("motifs", "-q", "-m", path, region).out.split("MOTIF ")[1:]
        run("variants", "-q", "-m", path, "-f", region, "--format", "tsv", "-o", tmp_path / name, tmp_path / "v.vcf")
        tables[name] = (tmp_path / name).read_text().splitlines()[1:]
    for found in (motifs, tables):
        assert sorted(found["group"]) == sorted(itertools.chain(*(found[name] for name in NAMES))) != []
        different = {text.split()[0] for text in set(found["group"]) - set(found["general"])}
        assert different == set(SPECIAL) or found is tables and found["group"] != found["general"]


def test_every_encoder_has_replicas(files):
    models = load_models([files["group"]], Runtime((torch.device("cpu"), torch.device("cpu"))))
    many = shared_model(models[0])
    (replica,) = many.replicas
    assert replica is models[3].replicas[0].shared.model is not many and len(replica.specialists) == 1
    for one, other in zip(many.group, replica.group, strict=True):
        assert one.replicas == [other] and one is not other
    assert many.for_factors([0]).replicas[0].specialists == [] == many.for_factors([0]).specialists
    assert many.for_factors([0, 1]) is many


def test_damaged_groups_are_refused(files, tmp_path):
    content = torch.load(files["group"], weights_only=True)
    path = str(tmp_path / "x.pt")
    for others, problem in (
        (3, "'others' is of type int, expected list"),
        ([3], "'factors' or 'weights' is missing"),
        ([content["others"][0] | {"factors": [content["others"][0]["factors"][0]] * 2}], "two factors have one name"),
        ([content["others"][0] | {"weights": {}}], "weights do not match it"),
        ([content["others"][0] | {"window": 90}], "encoders read windows or k-mers of different lengths"),
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
    outcome = run("train", "--encoder", tmp_path / "m.pt", *options)
    assert outcome.status == 2 and "m.pt: is also an input" in outcome.err
    assert run("train", "--arch", "deepsnr", *options).status == 0
    outcome = run("train", "--encoder", tmp_path / "m.pt", "-o", tmp_path / "n.pt", tmp_path / "w.fa.gz")
    assert outcome.status == 1 and "m.pt: contains a deepsnr network, which has no encoder" in outcome.err
