#!/usr/bin/env python3
"""Write the OPTIONS section of every page anew from the help of its command: man/options.py (bertsnr_tools must be installed)."""

import re
from pathlib import Path

import click

from bertsnr_tools.cli import COMMANDS, command


def roff(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")


def entry(option: click.Option, context: click.Context) -> str:
    flags = ", ".join(f"\\fB{roff(flag)}\\fR" for flag in option.opts)
    value = "" if option.is_flag else f" \\fI{roff(option.make_metavar(context).strip('[]'))}\\fR"
    return f".TP\n{flags}{value}\n{roff(option.get_help_record(context)[1])}\n"


for name in COMMANDS:
    page = Path(__file__).parent / f"bertsnr-{name}.1"
    context = command(name).make_context(name, [], resilient_parsing=True)
    entries = "".join(entry(option, context) for option in command(name).get_params(context) if isinstance(option, click.Option))
    text = page.read_text()
    start, end = re.search(r"^\.SH OPTIONS\n(.*?)(?=^\.SH )", text, re.M | re.S).span(1)
    page.write_text(text[:start] + entries + text[end:])
