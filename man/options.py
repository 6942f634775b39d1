#!/usr/bin/env python3
"""Update version, NAME and OPTIONS of the man pages, and the commands in bertsnr.1: python man/options.py."""

import re
from collections import defaultdict
from pathlib import Path

import click

from bertsnr_tools import __version__
from bertsnr_tools.cli import COMMANDS, command
from bertsnr_tools.cli.options import GROUPS

DIRECTORY = Path(__file__).parent


def roff(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")


def entry(option: click.Option, context: click.Context) -> str:
    flags = ", ".join(f"\\fB{roff(flag)}\\fR" for flag in option.opts)
    value = "" if option.is_flag else f" \\fI{roff(option.make_metavar(context).strip('[]'))}\\fR"
    record = option.get_help_record(context)
    return f".TP\n{flags}{value}\n{roff(record[1])}\n" if record else ""


def options(name: str) -> str:
    """The OPTIONS section, grouped as in --help."""
    context = command(name).make_context(name, [], resilient_parsing=True)
    groups = defaultdict(str)
    for option in command(name).get_params(context):
        if isinstance(option, click.Option):
            title = next((title for title, flags in GROUPS.items() if option.opts[-1] in flags), "")
            groups[title] += entry(option, context)
    return groups[""] + "".join(f".SS {title}\n{groups[title]}" for title in GROUPS if title in groups)


def current_version(text: str) -> str:
    return re.sub(r'"bertsnr_tools [^"]*"', f'"bertsnr_tools {__version__}"', text, count=1)


def replace_section(text: str, title: str, content: str) -> str:
    start, end = re.search(rf"^\.SH {title}\n(.*?)(?=^\.SH )", text, re.M | re.S).span(1)
    return text[:start] + content + text[end:]


def main() -> None:
    for name, purpose in COMMANDS.items():
        page = DIRECTORY / f"bertsnr-{name}.1"
        title = roff(f"bertsnr-{name} - {purpose}\n")
        text = replace_section(current_version(page.read_text()), "NAME", title)
        page.write_text(replace_section(text, "OPTIONS", options(name)))
    page = DIRECTORY / "bertsnr.1"
    entries = (f".TP\n.BR {roff(f'bertsnr-{name}')} (1)\n{roff(purpose)}\n" for name, purpose in COMMANDS.items())
    page.write_text(replace_section(current_version(page.read_text()), "COMMANDS", "".join(entries)))


if __name__ == "__main__":
    main()
