"""Options that several commands share: each is spelled here, once."""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from .. import __version__, log

GROUPS = {
    "Speed": ("--batch-size", "--device", "--precision", "--threads"),
    "Messages": ("--quiet", "--verbose", "--debug", "--version", "--help"),
}


class Command(click.Command):
    """Its help has what all commands share in groups of their own; headings are bold where the terminal can do it."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {"Options": [], **{title: [] for title in GROUPS}}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if isinstance(param, click.Option) and record:
                title = next((title for title, flags in GROUPS.items() if param.opts[-1] in flags), "Options")
                groups[title].append(record)
        for title, records in groups.items():
            if records:
                with formatter.section(click.style(title, bold=True)):
                    formatter.write_dl(records)


class ModelName(click.Path):
    """A file, or the name of a shipped model; this matters to completion alone."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        # as of `model.shipped_models`, without waiting for torch
        shipped = sorted(path.stem for path in (Path(__file__).parents[1] / "weights").glob("*.pt"))
        names = [CompletionItem(name) for name in shipped if name.startswith(incomplete)]
        return names or super().shell_complete(ctx, param, incomplete)


def _completes_names(param: click.Parameter) -> click.Parameter:
    """Give a parameter whose value is the name of a file a type that says so to the shell."""
    words = set(re.findall(r"[A-Z]+", str(param.metavar)))
    if isinstance(param.type, click.types.StringParamType) and words & {"FILE", "FASTA", "BED", "MEME", "DIR", "MODEL"}:
        param.type = ModelName() if "MODEL" in words else click.Path()
    return param


def command(function: Callable[..., None]) -> click.Command:
    """Make a click command of a function, with help, version and verbosity options."""

    @functools.wraps(function)
    def run(quiet: bool, verbose: bool, debug: bool, **options: Any) -> None:
        log.configure(click.get_current_context().command_path, 1 if verbose or debug else -1 if quiet else 0)
        function(**options)

    own = getattr(run, "__click_params__", [])
    run.__click_params__ = []  # type: ignore[attr-defined]
    for decorate in (
        click.version_option(__version__, "-V", "--version", message="bertsnr_tools %(version)s"),
        click.option("--debug", is_flag=True, help="As -v, and show where in the code an error comes from."),
        click.option("-v", "--verbose", is_flag=True, help="Say more on stderr."),
        click.option("-q", "--quiet", is_flag=True, help="Say nothing on stderr but errors."),
    ):
        decorate(run)
    run.__click_params__ += [_completes_names(param) for param in own]  # type: ignore[attr-defined]  # click lists the last first: the command's own lead
    settings = {"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100}
    return click.command(cls=Command, context_settings=settings)(run)


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Threshold(click.ParamType):
    """A probability, or one of `kinds` with `=` and a number, for `matching.base_threshold`."""

    name = "threshold"

    def __init__(self, *kinds: str):
        self.kinds = kinds

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        kind, equals, number = value.rpartition("=")
        try:
            wanted = float(number)
        except ValueError:
            wanted = math.nan
        known = kind in self.kinds if equals else True
        if known and (math.isfinite(wanted) if kind == "score" else 0 < wanted < 1):
            return kind or "probability", wanted
        ones = ", ".join(f"{kind}= with one" for kind in self.kinds if kind != "score")
        self.fail(f"{value!r} is not a number between 0 and 1, {ones}, or score= with a number", parameter, context)


class Shard(click.ParamType):
    """I/N as two numbers."""

    name = "shard"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", value)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            self.fail(f"{value!r} is no shard, needed is I/N with 1 <= I <= N, such as 2/7", parameter, context)
        return int(match[1]), int(match[2])


output = click.option(
    "-o",
    "--output",
    default="-",
    metavar="FILE",
    help="Write to FILE, whole or not at all; .gz is written as bgzip. - is standard output.",
)
fasta = click.option(
    "-f", "--fasta", metavar="FASTA", help="Genome: FASTA, plain or bgzip; its index is made if it is missing."
)
window = click.option(
    "-w", "--window", type=click.IntRange(1, 100_000), default=100, metavar="BP", help="Length of a window."
)
threshold = click.option(
    "-t",
    "--threshold",
    type=Threshold("p", "score"),
    metavar="P|p=P|score=BITS",
    help="Call bases with a probability above P, or one that has a p-value below P; of matrices, matches with a p-value below or a score above that given.  [default: the model's own]",
)
step = click.option(
    "-s",
    "--step",
    type=click.IntRange(1),
    metavar="BP",
    help="Distance of window starts.  [default: half the model's window]",
)
exclude = click.option(
    "--exclude",
    multiple=True,
    metavar="BED",
    help="Draw no natural window that touches these intervals, such as peaks; may be repeated.",
)
seed = click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=1, metavar="INT", help="Seed of all that is random."
)
strict = click.option("--strict", is_flag=True, help="Fail when anything had to be skipped.")
batch_size = click.option(
    "--batch-size",
    type=click.IntRange(1, 1_000_000),
    default=1024,
    metavar="INT",
    help="Most windows on the device at a time: a processor takes fewer, and a GPU half as many where they do not fit. Does not change the result.",
)
precision = click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    help="Arithmetic of the model; auto is bf16 where the machine has it.",
)
threads = click.option(
    "-@",
    "--threads",
    type=click.IntRange(1, 4096),
    metavar="INT",
    help="Processor threads.  [default: all this process may use]",
)


def check_device(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Refuse what is no device name before anything slow is imported."""
    base, colon, number = value.partition(":")
    if base not in ("auto", "cpu", "cuda") or colon and (base != "cuda" or not number.isdigit()):
        raise click.BadParameter(f"{value!r} is not auto, cpu, cuda or cuda:N")
    return value


def check_devices(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """As `check_device`, for several GPUs with commas between."""
    names = value.split(",")
    for name in names:
        check_device(context, parameter, name)
    if len(names) > 1 and (len(set(names)) < len(names) or not all(name.startswith("cuda:") for name in names)):
        raise click.BadParameter(f"{value!r}: several devices are cuda:N,cuda:N, each once")
    return value


device = click.option(
    "--device", default="auto", metavar="DEVICE", callback=check_device, help="auto, cpu, cuda or cuda:N."
)
devices = click.option(
    "--device",
    default="auto",
    metavar="DEVICE",
    callback=check_devices,
    help="auto, cpu, cuda or cuda:N, or several GPUs: cuda:0,cuda:1.",
)
