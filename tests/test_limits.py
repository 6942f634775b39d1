"""Limits of memory and threads that a shell sets."""

import os
import platform
import subprocess
import sys
import threading

import pytest

from bertsnr_tools.cli import limits
from bertsnr_tools.models import threads
from conftest import DATA


@pytest.mark.parametrize("command", ["predict -m CTCF", "evaluate -m CTCF", "attn -m CTCF", "train -o x.pt"])
@pytest.mark.parametrize("megabytes", [200, 400, 690])
def test_too_little_address_space_is_one_line(tmp_path, command, megabytes):
    shell = f'ulimit -v {megabytes << 10}; exec "$@"'
    line = [sys.executable, "-m", "bertsnr_tools", *command.split(), str(DATA / "region.fa")]
    done = subprocess.run(["sh", "-c", shell, "sh", *line], capture_output=True, text=True, cwd=tmp_path)
    found = f"the address space is limited to {megabytes} MB (ulimit -v); at least "
    assert done.returncode == 1 and done.stderr.startswith(f"bertsnr {command.split()[0]}: {found}")
    assert done.stderr.count("\n") == 1 and not os.listdir(tmp_path)


def test_motifs_without_a_model_has_no_such_limit(monkeypatch, run_here, genome):
    monkeypatch.setattr(limits.resource, "getrlimit", lambda _: (300 << 20, 300 << 20))
    assert run_here("motifs", "-f", genome, DATA / "sites.bed").status == 0
    outcome = run_here("motifs", "-m", "CTCF", DATA / "region.fa")
    assert outcome.status == 1 and "limited to 300 MB" in outcome.err


@pytest.fixture
def one_thread_less(monkeypatch):
    """A system in which one more thread can be started, but not two."""
    threads._workers.cache_clear()
    for thread in threading.enumerate():
        if thread.name.startswith("ThreadPoolExecutor"):  # of a pool that is now collected
            thread.join(10)
    start, before = threading.Thread.start, threading.active_count()

    def limited(self):
        if threading.active_count() > before:
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", limited)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "8")  # which the commands may change


def test_threads_that_cannot_start_are_found_before_the_work(one_thread_less, run_here):
    limits.check_threads(1)
    before = threading.active_count()
    outcome = run_here("predict", "-@", "2", "-m", "CTCF", DATA / "region.fa")
    assert outcome.status == 1
    assert outcome.err == (
        "bertsnr-predict: cannot start a thread: a limit of threads, processes or memory is reached; reduce -@\n"
    )
    assert threading.active_count() == before  # those that started have ended


def test_a_worker_does_not_wait_for_one_that_cannot_start(one_thread_less):
    threads._workers.cache_clear()
    before = set(threading.enumerate())
    with pytest.raises(RuntimeError, match="can't start new thread"):
        threads._workers(2)
    (worker,) = set(threading.enumerate()) - before
    threads._workers.cache_clear()
    worker.join(10)  # its pool is collected
    assert not worker.is_alive()


def test_openblas_gets_one_thread_where_more_cannot_start(one_thread_less, monkeypatch):
    monkeypatch.setattr(limits, "usable_cpus", lambda: 8)
    limits.limit_blas_threads()
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_training_keeps_freed_memory():
    code = """
import resource, threading
from bertsnr_tools.cli.options import RuntimeOptions
RuntimeOptions("cpu", "fp32", 1, training=True).build_for_training()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        pieces = [bytearray(b"1") * (12 << 20) for _ in range(4)]
        del pieces
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def work():
    faults()
    print(faults())
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000  # pages; without keep_freed_memory 90,000
