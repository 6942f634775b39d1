import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from bertsnr_tools.models.bertsnr import token_ids
from bertsnr_tools.models.pretrained import read_pretrained
from bertsnr_tools.sequence.encoding import CLS, MASK, SEP, reverse_complement_codes
from bertsnr_tools.training.pretrain import PretrainRun
from bertsnr_tools.training.pretrain_data import IGNORED, batches, mask_tokens, windows
from conftest import BIN, DATA

GENOME = str(DATA / "genome.fa")


def test_windows_cover_the_sequence_once(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    text = rng.choice(np.frombuffer(b"ACGT", dtype=np.uint8), 5000).tobytes()
    path = tmp_path / "a.fa"
    path.write_bytes(b">r\n" + text[:3000] + b"N" + text[3001:] + b"\n>short\nACGT\n")
    found = list(windows([str(path)], 50, 1, 0))
    assert 96 <= len(found) <= 99  # one at each end may be cut, one contains the N
    starts = []
    for codes in found:
        forward, reverse = (bytes(b"ATCG"[c] for c in strand) for strand in (codes, reverse_complement_codes(codes)))
        assert (forward in text) != (reverse in text)
        starts.append(text.find(forward if forward in text else reverse))
    assert len(set(starts)) == len(starts) and len({start % 50 for start in starts}) == 1
    again = list(windows([str(path)], 50, 1, 0))
    assert np.array_equal(found, again) and not np.array_equal(found[:90], list(windows([str(path)], 50, 1, 1))[:90])
    # the size of the pieces that are read does not matter
    monkeypatch.setattr("bertsnr_tools.io.fasta.CHUNK_BASES", 700)
    assert abs(len(list(windows([str(path)], 50, 1, 0))) - len(found)) <= 1


def test_batches_are_endless_and_reproducible(monkeypatch):
    monkeypatch.setattr("bertsnr_tools.training.pretrain_data.POOL_WINDOWS", 300)
    one, other = (batches([GENOME], 60, 32, seed=1) for _ in range(2))
    for _ in range(120):  # several epochs of 85 kb
        batch = next(one)
        assert batch.shape == (32, 60) and batch.max() < 4 and np.array_equal(batch, next(other))


@pytest.mark.parametrize("k", [3, 6])
def test_masks_are_spans_of_the_right_fraction(k):
    rng = np.random.default_rng(1)
    ids = token_ids(rng.integers(0, 4, (400, 100)).astype(np.uint8), k).numpy()
    masked, targets = mask_tokens(ids, k, 0.15, rng)
    hidden = targets != IGNORED
    assert not hidden[:, [0, -1]].any() and (masked[:, 0] == CLS).all() and (masked[:, -1] == SEP).all()
    assert abs(hidden[:, 1:-1].mean() - 0.15) < 0.01
    assert np.array_equal(targets[hidden], ids[hidden]) and np.array_equal(masked[~hidden], ids[~hidden])
    runs = np.diff(np.nonzero(np.diff(hidden[:, 1:-1].astype(int), axis=1, prepend=0, append=0).ravel())[0])[::2]
    inside = runs.tolist()
    assert np.quantile(inside, 0.2) >= min(k, 3)
    fate = masked[hidden]
    assert abs((fate == MASK).mean() - 0.8) < 0.02 and abs((fate == ids[hidden]).mean() - 0.1) < 0.02


def test_pretraining_learns_and_its_directory_is_read(run_here, tmp_path):
    """A sequence with a strong rule: the loss falls far below the loss of guessing, ln 64."""
    (tmp_path / "g.fa").write_text(">r\n" + "ACGGTCATTG" * 6000 + "\n")
    options = ("--batch-size", 16, "-w", 40, "--json", "r.json", "g.fa")
    outcome = run_here("pretrain", "--steps", 120, "--every", 40, "--lr", 0.003, "-o", "enc", *options)
    assert outcome.status == 0, outcome.err
    history = json.loads((tmp_path / "r.json").read_text())["history"]
    assert [row["step"] for row in history] == [40, 80, 120]
    assert history[-1]["loss"] < 1.5 < history[0]["loss"] and history[-1]["accuracy"] > 0.6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["enc", "g.fa", "r.json"]
    assert len({path.stat().st_mode for path in (tmp_path / "enc").iterdir()}) == 1  # whoever may read one may read all
    pretrained = read_pretrained(str(tmp_path / "enc"))
    assert pretrained.k == 3 and pretrained.config["num_hidden_layers"] == 4
    # a second pretraining starts from its weights
    outcome = run_here("pretrain", "--steps", 5, "--lr", 1e-6, "--encoder", "enc", "-o", "more", *options)
    assert outcome.status == 0, outcome.err
    more = read_pretrained(str(tmp_path / "more")).weights
    changes = [float((more[name] - value).abs().max()) for name, value in pretrained.weights.items()]
    assert len(changes) == len(more) and 0 < max(changes) < 1e-5


def test_a_broken_run_goes_on_to_the_same_encoder(run_here, tmp_path, monkeypatch):
    arguments = ["--steps", 6, "--every", 2, "--batch-size", 4, "-w", 60, "--precision", "fp32"]
    assert run_here("pretrain", *arguments, "-o", "whole", GENOME).status == 0
    steps = []

    def interrupt(self, model, step, batch, real=PretrainRun._step):
        steps.append(step)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return real(self, model, step, batch)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainRun, "_step", interrupt)
        assert run_here("pretrain", *arguments, "-o", "broken", GENOME).status == 130
        assert not (tmp_path / "broken").exists() and (tmp_path / "broken.ckpt").exists()
        assert run_here("pretrain", *arguments, "--resume", "-o", "broken", GENOME).status == 0
    assert steps == [0, 1, 2, 3, 2, 3, 4, 5]
    again = run_here("pretrain", *arguments, "--resume", "-o", "broken", GENOME)
    assert again.status == 0 and "broken is complete; nothing to do" in again.err
    one, other = (read_pretrained(str(tmp_path / name)).weights for name in ("whole", "broken"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_two_processes_share_the_work(run_here, tmp_path):
    """Under torchrun, two processes train the same encoder as one, but for rounding."""
    options = "--batch-size 8 -w 60 --precision fp32 --device cpu -@ 1".split()
    assert run_here("pretrain", *options, "--steps", 1, "--lr", 1e-12, "-o", "start", GENOME).status == 0
    options += "--steps 4 --lr 1e-4".split()
    assert run_here("pretrain", *options, "-o", "one", GENOME).status == 0
    line = [BIN / "bertsnr-pretrain", *options]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29517"]
    done = subprocess.run(
        [*torchrun, *line, "-o", tmp_path / "two", GENOME],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    start, one, two = (read_pretrained(str(tmp_path / name)).weights for name in ("start", "one", "two"))
    learned, differing = (
        sum(float((one[name] - other[name]).norm() ** 2) for name in one) ** 0.5 for other in (start, two)
    )
    print(f"learned {learned:.3g}, differing {differing:.3g}")
    assert differing < 1e-3 * learned


def test_an_encoder_directory_is_replaced(run_here, tmp_path):
    (tmp_path / "g.fa").write_text(">a\n" + "ACGTTGCAAC" * 200 + "\n")
    options = ("--steps", 2, "--batch-size", 4, "-w", 40, "g.fa")
    for seed in (1, 2):
        outcome = run_here("pretrain", "-q", "-o", "enc", "--seed", seed, *options)
        assert (outcome.status, outcome.err) == (0, "")
        assert f'"seed": {seed}' in (tmp_path / "enc" / "pretraining.json").read_text()
    assert run_here("pretrain", "-q", "-o", "enc", "--encoder", "enc", *options).status == 2


def test_only_directories_are_replaced(run_here, tmp_path):
    (tmp_path / "file").write_text("text")
    os.mkfifo(tmp_path / "pipe")
    for name in ("file", "pipe"):
        outcome = run_here("pretrain", "-q", "--steps", 1, "--batch-size", 4, "-o", name, GENOME)
        assert outcome.status == 2 and f"{name}: exists and is not an encoder directory" in outcome.err
    assert (tmp_path / "pipe").is_fifo()


def test_an_encoder_on_a_full_disk_is_an_error_of_its_directory(run_here, tmp_path, monkeypatch):
    def fail(self, directory):
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr(PretrainRun, "_write", fail)
    outcome = run_here("pretrain", "-q", "--steps", 1, "--batch-size", 4, "-o", "enc", "--json", "x.json", GENOME)
    assert (outcome.status, outcome.err) == (1, "bertsnr-pretrain: enc: I/O error: No space left on device\n")
    assert sorted(os.listdir(tmp_path)) == ["enc.ckpt", "x.json"]
