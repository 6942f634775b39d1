"""Text as one column of BED and of tab-separated tables."""

from __future__ import annotations

import re


def decoded_text(line: bytes) -> str:
    """Text in UTF-8, or else Latin-1."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")


def name_field(name: str) -> str:
    """A name without white space and unprintable characters, which are replaced by "_"."""
    return "".join(letter if letter.isprintable() else "_" for letter in re.sub(r"\s+", "_", name.strip()))


def path_field(path: str) -> str:
    """A path with "_" for tabs, line breaks and other unprintable characters; spaces are kept."""
    return "".join(letter if letter.isprintable() else "_" for letter in path)
