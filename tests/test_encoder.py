"""Our own encoder equals transformers' ModernBERT: weights of a seed, hidden states, gradients, attention weights."""

import subprocess
import sys

import pytest
import torch
from transformers import ModernBertConfig, ModernBertModel

from bertsnr_tools.models.encoder import Encoder, compact_config, new_encoder
from bertsnr_tools.models.encoder_config import encoder_fields
from bertsnr_tools.models.huggingface import BertEncoder, ModernBertEncoder
from bertsnr_tools.models.kernels.inference import InferenceEncoder

SPECIAL = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
SMALL = {"vocab_size": 69, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 3}
CONFIGS = {
    "compact, k 3": compact_config(3, 100),
    "compact, k 5": compact_config(5, 60),
    "biases": {
        "model_type": "modernbert",
        **SMALL,
        **SPECIAL,
        "attention_bias": True,
        "mlp_bias": True,
        "norm_bias": True,
        "local_attention": 8,
        "global_attn_every_n_layers": 2,
    },
    "other positions": {
        "model_type": "modernbert",
        **SMALL,
        **SPECIAL,
        "local_attention": 11,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 5000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 300.0},
        },
    },
}
DROPOUT = {"model_type": "modernbert", **SMALL, **SPECIAL, "mlp_dropout": 0.1, "local_attention": 8}


def transformers_model(config):
    options = {name: value for name, value in config.items() if name != "model_type"}
    return ModernBertModel(ModernBertConfig(**options, attn_implementation="eager"))


@pytest.fixture(params=CONFIGS)
def pair(request):
    """Our encoder and transformers', with the same weights."""
    torch.manual_seed(3)
    ours, theirs = new_encoder(CONFIGS[request.param]), transformers_model(CONFIGS[request.param])
    assert isinstance(ours, Encoder)
    with torch.no_grad():
        for weight in ours.parameters():  # so that no bias is 0, no norm is 1, and attention is not uniform
            weight.add_(torch.randn_like(weight) * 0.05)
    theirs.load_state_dict(ours.state_dict())
    return ours.eval(), theirs.eval()


def ids_of(encoder, length):
    return torch.randint(0, encoder.config.vocab_size, (4, length))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_seed_gives_the_same_weights(name):
    torch.manual_seed(3)
    ours, after = new_encoder(CONFIGS[name]), torch.rand(1)
    torch.manual_seed(3)
    theirs, theirs_after = transformers_model(CONFIGS[name]), torch.rand(1)
    assert list(ours.state_dict()) == list(theirs.state_dict()) and torch.equal(after, theirs_after)
    assert all(torch.equal(one, other) for one, other in zip(ours.parameters(), theirs.parameters()))


@pytest.mark.parametrize("length", [5, 8, 9, 17, 40, 102])  # shorter and longer than the sliding windows
def test_hidden_states_and_attention_weights(pair, length):
    ours, theirs = pair
    ids = ids_of(ours, length)
    with torch.inference_mode():
        output = theirs(input_ids=ids, output_attentions=True)
        assert torch.allclose(ours(ids), output.last_hidden_state, atol=1e-5)
        assert torch.allclose(ours.train()(ids), output.last_hidden_state, atol=1e-5)  # explicit attention
        attentions = ours.attention_weights(ids)
    assert len(attentions) == len(output.attentions)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(attentions, output.attentions))


@pytest.mark.parametrize("length", [7, 60])
def test_gradients(pair, length):
    ours, theirs = pair
    ids = ids_of(ours, length)
    ours.train()(ids).square().mean().backward()
    theirs.train()(input_ids=ids).last_hidden_state.square().mean().backward()
    for one, other in zip(ours.parameters(), theirs.parameters()):
        assert torch.allclose(one.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_local_layers_do_not_attend_outside_of_the_sliding_window(pair):
    ours, _ = pair
    apart = (torch.arange(40)[:, None] - torch.arange(40)).abs() > ours.config.sliding_window
    for kind, weights in zip(ours.config.layer_types, ours.attention_weights(ids_of(ours, 40))):
        outside = weights[:, :, apart]
        assert not outside.any() if kind == "sliding_attention" else outside.all()


def test_embedded_tokens_are_the_same_as_ids(pair):
    ours, _ = pair
    ids = ids_of(ours, 30)
    assert torch.equal(ours.forward_embedded(ours.get_input_embeddings()(ids)), ours(ids))


@pytest.mark.parametrize(
    ("config", "kind"), [(DROPOUT, ModernBertEncoder), ({"model_type": "bert", **SMALL}, BertEncoder)]
)
def test_encoders_of_transformers_have_the_same_interface(config, kind):
    torch.manual_seed(1)
    encoder = new_encoder(config).eval()
    assert isinstance(encoder, kind)
    ids = ids_of(encoder, 30)
    with torch.inference_mode():
        hidden = encoder(ids)
        attentions = encoder.attention_weights(ids)
        assert len(attentions) == 3 and attentions[0].shape == (4, 3, 30, 30)
        assert torch.equal(encoder(ids), hidden) and encoder.config._attn_implementation == "sdpa"
        assert torch.allclose(encoder.forward_embedded(encoder.get_input_embeddings()(ids)), hidden, atol=1e-6)
        assert torch.allclose(InferenceEncoder(encoder, torch.float32)(ids), hidden, atol=2e-5)
    assert encoder.train().config._attn_implementation == "eager"


def test_earlier_spellings_are_kept_only_where_the_later_is_missing():
    early = {"global_attn_every_n_layers": 2, "global_rope_theta": 7.0, "vocab_size": 69, "architectures": ["X"]}
    assert encoder_fields(early) == {name: value for name, value in early.items() if name != "architectures"}
    late = {"layer_types": ["full_attention"], "rope_parameters": {}}
    assert encoder_fields(early | late) == {"vocab_size": 69, **late}


def test_shipped_models_and_encoder_load_without_transformers():
    code = """
import sys
from bertsnr_tools.models.files import load_model
from bertsnr_tools.models.pretrained import shipped_encoder
from bertsnr_tools.models.registry import find_model
load_model(find_model("CTCF"))
assert shipped_encoder(3)
slow = {"transformers", "torch._dynamo", "sympy"} & set(sys.modules)
assert not slow, slow
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_model_names_are_listed_without_torch():
    code = """
import sys
from bertsnr_tools.models.registry import find_model
find_model("CTCF")
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
