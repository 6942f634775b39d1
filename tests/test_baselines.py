import numpy as np
import pytest
import torch

from bertsnr_tools.models.baselines import NETWORKS, DeepSNR, baseline_config
from bertsnr_tools.models.batching import token_probabilities
from bertsnr_tools.models.bertsnr import token_ids
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.files import load_model, new_model, save_model
from bertsnr_tools.models.interface import ModelInfo
from bertsnr_tools.sequence.encoding import encode


@pytest.fixture(params=sorted(NETWORKS))
def baseline(request):
    torch.manual_seed(4)
    return new_model(ModelInfo("B", 1, 100, baseline_config(request.param), 9)).eval()


def test_one_logit_for_each_base_from_one_hot_sequence(baseline):
    seen = []
    baseline.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        sequence, bases = baseline(token_ids(encode(b"ACGTN" * 10)[None], 1))
    assert sequence.shape == (1,) and bases.shape == (1, 50) and sequence[0] == bases.max()
    one_hot = seen[0][0, 0].numpy()  # rows A, C, G, T; N and padding are zeros
    assert one_hot.shape == (4, 100) and np.array_equal(one_hot[:, :5], np.eye(4, 5)) and not one_hot[:, 50:].any()


def test_saved_and_loaded_alike_and_whatever_the_batch(baseline, tmp_path):
    save_model(str(tmp_path / "b.pt"), baseline)
    again = load_model(str(tmp_path / "b.pt"))
    codes = np.random.default_rng(0).integers(0, 4, (70, 100)).astype(np.uint8)
    one = token_probabilities(baseline, codes, Runtime(batch_size=64))
    for size in (7, 64):
        other = token_probabilities(again, codes, Runtime(batch_size=size))
        assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(one, other))


def test_deepsnr_places_its_signal_where_the_filter_fired():
    """Pooling keeps one position for each filter; unpooling and deconvolution write there and nowhere else."""
    motif = torch.nn.functional.one_hot(torch.tensor([2, 0, 3, 3, 1]), 4).float().T  # GATTC
    network = DeepSNR(60, motif=5, filters=1).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1.0 if parameter.ndim > 1 else 0.0)
        network.detect[1].weight.fill_(1)
        network.place[1].weight.fill_(1)
        network.detect[0].weight.copy_(motif)
        for start in (0, 23, 55):
            one_hot = torch.zeros(1, 1, 4, 60)
            one_hot[0, 0, :, start : start + 5] = motif
            signal = torch.zeros(60)
            signal[start : start + 5] = 5  # the filter's score
            assert torch.allclose(network(one_hot)[0], signal, atol=1e-3)
