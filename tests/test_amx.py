"""The AMX kernel agrees with the compact encoder, its oracle, and no window depends on its neighbours.

Tested are the installed kernel, on CPUs with AMX, and on every CPU the same source with emulated instructions.
"""

import ctypes
import itertools
import logging
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from bertsnr_tools.models.encoder import Encoder, compact_config
from bertsnr_tools.models.encoder_config import EncoderConfig
from bertsnr_tools.models.kernels import amx
from bertsnr_tools.models.kernels.amx import CPU_FEATURES, WIDTH, AmxEncoder, supports
from bertsnr_tools.models.kernels.compiled import bind
from conftest import check_windows_are_independent

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "bertsnr_tools" / "models" / "kernels" / "amx"


def encoder(**more):
    torch.manual_seed(5)
    made = Encoder(EncoderConfig.from_dict(compact_config(3, 520) | more)).eval()
    with torch.no_grad():
        for weight in made.parameters():  # sharper attention than in a new encoder, and norms that are not 1
            weight.add_(torch.randn_like(weight) * 0.1)
    return made


installed, installed_kernel = supports(encoder()), amx.kernel


def compile_emulated(target, *sources):
    """Compile C with emulated/immintrin.h in front of the compiler's own."""
    compiler = shutil.which("gcc")
    if not compiler:
        pytest.skip("no gcc to compile the emulated kernel")
    options = ["-O3", "-Wno-psabi", "-shared", "-fPIC", "-Dtarget(names)="]
    headers = [f"-I{TESTS / 'emulated'}", f"-I{SOURCE}"]
    subprocess.run([compiler, *options, *headers, "-o", target, *sources, "-lm"], check=True)
    return ctypes.CDLL(str(target))


@pytest.fixture(scope="session")
def emulated(tmp_path_factory):
    return bind(
        compile_emulated(tmp_path_factory.mktemp("emulated") / "_amx.so", SOURCE / "encoder.c"), amx.ABI_VERSION
    )


@pytest.fixture(scope="session")
def vector_math(tmp_path_factory):
    """The approximations of vector_math.h, as functions of an array whose size is a multiple of 16."""
    target = tmp_path_factory.mktemp("emulated") / "vector_math.so"
    library = compile_emulated(target, TESTS / "emulated" / "vector_math.c")

    def call(name, x):
        x, y = x.astype(np.float32), np.empty(x.shape, np.float32)
        for at in range(0, len(x), 16):
            getattr(library, name)(ctypes.c_void_p(x[at:].ctypes.data), ctypes.c_void_p(y[at:].ctypes.data))
        return x.astype(float), y.astype(float)

    return call


@pytest.fixture(params=["emulated", *["installed"] * installed])
def kernel(request, monkeypatch):
    if request.param == "emulated":
        function = request.getfixturevalue("emulated")
        monkeypatch.setattr(amx, "kernel", lambda: function)


def relative_error(found, expected):
    return ((found.float() - expected).pow(2).mean() / expected.pow(2).mean()).sqrt()


def alternating_extremes(error):
    """The largest error of each run of errors of one sign, without those near 0, which are rounding."""
    runs = itertools.groupby(error[np.abs(error) > 1e-5], key=np.sign)
    return [max(run, key=abs) for _, run in runs]


def test_exp2_is_the_minimax_cubic(vector_math):
    x, y = vector_math("exp2_16", np.linspace(0, 1, 20_000, endpoint=False))
    extremes = alternating_extremes(y / np.exp2(x) - 1)
    assert len(extremes) == 5  # one more than coefficients: no cubic is closer (Chebyshev's alternation theorem)
    assert np.allclose(np.abs(extremes), 7.48e-5, rtol=0.01)
    x, y = vector_math("exp2_16", np.linspace(-125, 125, 20_000))
    assert np.abs(y / np.exp2(x) - 1).max() < 7.6e-5


def test_gelu_is_the_minimax_polynomial(vector_math):
    x, y = vector_math("gelu_16", np.linspace(0, 4, 20_000))
    exact = x * np.array([1 + math.erf(value / math.sqrt(2)) for value in x]) / 2
    extremes = alternating_extremes(y - exact)
    assert len(extremes) == 9  # one more than coefficients
    assert 3.5e-5 < np.abs(extremes).min() and np.abs(extremes).max() < 4.15e-5
    x, y = vector_math("gelu_16", np.linspace(-30, 30, 20_000))
    exact = x * np.array([1 + math.erf(value / math.sqrt(2)) for value in x]) / 2
    assert (np.abs(y - exact) < 4.2e-5 * np.maximum(1, np.abs(x))).all()


@pytest.mark.parametrize("length", [3, 16, 31, 33, 100, 500])
@pytest.mark.parametrize("local", [16, 10, 2, 2**65 + 8])  # tokens in the attention window, both sides together
@pytest.mark.usefixtures("kernel")
def test_agrees_with_the_compact_encoder(length, local):
    model = encoder(local_attention=local)
    ids = torch.randint(5, 69, (9 if length < 500 else 2, length))
    with torch.inference_mode():
        expected = model(ids)
        error = relative_error(AmxEncoder(model)(ids), expected)
    assert 0 < error < 0.02


@pytest.mark.skipif(not installed, reason="no CPU with AMX, or no kernel installed: only the emulated kernel is tested")
def test_is_more_accurate_than_the_inference_encoder():
    from bertsnr_tools.models.kernels.inference import InferenceEncoder

    model, ids = encoder(), torch.randint(5, 69, (9, 100))
    with torch.inference_mode():
        expected = model(ids)
        assert relative_error(AmxEncoder(model)(ids), expected) < relative_error(
            InferenceEncoder(model, torch.bfloat16)(ids), expected
        )


@pytest.mark.usefixtures("kernel")
def test_tables_are_rounded_once():
    model = encoder()
    norm, qkv = model.embeddings.norm, AmxEncoder._qkv(model.layers[0])
    weight, scale, qkv = (
        part.detach().double().numpy() for part in (model.embeddings.tok_embeddings.weight, norm.weight, qkv)
    )
    centred = weight - weight.mean(1, keepdims=True)
    table = centred / np.sqrt((centred**2).mean(1, keepdims=True) + norm.eps) * scale
    tensors = AmxEncoder(model)._tensors
    assert np.array_equal(tensors[0].numpy(), table.astype(np.float32))
    assert np.array_equal(tensors[1].numpy(), np.einsum("wi,ci->wc", table, qkv).astype(np.float32))


@pytest.mark.usefixtures("kernel")
def test_windows_are_independent():
    check_windows_are_independent(AmxEncoder(encoder()))


@pytest.mark.parametrize("factor", [30, 1e4])
@pytest.mark.usefixtures("kernel")
def test_scores_out_of_range_are_still_averaged(factor):
    model = encoder(num_hidden_layers=1)
    with torch.no_grad():
        model.layers[0].attn.Wqkv.weight[: 2 * WIDTH] *= factor**0.5
    ids = torch.randint(5, 69, (4, 60))
    with torch.inference_mode():
        expected = model(ids)
        found = AmxEncoder(model)(ids)
    assert torch.isfinite(found).all()
    assert relative_error(found, expected) < 0.1


@pytest.mark.usefixtures("kernel")
def test_compact_models_run_on_it_in_bf16(monkeypatch):
    from bertsnr_tools.models.batching import token_probabilities
    from bertsnr_tools.models.bertsnr import BertSNR
    from bertsnr_tools.models.device import Runtime
    from bertsnr_tools.models.interface import ModelInfo

    model = BertSNR(ModelInfo("X", 3, 120, compact_config(3, 120), 10)).eval()
    codes = np.random.default_rng(1).integers(0, 4, (30, 60)).astype(np.uint8)
    calls, original = [], AmxEncoder.__call__
    monkeypatch.setattr(AmxEncoder, "__call__", lambda self, ids: calls.append(len(ids)) or original(self, ids))
    fast = token_probabilities(model, codes, Runtime(precision="bf16", batch_size=64))[1]
    assert calls
    calls.clear()
    plain = token_probabilities(model, codes, Runtime(precision="fp32", batch_size=64))[1]
    assert np.allclose(plain, fast, atol=0.01) and not calls
    monkeypatch.setattr(amx, "kernel", lambda: None)
    without = token_probabilities(model, codes, Runtime(precision="bf16", batch_size=64))[1]
    assert np.allclose(without, fast, atol=0.02) and not calls


@pytest.mark.parametrize(
    "other",
    [
        {"hidden_size": 64},
        {"intermediate_size": 512},
        {"num_attention_heads": 8},
        {"mlp_bias": True},
        {"attention_bias": True},
        {"norm_bias": True},
        {"local_attention": 1},
    ],
)
@pytest.mark.usefixtures("kernel")
def test_other_sizes_are_not_supported(other):
    assert supports(encoder()) and not supports(encoder(**other))


@pytest.mark.parametrize("other", [{"model_type": "bert"}, {"hidden_activation": "relu"}, {"is_causal": True}])
@pytest.mark.usefixtures("kernel")
def test_encoders_of_transformers_are_not_supported(other):
    from bertsnr_tools.models.huggingface import huggingface_encoder, transformers_config

    assert not supports(huggingface_encoder(transformers_config(compact_config(3, 120) | other)))


@pytest.fixture
def cpu_with_amx(monkeypatch):
    """A CPU that claims to have AMX; debug messages are collected."""
    messages = []
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(CPU_FEATURES, True), raising=False)
    monkeypatch.setattr(torch.cpu, "_init_amx", lambda: True, raising=False)
    monkeypatch.setattr(logging.getLogger("bertsnr_tools"), "debug", messages.append)
    installed_kernel.cache_clear()
    yield messages
    installed_kernel.cache_clear()


def test_a_missing_library_is_reported_once(cpu_with_amx, monkeypatch):
    def missing(*_):
        raise OSError("no such file")

    monkeypatch.setattr(np.ctypeslib, "load_library", missing)
    assert not supports(encoder()) and not supports(encoder())
    assert len(cpu_with_amx) == 1 and "AMX kernel" in cpu_with_amx[0] and "no such file" in cpu_with_amx[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("struct { int a, b, c; } abi(void) { return (typeof(abi())){1, 48, 80}; }", "ABI (1, 48, 80)"),
        ("struct { int a, b, c; } abi(void) { return (typeof(abi())){2, 48, 72}; }", "ABI (2, 48, 72)"),
        ("int encode_1(void) { return 0; }", "abi"),  # a library of release 0.1.0
    ],
)
def test_a_library_of_another_version_is_refused(cpu_with_amx, monkeypatch, tmp_path, text, message):
    (tmp_path / "other.c").write_text(text)
    other = compile_emulated(tmp_path / "other.so", tmp_path / "other.c")
    monkeypatch.setattr(np.ctypeslib, "load_library", lambda *_: other)
    assert not supports(encoder())
    assert len(cpu_with_amx) == 1 and message in cpu_with_amx[0]


@pytest.mark.parametrize("probe", ["get_capabilities", "_init_amx"])
def test_a_torch_without_the_probes_falls_back(cpu_with_amx, monkeypatch, probe):
    monkeypatch.delattr(torch.cpu, probe)
    assert not supports(encoder()) and not cpu_with_amx


@pytest.mark.usefixtures("kernel")
def test_ids_outside_the_vocabulary_are_refused():
    model = AmxEncoder(encoder())
    for ids in (torch.full((2, 9), 69), torch.full((2, 9), -1), torch.zeros((2, 9), dtype=torch.int32)):
        with pytest.raises(IndexError, match="expected int64 from 0 to 68"):
            model(ids)


def test_out_of_memory_is_an_error(monkeypatch):
    monkeypatch.setattr(amx, "kernel", lambda: lambda *_: -1)
    with pytest.raises(MemoryError, match="9 tokens"):
        AmxEncoder(encoder())(torch.zeros((2, 9), dtype=torch.int64))


@pytest.mark.usefixtures("kernel")
def test_the_default_dtype_of_torch_changes_nothing():
    model = AmxEncoder(encoder())
    ids = torch.randint(5, 69, (3, 20))
    expected = model(ids)
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert torch.equal(AmxEncoder(model.encoder)(ids), expected)
    finally:
        torch.set_default_dtype(torch.float32)
