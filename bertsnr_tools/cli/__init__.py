"""The command line: commands in the order of a project, and the one place where errors become a line and a status."""

from __future__ import annotations

import difflib
import importlib
import os
import signal
import sys
import traceback
from typing import Any, NoReturn

import click

from .. import __version__
from ..errors import BertsnrError

COMMANDS = {
    "windows": "cut labelled windows around known sites",
    "shuffle": "shuffle sequences, keeping their k-mer counts",
    "pretrain": "train an encoder that models begin with",
    "train": "train a model on windows",
    "predict": "call binding sites with trained models",
    "evaluate": "measure models on labelled windows",
    "motifs": "make motifs of called sites and compare them with known ones",
    "attn": "show which bases a model attends to",
    "models": "list the models that come with the package",
}


class _Commands(click.Group):
    """Imports a command only when it is run, so that help needs neither numpy nor torch."""

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
            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            raise click.UsageError(
                f"no command {args[0]!r}{f', did you mean {near[0]}?' if near else ''} (commands: {', '.join(COMMANDS)})",
                ctx,
            ) from error

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

    Status 0: done; 1: the data, the system or the device are at fault; 2: the command line is; 130: interrupted.
    """
    program = f"bertsnr-{name}" if name else "bertsnr"
    status: Any = 0
    signal.signal(signal.SIGTERM, _terminated)
    try:
        status = (command(name) if name else bertsnr).main(prog_name=program, standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        _say(error.format_message())
        status = 2
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else _path(program)
        _say(f"{where}: {' '.join(error.format_message().split())} (see {where} --help)")
        status = 2
    except BertsnrError as error:
        _say(f"{_path(program)}: {error}")
        status = error.exit_status
    except (click.Abort, KeyboardInterrupt):
        _say(f"{program}: interrupted")
        status = 130
    except BrokenPipeError:  # whoever reads us has seen enough
        status = 1
    except OSError as error:
        _say(
            f"{_path(program)}: {error.filename + ': ' if isinstance(error.filename, str) else ''}{error.strerror or error}"
        )
        status = 1
    except MemoryError:
        _say(f"{_path(program)}: out of memory")
        status = 1
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which is not imported here
            raise
        _say(
            f"{_path(program)}: out of memory on the device: a smaller --batch-size needs less, and --device cpu none of it"
        )
        status = 1
    _leave(status if isinstance(status, int) else 0)


def _terminated(number: int, frame: Any) -> NoReturn:
    """Unwind on `kill`, so that temporary files are removed."""
    sys.exit(128 + number)


def _path(program: str) -> str:
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    return f"{program} {words[0]}" if program == "bertsnr" and words and words[0] in COMMANDS else program


def _say(text: str) -> None:
    if sys.stderr is not None:
        if "--debug" in sys.argv:
            traceback.print_exc()
        print(text, file=sys.stderr)


def _leave(status: int) -> NoReturn:
    """Exit without a second complaint about a standard output that is already lost."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = status or 1
    sys.exit(status)
