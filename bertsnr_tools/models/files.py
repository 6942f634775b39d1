"""Model files: where a model is read and written. They contain tensors and plain values only, never code."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from typing import Any

import torch

from ..errors import DataError
from ..io.files import error_text, replace_atomically
from ..sequence.encoding import vocabulary
from .baselines import NETWORKS, BaselineModel
from .bertsnr import BertSNR
from .encoder import least_parameters
from .interface import Model, ModelInfo, check_name

FORMAT = "bertsnr_tools model"
FORMAT_VERSION = 1
MAX_K = 7  # token ids are int16
MAX_WINDOW = 100_000
FIELDS = {
    "name": str,
    "k": int,
    "window": int,
    "encoder": dict,
    "site_width": int,
    "threshold": float,
    "training": dict,
    "background": dict,
    "prefilter": dict,
    "package_version": str,
    "weights": dict,
}
LATER_FIELDS: dict[str, Any] = {"background": {}, "prefilter": {}}  # files of earlier releases lack them
# what building a model from a damaged configuration, or filling it with foreign weights, may raise
BUILD_ERRORS = (TypeError, ValueError, KeyError, AttributeError, RuntimeError, AssertionError)


def new_model(info: ModelInfo) -> BertSNR:
    """A model with random weights: a `BaselineModel` where `info.encoder` names a baseline, else a `BertSNR`."""
    baseline = info.encoder.get("model_type") in NETWORKS
    return BaselineModel(info) if baseline else BertSNR(info)  # type: ignore[return-value]


def save_model(path: str, model: Model) -> None:
    """Write a model file atomically."""
    fields = dict(vars(model.info))
    fields["background"] = fields.pop("null")  # the name on disk
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **fields,
        "weights": {name: weight.detach().cpu() for name, weight in model.state_dict().items()},
    }
    # a stream, because torch would put a path into the file
    with replace_atomically(path) as temporary, open(temporary, "wb") as stream:
        torch.save(content, stream)


def load_model(path: str, device: torch.device | str = "cpu") -> BertSNR:
    """Read a model file that `save_model` wrote, and put the model into evaluation.

    Raises
    ------
    DataError : the file does not exist, is not a model file, contains anything but tensors and plain values, has
        another format version, or weights that do not fit its configuration.
    """
    content = LATER_FIELDS | read_checked(path, FORMAT, FORMAT_VERSION)
    _check_fields(content, path)
    info = {name: content[name] for name in FIELDS if name not in ("weights", "background")}
    try:
        model = _built(ModelInfo(**info, null=content["background"]), content["weights"])
    except BUILD_ERRORS as error:
        raise DataError(f"model configuration cannot be used: {first_line(error)}", path) from error
    if not all(torch.isfinite(weight).all() for weight in content["weights"].values()):
        raise DataError("weights are not finite (NaN or infinity)", path)
    return model.to(device).eval()


def _check_fields(content: dict[str, Any], path: str) -> None:
    for name, kind in FIELDS.items():
        if not isinstance(content.get(name), kind):
            found = type(content.get(name)).__name__
            raise DataError(f"model field {name!r} is of type {found}, expected {kind.__name__}", path)
    k, window, threshold = content["k"], content["window"], content["threshold"]
    if not (1 <= k <= min(MAX_K, window) and window <= MAX_WINDOW and 0 < threshold < 1):
        raise DataError(f"model fields are out of range (k {k}, window {window}, threshold {threshold})", path)
    tokens, expected = content["encoder"].get("vocab_size"), len(vocabulary(k))
    if tokens != expected:
        raise DataError(f"vocabulary has {tokens} tokens, expected {expected} for {k}-mers", path)
    try:
        check_name(content["name"])
    except ValueError as error:
        raise DataError(str(error), path) from error


def _built(info: ModelInfo, weights: dict[str, torch.Tensor]) -> BertSNR:
    """A model with these weights.

    Raises
    ------
    ValueError, or another of `BUILD_ERRORS` : they do not fit.
    """
    available = sum(weight.numel() for weight in weights.values())
    if info.encoder.get("model_type") not in NETWORKS and least_parameters(info.encoder) > available:
        raise ValueError("weights do not match it")  # before memory is allocated for what the configuration claims
    model = new_model(info)
    expected = {name: weight.shape for name, weight in model.state_dict().items()}
    if {name: weight.shape for name, weight in weights.items()} != expected:
        raise ValueError("weights do not match it")
    model.load_state_dict(weights)
    return model


def first_line(error: Exception) -> str:
    """The first line of an error's text: torch and transformers append long advice."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def read_checked(path: str, kind: str, version: int) -> dict[str, Any]:
    """Read a file of tensors and plain values, and check its format.

    Parameters
    ----------
    kind, version : the expected fields "format" and "format_version"

    Raises
    ------
    DataError : the file cannot be read, contains code, or is of another format or version.
    """
    try:
        stream = open(path, "rb")
    except OSError as error:
        raise DataError(error_text(error), path) from error
    try:
        with stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about foreign pickles, which are refused below
            with zipfile.ZipFile(stream) as archive:
                compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
            if compressed:  # its size in memory has no bound
                raise DataError(f"is not a {kind}: its entries are compressed", path)
            stream.seek(0)
            content = torch.load(stream, map_location="cpu", weights_only=True)
    except (DataError, MemoryError):
        raise
    except pickle.UnpicklingError as error:
        problem = "it contains more than tensors and plain values, and was not opened"
        raise DataError(f"is not a {kind}: {problem}", path) from error
    except Exception as error:  # zipfile and torch raise errors of many types for damaged input
        raise DataError(f"is not a {kind}, or the file is damaged", path) from error
    if not isinstance(content, dict) or content.get("format") != kind:
        raise DataError(f"is not a {kind}", path)
    found = content.get("format_version")
    if found != version:
        advice = (
            "write it again with this release" if isinstance(found, int) and found < version else "update bertsnr_tools"
        )
        raise DataError(f"has format version {found!r}, this release reads version {version}; {advice}", path)
    return content
