"""Encoders from elsewhere: local folders in the layout of Hugging Face, such as the checkpoints of DNABERT (Ji et al. 2021)."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..errors import DataError
from ..io.files import error_text
from ..sequence.encoding import vocabulary
from .encoder import new_encoder
from .registry import WEIGHTS

PREFIXES = {
    "bert": "bert.",
    "modernbert": "model.",
}  # of the encoder's weights in a model with a language-modelling head
HEADS = ("cls.", "head.", "decoder.", "classifier.", "lm_head.")  # what is not the encoder


class Pretrained(NamedTuple):
    """An encoder that was trained before.

    Attributes
    ----------
    config : plain values for `model.ModelInfo.encoder`
    k : bases in a token
    weights : tensors by their names in the encoder, rows of the token embedding in the order of `kmers.vocabulary`
    """

    config: dict[str, Any]
    k: int
    weights: dict[str, torch.Tensor]

    def digest(self) -> str:
        """A short text that changes when any weight does."""
        return weights_digest(self.weights)


def weights_digest(weights: dict[str, torch.Tensor]) -> str:
    """As `Pretrained.digest`, for any weights."""
    state = hashlib.blake2b(digest_size=16)
    for name, value in weights.items():
        state.update(name.encode() + value.cpu().numpy().tobytes())
    return state.hexdigest()


def shipped_encoder(k: int) -> Pretrained | None:
    """The compact encoder that comes with the package, trained on the sites of many factors; None for a k that has none."""
    folder = WEIGHTS / f"encoder{k}"
    return read_pretrained(str(folder)) if folder.is_dir() else None


def read_pretrained(folder: str) -> Pretrained:
    """Read `config.json`, `vocab.txt`, and `model.safetensors` or `pytorch_model.bin`.

    Keys of the configuration that the library does not know, language-modelling heads, and the old names `gamma` and `beta` of
    layer norms are what published checkpoints come with; heads are dropped. A missing pooler is left to chance.

    Raises
    ------
    DataError : a file is missing or damaged, the encoder is neither `bert` nor `modernbert`, the vocabulary is not that of
        k-mers, or weights are missing or of the wrong shape.
    """
    path = Path(folder)
    if not path.is_dir():
        raise DataError("no such folder; needed is one with config.json, vocab.txt and weights", folder)
    words, k = _vocabulary(path / "vocab.txt")
    config = _config(path / "config.json", len(words))
    weights = _weights(path)
    kind = config["model_type"]
    if any(name.startswith(PREFIXES[kind]) for name in weights):
        weights = {
            name.removeprefix(PREFIXES[kind]): value
            for name, value in weights.items()
            if name.startswith(PREFIXES[kind])
        }
    weights = {name: value for name, value in weights.items() if not name.startswith(HEADS)}
    weights = {
        re.sub(r"(LayerNorm)\.gamma$", r"\1.weight", re.sub(r"(LayerNorm)\.beta$", r"\1.bias", name)): value.float()
        for name, value in weights.items()
    }
    table = "embeddings.word_embeddings.weight" if kind == "bert" else "embeddings.tok_embeddings.weight"
    if table not in weights or len(weights[table]) != len(words):
        raise DataError(
            f"the token embedding has {len(weights[table]) if table in weights else 'no'} rows, vocab.txt has {len(words)} tokens",
            folder,
        )
    row = {word: number for number, word in enumerate(words)}
    weights[table] = weights[table][[row[word] for word in vocabulary(k)]]
    return Pretrained(config, k, _matching_weights(config, weights, folder))


def _vocabulary(path: Path) -> tuple[list[str], int]:
    try:
        words = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(error_text(error), str(path)) from error
    k = len(words[-1]) if words else 0
    if not 1 <= k <= 8 or len(words) != 5 + 4**k or set(words) != set(vocabulary(k)):
        raise DataError(
            f"has {len(words)} tokens, the last {words[-1:]}; needed are [PAD] [UNK] [CLS] [SEP] [MASK] and all k-mers of one k over ACGT",
            str(path),
        )
    return words, k


def _config(path: Path, size: int) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(error_text(error), str(path)) from error
    kind = found.get("model_type", "bert") if isinstance(found, dict) else None  # old checkpoints do not say
    if kind == "bert":
        from transformers import BertConfig as Config
    elif kind == "modernbert":
        from transformers import ModernBertConfig as Config  # type: ignore[assignment]
    else:
        raise DataError(f"model_type is {kind!r}, needed is bert or modernbert", str(path))
    if found.get("vocab_size") != size:
        raise DataError(f"vocab_size is {found.get('vocab_size')!r}, vocab.txt has {size} tokens", str(path))
    plain = ("transformers_version", "architectures", "dtype", "torch_dtype", "_name_or_path", "model_type")
    known = {name: value for name, value in found.items() if name in Config().to_dict() and name not in plain}
    return {"model_type": kind, **known}


def _weights(path: Path) -> dict[str, torch.Tensor]:
    safe, old = path / "model.safetensors", path / "pytorch_model.bin"
    try:
        if safe.exists():
            from safetensors.torch import load_file

            return load_file(str(safe))
        weights = torch.load(str(old), map_location="cpu", weights_only=True)
    except Exception as error:  # each reader has its own
        at = safe if safe.exists() else old
        raise DataError(
            "no such file, nor model.safetensors"
            if not at.exists()
            else "holds no weights, or more than weights, or is damaged",
            str(at),
        ) from error
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise DataError("holds more than tensors by name", str(old))
    return weights


def _matching_weights(config: dict[str, Any], weights: dict[str, torch.Tensor], folder: str) -> dict[str, torch.Tensor]:
    """The weights that the encoder has a place for; all but those of a pooler must be there."""
    try:
        with torch.device("meta"):
            wanted = {name: value.shape for name, value in new_encoder(config).state_dict().items()}
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError, AssertionError) as error:
        raise DataError(f"config.json cannot be used ({str(error).splitlines()[0]})", folder) from error
    for name, shape in wanted.items():
        if name not in weights and not name.startswith("pooler."):
            raise DataError(f"weights of {name} are missing", folder)
        if name in weights and weights[name].shape != shape:
            raise DataError(
                f"weights of {name} have the shape {tuple(weights[name].shape)}, needed is {tuple(shape)}", folder
            )
    kept = {name: weights[name] for name in wanted if name in weights}
    if not all(np.isfinite(value.numpy()).all() for value in kept.values()):
        raise DataError("weights hold values that are no numbers", folder)
    return kept
