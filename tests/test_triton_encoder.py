"""The Triton kernel equals the plain encoder: on a GPU as it runs, elsewhere through Triton's interpreter in fp32."""

import os

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported
pytest.importorskip("triton")

from bertsnr_tools.models import kernels  # noqa: E402
from bertsnr_tools.models.batching import token_probabilities  # noqa: E402
from bertsnr_tools.models.bertsnr import BertSNR, token_ids  # noqa: E402
from bertsnr_tools.models.device import Runtime  # noqa: E402
from bertsnr_tools.models.encoder import compact_config  # noqa: E402
from bertsnr_tools.models.interface import ModelInfo  # noqa: E402
from bertsnr_tools.models.kernels.inference import Unsupported  # noqa: E402
from bertsnr_tools.models.kernels.triton_encoder import TritonModel  # noqa: E402

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def new_model(k=3, window=100, **config):
    torch.manual_seed(5)
    model = BertSNR(ModelInfo("X", k, window, compact_config(k, window) | config, 8)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # so that no norm is 1 and scores spread
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def random_codes(count, length):
    return np.random.default_rng(1).integers(0, 5, (count, length)).astype(np.uint8)


@pytest.mark.parametrize("length", [3, 41, 100])
def test_same_logits_as_the_plain_encoder(length):
    model = new_model()
    ids = token_ids(random_codes(2, length), 3)
    with torch.inference_mode():
        expected = model(ids)
        if torch.cuda.is_available():
            found, tolerance = TritonModel(model.cuda())(ids.cuda()), 0.1
        else:
            found, tolerance = TritonModel(model, torch.float32)(ids), 2e-5
    for one, other in zip(found, expected):
        assert torch.allclose(one.cpu(), other, atol=tolerance)


@needs_gpu
def test_batches_change_no_bit():
    model, codes = new_model().cuda(), random_codes(300, 100)
    sizes = [token_probabilities(model, codes, Runtime((model.device,), "bf16", size)) for size in (1024, 64, 7)]
    alone = token_probabilities(model, codes[-1:], Runtime((model.device,), "bf16", 1024))
    assert isinstance(model.inference_function("bf16"), TritonModel)
    for sequences, tokens in sizes[1:]:
        assert np.array_equal(sequences, sizes[0][0]) and np.array_equal(tokens, sizes[0][1])
    assert np.array_equal(alone[1], sizes[0][1][-1:])


@pytest.fixture
def tested_gpu(monkeypatch):
    """Choose the kernel as on a GPU, with the interpreter where there is none."""
    if not torch.cuda.is_available():
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: kernels.TESTED)
        monkeypatch.setattr(TritonModel.__init__, "__defaults__", (torch.float32,))


def test_a_kernel_is_used_when_its_logits_are_right(tested_gpu, monkeypatch):
    model = new_model().to("cuda" if torch.cuda.is_available() else "cpu")
    assert isinstance(kernels.new_triton_model(model), TritonModel)
    call = TritonModel.__call__
    monkeypatch.setattr(TritonModel, "__call__", lambda self, ids: [part + 1 for part in call(self, ids)])
    assert kernels.new_triton_model(model) is None


@pytest.mark.parametrize(
    "options", [{"window": 200}, {"hidden_size": 64}, {"norm_bias": True}, {"k": 2, "model_type": "bert"}]
)
def test_other_models_run_with_other_kernels(tested_gpu, options):
    model = new_model(**options)
    with pytest.raises(Unsupported):
        TritonModel(model)
    assert kernels.new_triton_model(model) is None
