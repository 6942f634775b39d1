"""Shared by the tests: runners for the commands, the test data, and a toy model.

`pytest --update-expected` rewrites the expected outputs under test_data/expected and the table of shipped models.
"""

from __future__ import annotations

import contextlib
import difflib
import logging
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

os.environ.setdefault("GOMP_SPINCOUNT", "0")  # as the launchers set it, before torch is imported

ROOT = Path(__file__).parents[1]
DATA = ROOT / "test_data"
BIN = Path(sys.executable).parent  # the installed launchers
SHARED = ROOT.parent / "shared" / "data"


def pytest_addoption(parser):
    parser.addoption("--update-expected", action="store_true", help="rewrite the files under test_data/expected")


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture(scope="session")
def launch():
    """Run a launcher as a user would: launch("predict", "-m", "CTCF", "region.fa", stdin=b"") -> status, out, err."""

    def call(command: str, *arguments, stdin: bytes = b"", cwd=None) -> Outcome:
        line = [BIN / f"bertsnr-{command}" if command else BIN / "bertsnr", *map(str, arguments)]
        done = subprocess.run(line, input=stdin, capture_output=True, cwd=cwd, timeout=600)
        return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())

    return call


def _command(command: str, arguments: list[str], cwd, directory: Path) -> None:
    """Run a command as a launcher does, its streams being the files in, out and err of a directory."""
    write = os.O_WRONLY | os.O_CREAT
    for number, (name, flags) in enumerate([("in", os.O_RDONLY), ("out", write), ("err", write)]):
        os.dup2(os.open(directory / name, flags), number)
    sys.stdin, sys.stdout, sys.stderr = (open(number, mode, closefd=False) for number, mode in enumerate("rww"))
    os.chdir(cwd or ".")
    sys.argv = [f"bertsnr-{command}" if command else "bertsnr", *arguments]
    from bertsnr_tools.cli import main

    main(command or None)


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """As `launch`, in a fork of a process that has imported torch."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "bertsnr_tools.training.run",
            "bertsnr_tools.predict.scan",
        ]
    )

    def call(command: str, *arguments, stdin: bytes = b"", cwd=None) -> Outcome:
        directory = tmp_path_factory.mktemp("run")
        os.mkfifo(directory / "in")
        process = context.Process(target=_command, args=(command, [*map(str, arguments)], cwd, directory))
        process.start()
        with contextlib.suppress(BrokenPipeError), open(directory / "in", "wb") as pipe:
            pipe.write(stdin)
        process.join(600)
        assert process.exitcode is not None, "the command does not end"
        return Outcome(process.exitcode, (directory / "out").read_text(), (directory / "err").read_text())

    return call


@pytest.fixture
def run_here(monkeypatch, capsys, tmp_path):
    """As `run`, in this process and in tmp_path, without a fork."""
    from bertsnr_tools.cli import main

    def call(command: str, *arguments) -> Outcome:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [f"bertsnr-{command}", *map(str, arguments)])
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
        logger = logging.getLogger("bertsnr_tools")
        logging_before = logger.level, logger.propagate, logger.handlers[:]
        with pytest.raises(SystemExit) as leaving:
            main(command)
        for number, handler in before.items():
            signal.signal(number, handler)
        level, logger.propagate, logger.handlers[:] = logging_before
        logger.setLevel(level)
        captured = capsys.readouterr()
        return Outcome(leaving.value.code, captured.out, captured.err)

    return call


@pytest.fixture
def expected(request):
    """Compare a text with test_data/expected/<name>."""

    def compare(name: str, text: str) -> None:
        path = DATA / "expected" / name
        if request.config.getoption("--update-expected"):
            path.write_text(text)
        difference = difflib.unified_diff(
            path.read_text().splitlines(), text.splitlines(), f"expected {name}", "got", lineterm=""
        )
        assert not (lines := list(difference)), "\n".join(lines)

    return compare


@pytest.fixture
def genome(tmp_path):
    """A copy of the test genome in a writable directory, for its index."""
    path = tmp_path / "genome.fa"
    path.write_bytes((DATA / "genome.fa").read_bytes())
    return path


def _scale_up(model):
    """Multiply matrices by 6: random weights then call sites on random sequence."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(6)


@pytest.fixture(scope="session")
def toy_model():
    """A model of the default architecture with random weights, scaled up so that it calls sites on random sequence."""
    import torch

    from bertsnr_tools.models.bertsnr import BertSNR
    from bertsnr_tools.models.encoder import compact_config
    from bertsnr_tools.models.interface import ModelInfo

    torch.manual_seed(5)
    model = BertSNR(ModelInfo("TOY", 3, 100, compact_config(3, 100), 8))
    _scale_up(model)
    return model.eval()


@pytest.fixture(scope="session")
def toy_factors():
    """A small model of six factors with random weights; on random sequence, some call often and some rarely."""
    import torch

    from bertsnr_tools.models.encoder import compact_config
    from bertsnr_tools.models.interface import ModelInfo
    from bertsnr_tools.models.many_factor import ManyFactorModel

    torch.manual_seed(7)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "global_attn_every_n_layers": 1}
    encoder = compact_config(3, 100) | sizes
    model = ManyFactorModel([ModelInfo(f"F{width}", 3, 100, encoder, width) for width in (5, 8, 9, 12, 21, 30)])
    _scale_up(model)
    with torch.no_grad():
        model.token_head.bias.copy_(-torch.tensor([9.0, 3, 7, 6, 4, 2]))
    return model.eval()


@pytest.fixture(scope="session")
def toy_model_file(toy_model, tmp_path_factory):
    from bertsnr_tools.models.files import save_model

    path = tmp_path_factory.mktemp("model") / "TOY.pt"
    save_model(str(path), toy_model)
    return path


FACTORS = ("CTCF", "SOX2", "SOX10", "TAL1::TCF3")


@pytest.fixture(scope="session")
def many_factor_model():
    """A model of `FACTORS` with random weights, scaled up so that it calls sites on random sequence."""
    import torch

    from bertsnr_tools.models.encoder import compact_config
    from bertsnr_tools.models.interface import ModelInfo
    from bertsnr_tools.models.many_factor import ManyFactorModel

    torch.manual_seed(7)
    infos = []
    for number, name in enumerate(FACTORS):
        training = {
            "data": {"positives": 100 + number},
            "validation": {"nucleotide": {"aupr": 0.7 + 0.15 * number}, "sequence": {"aupr": 0.9}},
        }
        matrix = f"MA000{number}.1"
        infos.append(ModelInfo(name, 3, 100, compact_config(3, 100), 8 + number, training=training, matrix=matrix))
    model = ManyFactorModel(infos)
    _scale_up(model)
    return model.eval()


@pytest.fixture(scope="session")
def many_factor_file(many_factor_model, tmp_path_factory):
    from bertsnr_tools.models.files import save_model

    path = tmp_path_factory.mktemp("model") / "many.pt"
    save_model(str(path), many_factor_model)
    return path


@pytest.fixture
def shipped(many_factor_file, tmp_path_factory, monkeypatch):
    """Shipped models in this process: CTCF of one factor, and `human`, which is `many_factor_model`."""
    from bertsnr_tools.cli.models import table_of_models
    from bertsnr_tools.models import registry

    directory = tmp_path_factory.mktemp("weights")
    (directory / "CTCF.pt").write_bytes((registry.WEIGHTS / "CTCF.pt").read_bytes())
    (directory / "human.pt").write_bytes(many_factor_file.read_bytes())
    monkeypatch.setattr(registry, "WEIGHTS", directory)
    (directory / registry.TABLE).write_text(table_of_models())
    return directory


@pytest.fixture
def no_jaspar(monkeypatch):
    """As if memelite were not installed, which takes seconds to start."""
    from bertsnr_tools.errors import UsageError
    from bertsnr_tools.reporting import content

    def missing(targets):
        raise UsageError("comparing motifs requires memelite; pip install x")

    monkeypatch.setattr(content, "load_targets", missing)


@pytest.fixture
def file_limit():
    """A context manager that limits the size of files: writing more fails as on a full disk."""

    @contextlib.contextmanager
    def limit(size: int):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the real data are not available")


def check_windows_are_independent(encode) -> None:
    """No bit of a window's hidden states depends on its neighbours or their number; `encode` takes token ids (B, T)."""
    import torch

    for length in (7, 45, 100):
        ids = torch.randint(5, 69, (40, length))
        together = encode(ids)
        assert torch.equal(encode(ids.flip(0)).flip(0), together)
        assert torch.equal(torch.cat([encode(ids[at : at + 1]) for at in range(40)]), together)
        changed = ids.clone()
        changed[1::2] = 4
        assert torch.equal(encode(changed)[::2], together[::2])
