import numpy as np
import pytest
import torch

from bertsnr_tools.models.baselines import NETWORKS, baseline_config
from bertsnr_tools.models.batching import token_probabilities
from bertsnr_tools.models.bertsnr import token_ids
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
    one_hot = seen[0][
        0, 0
    ].numpy()  # rows A, C, G, T; N is nothing, and so is what a short sequence lacks of the window
    assert one_hot.shape == (4, 100) and np.array_equal(one_hot[:, :5], np.eye(4, 5)) and not one_hot[:, 50:].any()


def test_saved_and_loaded_alike_and_whatever_the_batch(baseline, tmp_path):
    save_model(str(tmp_path / "b.pt"), baseline)
    again = load_model(str(tmp_path / "b.pt"))
    codes = np.random.default_rng(0).integers(0, 4, (70, 100)).astype(np.uint8)
    one = token_probabilities(baseline, codes, 64, "fp32")
    for size in (7, 64):
        other = token_probabilities(again, codes, size, "fp32")
        assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(one, other))


def test_deepsnr_places_its_signal_where_the_filter_fired():
    """Pooling keeps one position for each filter; unpooling and deconvolution write there and nowhere else."""
    torch.manual_seed(1)
    network = NETWORKS["deepsnr"](60).eval()
    with torch.no_grad():
        network.place[1].bias.fill_(0)
        logits = network(torch.nn.functional.one_hot(torch.randint(0, 4, (5, 60))).float().transpose(1, 2)[:, None])
    assert logits.shape == (5, 60)
    assert (logits.unique(dim=1).shape[1]) > 1
