import io
import logging
import re
import sys
import time

from bertsnr_tools import log


class Handler(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_progress_bar_only_on_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    log.configure("bertsnr test", 0)
    with log.progress("scanning", 100, "bp") as bar:
        bar.advance(10)
        time.sleep(0.05)
        bar.advance(30)
    shown = re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue())
    assert "scanning" in shown and re.search(r"40/100 bp [\d,]+/s", shown)
    monkeypatch.setattr(sys, "stderr", plain := io.StringIO())
    with log.progress("scanning", 100, "bp") as bar:
        bar.advance(40)
    assert plain.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    log.configure("bertsnr test", -1)
    with log.progress("scanning", None, "bp") as bar:
        bar.advance(1)
    assert terminal.getvalue() == ""


def test_verbosity(monkeypatch):
    root = Handler()
    monkeypatch.setattr(logging.getLogger(), "handlers", [root])
    for verbosity, shown in ((-1, ["error"]), (0, ["info", "error"]), (1, ["debug", "info", "error"])):
        monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
        log.configure("bertsnr test", verbosity)
        log.logger.debug("debug")
        log.logger.info("info")
        log.logger.error("error")
        assert stream.getvalue().splitlines() == [f"bertsnr test: {text}" for text in shown]
    assert not root.records  # nothing is shown twice by an application that configures logging itself


def test_no_progress_bar_on_a_dumb_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "dumb")
    log.configure("bertsnr test", 0)
    with log.progress("scanning", 100, "bp") as bar:
        bar.advance(10)
    assert terminal.getvalue() == ""
