"""How the two published networks are trained for the comparison: on given negatives, with Adam, without anything of ours."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from bertsnr_tools.metrics import aupr
from bertsnr_tools.networks import NETWORKS as BY_NAME
from bertsnr_tools.windows import Windows


NETWORKS = {"DeepSNR": BY_NAME["deepsnr"], "D-AEDNet": BY_NAME["d-aednet"]}


def _one_hot(codes: np.ndarray) -> torch.Tensor:
    return torch.from_numpy((codes[:, None, None, :] == np.array([0, 2, 3, 1])[:, None]).astype(np.float32))


def predict(network: nn.Module, codes: np.ndarray) -> np.ndarray:
    """Base probabilities, shape (n, length)."""
    network.eval()
    with torch.inference_mode():
        return np.concatenate([torch.sigmoid(network(_one_hot(codes[i : i + 512]))).numpy() for i in range(0, len(codes), 512)])


def train(name: str, data: Windows, validation: Windows, seed: int, epochs: int = 10, patience: int = 3) -> tuple[nn.Module, float]:
    """Adam at 1e-3 on batches of 32, the epoch with the best validation AUPR kept; returns the network and that AUPR."""
    torch.manual_seed(seed)
    network = NETWORKS[name](data.codes.shape[1])
    optimizer = torch.optim.Adam(network.parameters())
    best, kept, since = -1.0, None, 0
    for epoch in range(epochs):
        network.train()
        order = np.random.default_rng([seed, epoch]).permutation(len(data))
        for start in range(0, len(order) - 1, 32):
            index = order[start : start + 32]
            loss = binary_cross_entropy_with_logits(network(_one_hot(data.codes[index])), torch.from_numpy(data.labels[index]).float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        score = aupr(validation.labels.ravel(), predict(network, validation.codes).ravel())
        since += 1
        if score > best:
            best, kept, since = score, copy.deepcopy(network), 0
        if since >= patience:
            break
    return kept, best
