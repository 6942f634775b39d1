"""The inference encoder equals the plain encoders, whatever the batch and the threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from bertsnr_tools.attention import HeadChoice, cls_attention
from bertsnr_tools.models.batching import token_probabilities
from bertsnr_tools.models.bertsnr import BertSNR
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.encoder import compact_config, new_encoder
from bertsnr_tools.models.files import load_model
from bertsnr_tools.models.interface import ModelInfo
from bertsnr_tools.models.kernels.inference import InferenceEncoder, Unsupported, _attend

SMALL = {"vocab_size": 69, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 3}
CONFIGS = {
    "compact": compact_config(3, 120),
    "modernbert with biases": {
        "model_type": "modernbert",
        **SMALL,
        "attention_bias": True,
        "mlp_bias": True,
        "norm_bias": True,
        "local_attention": 8,
        "global_attn_every_n_layers": 2,
        "pad_token_id": 0,
    },
    "bert": {"model_type": "bert", **SMALL},
}


def encoder(name, **more):
    torch.manual_seed(5)
    made = new_encoder(CONFIGS[name] | more).eval()
    with torch.no_grad():
        for weight in made.parameters():  # so that no bias is 0 and no norm is 1
            weight.add_(torch.randn_like(weight) * 0.1)
    return made


@pytest.mark.parametrize("length", [9, 35, 100])
@pytest.mark.parametrize("name", CONFIGS)
def test_same_hidden_states_as_the_plain_encoder(name, length):
    plain = encoder(name)
    ids = torch.randint(5, 69, (4, length))
    with torch.inference_mode():
        expected = plain(ids)
        assert torch.allclose(InferenceEncoder(plain, torch.float32)(ids), expected, atol=2e-5)
        rough = InferenceEncoder(plain, torch.bfloat16)(ids).float()
    assert 0 < (rough - expected).pow(2).mean().sqrt() < 0.02 * expected.pow(2).mean().sqrt()


@pytest.mark.parametrize("shift", [200.0, -200.0])
def test_rows_of_extreme_scores_are_still_averages(shift):
    torch.manual_seed(1)
    scores, value = torch.randn(2, 6, 6).bfloat16(), torch.randn(2, 6, 4).bfloat16()
    scores[1, 3] += shift  # one row out of the range of exp
    one = torch.eye(6).bfloat16().expand(2, 6, 6)
    mixed = _attend(scores, one, value)
    assert torch.allclose(mixed.float(), torch.softmax(scores.float(), -1) @ value.float(), atol=0.03)
    alone = _attend(scores[:1], one[:1], value[:1])
    assert torch.equal(mixed[:1], alone)


@pytest.mark.parametrize("name", CONFIGS)
def test_batches_and_threads_change_no_bit_of_bf16(name):
    model = BertSNR(ModelInfo("X", 3, 120, CONFIGS[name], 10)).eval()
    model.encoder = encoder(name)
    codes = np.random.default_rng(1).integers(0, 4, (33, 37)).astype(np.uint8)
    threads = torch.get_num_threads()
    try:
        results = []
        for torch_threads, batch in ((1, 64), (2, 64), (2, 5), (3, 1)):
            torch.set_num_threads(torch_threads)
            results.append(token_probabilities(model, codes, Runtime(batch_size=batch, precision="bf16")))
            assert torch.get_num_threads() == torch_threads
    finally:
        torch.set_num_threads(threads)
    for sequences, tokens in results[1:]:
        assert np.array_equal(sequences, results[0][0]) and np.array_equal(tokens, results[0][1])


def test_encoders_with_another_activation_run_plain():
    model = BertSNR(ModelInfo("X", 3, 120, CONFIGS["bert"] | {"hidden_act": "relu"}, 10)).eval()
    with pytest.raises(Unsupported, match="gelu"):
        InferenceEncoder(model.encoder, torch.float32)
    assert model.inference_function("fp32") is model
    assert np.isfinite(token_probabilities(model, np.zeros((2, 30), dtype=np.uint8), Runtime(batch_size=2))[1]).all()


@pytest.mark.parametrize(
    "causal", [{"model_type": "bert", **SMALL, "is_decoder": True}, compact_config(3, 120) | {"is_causal": True}]
)
def test_causal_encoders_run_plain(causal):
    with pytest.raises(Unsupported, match="causal"):
        InferenceEncoder(new_encoder(causal), torch.float32)


def test_replicas_share_the_work(toy_model_file, monkeypatch):
    codes = np.random.default_rng(1).integers(0, 4, (150, 60)).astype(np.uint8)
    model = load_model(str(toy_model_file))
    alone = token_probabilities(model, codes, Runtime(batch_size=16))
    model.replicas = [load_model(str(toy_model_file)) for _ in range(2)]
    asked = []

    def spy(replica):
        function = replica.inference_function("fp32")
        return lambda precision: lambda ids: asked.append(replica) or function(ids)

    for replica in (model, *model.replicas):
        monkeypatch.setattr(replica, "inference_function", spy(replica), raising=False)
    shared = token_probabilities(model, codes, Runtime(batch_size=16))
    assert all(np.array_equal(one, other) for one, other in zip(alone, shared))
    assert [sum(one is replica for one in asked) for replica in (model, *model.replicas)] == [4, 3, 3]


def test_concurrent_scoring_leaves_the_thread_count_alone(toy_model):
    codes = np.random.default_rng(1).integers(0, 4, (150, 60)).astype(np.uint8)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        expected = token_probabilities(toy_model, codes, Runtime())
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(lambda _: token_probabilities(toy_model, codes, Runtime()), range(6)))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert all(np.array_equal(one, other) for pair in found for one, other in zip(pair, expected))


def limited(function, most, seen):
    """A function that runs out of memory on batches of more than `most` windows."""

    def run(ids):
        seen.append(len(ids))
        if len(ids) > most:
            raise torch.OutOfMemoryError("too much")
        return function(ids)

    return run


def test_batches_that_do_not_fit_are_halved(toy_model_file, monkeypatch):
    model = load_model(str(toy_model_file))
    codes = np.random.default_rng(2).integers(0, 4, (70, 100)).astype(np.uint8)
    expected = token_probabilities(model, codes, Runtime(batch_size=64))
    function, seen = model.inference_function("fp32"), []
    monkeypatch.setattr(model, "inference_function", lambda _: limited(function, 10, seen), raising=False)
    found = token_probabilities(model, codes, Runtime(batch_size=64))
    assert max(seen) > 10 and all(np.array_equal(one, other) for one, other in zip(found, expected))
    monkeypatch.setattr(model, "inference_function", lambda _: limited(function, 0, seen), raising=False)
    with pytest.raises(torch.OutOfMemoryError):
        token_probabilities(model, codes, Runtime(batch_size=64))


def test_attention_too_comes_in_batches_that_fit(toy_model_file, monkeypatch):
    model = load_model(str(toy_model_file))
    codes = np.random.default_rng(3).integers(0, 4, (70, 100)).astype(np.uint8)
    expected = cls_attention(model, codes, HeadChoice(), Runtime(batch_size=64))
    seen = []
    monkeypatch.setattr(model, "attentions", limited(model.attentions, 10, seen), raising=False)
    found = cls_attention(model, codes, HeadChoice(), Runtime(batch_size=64))
    assert np.array_equal(found, expected) and max(seen) > 10
