"""The library for processors with AMX says what the library `transformers` says, and no window's neighbours show in it.

Both are tested: the library as installed, where the processor has AMX, and, on every processor, one with these instructions in C.
"""

import ctypes
import logging
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from bertsnr_tools.models.batching import token_probabilities
from bertsnr_tools.models.bertsnr import BertSNR
from bertsnr_tools.models.encoder import compact_config, new_encoder
from bertsnr_tools.models.interface import ModelInfo
from bertsnr_tools.models.kernels.amx import NEEDED, WIDTH, AmxEncoder, _function, _library, supports
from bertsnr_tools.models.kernels.inference import InferenceEncoder


def encoder(**more):
    torch.manual_seed(5)
    made = new_encoder(compact_config(3, 520) | more).eval()
    with torch.no_grad():
        for weight in made.parameters():  # sharper attention than that of a new encoder, and no norm is 1
            weight.add_(torch.randn_like(weight) * 0.1)
    return made


installed, search = supports(encoder()), _library


@pytest.fixture(scope="session")
def emulated(tmp_path_factory):
    """The library's function, compiled with emulated/immintrin.h in the place of the compiler's."""
    made = tmp_path_factory.mktemp("emulated") / "_amx.so"
    compiler = shutil.which("gcc")
    if not compiler:
        pytest.skip("no gcc to compile the emulation of AMX with")
    here = Path(__file__).parent
    options = ["-O3", "-Wno-psabi", "-shared", "-fPIC", f"-I{here / 'emulated'}", "-Dtarget(names)=", "-o", made]
    subprocess.run(
        [compiler, *options, here.parent / "bertsnr_tools" / "models" / "kernels" / "amx" / "amx.c", "-lm"], check=True
    )
    return _function(ctypes.CDLL(str(made)))


@pytest.fixture(autouse=True, params=["installed", "emulated"])
def library(request, monkeypatch):
    if request.param == "emulated":
        function = request.getfixturevalue("emulated")
        monkeypatch.setattr("bertsnr_tools.models.kernels.amx._library", lambda: function)
    elif not installed:
        pytest.skip("no processor with AMX, or installed without a compiler that knows it")


def apart(some, others):
    return ((some.float() - others).pow(2).mean() / others.pow(2).mean()).sqrt()


@pytest.mark.parametrize("length", [3, 9, 16, 31, 32, 33, 100, 500])
@pytest.mark.parametrize("local", [16, 10, 2, 80, 2**65 + 8])  # a token sees 8, 5, 1, 40 … on either side
def test_same_hidden_states_as_transformers(length, local):
    theirs = encoder(local_attention=local)
    ids = torch.randint(5, 69, (9 if length < 500 else 2, length))
    with torch.inference_mode():
        wanted = theirs(input_ids=ids).last_hidden_state
        difference = apart(AmxEncoder(theirs)(ids), wanted)
        assert 0 < difference < 0.02
        if installed:  # else torch takes half a minute for it
            assert difference < apart(InferenceEncoder(theirs, torch.bfloat16)(ids), wanted)  # which rounds more often


def test_tables_are_rounded_once_however_sums_are_taken():
    theirs = encoder()
    norm = theirs.embeddings.norm
    weight, scale, qkv = (
        part.detach().double().numpy()
        for part in (theirs.embeddings.tok_embeddings.weight, norm.weight, AmxEncoder._qkv(theirs.layers[0]))
    )
    centred = weight - weight.mean(1, keepdims=True)
    words = centred / np.sqrt((centred**2).mean(1, keepdims=True) + norm.eps) * scale
    kept = AmxEncoder(theirs)._kept
    assert np.array_equal(kept[0].numpy(), words.astype(np.float32))
    assert np.array_equal(kept[1].numpy(), np.einsum("wi,ci->wc", words, qkv).astype(np.float32))


def test_windows_do_not_show_in_each_other():
    model = AmxEncoder(encoder())
    for length in (7, 45, 100):
        ids = torch.randint(5, 69, (40, length))
        together = model(ids)
        assert torch.equal(model(ids.flip(0)).flip(0), together)
        assert torch.equal(torch.cat([model(ids[at : at + 1]) for at in range(40)]), together)
        strange = ids.clone()
        strange[1::2] = 4
        assert torch.equal(model(strange)[::2], together[::2])


@pytest.mark.parametrize("factor", [30, 1e4])
def test_scores_out_of_range_are_still_averages(factor):
    theirs = encoder(num_hidden_layers=1)
    with torch.no_grad():
        theirs.layers[0].attn.Wqkv.weight[: 2 * WIDTH] *= factor**0.5
    ids = torch.randint(5, 69, (4, 60))
    with torch.inference_mode():
        wanted = theirs(input_ids=ids).last_hidden_state
        found = AmxEncoder(theirs)(ids)
    assert torch.isfinite(found).all()
    assert apart(found, wanted) < 0.1


def test_it_is_what_a_compact_model_is_read_with(monkeypatch):
    model = BertSNR(ModelInfo("X", 3, 120, compact_config(3, 120), 10)).eval()
    codes = np.random.default_rng(1).integers(0, 4, (30, 60)).astype(np.uint8)
    used = []
    whole = AmxEncoder.__call__
    monkeypatch.setattr(AmxEncoder, "__call__", lambda self, ids: used.append(len(ids)) or whole(self, ids))
    fast = token_probabilities(model, codes, 64, "bf16")
    assert used
    used.clear()
    assert np.allclose(token_probabilities(model, codes, 64, "fp32")[1], fast[1], atol=0.01) and not used
    monkeypatch.setattr("bertsnr_tools.models.kernels.amx._library", lambda: None)
    assert np.allclose(token_probabilities(model, codes, 64, "bf16")[1], fast[1], atol=0.02) and not used


@pytest.mark.parametrize(
    "other",
    [
        {"hidden_size": 64},
        {"intermediate_size": 512},
        {"num_attention_heads": 8},
        {"mlp_bias": True},
        {"local_attention": 0},
        {"is_causal": True},
        {"hidden_activation": "relu"},
        {"model_type": "bert"},
    ],
)
def test_other_encoders_are_left_to_lean(other):
    assert not supports(encoder(**other))


def test_a_library_that_was_not_built_is_named_once(monkeypatch):
    def none(*_):
        raise OSError("no such file")

    said = []
    monkeypatch.setattr("bertsnr_tools.models.kernels.amx._library", search)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(NEEDED, True), raising=False)
    monkeypatch.setattr(torch.cpu, "_init_amx", lambda: True)
    monkeypatch.setattr(np.ctypeslib, "load_library", none)
    monkeypatch.setattr(logging.getLogger("bertsnr_tools"), "debug", said.append)
    search.cache_clear()
    try:
        assert not supports(encoder()) and not supports(encoder())
    finally:
        search.cache_clear()
    assert len(said) == 1 and "not built" in said[0]


def test_what_it_would_read_beyond_its_tables_is_refused():
    model = AmxEncoder(encoder())
    for ids in (torch.full((2, 9), 69), torch.full((2, 9), -1), torch.zeros((2, 9), dtype=torch.int32)):
        with pytest.raises(IndexError, match="0 to 68"):
            model(ids)
    model = AmxEncoder(encoder(head_dim=16))
    with pytest.raises(RuntimeError, match="32 units"):
        model(torch.zeros((2, 9), dtype=torch.int64))


def test_settings_of_torch_change_nothing():
    model = AmxEncoder(encoder())
    ids = torch.randint(5, 69, (3, 20))
    wanted = model(ids)
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert torch.equal(AmxEncoder(model.encoder)(ids), wanted)
    finally:
        torch.set_default_dtype(torch.float32)
