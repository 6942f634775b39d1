"""Pretraining of an encoder: as a masked language model over k-mers, the way of DNABERT (Ji et al. 2021, section 2.2), or on the
labelled sites of many transcription factors at once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ..errors import DataError, UsageError
from ..io.fasta import read_fasta_chunks
from ..io.files import error_text
from ..log import logger, progress
from ..models.bertsnr import DROPOUT, token_ids
from ..models.device import autocast
from ..models.encoder import compact_config, new_encoder
from ..models.pretrained import Pretrained
from ..sequence.encoding import MASK, OTHER, SPECIAL, encode, reverse_complement_codes, token_labels, vocabulary
from ..sequence.windows import Windows
from .checkpoint import Checkpoint
from .config import Recipe
from .data import seed_of, shuffled_negatives

POOL_WINDOWS = 16384  # windows among which a batch is drawn
IGNORED = -100  # target of tokens that are not asked for


@dataclass(frozen=True)
class PretrainConfig:
    """How to pretrain.

    Attributes
    ----------
    k, window : bases in a token and in a training sequence
    steps, batch_size : optimizer steps, and windows in each, over all processes
    learning_rate, weight_decay, warmup : AdamW; linear rise over this share of the steps, then linear fall to 0
    masked : share of the tokens that the model must tell, in contiguous spans of k
    seed : of weights, order, strands, masks and dropout
    precision : as of `model.choose_precision`
    """

    k: int = 3
    window: int = 100
    steps: int = 10_000
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    masked: float = 0.15
    seed: int = 1
    precision: str = "fp32"


def windows(paths: Sequence[str], length: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """Once through FASTA files: consecutive windows from a random phase in every record, each on a random strand.

    Windows with letters other than ACGT are left out. A record of any length is read in pieces.

    Yields
    ------
    uint8 codes, shape (length,)
    """
    random = np.random.default_rng([seed, 4, epoch])
    for path in paths:
        rest = np.empty(0, dtype=np.uint8)
        fresh = True
        for piece in read_fasta_chunks(path):
            codes = encode(piece.sequence)
            if fresh:
                codes = codes[int(random.integers(0, max(1, min(length, len(codes) - length)))) :]
            rest = np.concatenate([rest, codes])
            fresh = piece.last
            whole = rest[: len(rest) // length * length].reshape(-1, length)
            rest = np.empty(0, dtype=np.uint8) if piece.last else rest[whole.size :]
            whole = whole[(whole != OTHER).all(axis=1)]
            turned = random.random(len(whole)) < 0.5
            whole = np.where(turned[:, None], reverse_complement_codes(whole), whole)
            yield from whole


def batches(paths: Sequence[str], plan: PretrainConfig) -> Iterator[np.ndarray]:
    """Codes of shape (batch_size, window) without end, epoch after epoch, drawn from a pool of windows that is refilled.

    Raises
    ------
    DataError : no file holds a window.
    """
    random = np.random.default_rng([plan.seed, 5])
    pool: list[np.ndarray] = []
    epoch = 0
    while True:
        seen = 0
        for window in windows(paths, plan.window, plan.seed, epoch):
            seen += 1
            pool.append(window)
            if len(pool) >= POOL_WINDOWS + plan.batch_size:
                yield _draw(pool, plan.batch_size, random)
        if not seen:
            raise DataError(f"hold no {plan.window} bases of ACGT in a row", ", ".join(paths))
        while len(pool) >= max(plan.batch_size, POOL_WINDOWS // 2):
            yield _draw(pool, plan.batch_size, random)
        epoch += 1


def _draw(pool: list[np.ndarray], count: int, random: np.random.Generator) -> np.ndarray:
    """Take windows out of the pool."""
    for at in range(len(pool) - 1, len(pool) - 1 - count, -1):  # the first steps of a shuffle from the end
        other = int(random.integers(0, at + 1))
        pool[at], pool[other] = pool[other], pool[at]
    drawn = np.stack(pool[-count:])
    del pool[-count:]
    return drawn


def mask_tokens(ids: np.ndarray, k: int, share: float, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Hide contiguous spans of k tokens, because a k-mer can be read off its neighbours.

    Parameters
    ----------
    ids : token ids, [CLS] first and [SEP] last, shape (B, T + 2)
    share : of the tokens between that are hidden, on average

    Returns
    -------
    input ids: of the hidden, 80 % [MASK], 10 % any k-mer, 10 % as they were; targets: the hidden ids, elsewhere `IGNORED`
    """
    inner = ids[:, 1:-1]
    count = inner.shape[1]
    # a token is hidden when one of the k starts that reach it is drawn
    starts = random.random((len(ids), count + k - 1)) < 1 - (1 - share) ** (1 / k)
    hidden = np.lib.stride_tricks.sliding_window_view(starts, k, axis=1).any(axis=2)
    targets = np.full(ids.shape, IGNORED, dtype=np.int64)
    targets[:, 1:-1] = np.where(hidden, inner, IGNORED)
    fate = random.random(inner.shape)
    other = random.integers(len(SPECIAL), len(SPECIAL) + 4**k, inner.shape)
    masked = ids.copy()
    masked[:, 1:-1] = np.where(hidden & (fate < 0.8), MASK, np.where(hidden & (fate < 0.9), other, inner))
    return masked, targets


def language_model(config: dict[str, Any]) -> nn.Module:
    """The encoder with a head that tells hidden tokens, with random weights."""
    options = {name: value for name, value in config.items() if name != "model_type"} | {"attn_implementation": "eager"}
    if config["model_type"] == "modernbert":
        from transformers import ModernBertConfig, ModernBertForMaskedLM

        return ModernBertForMaskedLM(ModernBertConfig(**options))
    from transformers import BertConfig, BertForMaskedLM

    return BertForMaskedLM(BertConfig(**options))


class MaskedTokens:
    """The task of a masked language model.

    Parameters
    ----------
    paths : FASTA files, read once for each epoch
    done : steps that are behind
    """

    def __init__(self, paths: Sequence[str], plan: PretrainConfig, done: int):
        self._plan = plan
        self._stream = batches(paths, plan)
        for _ in range(done):
            next(self._stream)

    @staticmethod
    def model(config: dict[str, Any]) -> nn.Module:
        """A network with random weights for the task."""
        return language_model(config)

    def batch(self, step: int) -> tuple[np.ndarray, ...]:
        """What `loss` gets after the model, one row for each window."""
        plan = self._plan
        return mask_tokens(
            token_ids(next(self._stream), plan.k).numpy(),
            plan.k,
            plan.masked,
            np.random.default_rng([plan.seed, 6, step]),
        )

    @staticmethod
    def loss(model: Any, masked: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, int, int]:
        """Mean loss, tokens told right, tokens asked for."""
        logits = model(input_ids=masked).logits
        hidden = targets != IGNORED
        chosen, wanted = logits[hidden].float(), targets[hidden]
        loss = nn.functional.cross_entropy(chosen, wanted) if len(wanted) else logits.sum() * 0
        return loss, int((chosen.argmax(1) == wanted).sum()), len(wanted)


class ManySites(nn.Module):
    """An encoder with the two heads of a `SiteModel` for each of several data sets."""

    def __init__(self, config: dict[str, Any], count: int):
        super().__init__()
        encoder: Any = new_encoder(config)
        encoder.set_attn_implementation("eager")
        self.encoder = encoder
        self.dropout = nn.Dropout(DROPOUT)
        self.sequence_head = nn.Linear(config["hidden_size"], count)
        self.token_head = nn.Linear(config["hidden_size"], count)

    def forward(self, ids: torch.Tensor, which: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of sequences (B,) and tokens (B, T) for ids of shape (B, T + 2) and data set numbers (B,)."""
        hidden = self.dropout(self.encoder(input_ids=ids).last_hidden_state.float())
        sequences = (hidden[:, 0] * self.sequence_head.weight[which]).sum(-1) + self.sequence_head.bias[which]
        tokens = (hidden[:, 1:-1] * self.token_head.weight[which][:, None]).sum(-1) + self.token_head.bias[which][
            :, None
        ]
        return sequences, tokens


class SitesOfMany:
    """The two tasks of BertSNR on several data sets at once: one encoder learns what they share, each has heads of its own.

    Every step has as many windows of each data set, on average, and a shuffle of each window.

    Parameters
    ----------
    sets : positive windows
    """

    def __init__(self, sets: Sequence[Windows], plan: PretrainConfig):
        self._sets, self._plan = sets, plan

    def model(self, config: dict[str, Any]) -> nn.Module:
        """As `MaskedTokens.model`."""
        return ManySites(config, len(self._sets))

    def batch(self, step: int) -> tuple[np.ndarray, ...]:
        """As `MaskedTokens.batch`."""
        plan = self._plan
        random = np.random.default_rng([plan.seed, 7, step])
        which = random.integers(0, len(self._sets), -(-plan.batch_size // 2))
        drawn = Windows.joined(
            [self._sets[number].take(random.integers(0, len(self._sets[number]), 1)) for number in which]
        )
        every = Windows.joined([drawn, shuffled_negatives(drawn, f"{plan.seed} step {step}")])
        return (
            token_ids(every.codes, plan.k).numpy(),
            token_labels(every.labels, plan.k).astype(np.float32),
            every.positive.astype(np.float32),
            np.tile(which, 2),
        )

    @staticmethod
    def loss(
        model: Any, ids: torch.Tensor, tokens: torch.Tensor, positive: torch.Tensor, which: torch.Tensor
    ) -> tuple[torch.Tensor, int, int]:
        """As `MaskedTokens.loss`, of the labels of tokens."""
        sequence_logits, token_logits = model(ids, which)
        share = Recipe.task_weight
        loss = share * binary_cross_entropy_with_logits(sequence_logits, positive) + (
            1 - share
        ) * binary_cross_entropy_with_logits(token_logits, tokens)
        return loss, int(((token_logits > 0) == (tokens > 0)).sum()), tokens.numel()


def pretrain(
    task: Callable[[int], MaskedTokens | SitesOfMany],
    output: str,
    plan: PretrainConfig,
    start: Pretrained | None,
    device: torch.device,
    checkpoint: Checkpoint,
    every: int = 500,
) -> list[dict[str, float]]:
    """Train and write a folder that `pretrained.read_pretrained` reads. Under `torchrun`, processes share every batch.

    Parameters
    ----------
    task : what is learned, made for the number of steps that are behind
    output : the folder; an existing one is replaced whole
    start : an encoder to go on with
    every : steps between two lines of the report, and between two checkpoints

    Returns
    -------
    for every so many steps: step, mean loss, share of tokens told right
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    torch.manual_seed(seed_of(plan.seed, "weights"))
    history: list[dict[str, float]] = checkpoint.fit["history"] if checkpoint.fit else []
    done = checkpoint.fit["step"] if checkpoint.fit else 0
    work = task(done)
    model = work.model(start.config if start else compact_config(plan.k, plan.window)).to(device)
    encoder: Any = model.encoder if isinstance(model, ManySites) else model.base_model
    if start:
        encoder.load_state_dict(start.weights, strict=False)
    groups = [
        {"params": [p for p in model.parameters() if (p.ndim > 1) == many], "weight_decay": plan.weight_decay * many}
        for many in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, lr=plan.learning_rate, betas=(0.9, 0.98), eps=1e-6, fused=True)
    if checkpoint.fit:
        model.load_state_dict(checkpoint.fit["model"])
        optimizer.load_state_dict(checkpoint.fit["optimizer"])
    with _process_group(world, device):
        # in a function of its own, so that nothing of the group is left when it ends
        _train(
            nn.parallel.DistributedDataParallel(model) if world > 1 else model,
            model,
            optimizer,
            work,
            plan,
            rank,
            world,
            history,
            done,
            checkpoint,
            every,
        )
    if rank == 0:
        _write_encoder(output, encoder if isinstance(model, ManySites) else model, plan)
    return history


def _train(
    parallel: nn.Module,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    task: MaskedTokens | SitesOfMany,
    plan: PretrainConfig,
    rank: int,
    world: int,
    history: list[dict[str, float]],
    done: int,
    checkpoint: Checkpoint,
    every: int,
) -> None:
    """The steps that are left; `history` grows, and process 0 writes checkpoints."""
    device = next(model.parameters()).device
    totals = torch.zeros(3, dtype=torch.float64)
    with progress("pretraining", plan.steps, "steps") as bar:
        bar.advance(done)
        for step in range(done, plan.steps):
            own = [torch.from_numpy(array[rank::world]).to(device) for array in task.batch(step)]
            totals += _step(parallel, optimizer, plan, step, rank, task, own)
            bar.advance(1)
            if (step + 1) % every == 0 or step + 1 == plan.steps:
                loss, right, asked = totals.tolist()
                history.append({"step": step + 1, "loss": loss / max(1, asked), "accuracy": right / max(1, asked)})
                totals.zero_()
                if rank == 0:
                    logger.info(
                        "step %s of %s: loss %.4f, %.1f %% of the tokens right",
                        f"{step + 1:,}",
                        f"{plan.steps:,}",
                        history[-1]["loss"],
                        100 * history[-1]["accuracy"],
                    )
                    checkpoint.save(
                        {
                            "model": model.state_dict(),
                            "optimizer": optimizer.state_dict(),
                            "history": history,
                            "step": step + 1,
                        }
                    )


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    plan: PretrainConfig,
    step: int,
    rank: int,
    task: MaskedTokens | SitesOfMany,
    batch: list[torch.Tensor],
) -> torch.Tensor:
    """One optimizer step; returns summed loss, tokens told right, tokens asked for."""
    torch.manual_seed(seed_of(plan.seed, "dropout", step, rank))
    model.train()
    behind = (step + 1) / plan.steps
    for group in optimizer.param_groups:
        group["lr"] = plan.learning_rate * min(
            behind / plan.warmup if plan.warmup else 1.0, (1 - step / plan.steps) / (1 - plan.warmup)
        )
    with autocast(batch[0].device, plan.precision):
        loss, right, asked = task.loss(model, *batch)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return torch.tensor([float(loss.detach()) * asked, right, asked], dtype=torch.float64)


@contextmanager
def _process_group(world: int, device: torch.device) -> Iterator[None]:
    """Join the processes that `torchrun` started, for as long as the block lasts."""
    if world == 1:
        yield
        return
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


def _write_encoder(output: str, model: Any, plan: PretrainConfig) -> None:
    """Make the folder under a temporary name, then put it in the place of an old one."""
    target = os.path.realpath(output)
    temporary, old = f"{target}.{os.getpid()}.tmp", f"{target}.{os.getpid()}.old"
    try:
        os.makedirs(temporary)
        from transformers.utils import logging

        logging.disable_progress_bar()
        model.save_pretrained(temporary)
        shutil.copymode(
            os.path.join(temporary, "config.json"), os.path.join(temporary, "model.safetensors")
        )  # which its library makes private
        with open(os.path.join(temporary, "vocab.txt"), "w") as stream:
            stream.write("\n".join(vocabulary(plan.k)) + "\n")
        with open(os.path.join(temporary, "pretraining.json"), "w") as stream:
            json.dump(asdict(plan), stream, indent=2)
        if os.path.exists(target):
            os.replace(target, old)
        os.replace(temporary, target)
    except OSError as error:
        if os.path.exists(old) and not os.path.exists(target):
            os.replace(old, target)
        raise DataError(error_text(error), output) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def check_encoder_directory(output: str) -> None:
    """Refuse to write over what is not an encoder's folder.

    Raises
    ------
    UsageError : `output` is a file, or a folder without config.json that is not empty.
    """
    if (
        os.path.isfile(output)
        or os.path.isdir(output)
        and os.listdir(output)
        and not os.path.exists(os.path.join(output, "config.json"))
    ):
        raise UsageError(f"{output}: is there already and is no folder of an encoder")
