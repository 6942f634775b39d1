"""No tensor is left on the wrong device: every model path on a GPU that does not exist.

`FakeTensorMode` checks shapes and devices as a GPU would, and computes nothing.
"""

import contextlib
import ctypes
from collections import defaultdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily

from bertsnr_tools.attention import HeadChoice, attention_maps, cls_attention
from bertsnr_tools.errors import DeviceError
from bertsnr_tools.io.intervals import Interval
from bertsnr_tools.models.baselines import BaselineModel, baseline_config
from bertsnr_tools.models.batching import base_probabilities, probabilities_of_models, token_probabilities
from bertsnr_tools.models.bertsnr import BertSNR
from bertsnr_tools.models.binding import BindingHeads, feature_count
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.encoder import compact_config
from bertsnr_tools.models.interface import ModelInfo
from bertsnr_tools.models.many_factor import ManyFactorModel
from bertsnr_tools.models.registry import load_models
from bertsnr_tools.predict.accessible import CENTER_DISTANCE, AccessibleSites
from bertsnr_tools.predict.calling import CalledSite
from bertsnr_tools.predict.chunks import Chunk
from bertsnr_tools.predict.model_scan import Called
from bertsnr_tools.predict.prefetch import prefetch
from bertsnr_tools.predict.prefilter import passing_windows
from bertsnr_tools.predict.scan import Scanner
from bertsnr_tools.predict.significance import NullDistribution, factor_call_levels
from bertsnr_tools.predict.thresholds import CallingRule
from bertsnr_tools.sequence.windows import Windows
from bertsnr_tools.training import optimization
from bertsnr_tools.training.checkpoint import Checkpoint
from bertsnr_tools.training.config import Recipe
from bertsnr_tools.training.data import TrainingData
from bertsnr_tools.training.factors import EpochWindows, FactorData
from bertsnr_tools.training.fit import Trainer, fit, validate
from bertsnr_tools.training.many_factor import ManyFactorTrainer, fit_many, validation_aupr
from bertsnr_tools.training.many_run import factor_metrics
from bertsnr_tools.training.optimization import COMPILED_STEPS
from bertsnr_tools.training.prefilter import _fit
from bertsnr_tools.variation.alleles import Change, Edit
from bertsnr_tools.variation.scoring import VariantScorer

GPU = torch.device("cuda", 0)
PREFILTER = {"shortest": 10, "flank": 30, "cut": 0.0}
BERT = {
    "model_type": "bert", "vocab_size": 69, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 32, "max_position_embeddings": 102,
}  # fmt: skip
ENCODERS = {"compact": compact_config(3, 100), "bert": BERT, "deepsnr": baseline_config("deepsnr")}
ENCODERS["modernbert"] = compact_config(3, 100) | {"attention_dropout": 0.1}  # of transformers
ENCODERS["d-aednet"] = baseline_config("d-aednet")


CUDA, META = 1, 14  # in c10/core/DeviceType.h


@pytest.fixture
def fake_gpu(monkeypatch):
    """Every tensor that the test makes is fake; the values that leave torch are zeros, and have to be on the CPU."""
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    guards = (ctypes.c_void_p * (META + 1)).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    own = guards[CUDA]
    guards[CUDA] = own or guards[META]  # a build without CUDA has none, and asks it for the current device

    def zeros(tensor):
        assert tensor.device.type == "cpu", "a tensor on a GPU has no numpy array"
        return np.zeros(tensor.shape, dtype=str(tensor.dtype).removeprefix("torch."))

    monkeypatch.setattr(FakeTensor, "numpy", zeros)
    monkeypatch.setattr(FakeTensor, "__float__", lambda _: 0.0)
    monkeypatch.setattr(torch.Tensor, "backward", lambda _: None)  # needs a driver
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "Event", lambda: SimpleNamespace(record=lambda: None, synchronize=lambda: None))
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    with FakeTensorMode():
        yield
    guards[CUDA] = own


def codes():
    return np.random.default_rng(1).integers(0, 4, (5, 100)).astype(np.uint8)


def make_model(kind, prefilter=False):
    """A model on the fake GPU; its weights are drawn on the CPU, because drawing reads values."""
    k = 1 if kind in ("deepsnr", "d-aednet") else 3
    info = ModelInfo("TOY", k, 100, ENCODERS[kind], 8, prefilter=PREFILTER if prefilter else {})
    with unset_fake_temporarily():
        model = BertSNR(info) if k == 3 else BaselineModel(info)
    return on_gpu(model)


def on_gpu(model):
    return on_device(model, GPU).eval()


def on_device(model, device):
    for part in model.modules():
        for name, parameter in part.named_parameters(recurse=False):
            setattr(part, name, torch.nn.Parameter(torch.empty(parameter.shape, device=device)))
        for name, buffer in part.named_buffers(recurse=False):
            setattr(part, name, torch.empty(buffer.shape, dtype=buffer.dtype, device=device))
    return model


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("kind", ENCODERS)
def test_probabilities(fake_gpu, kind, precision):
    model = make_model(kind)
    assert model.device == GPU
    runtime = Runtime((GPU,), precision, 2)
    assert token_probabilities(model, codes(), runtime)[1].shape[0] == 5
    assert base_probabilities(model, codes(), runtime).shape == (5, 100)


def test_a_cpu_shares_no_work():
    with pytest.raises(DeviceError, match="several GPUs"):
        Runtime.choose("cpu,cpu")


def test_scoring_on_a_gpu_is_without_dropout(fake_gpu):
    model = make_model("compact").train()
    token_probabilities(model, codes(), Runtime((GPU,), "fp32"))
    assert not model.training


def test_weights_on_a_gpu_are_prepared_again_when_they_change(fake_gpu):
    model = make_model("compact")
    first = model.inference_function("bf16")
    assert model.inference_function("bf16") is first
    with torch.no_grad():
        model.token_head.weight.add_(1)
    assert model.inference_function("bf16") is not first


def make_factors(kind="compact"):
    """A model of four factors on the fake GPU."""
    infos = [ModelInfo(f"F{number}", 3, 100, ENCODERS[kind], 8 + number // 2) for number in range(4)]
    with unset_fake_temporarily():
        model = ManyFactorModel(infos)
    return on_gpu(model)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("kind", ["compact", "bert"])
def test_all_factors(fake_gpu, kind, precision, monkeypatch):
    model, runtime = make_factors(kind), Runtime((GPU,), precision, 2)
    windows = Windows(list("abcde"), codes(), np.zeros((5, 100)))

    def nonzero(tensor, as_tuple):  # without values, their number is unknown
        return tuple(torch.zeros(6, dtype=torch.int64, device=tensor.device) for _ in range(tensor.ndim))

    monkeypatch.setattr(FakeTensor, "nonzero", nonzero)
    in_one_thread = partial(prefetch, threads=0)  # another thread would not be in fake mode
    monkeypatch.setattr("bertsnr_tools.predict.scan.prefetch", lambda work, jobs, _: in_one_thread(work, jobs))
    assert factor_call_levels(model, windows, runtime).shape == (5, 4)
    chunk = Chunk(Interval("chr1", 0, 700), 0, b"ACGTTGA" * 100, True)
    for factors in ([0, 1, 2, 3], [2, 0]):
        models = [model.factor(number) for number in factors]
        for signal in (None, lambda *_: None):
            scanner = Scanner(models, [CallingRule(0.5)] * len(models), runtime, signal=signal)
            assert len(list(scanner.scan([chunk]))) == 1
        found = list(probabilities_of_models([*models, make_model("compact")], codes(), runtime))
        assert [tokens.shape for _, tokens in found] == [(5, 98)] * (len(factors) + 1)


def test_models_are_loaded_onto_their_devices(fake_gpu, monkeypatch):
    """Replicas go to the further devices."""
    other = torch.device("cuda", 1)

    def to_fake(model, device):
        with FakeTensorMode():
            return on_device(model, device)

    monkeypatch.setattr(torch.nn.Module, "to", to_fake)
    with unset_fake_temporarily():
        loaded = load_models(["CTCF", "human:SOX10"], Runtime((GPU, other)))
    for model in loaded:
        devices = {part.device for part in model.parameters()} | {part.device for part in model.buffers()}
        assert devices == {GPU} and [replica.device for replica in model.replicas] == [other]


NULL = NullDistribution.fit(np.random.default_rng(1).random(2000), CENTER_DISTANCE).as_dict()


class Sequence:
    """A genome of one chromosome."""

    lengths = {"chr1": 3000}

    def fetch(self, chrom, start, end):
        return (b"ACGTTGACCA" * 300)[start:end]


def test_sites_in_accessible_regions(fake_gpu):
    """The surroundings of a site go through the model on the GPU, and then through the heads on the CPU."""
    model = make_factors()
    size = feature_count(4, 2)
    shapes = {"mean": size, "scale": size, "hidden_weight": (6, size), "hidden_bias": 6, "weight": (4, 6)}
    shapes |= {"skip": (4, size), "bias": 4, "slope": 4, "motifs": (2, 4, 7)}
    tensors = {name: torch.ones(shape) for name, shape in shapes.items()}
    model.binding = BindingHeads([info.name for info in model.infos], [-1.0] * 4, [NULL] * 4, **tensors)
    for info in model.infos:
        info.null = NULL
    factors = [model.factor(number) for number in range(4)]
    with np.errstate(all="ignore"):  # the scale of all features is 0
        sites = AccessibleSites(factors, None, Sequence(), [Interval("chr1", 1000, 1200)], "bf16")
        site = CalledSite("chr1", 1090, 1110, "F1", 0.9, "+", 0.9, 10, 1)
        assert len(sites.rescored([Called([site], 1200, True)])[0].sites) == 1


@pytest.mark.parametrize("prefilter", [False, True])
def test_variants(fake_gpu, prefilter):
    factors = make_factors()
    models = [make_model("compact", prefilter=prefilter)]
    models += [] if prefilter else [factors.factor(number) for number in range(4)]
    changes = [Change("chr1", (Edit(at, at + 1, b"T"),)) for at in (500, 503)]
    effects = VariantScorer(models, Runtime((GPU,), "bf16"), prefilter=prefilter).score(Sequence(), changes)
    assert [len(of_change) for of_change in effects] == [len(models)] * 2


@pytest.mark.parametrize("kind", ["compact", "bert"])
def test_attention(fake_gpu, kind):
    model, runtime = make_model(kind), Runtime((GPU,), "bf16", 2)
    assert cls_attention(model, codes(), HeadChoice(), runtime).shape == (5, 100)
    assert attention_maps(model, codes()[0], runtime).ndim == 4


def test_prefilter(fake_gpu):
    model, cores = make_model("compact", prefilter=True), np.tile([0, 100], (5, 1))
    assert len(passing_windows(model, codes(), cores, Runtime((GPU,), "bf16"))) == 5


@pytest.mark.parametrize("kind", ENCODERS)
def test_training(fake_gpu, kind):
    """One epoch without its backward passes, and validation."""
    recipe = Recipe(batch_size=2, precision="bf16")
    labels = np.zeros((5, 100), dtype=np.uint8)
    labels[:3, 40:50] = 1
    windows, model = Windows(list("abcde"), codes(), labels), make_model(kind)
    for teachers in ([], [make_model(kind)]):
        trainer = Trainer(model, recipe, teachers)
        trainer.train_epoch(windows, 0)
        assert validate(model, trainer.average, recipe, windows)[0].shape == (5, 100)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_of_many_factors(fake_gpu, precision):
    """As `test_training`, with and without background windows and teachers."""
    labels = np.zeros((5, 100), dtype=np.uint8)
    labels[:3, 40:50] = 1
    windows, known = Windows(list("abcde"), codes(), labels), np.zeros((5, 2), dtype=bool)
    recipe = Recipe(batch_size=2, precision=precision)
    with unset_fake_temporarily():
        model = ManyFactorModel([ModelInfo(name, 3, 100, ENCODERS["compact"], 8) for name in "AB"])
    on_gpu(model)
    for background, teachers in (((), ()), ((windows, known), ()), ((windows, known), [[model.factor(0)]] * 2)):
        data = FactorData(["A", "B"], [windows] * 2, [windows] * 2, *background, teachers=teachers)
        trainer = ManyFactorTrainer(model, recipe, data)
        trainer.train_epoch(EpochWindows(codes(), labels, np.array([0, 1, 0, 1, 1])), 0)
        assert validation_aupr(model, trainer.average, data.validation, recipe).shape == (2,)
    assert len(factor_metrics(model, data.validation, precision)) == 2


@pytest.mark.parametrize("many", [False, True])
def test_long_trainings_are_compiled_in_one_graph(fake_gpu, monkeypatch, many):
    """All batches but the last, smaller one; `fullgraph` raises where the loss cannot be one graph."""
    compiled, of_sizes = torch.compile, []

    def compile_in_one_graph(loss, mode):
        assert mode == "reduce-overhead"
        graph = compiled(loss, backend="eager", fullgraph=True)
        return lambda codes, *others: of_sizes.append(len(codes)) or graph(codes, *others)

    monkeypatch.setattr(torch, "compile", compile_in_one_graph)
    monkeypatch.setattr("bertsnr_tools.training.optimization.find_spec", lambda _: True)
    monkeypatch.setenv("CC", "cc")
    labels, recipe = np.zeros((5, 100), dtype=np.uint8), Recipe(batch_size=2, precision="bf16")
    windows = Windows(list("abcde"), codes(), labels)
    for steps in (COMPILED_STEPS, COMPILED_STEPS - 1):
        if many:
            known = np.zeros((5, 4), dtype=bool)
            data = FactorData(list("ABCD"), [windows] * 4, [windows] * 4, windows, known)
            epoch = EpochWindows(codes(), labels, np.array([0, 1, 0, 1, 1]))
            ManyFactorTrainer(make_factors(), recipe, data, steps).train_epoch(epoch, 0)
        else:
            Trainer(make_model("compact"), recipe, (), steps).train_epoch(windows, 0)
    assert of_sizes == [2, 2]


@pytest.mark.parametrize("missing", ["compiler", "triton", "device"])
def test_a_training_is_not_compiled_where_it_cannot_be(monkeypatch, missing):
    monkeypatch.setattr(torch, "compile", None)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None if missing == "compiler" else name)
    monkeypatch.setattr("bertsnr_tools.training.optimization.find_spec", lambda _: missing != "triton")
    device = torch.device("cpu") if missing == "device" else GPU
    assert optimization.compiled(len, device, 10**6) is len


def on_cpu(model):
    """As it comes from its constructor, in fake mode."""
    return on_device(model, torch.device("cpu")).train()


def test_training_from_windows_to_a_model(fake_gpu, monkeypatch):
    """New models go to the GPU, and the state of a broken training comes back to it."""
    labels = np.zeros((5, 100), dtype=np.uint8)
    labels[:3, 40:50] = 1
    windows, recipe = Windows(list("abcde"), codes(), labels), Recipe(batch_size=2, epochs=2)
    info = ModelInfo("TOY", 3, 100, ENCODERS["compact"], 8)
    with unset_fake_temporarily():
        real = {"one": BertSNR(info), "many": ManyFactorModel([info, info])}
    design = SimpleNamespace(info=lambda *_: info, model=lambda _: on_cpu(real["one"]))
    data = TrainingData(windows, windows, windows)
    monkeypatch.setattr(torch.nn.Module, "to", on_device)  # fake parameters cannot be swapped
    checkpoint = Checkpoint()
    assert fit("TOY", design, recipe, data, GPU, checkpoint).model.device == GPU
    checkpoint.fit["average"] = {name: value.cpu() for name, value in checkpoint.fit["average"].items()}
    checkpoint.fit["history"].pop()
    assert fit("TOY", design, recipe, data, GPU, checkpoint).model.device == GPU
    monkeypatch.setattr("bertsnr_tools.training.many_factor.new_many_factor_model", lambda *_: on_cpu(real["many"]))
    monkeypatch.setattr("torch.compile", lambda function, **_: function)
    epochs = [(0, EpochWindows(codes(), labels, np.array([0, 1, 0, 1, 1])))]
    monkeypatch.setattr("bertsnr_tools.training.many_factor._epochs", lambda *_, **__: iter(epochs))
    factors = FactorData(["A", "B"], [windows] * 2, [windows] * 2)
    assert fit_many(factors, design, recipe, GPU, Checkpoint())[0].device == GPU


def test_training_of_a_prefilter(fake_gpu, monkeypatch):
    monkeypatch.setattr("bertsnr_tools.training.prefilter.STEPS", 2)
    network = make_model("compact", prefilter=True).prefilter
    levels, rows = np.zeros((5, 91), dtype=np.float16), {"other": np.arange(5), "background": np.arange(5)}
    _fit(network, codes(), levels, defaultdict(list, rows), np.random.default_rng(1))
