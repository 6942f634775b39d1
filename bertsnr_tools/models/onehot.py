"""A model as a differentiable function of one-hot sequence, for attribution and design with other libraries."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn.functional import max_pool1d, pad

from ..errors import UsageError
from ..sequence.encoding import CLS, SEP, SPECIAL, UNK
from .bertsnr import BertSNR, Logits, mean_logits

CODE_ROWS = [0, 3, 1, 2]  # rows A, T, C, G, the letter order of k-mers, of an input with rows A, C, G, T


class OneHotModule(nn.Module):
    """Logits of a `BertSNR` model as a function of one-hot sequence; gradients reach the letters.

    A token's embedding is the mean of all k-mer embeddings, weighted by the product of their letters' values. For
    one-hot input it is the embedding of the k-mer; for a mixture of letters (a reference, an interpolation), the
    expected one. A column of zeros is N.

    Gradients, integrated gradients and mutagenesis are exact. DeepLIFT and its relatives have rules for the activation
    functions of convolutional networks only, not for attention: their attributions do not add up.

    Parameters
    ----------
    model : its weights are shared, not copied
    output : "sequence" for the logit of a site anywhere in the sequence, shape (B, 1); "bases" for the logits of the
        bases, shape (B, L)
    """

    def __init__(self, model: BertSNR, output: Literal["sequence", "bases"] = "sequence"):
        super().__init__()
        if output not in ("sequence", "bases"):
            raise UsageError(f'output is {output!r}; expected "sequence" or "bases"')
        self.model, self.output, self.k = model, output, model.info.k
        self.other = OneHotModule(model.other, output) if model.other else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One-hot sequence, float (B, 4, L), rows A, C, G, T, to logits.

        Raises
        ------
        ValueError : the shape is not (B, 4, L) with L from k to the model's window.
        """
        k, window = self.k, self.model.info.window
        if x.ndim != 3 or x.shape[1] != 4 or not k <= x.shape[2] <= window:
            raise ValueError(f"input has shape {tuple(x.shape)}; expected (B, 4, L) with L from {k} to {window}")
        sequence_logits, token_logits = self._logits(x)
        if self.output == "sequence":
            return sequence_logits[:, None]
        # a base has the maximum over the tokens that cover it
        return max_pool1d(pad(token_logits[:, None], (k - 1, k - 1), value=-torch.inf), k, stride=1)[:, 0]

    def _logits(self, x: torch.Tensor) -> Logits:
        own = self.model.forward_embedded(self._embedded(x))
        return mean_logits(own, self.other._logits(x)) if self.other else own

    def _embedded(self, x: torch.Tensor) -> torch.Tensor:
        """Token embeddings, (B, T + 2, H), of [CLS], the k-mers and [SEP]."""
        letters = x[:, CODE_ROWS]  # (B, 4, L)
        tokens = x.shape[2] - self.k + 1
        kmers = letters[:, :, :tokens]
        for offset in range(1, self.k):
            kmers = (kmers[:, :, None] * letters[:, None, :, offset : offset + tokens]).flatten(1, 2)  # (B, 4^i, T)
        table = self.model.token_embedding.weight
        unknown = 1 - kmers.sum(1, keepdim=True)
        weights = torch.cat([unknown, kmers], dim=1).transpose(1, 2)  # (B, T, 1 + 4^k)
        embedded = weights @ torch.cat([table[UNK : UNK + 1], table[len(SPECIAL) :]])
        ends = table[[CLS, SEP]].expand(len(x), 2, -1)
        return torch.cat([ends[:, :1], embedded, ends[:, 1:]], dim=1)
