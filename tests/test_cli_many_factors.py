"""Every command that takes models takes a many-factor model."""

import dataclasses
import json
import random
import re

import numpy as np
import pytest

import bertsnr_tools as bt
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.motifs import model_source
from conftest import DATA, FACTORS


@pytest.fixture
def windows(tmp_path):
    """Twenty windows of 100 bp, half of them with a site, as SOX2.fa and SOX10.test.fa."""
    rng = random.Random(3)
    records = []
    for number in range(20):
        site = f" site={number}-{number + 9}" if number % 2 else ""
        records.append(f">w{number}{site}\n{''.join(rng.choices('ACGT', k=100))}\n")
    for name in ("SOX2.fa", "SOX10.test.fa"):
        (tmp_path / name).write_text("".join(records))
    return tmp_path / "SOX2.fa"


def names(text, column):
    return [line.split("\t")[column] for line in text.splitlines()]


def test_a_scan_for_all_factors(run_here, shipped, windows, tmp_path):
    every = run_here("predict", "-m", "human", windows)
    assert every.status == 0, every.err
    assert len(set(names(every.out, 3))) > 1 and set(names(every.out, 3)) <= set(FACTORS)
    two = run_here("predict", "-m", "human:SOX10,TAL1::TCF3", windows).out.splitlines()
    assert two and two == [line for line in every.out.splitlines() if line.split("\t")[3] in ("SOX10", "TAL1::TCF3")]
    ordered = run_here("predict", "-m", "TAL1::TCF3", "-m", "SOX10", windows).out.splitlines()
    assert ordered == two


def test_names_that_two_models_have(run_here, shipped, windows, tmp_path):
    """The single-factor CTCF and the factor of the shipped model: names of sites and of signal files differ."""
    outputs = ("-o", "s.bed", "--bigwig", "{}.bw", "--bedgraph", "{}.bg")
    outcome = run_here("predict", "-m", "CTCF", "-m", "human", *outputs, "-t", 0.1, DATA / "region.fa")
    assert outcome.status == 0, outcome.err
    assert {"CTCF", "human:CTCF"} <= set(names((tmp_path / "s.bed").read_text(), 3))
    written = {path.name for kind in ("bw", "bg") for path in tmp_path.glob(f"*.{kind}")}
    assert written == {f"{name}.{kind}" for name in ("human:CTCF", *FACTORS) for kind in ("bw", "bg")}
    outcome = run_here("predict", "-m", "human", "--bigwig", "x.bw", windows)
    assert outcome.status == 2 and "--bigwig x.bw: with 4 models, put {} into the file name" in outcome.err


def test_evaluation_of_all_factors(run_here, shipped, windows):
    outcome = run_here("evaluate", "-m", "human", "--heatmap", "h.png", windows)
    assert outcome.status == 0, outcome.err
    assert names(outcome.out, 0) == ["model", *FACTORS]
    own = run_here("evaluate", "-m", "human", "--by-name", windows, "SOX10.test.fa")
    lines = [line.split("\t")[:2] for line in own.out.splitlines()[1:]]
    assert lines == [["SOX2", "SOX2"], ["SOX10", "SOX10.test"]]
    assert own.out.splitlines()[1] == outcome.out.splitlines()[2]
    assert run_here("evaluate", "-m", "human", "--by-name", "--heatmap", "h.png", windows).status == 2
    assert run_here("evaluate", "-m", "CTCF", "--by-name", windows).status == 2


def test_a_motif_for_each_factor(run_here, shipped, windows, monkeypatch):
    every = run_here("motifs", "-m", "human", "-t", 0.4, windows)
    assert every.status == 0, every.err
    made = re.findall(r"MOTIF (\S+)\n.* w= (\d+)", every.out)
    assert len(made) > 1 and set(made) <= {(name, str(8 + number)) for number, name in enumerate(FACTORS)}
    alone = run_here("motifs", "-m", made[1][0], "-t", 0.4, windows).out
    assert alone[alone.index("MOTIF") :] in every.out
    for strand in ((), ("--forward",)):
        whole = run_here("motifs", "-m", "human", "-t", 0.4, *strand, windows)
        with monkeypatch.context() as small:  # two factors at once, and blocks of a few records
            small.setattr(model_source, "MAX_SCORES", 2000)
            small.setattr(model_source, "BLOCK_BASES", 500)
            assert run_here("motifs", "-m", "human", "-t", 0.4, *strand, windows) == whole
    none = run_here("motifs", "-m", "human", "-m", "CTCF", "-t", 0.4, windows)
    assert re.search(r"bertsnr-motifs: \d of 5 motifs without instances: (.*, )?CTCF\n", none.err)


def test_attention_and_teachers_are_of_one_factor(run_here, shipped, windows, tmp_path):
    attention = run_here("attn", "-m", "human:SOX2", windows)
    assert attention.status == 0 and attention.out == run_here("attn", "-m", "SOX2", windows).out
    records = windows.read_text().split(">")[2::2]
    (tmp_path / "pos.fa").write_text("".join(f">{record}" for record in records))
    train = ("train", "--epochs", 1, "--name", "X", "-o", "X.pt", "--json", "X.json", "pos.fa")
    for command in (("attn", windows, "-m"), (*train, "--teacher")):
        outcome = run_here(*command, "human")
        assert outcome.status == 2 and outcome.out == ""
        assert outcome.err.endswith(": human: 4 factors; choose one, such as human:CTCF\n")
    assert run_here(*train, "--teacher", "SOX2", "--teacher", "human:SOX10").status == 0
    assert json.loads((tmp_path / "X.json").read_text())["data"]["teachers"] == ["SOX2", "human:SOX10"]


def test_python(shipped, windows, many_factor_file):
    runtime = Runtime()
    assert bt.load_model("SOX10", runtime=runtime).name == bt.load_model("human:SOX10", runtime=runtime).name == "SOX10"
    assert bt.load_model(f"{many_factor_file}:SOX2", runtime=runtime).info.site_width == 9
    models = bt.load_models(["human"], runtime=runtime)
    assert [model.name for model in models] == list(FACTORS) and set(bt.shipped_models()) == set(FACTORS)
    sites, alone = (
        [(site.chrom, site.start, site.end, site.strand) for site in bt.scan(chosen, windows) if site.name == "SOX2"]
        for chosen in (models, models[1:2])
    )
    assert sites and sites == alone
    with pytest.raises(bt.UsageError, match="human: 4 factors; choose one"):
        bt.load_model("human", runtime=runtime)


def test_one_factor_is_saved_alone(shipped, tmp_path):
    model = bt.load_model("SOX2", runtime=Runtime())
    model.save(tmp_path / "S.pt")
    again = bt.load_model(tmp_path / "S.pt", runtime=Runtime())
    assert again.info == model.info and again.network.shared is None
    sequence = ["ACGTTGCAAC" * 12]
    assert (again.predict_bases(sequence)[0] == model.predict_bases(sequence)[0]).all()


def test_factors_are_called_by_p_value_by_default(many_factor_model):
    """One of several hundred factors at a probability of 0.5 would be called in every kilobase."""
    from bertsnr_tools.predict.significance import NullDistribution
    from bertsnr_tools.predict.thresholds import CallingRule

    model = many_factor_model.factor(0)
    assert CallingRule.for_model(model) == CallingRule(model.info.threshold)
    levels = np.linspace(0.001, 0.999, 2000)
    model.info = dataclasses.replace(model.info, null=NullDistribution.fit(levels, 100).as_dict())
    rule = CallingRule.for_model(model)
    assert rule == CallingRule.for_model(model, ("p", 0.01)) and rule.min_call_level == pytest.approx(0.989, abs=0.002)
    assert CallingRule.for_model(model, ("probability", 0.5)) == CallingRule(0.5)
