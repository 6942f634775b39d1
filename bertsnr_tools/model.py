"""The two-task network of BertSNR (Luo et al. 2024, section 2.3), its devices and its file format."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from . import __version__, amx
from .errors import DataError, DeviceError
from .kmers import CLS, PAD, SEP, SPECIAL, kmer_ids, vocabulary
from .lean import Lean
from .networks import NETWORKS, Prefilter
from .streams import reason, replacing

FORMAT = "bertsnr_tools model"
FORMAT_VERSION = 1
Reader = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]  # token ids to logits of both tasks
SHIPPED = Path(__file__).parent / "models"
DROPOUT = 0.2
MOST_LAYERS = 256
MOST_K = 7  # whose ids are int16


def compact_encoder(k: int, window: int) -> dict[str, Any]:
    """Configuration of the default encoder: a small ModernBERT (Warner et al. 2024) with rotary positions.

    Layers 0 and 3 attend to the whole window, layers 1 and 2 to 8 tokens on either side; the last layer is a full one, so
    that the attention of [CLS] says which bases the decision rests on.
    """
    return {
        "model_type": "modernbert",
        "vocab_size": len(vocabulary(k)),
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "global_attn_every_n_layers": 3,
        "local_attention": 16,
        "max_position_embeddings": window + 2,
        "pad_token_id": PAD,
        "cls_token_id": CLS,
        "sep_token_id": SEP,
        "bos_token_id": CLS,
        "eos_token_id": SEP,
    }


def new_encoder(config: dict[str, Any]) -> nn.Module:
    """An encoder with random weights, from its configuration."""
    options = {name: value for name, value in config.items() if name != "model_type"} | {"attn_implementation": "sdpa"}
    kind = config.get("model_type")
    if config.get("num_hidden_layers", 1) > MOST_LAYERS:
        raise ValueError(f"{config['num_hidden_layers']} layers, known are encoders of up to {MOST_LAYERS}")
    if kind == "modernbert":
        from transformers import ModernBertConfig, ModernBertModel

        return ModernBertModel(ModernBertConfig(**options))
    if kind == "bert":  # DNABERT's
        from transformers import BertConfig, BertModel

        return BertModel(BertConfig(**options))
    raise ValueError(f"encoder type is {kind!r}, known are 'modernbert' and 'bert'")


@dataclass
class ModelInfo:
    """What a model file says about its model, apart from the weights.

    Attributes
    ----------
    name : the transcription factor
    k : bases in a token
    window : bases in a training window
    encoder : configuration of the encoder
    site_width : median width of the training sites, bp
    threshold : base probability above which a base is called
    training : summary of data, recipe and metrics
    background : how high natural windows score, see `significance.Background`; empty when not known
    prefilter : of the model's `networks.Prefilter`: shortest, flank and cut; empty when it has none
    package_version : version of bertsnr_tools that wrote the file
    """

    name: str
    k: int
    window: int
    encoder: dict[str, Any]
    site_width: int
    threshold: float = 0.5
    training: dict[str, Any] = field(default_factory=dict)
    background: dict[str, Any] = field(default_factory=dict)
    prefilter: dict[str, Any] = field(default_factory=dict)
    package_version: str = __version__


class SiteModel(nn.Module):
    """Encoder, dropout, a sequence head on [CLS] (pooled where the encoder has a pooler) and a token head on every k-mer."""

    def __init__(self, info: ModelInfo):
        super().__init__()
        self.info = info
        self.encoder: Any = new_encoder(info.encoder)
        self.dropout = nn.Dropout(DROPOUT)
        self.sequence_head = nn.Linear(info.encoder["hidden_size"], 1)
        self.token_head = nn.Linear(info.encoder["hidden_size"], 1)
        self.prefilter = Prefilter(**info.prefilter) if info.prefilter else None
        self.copies: list[SiteModel] = []  # on other devices, to share the work with

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of both tasks.

        Parameters
        ----------
        ids : token ids with [CLS] first and [SEP] last, shape (B, T + 2)

        Returns
        -------
        sequence logits (B,), token logits (B, T), both float32
        """
        output = self.encoder(input_ids=ids)
        with torch.autocast(ids.device.type, enabled=False):  # one rounding of a logit would be seen in the score
            return self._logits(output.last_hidden_state, output.get("pooler_output"))

    def _logits(self, hidden: torch.Tensor, pooled: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Of hidden states (B, T + 2, H) and, where the encoder has a pooler, what it makes of them."""
        hidden = self.dropout(hidden.float())
        first = hidden[:, 0] if pooled is None else self.dropout(pooled.float())
        return _one_output(self.sequence_head, first), _one_output(self.token_head, hidden[:, 1:-1])

    def reader(self, precision: str) -> Reader:
        """`forward` for inference, with the weights of now in the arithmetic of `precision`."""
        if precision == "fp16":  # whose range is too small for hidden states
            return self
        try:
            lean = _encoder_reader(self.encoder, self.device, precision)
        except ValueError:
            return self

        def read(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            with torch.autocast(ids.device.type, enabled=False):
                hidden = lean(ids).float()
                pooler = getattr(self.encoder, "pooler", None)
                return self._logits(hidden, pooler and pooler(hidden))

        return read

    @property
    def device(self) -> torch.device:
        return self.token_head.weight.device

    def differentiable(self, on: bool) -> None:
        """Choose the attention for training (on a CPU its backward pass is far faster) or the fused one for all else."""
        self.encoder.set_attn_implementation("eager" if on else "sdpa")


class Baseline(nn.Module):
    """A published network of `networks` in the place of a `SiteModel`: k is 1, its tokens are the bases.

    The sequence task gets the highest logit of the bases.
    """

    def __init__(self, info: ModelInfo):
        super().__init__()
        self.info = info
        self.network = NETWORKS[info.encoder["model_type"]](info.window)
        self.prefilter = None
        self.copies: list[SiteModel] = []

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `SiteModel.forward`; a sequence shorter than the window is filled up with nothing."""
        bases = ids[:, 1:-1]
        letters = torch.tensor([len(SPECIAL) + code for code in (0, 2, 3, 1)], device=ids.device)  # A, C, G, T
        one_hot = (bases[:, None, :] == letters[:, None]).float()
        one_hot = nn.functional.pad(one_hot, (0, max(0, self.info.window - bases.shape[1])))
        with torch.autocast(ids.device.type, enabled=False):
            logits = self.network(one_hot[:, None])[:, : bases.shape[1]]
        return logits.amax(dim=1), logits

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def differentiable(self, on: bool) -> None:
        """Nothing to choose."""

    def reader(self, precision: str) -> Reader:
        """As `SiteModel.reader`."""
        return self


def _encoder_reader(encoder: nn.Module, device: torch.device, precision: str) -> Callable[[torch.Tensor], torch.Tensor]:
    if precision == "bf16" and device.type == "cpu" and amx.usable(encoder):
        return amx.Amx(encoder)
    return Lean(encoder, torch.bfloat16 if precision == "bf16" else torch.float32)


def new_model(info: ModelInfo) -> SiteModel:
    """A network with random weights of the kind that its encoder's configuration names."""
    return Baseline(info) if info.encoder.get("model_type") in NETWORKS else SiteModel(info)  # type: ignore[return-value]


def baseline_encoder(kind: str) -> dict[str, Any]:
    """Configuration of a network of `networks`, by its name there."""
    return {"model_type": kind, "vocab_size": len(vocabulary(1))}


def _one_output(head: nn.Linear, hidden: torch.Tensor) -> torch.Tensor:
    """A linear layer with one output, (..., H) to (...). A matrix-vector product would round differently for each batch size."""
    return (hidden * head.weight[0]).sum(-1) + head.bias


def token_ids(codes: np.ndarray, k: int) -> torch.Tensor:
    """Codes of equally long sequences to model input.

    Parameters
    ----------
    codes : output of `kmers.encode`, shape (B, L)

    Returns
    -------
    int64 tensor, shape (B, L - k + 3): [CLS], the k-mers, [SEP]
    """
    ids = np.empty((len(codes), codes.shape[1] - k + 3), dtype=np.int64)
    ids[:, 0], ids[:, -1] = CLS, SEP
    ids[:, 1:-1] = kmer_ids(codes, k)
    return torch.from_numpy(ids)


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:N` to a device; `auto` takes a GPU when there is one.

    Raises
    ------
    DeviceError : no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"device {name!r} is not there: this machine has {torch.cuda.device_count()} CUDA device(s)")
    return device


def choose_devices(names: str) -> list[torch.device]:
    """As `choose_device`, for names with commas between."""
    return [choose_device(name) for name in names.split(",")]


def choose_precision(name: str, device: torch.device) -> str:
    """`auto` to `bf16` where the device computes in it natively, else to `fp32`; other names are kept."""
    if name != "auto":
        return name
    native = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()
    return "bf16" if native else "fp32"


def autocast(device: torch.device, precision: str):
    """The context in which the model runs at a precision of `choose_precision`."""
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
    return torch.autocast(device.type, dtypes[precision]) if precision in dtypes else nullcontext()


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.pt"))


def find_model(name: str) -> str:
    """The file of a model: `name` itself when it is a file, else the shipped model of that name.

    Raises
    ------
    DataError : neither.
    """
    if os.path.exists(name) or os.sep in name:
        return name
    if name in shipped_models():
        return str(SHIPPED / f"{name}.pt")
    raise DataError(f"no such file, and no shipped model of that name (shipped: {', '.join(shipped_models())})", name)


def save_model(path: str, model: SiteModel) -> None:
    """Write a model file: tensors and plain metadata only. An existing file is replaced whole."""
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **vars(model.info),
        "weights": {name: weight.detach().cpu() for name, weight in model.state_dict().items()},
    }
    with replacing(path) as temporary, open(temporary, "wb") as stream:  # given a name, torch would put it into the file
        torch.save(content, stream)


def load_model(path: str, device: torch.device | str = "cpu") -> SiteModel:
    """Read a model file that `save_model` wrote.

    Raises
    ------
    DataError : no such file, not a model file, one that holds anything but tensors and plain values, one of a later
        format version, or weights that do not fit their own configuration.
    """
    content = read_checked(path, FORMAT, FORMAT_VERSION)
    content = {"background": {}, "prefilter": {}} | content  # which files by earlier releases lack
    kinds = {"name": str, "k": int, "window": int, "encoder": dict, "site_width": int, "threshold": float, "training": dict, "background": dict, "prefilter": dict, "package_version": str, "weights": dict}
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind):
            raise DataError(f"model field {key!r} is {type(content.get(key)).__name__}, needed is {kind.__name__}", path)
    if not (1 <= content["k"] <= min(MOST_K, content["window"]) and content["window"] <= 100_000 and 0 < content["threshold"] < 1):
        raise DataError(f"model fields are out of range (k {content['k']}, window {content['window']}, threshold {content['threshold']})", path)
    if content["encoder"].get("vocab_size") != len(vocabulary(content["k"])):
        raise DataError(f"vocabulary has {content['encoder'].get('vocab_size')} tokens, {content['k']}-mers need {len(vocabulary(content['k']))}", path)
    weights = content["weights"]
    try:
        with torch.device("meta"):
            model = new_model(ModelInfo(**{key: content[key] for key in kinds if key != "weights"}))
        expected = {name: weight.shape for name, weight in model.state_dict().items()}
        if {name: weight.shape for name, weight in weights.items()} != expected:
            raise ValueError("the weights do not fit it")
        with torch.device("cpu"):
            model = new_model(model.info)
        model.load_state_dict(weights)
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError, AssertionError) as error:
        raise DataError(f"model configuration cannot be used ({str(error).splitlines()[0]})", path) from error
    if not all(torch.isfinite(weight).all() for weight in weights.values()):
        raise DataError("weights hold values that are no numbers", path)
    return model.to(device).eval()


def read_checked(path: str, kind: str, version: int) -> dict[str, Any]:
    """Open a file of tensors and plain values, and check what it says it is.

    Raises
    ------
    DataError : it cannot be read, holds code, or is of another kind or a later version.
    """
    try:
        stream = open(path, "rb")
    except OSError as error:
        raise DataError(reason(error), path) from error
    try:
        with stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on foreign pickles, which are refused below in our own words
            with zipfile.ZipFile(stream) as archive:
                packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
            if packed:  # it might unpack to any size
                raise DataError(f"is no {kind}: its parts are compressed", path)
            stream.seek(0)
            content = torch.load(stream, map_location="cpu", weights_only=True)
    except DataError:
        raise
    except pickle.UnpicklingError as error:
        raise DataError(f"is no {kind}: it holds more than tensors and plain values, and is not opened", path) from error
    except Exception as error:  # the readers of both formats raise whatever their input leads to
        raise DataError(f"is no {kind}, or is damaged", path) from error
    if not isinstance(content, dict) or content.get("format") != kind:
        raise DataError(f"is no {kind}", path)
    if content.get("format_version") != version:
        found = content.get("format_version")
        older = isinstance(found, int) and found < version
        raise DataError(f"is of format version {found!r}, this release reads version {version}: {'make it anew' if older else 'update bertsnr_tools'}", path)
    return content
