"""Training on two tasks at once (Luo et al. 2024, section 2.4): recipe, validation, checkpoints, cross-validation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from .checkpoint import Checkpoint
from .errors import UsageError
from .kmers import base_scores, reverse_complement_codes, token_labels
from .log import logger, progress
from .metrics import aupr, six_metrics
from .model import ModelInfo, Reader, SiteModel, autocast, baseline_encoder, compact_encoder, new_model, token_ids
from .pretrained import Pretrained
from .scoring import token_probabilities
from .shuffle import shuffled_records
from .significance import LEAST, Background, log_odds, window_peaks
from .windows import Windows, loci, site_width, split_by_locus

EVALUATION_BATCH = 64  # small enough for a processor's cache


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are for the compact encoder, `PAPER` is what the paper does to a large one.

    Attributes
    ----------
    epochs, patience : at most so many epochs; stop after so many without a better validation AUPR
    batch_size : windows in a step
    learning_rate, weight_decay, warmup : AdamW; no decay on biases and norms; linear rise over this share of all steps, then
        linear fall to 0
    task_weight : lambda, the share of the sequence task in the loss; 0 trains on the token task alone
    swap : share of the positive windows that get the site of another in every epoch, see `swapped`
    natural : natural windows for each positive in an epoch, where there are any
    hard : train also against the natural windows that the teachers score highest, or without teachers train twice, the second time
        against those of the first model, see `hard_negatives`
    average : the model kept is the exponential moving average of the weights with this factor for each step; 0 is none
    seed : of weights, order, dropout and shuffles
    precision : as of `model.choose_precision`
    """

    epochs: int = 10
    patience: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    task_weight: float = 0.15
    weight_decay: float = 0.01
    warmup: float = 0.1
    swap: float = 0.0
    natural: float = 4.0
    hard: bool = False
    average: float = 0.99
    seed: int = 1
    precision: str = "fp32"


PAPER = {"epochs": 10, "patience": 3, "learning_rate": 2e-4, "average": 0.0}  # Luo et al. 2024, section 2.4


def default_epochs(windows: int, batch_size: int, trained: bool) -> int:
    """As many as make 4,000 steps, at least 10 and at most 30; of an encoder that knows sites already, 1,500 steps, 8 to 40."""
    steps, least, most = (1500, 8, 40) if trained else (4000, 10, 30)
    return min(most, max(least, -(-steps * batch_size // windows)))


class Data(NamedTuple):
    """What a model is trained and validated on.

    Attributes
    ----------
    negatives : None gives every epoch new shuffles of the positives
    natural : windows of the genome that every epoch draws from
    hard : natural windows that are in every epoch
    null : natural windows that the model never sees, for p-values
    teachers : models whose probabilities are learned in place of the labels, see `taught`
    """

    positives: Windows
    negatives: Windows | None
    validation: Windows
    natural: Windows | None = None
    hard: Windows | None = None
    null: Windows | None = None
    teachers: tuple[SiteModel, ...] = ()

    def epoch(self, number: int, recipe: Recipe) -> Windows:
        """The windows of one epoch, not yet in random order."""
        seed = recipe.seed
        parts = [swapped(self.positives, recipe.swap, f"{seed} swap {number}") if recipe.swap else self.positives]
        parts.append(self.negatives or shuffles(self.positives, f"{seed} epoch {number}"))
        if self.natural:
            random = np.random.default_rng([seed, 8, number])
            drawn = random.permutation(len(self.natural))[: round(recipe.natural * len(self.positives))]
            parts.append(self.natural.take(drawn))
        return Windows.joined([*parts, self.hard] if self.hard else parts)


def shuffles(windows: Windows, key: str) -> Windows:
    """A dinucleotide shuffle of each window, random by `key`."""
    return Windows.unlabelled(list(shuffled_records(windows.records(), seed=seed_of(key))))


def swapped(windows: Windows, share: float, key: str) -> Windows:
    """Positive windows, about `share` of them with the site of another in the place of their own.

    So a few hundred sites make many thousand windows, and the surroundings of a site do not give it away. Sites are swapped between
    windows whose sites have the same widths and distances.
    """
    random = np.random.default_rng(seed_of(key))
    first = windows.labels.argmax(axis=1)
    after = windows.labels.shape[1] - windows.labels[:, ::-1].argmax(axis=1)
    alike: dict[bytes, list[int]] = {}
    for row, (start, end) in enumerate(zip(first.tolist(), after.tolist())):
        alike.setdefault(windows.labels[row, start:end].tobytes(), []).append(row)
    codes = windows.codes.copy()
    for row in np.nonzero(random.random(len(windows)) < share)[0].tolist():
        others = alike[windows.labels[row, first[row] : after[row]].tobytes()]
        other = others[int(random.integers(len(others)))]
        codes[row, first[row] : after[row]] = windows.codes[other, first[other] : after[other]]
    return Windows(windows.names, codes, windows.labels)


def default_swap(positives: int) -> float:
    """Half of the windows where sites are few; the more there are, the less it is needed."""
    return min(0.5, 500 / positives)


def seed_of(*parts: Any) -> int:
    """A seed from anything that has a `repr`."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=7).digest(), "little")


def split_data(positives: Windows, negatives: Windows | None, chroms: set[str], share: float, seed: int, natural: Windows | None = None, ratio: float = 0.0) -> Data:
    """Set a validation part aside so that windows which overlap on the genome stay together.

    Of the natural windows that are set aside, `ratio` for each positive are for validation, and the others, with half of those that are
    not, for p-values.

    Parameters
    ----------
    chroms : validate on the windows of these chromosomes; when empty, on a random `share` of the loci
    share : in (0, 1)

    Raises
    ------
    UsageError : a part would be empty.
    """
    if chroms:
        head, tail, own = (np.array([name in chroms for name in (loci(part)[1] if part else [])], dtype=bool) for part in (positives, negatives, natural))
    else:
        head, tail, own = (part == 0 for part in split_parts(positives, negatives, natural, max(2, round(1 / share)), seed))
    if not head.any() or head.all():
        known = ", ".join(sorted(set(loci(positives)[1]) - {""})[:5])
        need = "more loci are needed" if not chroms else f"{', '.join(sorted(chroms))} should hold some of them, they lie on {known}" if known else "their names hold no coordinates"
        raise UsageError(f"the positive windows cannot be divided into training and validation: {need}")
    train = positives.take(np.nonzero(~head)[0])
    validation = positives.take(np.nonzero(head)[0])
    if negatives and (not tail.any() or tail.all()):
        raise UsageError("the negative windows cannot be divided into training and validation as the positive ones are")
    against = negatives.take(np.nonzero(tail)[0]) if negatives else shuffles(validation, f"{seed} validation")
    data = Data(train, negatives and negatives.take(np.nonzero(~tail)[0]), Windows.joined([validation, against]))
    if natural is None:
        return data
    random = np.random.default_rng([seed, 9])
    aside, rest = (random.permutation(np.nonzero(part)[0]) for part in (own, ~own))
    many, half = round(ratio * len(validation)), len(rest) // 2
    if not half:
        raise UsageError("no natural window is left for training")
    seen = Windows.joined([data.validation, natural.take(aside[:many])])
    return data._replace(validation=seen, natural=natural.take(rest[:half]), null=natural.take(np.append(aside[many:], rest[half:])))


def split_parts(positives: Windows, negatives: Windows | None, natural: Windows | None, parts: int, seed: int) -> list[np.ndarray]:
    """Part numbers of all three by their loci, as of `windows.split_by_locus`; the parts are even in what is no natural window."""
    locus, _ = loci(Windows.joined([windows for windows in (positives, negatives, natural) if windows]))
    ends = np.cumsum([len(positives), len(negatives or [])])
    labelled, own = locus[: ends[1]], locus[ends[1] :]
    part = split_by_locus(labelled, parts, seed)
    of_locus = dict(zip(own.tolist(), split_by_locus(own, parts, seed).tolist())) | dict(zip(labelled.tolist(), part.tolist()))
    return [*np.split(part, ends[:1]), np.array([of_locus[number] for number in own.tolist()], dtype=int)]


def hard_negatives(models: Sequence[SiteModel], natural: Windows, most: int, precision: str) -> Windows:
    """The natural windows, read on either strand, that score highest; so many, but no more than a tenth of all."""
    both = Windows.joined([natural, Windows(natural.names, reverse_complement_codes(natural.codes), natural.labels)])
    heights = sum(log_odds(window_peaks(model, both, precision, EVALUATION_BATCH, both_strands=False)) for model in models)
    return both.take(np.argsort(-heights, kind="stable")[: min(most, len(natural) // 10)])


def taught(teachers: Sequence[Reader], ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities of both tasks, (B,) and (B, T), of the mean log odds of several models: so many in one (Hinton et al. 2015)."""
    with torch.no_grad():
        answers = [read(ids) for read in teachers]
        return tuple(torch.stack(logits).mean(dim=0).sigmoid() for logits in zip(*answers))  # type: ignore[return-value]


class Design(NamedTuple):
    """What is trained.

    Attributes
    ----------
    arch : "bertsnr", or a name in `networks.NETWORKS`
    k : bases in a token; 1 for the networks
    pretrained : the encoder of "bertsnr" to begin with; None is the compact one with random weights
    """

    arch: str = "bertsnr"
    k: int = 3
    pretrained: Pretrained | None = None

    def info(self, name: str, positives: Windows) -> ModelInfo:
        """The description of a model for these windows.

        Raises
        ------
        UsageError : the windows have more tokens than the encoder has learned positions for.
        """
        window = positives.codes.shape[1]
        if self.pretrained and self.pretrained.config["model_type"] == "modernbert":
            encoder = self.pretrained.config | {"max_position_embeddings": window + 2}  # rotary positions have no end
        elif self.pretrained:
            most = self.pretrained.config.get("max_position_embeddings", 512)
            if window - self.k + 3 > most:
                raise UsageError(f"windows of {window} bp have {window - self.k + 3} tokens, the encoder reads {most}")
            encoder = self.pretrained.config
        else:
            encoder = compact_encoder(self.k, window) if self.arch == "bertsnr" else baseline_encoder(self.arch)
        return ModelInfo(name, self.k, window, encoder, site_width(positives))

    def model(self, info: ModelInfo) -> SiteModel:
        """A new model: random weights, but for the encoder where it was trained before."""
        model = new_model(info)
        if self.pretrained:
            model.encoder.load_state_dict(self.pretrained.weights, strict=False)
        return model


class Result(NamedTuple):
    """A trained model, its epochs, and its base probabilities on the validation windows, shape (n, window)."""

    model: SiteModel
    history: list[dict[str, float]]
    scores: np.ndarray


def fit(name: str, design: Design, recipe: Recipe, data: Data, device: torch.device, checkpoint: Checkpoint) -> Result:
    """Train one model; the weights kept are those of the epoch with the best validation AUPR over bases.

    After every epoch the checkpoint is written; a run that goes on from it gives the model of an unbroken run, because every
    epoch draws its random numbers from the seed and its own number.
    """
    torch.manual_seed(seed_of(recipe.seed, "weights"))
    model = design.model(design.info(name, data.positives)).to(device)
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    optimizer = _optimizer(model, recipe)
    history: list[dict[str, float]] = []
    best: dict[str, Any] = {"aupr": -1.0, "epoch": 0, "weights": average}
    if checkpoint.fit:
        model.load_state_dict(checkpoint.fit["model"])
        optimizer.load_state_dict(checkpoint.fit["optimizer"])
        average, history, best = checkpoint.fit["average"], checkpoint.fit["history"], checkpoint.fit["best"]
        average = {name: value.to(device) for name, value in average.items()}
    while len(history) < recipe.epochs and len(history) - best["epoch"] < recipe.patience:
        number = len(history)
        windows = data.epoch(number, recipe)
        loss = _train_epoch(model, average, optimizer, recipe, windows, number, data.teachers)
        scores, measured = _validate(model, average, recipe, data.validation)
        history.append({"epoch": number + 1, "loss": loss, **measured})
        if measured["aupr"] > best["aupr"]:
            best = {"aupr": measured["aupr"], "epoch": number + 1, "weights": {name: value.cpu().clone() for name, value in average.items()}}
        note = " (best)" if best["epoch"] == number + 1 else ""
        logger.info("epoch %d of %d: loss %.4f, validation loss %.4f, AUPR %.4f%s", number + 1, recipe.epochs, loss, measured["validation_loss"], measured["aupr"], note)
        checkpoint.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "average": average, "history": history, "best": best})
    scores, _ = _validate(model, {name: value.to(device) for name, value in best["weights"].items()}, recipe, data.validation)
    model.load_state_dict(best["weights"])
    return Result(model.eval(), history, scores)


def _optimizer(model: SiteModel, recipe: Recipe) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},  # biases and norms
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)


def _rate(recipe: Recipe, done: float) -> float:
    """Learning rate when a share `done` of all steps is behind."""
    return recipe.learning_rate * min(done / recipe.warmup if recipe.warmup else 1.0, (1 - done) / (1 - recipe.warmup))


def _train_epoch(model: SiteModel, average: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer, recipe: Recipe, windows: Windows, number: int, teachers: Sequence[SiteModel]) -> float:
    """One pass over the windows; updates the model and its moving average in place, returns the mean loss."""
    device, k = model.device, model.info.k
    torch.manual_seed(seed_of(recipe.seed, "dropout", number))
    order = np.random.default_rng([recipe.seed, 2, number]).permutation(len(windows))
    steps = -(-len(windows) // recipe.batch_size)
    model.train()
    model.differentiable(True)
    total = torch.zeros((), device=device)
    readers = [teacher.reader(recipe.precision) for teacher in teachers]
    with progress(f"epoch {number + 1}", len(windows), "windows") as bar:
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = _rate(recipe, (number + (step + 1) / steps) / recipe.epochs)
            index = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            ids = token_ids(windows.codes[index], k).to(device)
            with autocast(device, recipe.precision):
                sequence_logits, token_logits = model(ids)
                if readers:
                    positive, tokens = taught(readers, ids)
                else:
                    positive = torch.from_numpy(windows.labels[index].any(axis=1)).to(device).float()
                    tokens = torch.from_numpy(token_labels(windows.labels[index], k)).to(device).float()
            loss = recipe.task_weight * binary_cross_entropy_with_logits(sequence_logits, positive)
            loss = loss + (1 - recipe.task_weight) * binary_cross_entropy_with_logits(token_logits, tokens)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(index)
            if recipe.average or step + 1 == steps:
                # early on, the average forgets fast: the first weights are noise
                factor = min(recipe.average, (number * steps + step + 1) / (number * steps + step + 10))
                for name, value in model.state_dict().items():
                    average[name].lerp_(value, 1 - factor) if value.is_floating_point() else average[name].copy_(value)
            bar.advance(len(index))
    model.differentiable(False)
    return float(total) / len(windows)


def _validate(model: SiteModel, weights: dict[str, torch.Tensor], recipe: Recipe, windows: Windows) -> tuple[np.ndarray, dict[str, float]]:
    """Base probabilities with these weights, shape (n, window), and loss and AUPR; the model's own weights stay."""
    own = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(weights)
    sequences, tokens = token_probabilities(model, windows.codes, EVALUATION_BATCH, recipe.precision)
    model.load_state_dict(own)
    token_loss = _cross_entropy(tokens, token_labels(windows.labels, model.info.k))
    loss = recipe.task_weight * _cross_entropy(sequences, windows.positive) + (1 - recipe.task_weight) * token_loss
    bases = base_scores(tokens, model.info.k)
    return bases, {"validation_loss": loss, "aupr": aupr(windows.labels.ravel(), bases.ravel())}


def _cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    right = np.where(labels, probabilities, 1 - probabilities.astype(np.float64))
    return float(-np.log(np.maximum(right, 1e-12)).mean())


def evaluate(model: SiteModel, windows: Windows, precision: str, batch_size: int = EVALUATION_BATCH) -> dict[str, dict[str, float]]:
    """The paper's six metrics of a model on labelled windows, over bases (`nucleotide`) and windows (`sequence`)."""
    sequences, tokens = token_probabilities(model, windows.codes, batch_size, precision)
    return {"nucleotide": six_metrics(windows.labels, base_scores(tokens, model.info.k)), "sequence": six_metrics(windows.positive, sequences)}


def cross_validate(name: str, design: Design, recipe: Recipe, positives: Windows, negatives: Windows | None, natural: Windows | None, folds: int, share: float, device: torch.device, checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """Train on all folds but one and test on that one, for each fold in turn; folds are made of loci.

    Returns
    -------
    for each fold: its number, the windows in its test part, and the six metrics on them
    """
    head, tail, own = split_parts(positives, negatives, natural, folds, recipe.seed)
    if len(set(head.tolist())) < folds:
        raise UsageError(f"the positive windows lie at {len(set(head.tolist()))} loci, too few for {folds} folds")
    for fold in range(len(checkpoint.folds), folds):
        logger.info("fold %d of %d", fold + 1, folds)
        rest = positives.take(np.nonzero(head != fold)[0])
        others = (windows and windows.take(np.nonzero(where != fold)[0]) for windows, where in ((negatives, tail), (natural, own)))
        data = split_data(rest, next(others), set(), share, recipe.seed, next(others), recipe.natural)
        held = positives.take(np.nonzero(head == fold)[0])
        against = negatives.take(np.nonzero(tail == fold)[0]) if negatives else shuffles(held, f"{recipe.seed} test")
        test = Windows.joined([held, against])
        model = fit(name, design, recipe, data, device, checkpoint).model
        checkpoint.folds.append({"fold": fold + 1, "windows": len(test), **evaluate(model, test, recipe.precision)})
        checkpoint.save(None)
        logger.info("fold %d of %d: AUPR %.4f on %d windows", fold + 1, folds, checkpoint.folds[-1]["nucleotide"]["aupr"], len(test))
    return checkpoint.folds


def train(name: str, design: Design, recipe: Recipe, data: Data, device: torch.device, checkpoint: Checkpoint, sources: dict[str, Any]) -> Result:
    """Train the model that is kept and write into its description how it came about.

    Parameters
    ----------
    sources : where the data came from, for the model's metadata
    """
    if recipe.hard and data.natural and checkpoint.hard is None:
        judges = data.teachers or [fit(name, design, recipe, data, device, checkpoint).model]
        checkpoint.hard = hard_negatives(judges, data.natural, len(data.positives), recipe.precision)
        logger.info("training in every epoch against the %d natural windows that score highest", len(checkpoint.hard))
        checkpoint.save(None)
    result = fit(name, design, recipe, data._replace(hard=checkpoint.hard), device, checkpoint)
    chroms = sorted(set(loci(data.positives)[1]) - {""})
    others = {kind: len(part) for kind, part in (("natural", data.natural), ("hard", checkpoint.hard)) if part}
    counts = {"chroms": chroms, "positives": len(data.positives), "negatives": len(data.negatives or data.positives), **others, "validation": len(data.validation)}
    metrics = evaluate(result.model, data.validation, recipe.precision)
    result.model.info.training = {"data": {**sources, **counts}, "recipe": asdict(recipe), "epochs": len(result.history), "validation": metrics}
    if data.null and len(data.null) >= LEAST:
        seen = window_peaks(result.model, data.null, recipe.precision, EVALUATION_BATCH)
        result.model.info.background = Background.of(seen, data.null.codes.shape[1]).as_dict()
    elif data.null:
        logger.warning("%d natural windows are left for p-values, %d are needed: the model has none", len(data.null), LEAST)
    return result
