"""Batches that do not fit into the memory of a GPU."""

import threading
import time

import pytest
import torch

from bertsnr_tools.errors import is_out_of_device_memory
from bertsnr_tools.models import batching

CUBLAS = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


@pytest.fixture
def gate(monkeypatch):
    monkeypatch.setattr(batching, "_gate", batching._MemoryGate())


def network():
    model = torch.nn.Identity()
    model.device = torch.device("cuda", 0)
    return model


@pytest.mark.parametrize("error", [torch.OutOfMemoryError(), RuntimeError("CUDA error: out of memory"), CUBLAS])
def test_later_calls_start_with_the_size_that_fits(gate, error):
    sizes = []

    def work(size):
        sizes.append(size)
        if size > 10:
            raise error

    model = network()
    for _ in range(2):
        batching.halve_on_oom(model, 64, work)
    assert sizes == [64, 32, 16, 8, 8]
    assert is_out_of_device_memory(error)


def test_other_errors_are_raised(gate):
    def work(size):
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="a fault"):
        batching.halve_on_oom(network(), 64, work)


def test_a_thread_without_memory_waits_for_the_others(gate):
    inside, failed, order = threading.Event(), threading.Event(), []

    def first(size):
        inside.set()
        assert failed.wait(10)
        time.sleep(0.1)
        order.append("first ends")

    def second(size):
        order.append(size)
        if "first ends" not in order:
            failed.set()
            raise CUBLAS

    thread = threading.Thread(target=batching.halve_on_oom, args=(network(), 4, first))
    thread.start()
    assert inside.wait(10)
    batching.halve_on_oom(network(), 4, second)
    thread.join()
    assert order == [4, "first ends", 2]
