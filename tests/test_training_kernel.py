"""The training kernel equals autograd on the plain encoder: hidden states, gradients, whole training steps."""

import numpy as np
import pytest
import torch

from bertsnr_tools.models.bertsnr import Dropout
from bertsnr_tools.models.encoder import compact_config, new_encoder
from bertsnr_tools.models.kernels import training
from bertsnr_tools.sequence.windows import Windows
from bertsnr_tools.training.config import ModelDesign, Recipe
from bertsnr_tools.training.fit import Trainer

CPU = torch.device("cpu")
# k, window, size of the encoder, windows: several parts of a batch and one, longer and shorter than sliding windows
SHAPES = {
    "default": (3, 101, (128, 4), 40),
    "long": (5, 700, (64, 2), 3),
    "wide": (4, 33, (192, 7), 7),
    "short": (3, 6, (32, 3), 1),
}


def encoder_of(k, window, size, spread=0.05):
    torch.manual_seed(3)
    encoder = new_encoder(compact_config(k, window, size)).train()
    with torch.no_grad():
        for weight in encoder.parameters():  # so that no norm is 1, and attention is not uniform
            weight.add_(torch.randn_like(weight) * spread)
    return encoder


def ids_of(encoder, window, count):
    return torch.randint(0, encoder.config.vocab_size, (count, window))


def hidden_and_gradients(encoder, forward, ids, precision="fp32"):
    """Of the hidden states, and of each weight, by name."""
    encoder.zero_grad()
    direction = torch.randn(*ids.shape, encoder.config.hidden_size, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        hidden = forward(ids)
    (hidden.float() * direction).sum().backward()
    return {"hidden": hidden.detach(), **{name: weight.grad.clone() for name, weight in encoder.named_parameters()}}


def errors(found, expected):
    assert list(found) == list(expected)
    return {name: float((found[name] - one).norm() / one.norm()) for name, one in expected.items()}


def plain(encoder):
    return lambda ids: encoder.forward_embedded(encoder.embeddings.tok_embeddings(ids))


@pytest.fixture(params=SHAPES)
def case(request):
    k, window, size, count = SHAPES[request.param]
    encoder = encoder_of(k, window, size)
    return encoder, ids_of(encoder, window - k + 3, count)


def test_gradients_in_fp32(case):
    encoder, ids = case
    expected = hidden_and_gradients(encoder, plain(encoder), ids)
    found = hidden_and_gradients(encoder, encoder, ids)
    assert not torch.equal(found["hidden"], expected["hidden"])  # the kernel ran
    assert max(errors(found, expected).values()) < 1e-5


def test_gradients_in_bf16_are_as_exact_as_under_autocast(case):
    encoder, ids = case
    exact = hidden_and_gradients(encoder, plain(encoder), ids)
    autocast = errors(hidden_and_gradients(encoder, plain(encoder), ids, "bf16"), exact)
    found = errors(hidden_and_gradients(encoder, encoder, ids, "bf16"), exact)
    assert max(found.values()) < 0.05
    assert np.mean(list(found.values())) < 1.25 * np.mean(list(autocast.values()))


@pytest.mark.parametrize("scale", [60.0, 1000.0])  # exponentials overflow fp32, and in some rows all are 0
def test_scores_beyond_the_exponential(scale):
    encoder = encoder_of(3, 40, (64, 2))
    with torch.no_grad():
        for layer in encoder.layers:
            layer.attn.Wqkv.weight[:128] *= scale**0.5
    ids = ids_of(encoder, 40, 3)
    expected = hidden_and_gradients(encoder, plain(encoder), ids)
    assert all(torch.isfinite(value).all() for value in expected.values())
    assert max(errors(hidden_and_gradients(encoder, encoder, ids), expected).values()) < 1e-3


def test_gradients_do_not_depend_on_threads():
    encoder = encoder_of(3, 101, (64, 2))
    ids, found = ids_of(encoder, 101, 70), []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(hidden_and_gradients(encoder, encoder, ids, "bf16"))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(other[name], one) for other in found[1:] for name, one in found[0].items())


def test_a_weight_that_is_not_trained_gets_no_gradient():
    encoder = encoder_of(3, 30, (64, 2))
    encoder.embeddings.requires_grad_(False)
    encoder(ids_of(encoder, 30, 2)).sum().backward()
    assert encoder.embeddings.tok_embeddings.weight.grad is None
    assert encoder.final_norm.weight.grad is not None


def test_what_the_kernel_does_not_compute():
    assert training.supports(encoder_of(3, 30, (64, 2)), CPU)
    assert not training.supports(encoder_of(3, 30, (64, 2)), torch.device("cuda"))
    assert not training.supports(encoder_of(3, 30, (64, 2)).double(), CPU)
    biased = new_encoder(compact_config(3, 30, (64, 2)) | {"norm_bias": True}).train()
    assert not training.supports(biased, CPU)
    biased(ids_of(biased, 30, 2)).sum().backward()
    assert all(weight.grad is not None for weight in biased.parameters())


def test_dropout():
    dropout = Dropout(0.2)
    torch.manual_seed(1)
    values = torch.full((1000, 403), 2.0, requires_grad=True)  # not a multiple of the values in a random number
    result = dropout(values)
    (gradient,) = torch.autograd.grad(result.sum(), values)
    assert torch.equal(gradient * 2, result) and set(result.unique().tolist()) == {0.0, 2.5}
    dropped = (result == 0).float()
    assert abs(dropped.mean() - 0.2) < 0.002 and (dropped.mean(dim=0) - 0.2).abs().max() < 0.06
    torch.manual_seed(1)
    assert torch.equal(dropout(values), result) and not torch.equal(dropout(values), result)
    assert torch.equal(dropout.eval()(values), values)


def test_training_learns_the_same(monkeypatch):
    random = np.random.default_rng(1)
    codes = random.integers(0, 4, (64, 40), dtype=np.uint8)
    labels = np.zeros(codes.shape, bool)
    labels[::2, 15:25] = True
    codes[::2, 15:25] = 1
    windows = Windows([str(row) for row in range(64)], codes, labels)
    losses = []
    for supported in (True, False):
        if not supported:
            monkeypatch.setattr(training, "supports", lambda *_: False)
        torch.manual_seed(1)
        design = ModelDesign.choose(encoder="new:64x2")
        trainer = Trainer(design.model(design.info("X", windows)), Recipe(batch_size=16))
        losses.append([trainer.train_epoch(windows, number) for number in range(6)])
    assert losses[0][-1] < 0.5 * losses[0][0]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
