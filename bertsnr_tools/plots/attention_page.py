"""One self-contained page on which all layers and heads of a sequence can be explored."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

TEMPLATE = Path(__file__).with_name("attention.html")


def attention_page(title: str, sequence: bytes, k: int, sites: Sequence[tuple[int, int]], attention: np.ndarray) -> str:
    """The page as HTML that loads nothing from elsewhere.

    Parameters
    ----------
    sequence : letters, shape (n,)
    k : bases in a token
    sites : [start, end) of called sites, to be underlined
    attention : shape (layers, heads, n - k + 3, n - k + 3), from the token of a row to that of a column, values in [0, 1]; it is kept in
        steps of 1/65535
    """
    layers, heads, tokens, _ = attention.shape
    steps = np.rint(np.clip(attention, 0, 1) * 65535).astype("<u2")
    data = {
        "title": title,
        "layers": layers,
        "heads": heads,
        "tokens": tokens,
        "k": k,
        "sequence": sequence.decode(),
        "sites": [list(site) for site in sites],
        "attention": base64.b64encode(steps.tobytes()).decode(),
    }
    # so that no name can end the script element that holds it
    text = json.dumps(data).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return TEMPLATE.read_text(encoding="utf-8").replace("@DATA@", text, 1)
