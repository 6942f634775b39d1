"""The AVX kernel agrees with the compact encoder, its oracle, and no window depends on its neighbours.

Every function that this CPU can run is compiled from the source and tested.
"""

import ctypes
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from bertsnr_tools.errors import DeviceError
from bertsnr_tools.models.batching import token_probabilities
from bertsnr_tools.models.bertsnr import BertSNR, inference_encoder
from bertsnr_tools.models.device import Runtime, choose_precision
from bertsnr_tools.models.encoder import Encoder, compact_config
from bertsnr_tools.models.encoder_config import EncoderConfig
from bertsnr_tools.models.files import load_model
from bertsnr_tools.models.interface import ModelInfo
from bertsnr_tools.models.kernels import amx, avx, compiled
from bertsnr_tools.models.kernels.avx import ABI_VERSION, FUNCTIONS, MOST, AvxEncoder, supports
from bertsnr_tools.models.kernels.compiled import WIDTH, bind
from bertsnr_tools.models.kernels.inference import InferenceEncoder
from bertsnr_tools.models.registry import find_model
from conftest import check_windows_are_independent

SOURCE = Path(__file__).parent.parent / "bertsnr_tools" / "models" / "kernels" / "avx"
CPU = torch.device("cpu")


def runs_here(name):
    return all(torch.cpu.get_capabilities().get(feature) for feature in FUNCTIONS[name])


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    compiler, target = shutil.which("gcc"), tmp_path_factory.mktemp("avx") / "_avx.so"
    if not compiler or not runs_here("encode_avx2"):
        pytest.skip("no gcc to compile the AVX kernel, or no AVX2 to run it")
    options = ["-O2", "-Wall", "-Wextra", "-Werror", "-std=gnu11", "-shared", "-fPIC"]
    sources = [SOURCE / f"{name}.c" for name in ("avx2", "avx_vnni", "avx512", "vnni")]
    subprocess.run([compiler, *options, "-o", target, *sources, "-lm"], check=True)
    return ctypes.CDLL(str(target))


@pytest.fixture(params=FUNCTIONS)
def kernel(request, library, monkeypatch):
    if not runs_here(request.param):
        pytest.skip(f"this CPU cannot run {request.param}")
    function = bind(library, ABI_VERSION, request.param)
    monkeypatch.setattr(avx, "kernel", lambda: function)


def encoder(**more):
    torch.manual_seed(5)
    made = Encoder(EncoderConfig.from_dict(compact_config(3, 520) | more)).eval()
    with torch.no_grad():
        for weight in made.parameters():  # sharper attention than in a new encoder, and norms that are not 1
            weight.add_(torch.randn_like(weight) * 0.1)
    return made


def relative_error(found, expected):
    return ((found.float() - expected).pow(2).mean() / expected.pow(2).mean()).sqrt()


@pytest.mark.parametrize("length", [3, 16, 31, 33, 100, 500])
@pytest.mark.parametrize("local", [16, 10, 2, 2**65 + 8])  # tokens in the attention window, both sides together
@pytest.mark.usefixtures("kernel")
def test_agrees_with_the_compact_encoder(length, local):
    model = encoder(local_attention=local)
    ids = torch.randint(5, 69, (9 if length < 500 else 2, length))
    with torch.inference_mode():
        expected = model(ids)
        error = relative_error(AvxEncoder(model)(ids), expected)
    assert 0 < error < 1e-3


@pytest.mark.usefixtures("kernel")
def test_is_ten_times_as_close_to_fp32_as_bf16():
    model = load_model(find_model("CTCF")).encoder
    ids = torch.randint(5, 69, (20, 100))
    with torch.inference_mode():
        expected = model(ids)
        rough = relative_error(InferenceEncoder(model, torch.bfloat16)(ids), expected)
        assert 10 * relative_error(AvxEncoder(model)(ids), expected) < rough


@pytest.mark.usefixtures("kernel")
def test_windows_are_independent():
    check_windows_are_independent(AvxEncoder(encoder()))
    assert AvxEncoder(encoder())(torch.zeros(0, 10, dtype=torch.int64)).shape == (0, 10, 128)


@pytest.mark.parametrize("factor", [30, 1e4])
@pytest.mark.usefixtures("kernel")
def test_scores_out_of_range_are_still_averaged(factor):
    model = encoder(num_hidden_layers=1)
    with torch.no_grad():
        model.layers[0].attn.Wqkv.weight[: 2 * WIDTH] *= factor**0.5
    ids = torch.randint(5, 69, (4, 60))
    with torch.inference_mode():
        expected = model(ids)
        found = AvxEncoder(model)(ids)
    assert torch.isfinite(found).all()
    assert relative_error(found, expected) < 0.01


@pytest.mark.parametrize("spread", [0, 1, 8])  # 0: all weights of an output are equal; 8: one is far larger
@pytest.mark.usefixtures("kernel")
def test_no_sum_of_products_leaves_32_bits(spread):
    torch.manual_seed(2)
    model = AvxEncoder(encoder())
    weight = torch.exp(spread * torch.randn(WIDTH, 256))
    model._packed(weight)
    packed = model._tensors[-1]
    integers = packed[WIDTH:].view(torch.int16).view(8, 128, 16, 2).transpose(1, 2).reshape(WIDTH, 256)
    assert integers.double().abs().sum(1).max() * MOST < 2**31
    close = integers.double() * packed[:WIDTH, None].double() - weight.double()
    assert (close.abs() <= 0.51 * packed[:WIDTH, None]).all()


@pytest.mark.usefixtures("kernel")
def test_other_encoders_run_without_the_kernel(monkeypatch):
    for native, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("bertsnr_tools.models.bertsnr.has_bf16", lambda device, native=native: native)
        assert supports(encoder()) and isinstance(inference_encoder(encoder(), "int16", CPU), AvxEncoder)
        other = inference_encoder(encoder(hidden_size=64), "int16", CPU)
        assert isinstance(other, InferenceEncoder) and other.dtype == dtype


@pytest.mark.usefixtures("kernel")
def test_batches_and_threads_change_no_bit():
    model = BertSNR(ModelInfo("X", 3, 120, compact_config(3, 120), 10)).eval()
    codes = np.random.default_rng(1).integers(0, 4, (33, 60)).astype(np.uint8)
    threads = torch.get_num_threads()
    try:
        results = []
        for torch_threads, batch in ((1, 64), (2, 64), (2, 5), (3, 1)):
            torch.set_num_threads(torch_threads)
            results.append(token_probabilities(model, codes, Runtime(batch_size=batch, precision="int16"))[1])
    finally:
        torch.set_num_threads(threads)
    assert all(np.array_equal(found, results[0]) for found in results)
    assert np.allclose(results[0], token_probabilities(model, codes, Runtime())[1], atol=1e-3)


def test_auto_is_int16_where_the_kernel_runs(monkeypatch):
    some = {"avx": lambda: None, "amx": lambda: None}
    monkeypatch.setattr(amx, "kernel", lambda: some["amx"]())
    monkeypatch.setattr(avx, "kernel", lambda: some["avx"]())
    floating = choose_precision("auto", CPU)
    assert floating in ("fp32", "bf16")
    with pytest.raises(DeviceError, match="int16 is not available on this CPU or installation"):
        choose_precision("int16", CPU)
    some["avx"] = lambda: print
    assert choose_precision("auto", CPU) == choose_precision("int16", CPU) == "int16"
    assert choose_precision("auto", CPU, training=True) == Runtime.choose("cpu", training=True).precision == floating
    some["amx"] = lambda: print
    assert choose_precision("auto", CPU) == floating
    with pytest.raises(DeviceError, match="int16 is not available on a GPU"):
        choose_precision("int16", torch.device("cuda"))


@pytest.mark.parametrize(
    ("features", "widest", "name"),
    [
        (FUNCTIONS["encode_vnni"] + FUNCTIONS["encode_avx2"], "AVX512", "encode_vnni"),
        (FUNCTIONS["encode_avx512"] + FUNCTIONS["encode_avx2"], "AVX512", "encode_avx512"),
        (FUNCTIONS["encode_vnni"] + FUNCTIONS["encode_avx2"], "AVX2", "encode_avx2"),
        (FUNCTIONS["encode_avx_vnni"], "AVX2", "encode_avx_vnni"),
        (FUNCTIONS["encode_avx2"], "AVX2", "encode_avx2"),
        (FUNCTIONS["encode_avx2"], "DEFAULT", None),
        (("sse4_2",), "DEFAULT", None),
    ],
)
def test_the_function_fits_the_cpu(monkeypatch, features, widest, name):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(features, True))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: widest)
    assert avx.function_name() == name


def test_a_missing_library_is_reported_once(monkeypatch):
    def missing(*_):
        raise OSError("no such file")

    messages = []
    monkeypatch.setattr(compiled.logger, "debug", messages.append)
    monkeypatch.setattr(avx, "function_name", lambda: "encode_avx2")
    monkeypatch.setattr(np.ctypeslib, "load_library", missing)
    avx.kernel.cache_clear()
    try:
        assert not supports(encoder()) and not supports(encoder())
    finally:
        avx.kernel.cache_clear()
    assert len(messages) == 1 and "AVX kernel" in messages[0] and "no such file" in messages[0]


@pytest.mark.usefixtures("kernel")
def test_queries_are_scaled_for_powers_of_two():
    model = encoder()
    scaled, plain = AvxEncoder._qkv(model.layers[0]), model.layers[0].attn.Wqkv.weight
    assert torch.allclose(scaled[:WIDTH].float(), plain[:WIDTH] * math.log2(math.e) / 32**0.5)
    assert torch.equal(scaled[WIDTH:].float(), plain[WIDTH:])
