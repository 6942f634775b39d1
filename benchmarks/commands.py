"""Running the command line from the benchmarks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def bertsnr(command: str, *words: object) -> str:
    """Standard output of a command, run by this Python."""
    line = [sys.executable, "-m", "bertsnr_tools", command, *map(str, words)]
    return subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout


def launcher(command: str = "") -> str:
    """Path of an installed launcher: bertsnr, or bertsnr-COMMAND."""
    return str(Path(sys.executable).parent / (f"bertsnr-{command}" if command else "bertsnr"))
