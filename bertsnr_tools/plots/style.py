"""What all figures share: colours, canvas, file formats, and the check before work begins."""

from __future__ import annotations

import io
import os
from pathlib import Path

from ..errors import UsageError
from ..io.files import check_regular, replace_atomically

FORMATS = (".png", ".pdf", ".svg")
# the palette of Okabe and Ito, distinguishable with any colour vision
BLUE, ORANGE, GREEN, _, YELLOW, _, _ = LINE_COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
)
GREY, PALE, SHADE = "#999999", "#E8E8E8", "#F6DFC4"
LETTER_COLOURS = {"A": GREEN, "C": BLUE, "G": YELLOW, "T": ORANGE}


def check_plot(path: str, logos: bool = False) -> None:
    """Check before the work begins that a figure can be drawn.

    Parameters
    ----------
    path : name of the figure
    logos : the figure contains sequence logos

    Raises
    ------
    UsageError : the file name has an unsupported ending, or the file is a pipe or device; or matplotlib (with `logos`,
        logomaker) is not installed.
    """
    if os.path.splitext(path)[1].lower() not in FORMATS:
        raise UsageError(f"{path}: the name of a figure must end in .png, .pdf or .svg")
    check_regular(path, "a figure")
    try:
        import matplotlib  # noqa: F401

        if logos:
            import logomaker  # noqa: F401
    except ImportError as error:
        raise UsageError("figures require matplotlib and logomaker; pip install 'bertsnr_tools[plot]'") from error


def new_figure(inches_across: float, inches_down: float):
    """An empty matplotlib Figure."""
    from matplotlib.figure import Figure

    return Figure(figsize=(inches_across, inches_down), layout="constrained")


def save_figure(figure, path: str) -> None:
    """Write a figure atomically, in the format of the name's ending."""
    drawn = io.BytesIO()  # because matplotlib fails in other ways on a full disk
    figure.savefig(drawn, format=os.path.splitext(path)[1][1:].lower(), dpi=150)
    with replace_atomically(path) as temporary:
        Path(temporary).write_bytes(drawn.getvalue())


def escape(text: str) -> str:
    """Escape text, so that matplotlib does not read it as mathematics."""
    return text.replace("$", r"\$")


def integer_ticks():
    """A tick locator for whole numbers."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True)
