"""The command line: the list of commands, and the one module that turns errors into a line and an exit status."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from typing import Any, NamedTuple, NoReturn

import click

from .. import __version__
from ..errors import BertsnrError, is_out_of_device_memory, system_limit
from .limits import limit_blas_threads

COMMANDS = {  # in the order of use; each is a module of this package with a function of the same name
    "windows": "cut labelled windows around known sites",
    "shuffle": "shuffle sequences, preserving their k-mer counts",
    "pretrain": "pretrain an encoder from which models can be trained",
    "train": "train a model on windows",
    "predict": "call binding sites with trained models",
    "variants": "score which binding sites variants create or destroy",
    "evaluate": "evaluate models on labelled windows",
    "motifs": "make motifs from called sites and compare them with known motifs",
    "attn": "show which bases a model attends to",
    "report": "show called sites on one page",
    "hub": "make a track hub of sites and base probabilities",
    "models": "list the shipped models",
}


class _Commands(click.Group):
    """Imports a command only when it is run, so that help imports neither numpy nor torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return command(name) if name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            message = f"no such command {args[0]!r}{hint} (commands: {', '.join(COMMANDS)})"
            raise click.UsageError(message, ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def command(name: str) -> click.Command:
    """The click command of this name."""
    return getattr(importlib.import_module(f".{name}", __package__), name)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", message="bertsnr_tools %(version)s")
def bertsnr() -> None:
    """Find transcription factor binding sites at single-nucleotide resolution.

    \b
    bertsnr windows -f hg38.fa sites.bed > pos.fa
    bertsnr shuffle pos.fa > neg.fa
    bertsnr train -o MYTF.pt pos.fa -n neg.fa
    bertsnr predict -m MYTF.pt region.fa > sites.bed
    """


def main(name: str | None = None) -> NoReturn:
    """Run `bertsnr`, or one command under its own name `bertsnr-<name>`, and exit.

    Exit status 0: success; 1: an error in the data, the system or the device; 2: a usage error; 130: interrupted.
    """
    program = f"bertsnr-{name}" if name else "bertsnr"
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, _terminated)
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "0"  # read when torch is imported: threads that wait leave the CPU to others
    limit_blas_threads()
    try:
        result: Any = (command(name) if name else bertsnr).main(prog_name=program, standalone_mode=False)
        status = result if isinstance(result, int) else 0
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader has closed the pipe
        status = 1
    except (Exception, KeyboardInterrupt) as error:
        explained = _explain(error, program)
        if explained is None:
            raise
        if not getattr(error, "logged", False):
            _print_error(explained.text)
        status = explained.status
    _exit(status)


class _Explained(NamedTuple):
    """An error as one line for the user and an exit status."""

    text: str
    status: int


def _explain(error: BaseException, program: str) -> _Explained | None:
    """Explain an error to the user; None for an error of the program itself."""
    path = _command_path(program)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return _Explained(error.format_message(), 2)
    if isinstance(error, click.UsageError):
        where = error.ctx.command_path if error.ctx else path
        return _Explained(f"{where}: {' '.join(error.format_message().split())} (see {where} --help)", 2)
    if limit := system_limit(error):
        return _Explained(f"{path}: {limit}", 1)
    if isinstance(error, BertsnrError):
        return _Explained(f"{path}: {error}", error.exit_status)
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        return _Explained(f"{path}: interrupted", 130)
    if isinstance(error, OSError):
        file = f"{error.filename}: " if isinstance(error.filename, str) else ""
        return _Explained(f"{path}: {file}{error.strerror or error}", 1)
    if isinstance(error, RuntimeError) and is_out_of_device_memory(error):
        return _Explained(f"{path}: out of GPU memory; reduce --batch-size or use --device cpu", 1)
    return None


def _terminated(number: int, frame: Any) -> NoReturn:
    """Unwind on SIGTERM or SIGHUP, so that temporary files are removed."""
    sys.exit(128 + number)


def _command_path(program: str) -> str:
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    return f"{program} {words[0]}" if program == "bertsnr" and words and words[0] in COMMANDS else program


def _print_error(text: str) -> None:
    if sys.stderr is not None:
        if "--debug" in sys.argv:
            traceback.print_exc()
        print(text, file=sys.stderr)


def _exit(status: int) -> NoReturn:
    """Exit without a second error message when standard output has failed."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = status or 1
    sys.exit(status)
