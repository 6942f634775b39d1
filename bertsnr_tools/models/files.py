"""The two-task network of BertSNR (Luo et al. 2024, section 2.3), its devices and its file format."""

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
from .interface import ModelInfo

FORMAT = "bertsnr_tools model"
FORMAT_VERSION = 1
MAX_K = 7  # whose ids are int16


def new_model(info: ModelInfo) -> BertSNR:
    """A network with random weights of the kind that its encoder's configuration names."""
    return BaselineModel(info) if info.encoder.get("model_type") in NETWORKS else BertSNR(info)  # type: ignore[return-value]


def save_model(path: str, model: BertSNR) -> None:
    """Write a model file: tensors and plain metadata only. An existing file is replaced whole."""
    fields = dict(vars(model.info))
    fields["background"] = fields.pop("null")  # the name on disk
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **fields,
        "weights": {name: weight.detach().cpu() for name, weight in model.state_dict().items()},
    }
    with (
        replace_atomically(path) as temporary,
        open(temporary, "wb") as stream,
    ):  # given a name, torch would put it into the file
        torch.save(content, stream)


def load_model(path: str, device: torch.device | str = "cpu") -> BertSNR:
    """Read a model file that `save_model` wrote.

    Raises
    ------
    DataError : no such file, not a model file, one that holds anything but tensors and plain values, one of a later
        format version, or weights that do not fit their own configuration.
    """
    content = read_checked(path, FORMAT, FORMAT_VERSION)
    content = {"background": {}, "prefilter": {}} | content  # which files by earlier releases lack
    kinds = {
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
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind):
            raise DataError(
                f"model field {key!r} is {type(content.get(key)).__name__}, needed is {kind.__name__}", path
            )
    if not (
        1 <= content["k"] <= min(MAX_K, content["window"])
        and content["window"] <= 100_000
        and 0 < content["threshold"] < 1
    ):
        raise DataError(
            f"model fields are out of range (k {content['k']}, window {content['window']}, threshold {content['threshold']})",
            path,
        )
    if content["encoder"].get("vocab_size") != len(vocabulary(content["k"])):
        raise DataError(
            f"vocabulary has {content['encoder'].get('vocab_size')} tokens, {content['k']}-mers need {len(vocabulary(content['k']))}",
            path,
        )
    weights = content["weights"]
    fields = {key: content[key] for key in kinds if key not in ("weights", "background")}
    try:
        with torch.device("meta"):
            model = new_model(ModelInfo(**fields, null=content["background"]))
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
        raise DataError(error_text(error), path) from error
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
        raise DataError(
            f"is no {kind}: it holds more than tensors and plain values, and is not opened", path
        ) from error
    except Exception as error:  # the readers of both formats raise whatever their input leads to
        raise DataError(f"is no {kind}, or is damaged", path) from error
    if not isinstance(content, dict) or content.get("format") != kind:
        raise DataError(f"is no {kind}", path)
    if content.get("format_version") != version:
        found = content.get("format_version")
        older = isinstance(found, int) and found < version
        raise DataError(
            f"is of format version {found!r}, this release reads version {version}: {'make it anew' if older else 'update bertsnr_tools'}",
            path,
        )
    return content
