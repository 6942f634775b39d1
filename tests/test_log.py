import io
import logging
import re
import sys
import time

from bertsnr_tools import log


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_on_a_terminal_and_nothing_elsewhere(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    log.configure("bertsnr test", 0)
    with log.progress("scanning", 100, "bp") as bar:
        bar.advance(10)
        time.sleep(0.05)
        bar.advance(30)
    assert "scanning" in terminal.getvalue() and re.search(
        r"40/100 bp [\d,]+/s", re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue())
    )
    monkeypatch.setattr(sys, "stderr", plain := io.StringIO())
    with log.progress("scanning", 100, "bp") as bar:
        bar.advance(40)
    assert plain.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    log.configure("bertsnr test", -1)
    with log.progress("scanning", None, "bp") as bar:
        bar.advance(1)
    assert terminal.getvalue() == ""


def test_how_much_is_said(monkeypatch):
    for verbosity, said in ((-1, ["error"]), (0, ["info", "error"]), (1, ["debug", "info", "error"])):
        monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
        log.configure("bertsnr test", verbosity)
        log.logger.debug("debug")
        log.logger.info("info")
        log.logger.error("error")
        assert stream.getvalue().splitlines() == [f"bertsnr test: {text}" for text in said]
    assert logging.getLogger().handlers is not log.logger.handlers
