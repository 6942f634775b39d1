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
from bertsnr_tools.models.batching import base_probabilities, token_probabilities
from bertsnr_tools.models.bertsnr import BertSNR
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.encoder import compact_config
from bertsnr_tools.models.interface import ModelInfo
from bertsnr_tools.models.many_factor import ManyFactorModel
from bertsnr_tools.predict.chunks import Chunk
from bertsnr_tools.predict.prefetch import prefetch
from bertsnr_tools.predict.prefilter import passing_windows
from bertsnr_tools.predict.scan import Scanner
from bertsnr_tools.predict.significance import factor_call_levels
from bertsnr_tools.predict.thresholds import CallingRule
from bertsnr_tools.sequence.windows import Windows
from bertsnr_tools.training.config import Recipe
from bertsnr_tools.training.factors import EpochWindows, FactorData
from bertsnr_tools.training.fit import Trainer, validate
from bertsnr_tools.training.many_factor import ManyFactorTrainer, validation_aupr
from bertsnr_tools.training.many_run import factor_metrics
from bertsnr_tools.training.prefilter import _fit

GPU = torch.device("cuda", 0)
PREFILTER = {"shortest": 10, "flank": 30, "cut": 0.0}
BERT = {
    "model_type": "bert", "vocab_size": 69, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 32, "max_position_embeddings": 102,
}  # fmt: skip
ENCODERS = {"compact": compact_config(3, 100), "bert": BERT, "deepsnr": baseline_config("deepsnr")}
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
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    with FakeTensorMode():
        yield
    guards[CUDA] = own


def codes():
    return np.random.default_rng(1).integers(0, 4, (5, 100)).astype(np.uint8)


def make_model(kind, prefilter=False):
    """A model on the fake GPU; its weights are drawn on the CPU, because drawing reads values."""
    k = 3 if kind in ("compact", "bert") else 1
    info = ModelInfo("TOY", k, 100, ENCODERS[kind], 8, prefilter=PREFILTER if prefilter else {})
    with unset_fake_temporarily():
        model = BertSNR(info) if k == 3 else BaselineModel(info)
    return on_gpu(model)


def on_gpu(model):
    for part in model.modules():
        for name, parameter in part.named_parameters(recurse=False):
            setattr(part, name, torch.nn.Parameter(torch.empty(parameter.shape, device=GPU)))
        for name, buffer in part.named_buffers(recurse=False):
            setattr(part, name, torch.empty(buffer.shape, dtype=buffer.dtype, device=GPU))
    return model.eval()


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


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_all_factors(fake_gpu, precision, monkeypatch):
    infos = [ModelInfo(f"F{number}", 3, 100, ENCODERS["compact"], 8 + number // 2) for number in range(4)]
    with unset_fake_temporarily():
        model = ManyFactorModel(infos)
    model, runtime = on_gpu(model), Runtime((GPU,), precision, 2)
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
    """As `test_training`, with and without background windows."""
    labels = np.zeros((5, 100), dtype=np.uint8)
    labels[:3, 40:50] = 1
    windows, known = Windows(list("abcde"), codes(), labels), np.zeros((5, 2), dtype=bool)
    recipe = Recipe(batch_size=2, precision=precision)
    with unset_fake_temporarily():
        model = ManyFactorModel([ModelInfo(name, 3, 100, ENCODERS["compact"], 8) for name in "AB"])
    on_gpu(model)
    for background in ((), (windows, known)):
        data = FactorData(["A", "B"], [windows] * 2, [windows] * 2, *background)
        trainer = ManyFactorTrainer(model, recipe, data)
        trainer.train_epoch(EpochWindows(codes(), labels, np.array([0, 1, 0, 1, 1])), 0)
        assert validation_aupr(model, trainer.average, data.validation, recipe).shape == (2,)
    assert len(factor_metrics(model, data.validation, precision)) == 2


def test_training_of_a_prefilter(fake_gpu, monkeypatch):
    monkeypatch.setattr("bertsnr_tools.training.prefilter.STEPS", 2)
    network = make_model("compact", prefilter=True).prefilter
    levels, rows = np.zeros((5, 91), dtype=np.float16), {"other": np.arange(5), "background": np.arange(5)}
    _fit(network, codes(), levels, defaultdict(list, rows), np.random.default_rng(1))
