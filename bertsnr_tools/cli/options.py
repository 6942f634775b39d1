"""Options that several commands share, each defined once."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeGuard

import click
from click.shell_completion import CompletionItem

from .. import __version__, log
from .limits import check_address_space, check_threads, keep_freed_memory, usable_cpus

if TYPE_CHECKING:
    from ..models.device import Runtime

GROUPS = {
    "Speed": ("--batch-size", "--device", "--precision", "--threads"),
    "Messages": ("--quiet", "--verbose", "--debug", "--version", "--help"),
}
DEPRECATED = {"--natural": "--background-ratio", "--val-share": "--val-fraction"}  # old name -> name, hidden from help


class Command(click.Command):
    """A command that groups the shared options in its help and accepts deprecated option names.

    The optional value of an option is a number: after `--best`, any other word is the next argument.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = {name for param in self.params for name in param.opts}
        optional = {name: param.flag_value for param in self.params if _is_optional(param) for name in param.opts}
        for position, word in enumerate(args[: args.index("--")] if "--" in args else args):
            if word in optional and not "".join(args[position + 1 : position + 2]).isdigit():
                args[position] = f"{word}={optional[word]}"
        for position, word in enumerate(args):
            name, equals, value = word.partition("=")
            if DEPRECATED.get(name) in known:
                args[position] = DEPRECATED[name] + equals + value
                ctx.meta.setdefault(__name__, []).append(f"{name} is deprecated; use {DEPRECATED[name]}")
        return super().parse_args(ctx, args)

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


def _is_optional(param: click.Parameter) -> TypeGuard[click.Option]:
    """Whether the value of an option may be left out."""
    return isinstance(param, click.Option) and not param.is_flag and isinstance(param.flag_value, int)


class ModelName(click.Path):
    """A model file or the name of a shipped model, for shell completion."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from ..models.registry import shipped_files, shipped_models

        known = sorted({*shipped_models(), *shipped_files()})
        names = [CompletionItem(name) for name in known if name.startswith(incomplete)]
        return names or super().shell_complete(ctx, param, incomplete)


def _complete_file_names(param: click.Parameter) -> click.Parameter:
    """Let the shell complete file names for a parameter whose metavar is a kind of file."""
    words = set(re.findall(r"[A-Z]+", str(param.metavar)))
    if isinstance(param.type, click.types.StringParamType) and words & {"FILE", "FASTA", "BED", "MEME", "DIR", "MODEL"}:
        param.type = ModelName() if "MODEL" in words else click.Path()
    return param


def command(function: Callable[..., None]) -> click.Command:
    """Make a click command of a function; add options for help, version and verbosity."""

    @functools.wraps(function)
    def run(quiet: bool, verbose: bool, debug: bool, **options: Any) -> None:
        context = click.get_current_context()
        log.configure(context.command_path, 1 if verbose or debug else -1 if quiet else 0)
        for message in context.meta.get(__name__, []):
            log.logger.warning(message)
        for param in context.command.params:
            value = context.params.get(param.name or "")
            if "" in (value if isinstance(value, tuple) else [value]):  # an unset variable of a shell
                raise click.BadParameter("expected a value, found an empty text", context, param)
        function(**options)

    own = getattr(run, "__click_params__", [])
    run.__click_params__ = []  # type: ignore[attr-defined]
    for decorate in (
        click.version_option(__version__, "-V", "--version", message="bertsnr_tools %(version)s"),
        click.option("--debug", is_flag=True, help="Like -v, with a traceback for errors."),
        click.option("-v", "--verbose", is_flag=True, help="Print details on stderr."),
        click.option("-q", "--quiet", is_flag=True, help="Print only errors on stderr."),
    ):
        decorate(run)
    # click lists the last first: the command's own options lead
    run.__click_params__ += [_complete_file_names(param) for param in own]  # type: ignore[attr-defined]
    settings = {"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100}
    return click.command(cls=Command, context_settings=settings)(run)


@dataclass(frozen=True)
class RuntimeOptions:
    """Where and how a command runs its models; `build` imports torch.

    Attributes
    ----------
    device : "auto", "cpu", "cuda" or "cuda:N"; several names are separated by commas
    precision : "auto", "fp32", "int16", "bf16" or "fp16"
    threads : CPU threads; None for all CPUs that the process may use
    batch_size : maximum number of windows in a forward pass
    training : the command trains a model
    """

    device: str
    precision: str
    threads: int | None
    batch_size: int = 4096
    training: bool = False

    def build(self) -> Runtime:
        """Set torch's threads and choose device and precision.

        Raises
        ------
        DeviceError : this machine does not have the device.
        """
        import torch

        from ..models.device import Runtime

        threads = self.threads or usable_cpus()
        check_threads(threads)
        torch.set_num_threads(threads)
        return Runtime.choose(self.device, self.precision, self.batch_size, training=self.training)

    def build_for_training(self, *inputs: str | None) -> Runtime:
        """`build` for one of the processes of `torchrun`: on its own GPU, with messages of the first process alone.

        Parameters
        ----------
        inputs : files that are read

        Raises
        ------
        DeviceError : see `build`.
        UsageError : several processes cannot all read standard input.
        """
        from ..errors import UsageError
        from ..training import processes

        if processes.count() > 1 and "-" in inputs:
            raise UsageError("several processes cannot all read standard input (-); give the name of a file")
        if processes.rank():
            log.logger.setLevel(logging.ERROR)
        keep_freed_memory()
        threads = self.threads or max(1, usable_cpus() // processes.local_count())
        return replace(self, device=processes.local_device(self.device), threads=threads).build()


def runtime(*, several_devices: bool = False, training: bool = False) -> Callable[[Callable[..., None]], Any]:
    """Add --batch-size, --device, --precision and -@ to a command, which receives them as `runtime: RuntimeOptions`.

    Parameters
    ----------
    several_devices : accept several GPUs, separated by commas
    training : leave out --batch-size, which a training command defines itself, and fp16, which is for inference only
    """
    shared = [
        _devices if several_devices else _device,
        _training_precision if training else _precision,
        _threads,
    ]
    if not training:
        shared.insert(0, _batch_size)
    fields = ["device", "precision", "threads", *([] if training else ["batch_size"])]

    def decorate(function: Callable[..., None]) -> Any:
        @functools.wraps(function)
        def run(**options: Any) -> None:
            if options.get("models") != ():  # without -m, `motifs` does not import torch
                check_address_space(training=training)
            values = {field: options.pop(field) for field in fields}
            function(runtime=RuntimeOptions(**values, training=training), **options)

        for add in reversed(shared):
            add(run)
        return run

    return decorate


class Threshold(click.ParamType):
    """A probability, or one of `kinds`, `=` and a number; see `predict.thresholds.base_threshold`."""

    name = "threshold"

    def __init__(self, *kinds: str):
        self.kinds = kinds

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        from ..predict.threshold_text import read_threshold

        try:
            return read_threshold(value, self.kinds)
        except ValueError as error:
            self.fail(str(error), parameter, context)


class Shard(click.ParamType):
    """I/N as two numbers."""

    name = "shard"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", value)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            self.fail(f"{value!r} is not a shard; expected I/N with 1 <= I <= N, such as 2/7", parameter, context)
        return int(match[1]), int(match[2])


output = click.option(
    "-o",
    "--output",
    default="-",
    metavar="FILE",
    help="Write to FILE, atomically, with bgzip if its name ends in .gz; - is standard output.",
)
fasta = click.option("-f", "--fasta", metavar="FASTA", help="Genome FASTA, plain or bgzip; a missing index is built.")
ANY_MODEL = (
    "Model file, name of a shipped model, motif file (MEME, JASPAR), or name in JASPAR, such as jaspar:GATA3; of one "
    "factor or many; may be repeated."
)


def models(text: str = ANY_MODEL, *, required: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """-m with this help text."""
    return click.option("-m", "--model", "models", multiple=True, required=required, metavar="MODEL", help=text)


window = click.option(
    "-w", "--window", type=click.IntRange(1, 100_000), default=100, metavar="BP", help="Window length."
)
threshold = click.option(
    "-t",
    "--threshold",
    type=Threshold("p", "score"),
    metavar="P|p=P|score=BITS",
    help="Call bases with a probability above P or a p-value below P; for PWMs, matches with a p-value below P or a "
    "score above BITS.  [default: the model's own]",
)
step = click.option(
    "-s",
    "--step",
    type=click.IntRange(1),
    metavar="BP",
    help="Distance between window starts.  [default: half the model's window]",
)
exclude = click.option(
    "--exclude",
    multiple=True,
    metavar="BED",
    help="Exclude these intervals, such as peaks, from background windows; may be repeated.",
)
strict = click.option("--strict", is_flag=True, help="Fail if anything is skipped.")


def seed(of: str) -> Callable[[Any], Any]:
    """--seed, for this random part of a command."""
    text = f"Random seed of {of}."
    return click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=1, metavar="INT", help=text)


_batch_size = click.option(
    "--batch-size",
    type=click.IntRange(1, 1_000_000),
    default=4096,
    metavar="INT",
    help="Maximum number of windows in a batch; reduced on a CPU or if GPU memory runs out. Does not affect results.",
)
_precision = click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "int16", "bf16", "fp16"]),
    default="auto",
    help="Numeric precision; auto is the fastest that the hardware supports: bf16, int16 (closer to fp32) or fp32.",
)
_training_precision = click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    help="Floating-point precision; auto is bf16 where the hardware supports it, else fp32.",
)
_threads = click.option(
    "-@",
    "--threads",
    type=click.IntRange(1, 4096),
    metavar="INT",
    help="CPU threads.  [default: all CPUs that the process may use]",
)


def _check_device(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Reject an invalid device name before torch is imported."""
    base, colon, number = value.partition(":")
    if base not in ("auto", "cpu", "cuda") or colon and (base != "cuda" or not re.fullmatch("[0-9]{1,4}", number)):
        raise click.BadParameter(f"{value!r} is not a device; expected auto, cpu, cuda or cuda:N")
    return value


def _check_devices(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Do the same for device names separated by commas."""
    names = value.split(",")
    for name in names:
        _check_device(context, parameter, name)
    if len(names) > 1 and (len(set(names)) < len(names) or not all(name.startswith("cuda:") for name in names)):
        raise click.BadParameter(f"{value!r}: list several GPUs as cuda:0,cuda:1, each only once")
    return value


_device = click.option(
    "--device", default="auto", metavar="DEVICE", callback=_check_device, help="Device: auto, cpu, cuda or cuda:N."
)
_devices = click.option(
    "--device",
    default="auto",
    metavar="DEVICE",
    callback=_check_devices,
    help="Device: auto, cpu, cuda or cuda:N, or several GPUs such as cuda:0,cuda:1.",
)
