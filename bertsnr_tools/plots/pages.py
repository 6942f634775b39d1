"""Pages: a template with its data inside, so that one HTML file works offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..io.files import open_output


def write_page(path: str, template: str, data: dict[str, Any]) -> None:
    """Write a page, atomically; the same data give the same page.

    Parameters
    ----------
    path : see `io.files.open_output`
    template : file beside this module, in which `@DATA@` stands for the data
    data : plain data; NaN is not allowed
    """
    # no name may end the script element that contains it
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    page = Path(__file__).with_name(template).read_text(encoding="utf-8").replace("@DATA@", text, 1)
    with open_output(path) as stream:
        stream.write(page.encode())
