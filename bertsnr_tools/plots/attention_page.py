"""The attention page: one HTML file to explore all layers and heads of a sequence."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np

from .pages import write_page


def write_attention_page(
    path: str, title: str, sequence: bytes, k: int, sites: Sequence[tuple[int, int]], attention: np.ndarray
) -> None:
    """Write the page, which works offline.

    Parameters
    ----------
    sequence : letters, shape (n,)
    k : bases in a token
    sites : called sites, 0-based, half-open; underlined
    attention : shape (layers, heads, n - k + 3, n - k + 3), from the token of a row to the token of a column; values in
        [0, 1], stored in steps of 1/65535
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
    write_page(path, "attention.html", data)
