"""Pretrained encoders: of model files, such as the shipped one, and of directories in Hugging Face layout.

Such directories are written by `bertsnr pretrain`, or published, as DNABERT (Ji et al. 2021).
"""

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
from .baselines import NETWORKS
from .encoder import least_parameters, new_encoder
from .encoder_config import encoder_fields
from .files import BUILD_ERRORS, first_line, load_factors
from .registry import WEIGHTS

SHIPPED_MODEL = "human.pt"  # in WEIGHTS: the many-factor model whose encoder training starts from
# prefix of the encoder's weights in a model with a language-modelling head, and prefixes of other weights
PREFIXES = {"bert": "bert.", "modernbert": "model."}
HEADS = ("cls.", "head.", "decoder.", "classifier.", "lm_head.")
TOKEN_EMBEDDING = {"bert": "embeddings.word_embeddings.weight", "modernbert": "embeddings.tok_embeddings.weight"}
# fields of `config.json` that do not describe the encoder
FILE_FIELDS = ("transformers_version", "architectures", "dtype", "torch_dtype", "_name_or_path", "model_type")


class Pretrained(NamedTuple):
    """A pretrained encoder.

    Attributes
    ----------
    config : plain values for `ModelInfo.encoder`
    k : bases in a token
    weights : tensors by their names in the encoder; token embeddings are in the order of `sequence.encoding.vocabulary`
    """

    config: dict[str, Any]
    k: int
    weights: dict[str, torch.Tensor]

    def digest(self) -> str:
        """Hash of the weights."""
        return weights_digest(self.weights)


def weights_digest(weights: dict[str, torch.Tensor]) -> str:
    """Hash of names and values."""
    state = hashlib.blake2b(digest_size=16)
    for name, value in weights.items():
        state.update(name.encode() + value.cpu().numpy().tobytes())
    return state.hexdigest()


def shipped_encoder(k: int) -> Pretrained | None:
    """The encoder that training starts from, of the shipped many-factor model; None for another k than its own."""
    # AUPR over bases on published test parts, beside an encoder trained on 78 other factors: NR1H4 0.974 (0.964),
    # TEAD2 0.942 (0.925), KLF4 0.945 (0.920). This encoder has seen the training parts of these factors.
    encoder = model_encoder(str(WEIGHTS / SHIPPED_MODEL))
    return encoder if encoder.k == k else None


def model_encoder(path: str) -> Pretrained:
    """The encoder of a model file, of one factor or of many: the one that all factors share.

    Raises
    ------
    DataError : see `files.load_factors`, or the model is a baseline, which has no encoder.
    """
    model = load_factors(path)[0]
    if model.info.encoder.get("model_type") in NETWORKS:
        raise DataError(f"contains a {model.info.encoder['model_type']} network, which has no encoder", path)
    return Pretrained(model.info.encoder, model.info.k, model.encoder.state_dict())


def read_pretrained(directory: str) -> Pretrained:
    """Read `config.json`, `vocab.txt`, and `model.safetensors` or `pytorch_model.bin`.

    Published checkpoints come with unknown fields in the configuration, language-modelling heads, and the old names
    `gamma` and `beta` of norms: fields and heads are dropped, names converted. A missing pooler gets random weights.

    Raises
    ------
    DataError : a file is missing or damaged, the encoder is neither `bert` nor `modernbert`, the vocabulary does not
        consist of k-mers, or weights are missing or of the wrong shape.
    """
    path = Path(directory)
    if not path.is_dir():
        raise DataError("no such directory; expected one with config.json, vocab.txt and weights", directory)
    words, k = _read_vocabulary(path / "vocab.txt")
    config = _read_config(path / "config.json", len(words))
    weights = _encoder_weights(_read_weights(path), config["model_type"])
    table = TOKEN_EMBEDDING[config["model_type"]]
    rows = len(weights[table]) if table in weights else 0
    if rows != len(words):
        raise DataError(f"the token embedding has {rows} rows, vocab.txt has {len(words)} tokens", directory)
    row = {word: number for number, word in enumerate(words)}
    weights[table] = weights[table][[row[word] for word in vocabulary(k)]]
    return Pretrained(config, k, _matching_weights(config, weights, directory))


def _read_vocabulary(path: Path) -> tuple[list[str], int]:
    """Tokens in their order, and k."""
    try:
        words = path.read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(error_text(error), str(path)) from error
    k = len(words[-1]) if words else 0
    if not 1 <= k <= 8 or len(words) != 5 + 4**k or set(words) != set(vocabulary(k)):
        expected = "[PAD] [UNK] [CLS] [SEP] [MASK] and all k-mers over ACGT"
        raise DataError(f"has {len(words)} tokens, the last {words[-1:]}; expected {expected}", str(path))
    return words, k


def _read_config(path: Path, tokens: int) -> dict[str, Any]:
    """The fields that describe the encoder."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(error_text(error), str(path)) from error
    kind = found.get("model_type", "bert") if isinstance(found, dict) else None  # old checkpoints lack it
    if kind not in PREFIXES:
        raise DataError(f"model_type is {kind!r}, expected bert or modernbert", str(path))
    if found.get("vocab_size") != tokens:
        raise DataError(f"vocab_size is {found.get('vocab_size')!r}, vocab.txt has {tokens} tokens", str(path))
    config = {"model_type": kind, **{name: value for name, value in found.items() if name not in FILE_FIELDS}}
    if kind == "modernbert":
        return encoder_fields(config)
    from .huggingface import bert_fields

    return bert_fields(config)


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    safe, old = path / "model.safetensors", path / "pytorch_model.bin"
    source = safe if safe.exists() else old
    if not source.exists():
        raise DataError("no weights; expected pytorch_model.bin or model.safetensors", str(source))
    try:
        if source == safe:
            from safetensors.torch import load

            return load(safe.read_bytes())  # load_file rejects names that are not UTF-8
        weights = torch.load(str(old), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # both readers raise errors of many types for damaged input
        raise DataError("is damaged, or contains objects other than weights", str(source)) from error
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise DataError("contains objects other than named tensors", str(old))
    return weights


def _encoder_weights(weights: dict[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
    """Without heads, by their present names, in fp32."""
    prefix = PREFIXES[kind]
    if any(name.startswith(prefix) for name in weights):
        weights = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    renamed = {}
    for name, value in weights.items():
        if not name.startswith(HEADS):
            name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
            renamed[re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)] = value.float()
    return renamed


def _matching_weights(
    config: dict[str, Any], weights: dict[str, torch.Tensor], directory: str
) -> dict[str, torch.Tensor]:
    """The weights that the encoder has; only a pooler's may be missing."""
    try:
        if least_parameters(config) > 2 * sum(value.numel() for value in weights.values()):
            raise ValueError("its sizes exceed the weights'")  # before memory is allocated
        expected = {name: value.shape for name, value in new_encoder(config).state_dict().items()}
    except BUILD_ERRORS as error:
        raise DataError(f"config.json cannot be used: {first_line(error)}", directory) from error
    for name, shape in expected.items():
        if name not in weights and not name.startswith("pooler."):
            raise DataError(f"weights of {name} are missing", directory)
        if name in weights and weights[name].shape != shape:
            found = tuple(weights[name].shape)
            raise DataError(f"weights of {name} have the shape {found}, expected {tuple(shape)}", directory)
    kept = {name: weights[name] for name in expected if name in weights}
    if not all(np.isfinite(value.numpy()).all() for value in kept.values()):
        raise DataError("weights are not finite (NaN or infinity)", directory)
    return kept
