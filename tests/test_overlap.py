"""A scan on GPUs reads, scores, and calls and writes at the same time: threads, order, errors and interruptions."""

import itertools
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from bertsnr_tools.io.fasta import Genome
from bertsnr_tools.io.intervals import Interval
from bertsnr_tools.models.device import Runtime
from bertsnr_tools.models.many_factor import shared_model
from bertsnr_tools.models.registry import load_models
from bertsnr_tools.predict import scan
from bertsnr_tools.predict.chunks import Chunk, ScanInput
from bertsnr_tools.predict.prefetch import read_ahead
from bertsnr_tools.predict.scan import Scanner
from bertsnr_tools.predict.thresholds import CallingRule
from bertsnr_tools.sequence.encoding import encode

BLOCKS, BASES, WINDOW = 12, 600, 100  # WINDOW: of the toy model
DELAY = 0.06  # seconds of a stage and a block
TRIES = 3  # on a busy machine


@dataclass
class StubDevice:
    """Scores a run of A as 1, one block at a time, after a delay, as a GPU does while Python goes on."""

    delay: float
    busy: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, model, codes, runtime):
        with self.lock:
            time.sleep(self.delay)
            self.busy += self.delay
        return (codes == 0).astype(np.float32)


def chunks(delay, fails_at=BLOCKS):
    """A region in pieces, each read after a delay."""
    rng = np.random.default_rng(1)
    region = Interval("chr1", 0, BLOCKS * BASES)
    for number in range(BLOCKS):
        time.sleep(delay)
        if number == fails_at:
            raise OSError("cannot be read")
        sequence = rng.choice(np.frombuffer(b"ACGT", np.uint8), BASES)
        sequence[300:320] = ord("A")
        yield Chunk(region, 0, sequence.tobytes(), number + 1 == BLOCKS)


@pytest.fixture
def scanner(toy_model, monkeypatch):
    """Make a scanner of a model on a stub device, with this number of blocks ahead; it leaves no thread behind."""
    before = set(threading.enumerate())
    monkeypatch.setattr(scan, "BLOCK_BASES", BASES)

    def make(ahead=scan.BLOCKS_AHEAD, delay=DELAY, calling=0.0):
        device = StubDevice(delay)
        monkeypatch.setattr("bertsnr_tools.predict.model_scan.base_probabilities", device)
        signal = lambda *_: time.sleep(calling)  # noqa: E731
        made = Scanner([toy_model], [CallingRule(0.5)], Runtime(), signal=signal)
        made._blocks_ahead = ahead
        return made, device

    yield make
    assert set(threading.enumerate()) <= before


def run(made, reading, writing):
    """Sites, and seconds for all blocks."""
    sites, start = [], time.perf_counter()
    for found in made.scan(chunks(reading), ahead=True):
        time.sleep(writing)
        sites += found
    return sites, time.perf_counter() - start


def test_a_scan_takes_as_long_as_its_slowest_stage(scanner):
    """One stage is the slowest in turn; calling and writing are one stage."""
    expected, in_turn = run(scanner(ahead=0, calling=DELAY / 2)[0], DELAY, DELAY / 2)
    assert len(expected) >= BLOCKS and in_turn > 3 * BLOCKS * DELAY
    overhead = in_turn - 3 * BLOCKS * DELAY  # long on a busy machine
    lines = [f"in turn: {in_turn:.2f} s for {BLOCKS} blocks of 3 x {DELAY} s"]
    for slowest, factors in {
        "none": (1, 1, 1),
        "reading": (2, 1, 1),
        "scoring": (1, 2, 1),
        "writing": (1, 1, 2),
    }.items():
        reading, scoring, writing = (factor * DELAY for factor in factors)
        most = BLOCKS * max(reading, scoring, writing)
        for _ in range(TRIES):
            made, device = scanner(delay=scoring, calling=writing / 2)
            sites, seconds = run(made, reading, writing / 2)
            busy = device.busy / seconds
            lines.append(f"slowest {slowest}: {seconds:.2f} s, its own {most:.2f} s, device busy {busy:.0%}")
            assert sites == expected and seconds > most
            if seconds < (most + BLOCKS * (reading + scoring + writing)) / 2 + overhead:
                break
        else:
            pytest.fail("\n".join(lines))
    print("", *lines, sep="\n")


def test_three_stages_work_at_the_same_time(scanner, monkeypatch):
    """While block 0 is called, another is scored and one beyond those ahead is read: each waits for the others."""
    made, device = scanner(delay=0)
    meeting, first_is_scored = threading.Barrier(3), threading.Event()
    others, called = itertools.count(), itertools.count()
    first_window = encode(next(chunks(0)).sequence)[:WINDOW]

    def score(model, codes, runtime):
        if np.array_equal(codes[0], first_window):  # threads take the lock of the device in any order
            scores = device(model, codes, runtime)
            first_is_scored.set()
            return scores
        first_is_scored.wait(60)
        if next(others) == 0:
            meeting.wait(60)
        return device(model, codes, runtime)

    monkeypatch.setattr("bertsnr_tools.predict.model_scan.base_probabilities", score)
    made._signal = lambda *_: next(called) == 0 and meeting.wait(60)

    def source():
        for at, chunk in enumerate(chunks(0)):
            if at == scan.BLOCKS_AHEAD + 1:
                meeting.wait(60)
            yield chunk

    assert len([sites for sites in made.scan(source(), ahead=True) if sites]) >= BLOCKS - 1


def test_few_blocks_are_read_ahead(scanner):
    made, _ = scanner(delay=0)
    taken = []
    blocks = (taken.append(chunk) or chunk for chunk in chunks(0))
    for number, _ in enumerate(made.scan(blocks, ahead=True)):
        time.sleep(DELAY / 3)
        assert len(taken) <= number + scan.BLOCKS_AHEAD + 3  # of which the reader holds two
    assert len(taken) == BLOCKS


def test_a_scan_may_end_early(scanner):
    threads = len(threading.enumerate())
    begun = scanner()[0].scan(chunks(0), ahead=True)
    next(begun)
    assert len(threading.enumerate()) > threads
    begun.close()
    assert len(threading.enumerate()) == threads


def test_an_error_while_reading_comes_after_the_blocks_before(scanner):
    made, _ = scanner(delay=0)
    found = []
    with pytest.raises(OSError, match="cannot be read"):
        for sites in made.scan(chunks(0, fails_at=9), ahead=True):
            found.append(sites)
    assert 9 - scan.BLOCKS_AHEAD <= len(found) <= 9


@pytest.mark.parametrize("stage", ["reading", "scoring", "calling", "writing"])
def test_an_interrupted_scan_leaves_no_thread(scanner, stage, monkeypatch):
    """Ctrl-C reaches the main thread; an error of another stage ends there, too."""
    threads = len(threading.enumerate())
    made, device = scanner(delay=0)

    def interrupt(*_):
        raise KeyboardInterrupt

    if stage == "scoring":
        monkeypatch.setattr("bertsnr_tools.predict.model_scan.base_probabilities", interrupt)
    if stage == "calling":
        made._signal = interrupt
    source = (interrupt() if stage == "reading" and number == 3 else chunk for number, chunk in enumerate(chunks(0)))
    with pytest.raises(KeyboardInterrupt):
        for _ in made.scan(source, ahead=True):
            if stage == "writing":
                interrupt()
    assert len(threading.enumerate()) == threads


def test_items_are_read_ahead_in_order():
    taken = []
    items = read_ahead(taken.append(number) or number for number in range(5))
    assert next(items) == 0
    limit = time.perf_counter() + 10
    while len(taken) < 2 and time.perf_counter() < limit:
        time.sleep(0.001)
    assert taken == [0, 1] and list(items) == [1, 2, 3, 4]
    assert list(read_ahead(iter(()))) == []


def test_a_pipe_is_not_read_ahead(genome):
    """An interrupted scan would wait for the program that writes to it."""
    assert ScanInput(Genome(str(genome))).can_read_ahead and ScanInput(str(genome)).can_read_ahead
    assert not ScanInput("-").can_read_ahead


def test_replicas_give_the_sites_of_one_model(toy_model_file, many_factor_file, monkeypatch):
    """As on several GPUs: the batches of a scan go to the replicas of both kinds of models in turn."""
    sequence = np.random.default_rng(3).choice(np.frombuffer(b"ACGT", np.uint8), 3000).tobytes()
    piece = Chunk(Interval("chr1", 0, len(sequence)), 0, sequence, True)
    found, asked = [], Counter()
    for devices in (1, 3):
        runtime = Runtime((torch.device("cpu"),) * devices, "fp32", 16)
        models = load_models([str(toy_model_file), str(many_factor_file)], runtime)
        for one in (models[0], *models[0].replicas, (many := shared_model(models[1])), *many.replicas):
            monkeypatch.setattr(one, "inference_function", counted(one, asked), raising=False)
        asked.clear()
        made = Scanner(models, [CallingRule(0.5)] * len(models), runtime)
        found.append([site for sites in made.scan([piece], ahead=True) for site in sites])
    assert found[0] == found[1] and len({site.name for site in found[0]}) > 1
    assert len(asked) == 6 and min(asked.values()) >= 2


def counted(model, asked):
    """`inference_function`, whose calls are counted by model."""
    real = model.inference_function

    def make(precision):
        function = real(precision)

        def call(ids):
            asked[id(model)] += 1
            return function(ids)

        return call

    return make
