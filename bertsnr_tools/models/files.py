"""Model files: where a model is read and written. They contain tensors and plain values only, never code."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Collection, Sequence
from typing import Any

import torch

from ..errors import DataError
from ..io.files import error_text, replace_atomically
from ..sequence.encoding import vocabulary
from .baselines import NETWORKS, BaselineModel
from .bertsnr import BertSNR
from .binding import BindingHeads
from .encoder import least_parameters
from .interface import Model, ModelInfo, check_name
from .many_factor import ManyFactorModel, alone, joined
from .registry import check_factor

FORMAT = "bertsnr_tools model"
FORMAT_VERSION = 1
MANY_FACTOR_VERSION = 2
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
    "matrix": str,
    "variant_null": dict,
    "package_version": str,
    "weights": dict,
}
# files of earlier releases lack them
LATER_FIELDS: dict[str, Any] = {"background": {}, "prefilter": {}, "matrix": "", "variant_null": {}}
SHORT_LIST = 20  # numbers that are written as such
SHARED_FIELDS = ("k", "window", "encoder", "package_version")  # in a many-factor file: once for all factors
# what building a model from a damaged configuration, or filling it with foreign weights, may raise
BUILD_ERRORS = (TypeError, ValueError, KeyError, AttributeError, RuntimeError, AssertionError)


def new_model(info: ModelInfo) -> BertSNR:
    """A model with random weights: a `BaselineModel` where `info.encoder` names a baseline, else a `BertSNR`."""
    baseline = info.encoder.get("model_type") in NETWORKS
    return BaselineModel(info) if baseline else BertSNR(info)  # type: ignore[return-value]


def save_model(path: str, model: Model | ManyFactorModel) -> None:
    """Write a model file atomically; of a many-factor model, its whole group, with weights in half precision."""
    content: dict[str, Any] = {"format": FORMAT}
    if isinstance(model, BertSNR) and model.other:
        with torch.random.fork_rng([]):  # the caller's random state stays as it is
            model = alone(model)
    if isinstance(model, ManyFactorModel):
        first, *others = map(_many_content, model.group)
        content |= {"format_version": MANY_FACTOR_VERSION, **first, "others": others}
    else:
        weights = {name: weight.detach().cpu() for name, weight in model.state_dict().items()}
        content |= {"format_version": FORMAT_VERSION, **_fields(model.info), "weights": weights}
    # a stream, because torch would put a path into the file
    with replace_atomically(path) as temporary, open(temporary, "wb") as stream:
        torch.save(content, stream)


def _many_content(model: ManyFactorModel) -> dict[str, Any]:
    """The fields of a many-factor model."""
    factors = [_fields(info) for info in model.infos]
    content = {name: factors[0][name] for name in SHARED_FIELDS}
    content["factors"] = [_packed(_without(fields, SHARED_FIELDS)) for fields in factors]
    if model.binding:
        binding = model.binding.as_dict()
        content["binding"] = binding | {"nulls": _packed(binding["nulls"])}
    return content | {"weights": {name: weight.detach().cpu().half() for name, weight in model.state_dict().items()}}


def _packed(value: Any) -> Any:
    """Plain values with long lists of numbers as tensors in single precision: pickle takes 9 bytes for a number."""
    if isinstance(value, dict):
        return {key: _packed(of_key) for key, of_key in value.items()}
    if isinstance(value, list) and len(value) > SHORT_LIST and all(isinstance(number, float) for number in value):
        return torch.tensor(value)
    return [_packed(item) for item in value] if isinstance(value, list) else value


def _unpacked(value: Any) -> Any:
    """The plain values of `_packed`."""
    if isinstance(value, dict):
        return {key: _unpacked(of_key) for key, of_key in value.items()}
    if isinstance(value, list):
        return [_unpacked(item) for item in value]
    return value.tolist() if isinstance(value, torch.Tensor) else value


def _fields(info: ModelInfo) -> dict[str, Any]:
    """The fields of a model by their names on disk."""
    fields = dict(vars(info))
    fields["background"] = fields.pop("null")
    return fields


def _without(fields: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


def load_model(path: str, device: torch.device | str = "cpu") -> BertSNR:
    """Read the file of one factor, see `load_factors`."""
    [model, *others] = load_factors(path, device=device)
    if others:
        raise DataError(f"contains {1 + len(others)} factors; choose one, such as {path}:{model.info.name}", path)
    return model


def load_factors(path: str, names: Sequence[str] | None = None, device: torch.device | str = "cpu") -> list[BertSNR]:
    """Read a model file that `save_model` wrote, and put the models into evaluation.

    Parameters
    ----------
    names : of the factors to load; None for all

    Returns
    -------
    a model for each factor, in the order of `names`; factors of one file share its encoders

    Raises
    ------
    DataError : the file does not exist, is not a model file, contains anything but tensors and plain values, has
        another format version, weights that do not fit its configuration, or no factor of a name.
    """
    content = read_checked(path, FORMAT, FORMAT_VERSION, MANY_FACTOR_VERSION)
    with torch.random.fork_rng([]):  # new models have random weights; the caller's random state stays as it is
        if content["format_version"] == MANY_FACTOR_VERSION:
            return _load_many(content, path, names, device)
        model = _load_single(LATER_FIELDS | content, path).to(device).eval()
    for name in names or ():
        check_factor(name, [model.info.name], path)
    return [model]


def _load_single(content: dict[str, Any], path: str) -> BertSNR:
    _check_fields(content, path)
    try:
        model = _built(_info(content), content["weights"])
    except BUILD_ERRORS as error:
        raise DataError(f"model configuration cannot be used: {first_line(error)}", path) from error
    _check_finite(content["weights"], path)
    return model


def _info(content: dict[str, Any]) -> ModelInfo:
    """The metadata of a model from the fields of a file."""
    fields = {name: content[name] for name in FIELDS if name not in ("weights", "background")}
    return ModelInfo(**fields, null=content["background"])


def _check_finite(weights: dict[str, torch.Tensor], path: str) -> None:
    if not all(torch.isfinite(weight).all() for weight in weights.values()):
        raise DataError("weights are not finite (NaN or infinity)", path)


def _load_many(
    content: dict[str, Any], path: str, names: Sequence[str] | None, device: torch.device | str
) -> list[BertSNR]:
    others = content.get("others", [])
    if not isinstance(others, list):
        raise DataError(f"model field 'others' is of type {type(others).__name__}, expected list", path)
    group = [_many_factor_model(part if isinstance(part, dict) else {}, path) for part in (content, *others)]
    known = {info.name: number for number, info in enumerate(group[0].infos)}
    for model in group[1:]:
        if (model.info.k, model.info.window) != (group[0].info.k, group[0].info.window):
            raise DataError("its encoders read windows or k-mers of different lengths", path)
        for info in model.infos:
            check_factor(info.name, known, path)
    for name in names or ():
        check_factor(name, known, path)
    for model in group:
        model.to(device).eval()
    whole = joined(group)
    return [whole.factor(known[name]) for name in names or known]


def _many_factor_model(content: dict[str, Any], path: str) -> ManyFactorModel:
    """One encoder and its heads."""
    factors, weights = content.get("factors"), content.get("weights")
    if not isinstance(factors, list) or not factors or not isinstance(weights, dict):
        raise DataError("model field 'factors' or 'weights' is missing or empty", path)
    shared = {name: content.get(name) for name in SHARED_FIELDS}
    infos = []
    for fields in factors:
        whole = LATER_FIELDS | (_unpacked(fields) if isinstance(fields, dict) else {}) | shared | {"weights": weights}
        _check_fields(whole, path)
        infos.append(_info(whole))
    names = [info.name for info in infos]
    if len(set(names)) < len(names):
        raise DataError("two factors have one name", path)
    try:
        if least_parameters(infos[0].encoder) > sum(weight.numel() for weight in weights.values()):
            raise ValueError("weights do not match it")
        model = ManyFactorModel(infos)
        model.load_state_dict(weights)
        if binding := content.get("binding"):
            if isinstance(binding, dict):
                binding = binding | {"nulls": _unpacked(binding.get("nulls"))}
            model.binding = BindingHeads.from_dict(binding, names)
    except BUILD_ERRORS as error:
        raise DataError(f"model configuration cannot be used: {first_line(error)}", path) from error
    _check_finite(weights, path)
    return model


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


def read_checked(path: str, kind: str, *versions: int) -> dict[str, Any]:
    """Read a file of tensors and plain values, and check its format.

    Parameters
    ----------
    kind, versions : the expected field "format", and the values of "format_version" that this release reads

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
    if found not in versions:
        older = isinstance(found, int) and found < versions[0]
        advice = "write it again with this release" if older else "update bertsnr_tools"
        read = " and ".join(map(str, versions))
        raise DataError(f"has format version {found!r}, this release reads version {read}; {advice}", path)
    return content
