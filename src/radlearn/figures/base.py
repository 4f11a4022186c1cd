"""The contract of a figure, and the style all figures share.

A figure is a module `figures/<name>.py`; its file name is its name. It has

- `NEEDS: tuple[str, ...]`: the columns it cannot be drawn without;
- `draw(table: polars.DataFrame, *, title: str = "", ...) -> matplotlib.figure.Figure`: every argument after
  the table has a default. Axes carry names and units, the footer carries n. A table without rows or without a
  column of `NEEDS` is a `DataError` that names it;
- `fake() -> polars.DataFrame`: a small realistic table that `draw` takes, made by a fixed seed.

A column `synthetic` that is true anywhere puts the word "synthetic" into the figure, whoever draws it.
Figures are `matplotlib.figure.Figure` objects on the Agg canvas: no global state, no window, no torch.
"""

from __future__ import annotations

import io
import math
import os
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from radlearn.errors import DataError, nearest

if TYPE_CHECKING:
    import polars as pl

# Okabe and Ito 2008, safe for the common colour-vision deficiencies; yellow is left out because it vanishes
# on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F7F7F")
# The same hues brightened, and yellow and white for black and grey: what is drawn on a radiograph is drawn on
# dark.
PALETTE_ON_DARK = ("#1E90FF", "#FF6A1A", "#00C48C", "#FF8FCB", "#8FDCFF", "#FFB000", "#F0E442", "#FFFFFF")
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
INK, FAINT, PAPER = "#1f2933", "#9aa5b1", "#ffffff"
CHANCE = {"color": "#52606d", "linestyle": (0, (4, 3)), "linewidth": 1.0}
ALARM = "#b42318"

STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "figure.facecolor": PAPER,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "grid.color": "#e4e7eb",
    "grid.linewidth": 0.7,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.7,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "radlearn",
    "text.color": INK,
    # Labels and run names are anyone's text: "$" is a dollar.
    "text.parse_math": False,
    "text.usetex": False,
    "xtick.color": "#52606d",
    "ytick.color": "#52606d",
}
_UNDATED: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
}


def style() -> AbstractContextManager[None]:
    """The shared look, for the length of a `with` block."""
    context: AbstractContextManager[None] = matplotlib.rc_context(STYLE)
    return context


def new_figure(width: float, height: float, title: str = "") -> Figure:
    """An empty figure of `width` x `height` inches that lays itself out; call it inside `style()`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(text(title, 90), x=0.01, horizontalalignment="left", fontsize=11, fontweight="bold")
    return figure


def footer(figure: Figure, note: str, *, synthetic: bool) -> None:
    """Write the note (n and what was done) below the axes and, for generated data, the word "synthetic"."""
    mark = " · synthetic data" if synthetic else ""
    figure.supxlabel(text(note, 400) + mark, x=0.01, horizontalalignment="left", fontsize=8, color="#52606d")


def require(table: pl.DataFrame, needs: Iterable[str], figure: str) -> None:
    """Refuse a table that a figure cannot be drawn from.

    Raises:
        DataError: names the figure, the missing columns and what there is.
    """
    for column in needs:
        if column not in table.columns:
            hint = nearest(column, table.columns)
            there = ", ".join(table.columns[:12]) or "no column"
            raise DataError(f"figure '{figure}' needs the column '{column}'; the table has {there}{hint}")
    if table.is_empty():
        raise DataError(f"figure '{figure}' got an empty table: run the step that fills it first")


def is_synthetic(table: pl.DataFrame) -> bool:
    """Whether any row says that it comes from generated data."""
    return "synthetic" in table.columns and bool(table["synthetic"].any())


def label_names(table: pl.DataFrame, prefix: str = "label_") -> list[str]:
    """Labels that the table has a column for, in the order of its columns."""
    return [column.removeprefix(prefix) for column in table.columns if column.startswith(prefix)]


def colours(names: Sequence[str], palette: Sequence[str] = PALETTE) -> dict[str, str]:
    """A colour a name, in order; after eight they repeat and `line_styles` tells them apart."""
    return {name: palette[i % len(palette)] for i, name in enumerate(names)}


def line_styles(names: Sequence[str]) -> dict[str, str]:
    """A line style a name: it changes every four names, so colour and style together name sixteen."""
    return {name: LINES[i // 4 % len(LINES)] for i, name in enumerate(names)}


def text(value: str, limit: int = 60) -> str:
    """Foreign text made fit for a figure: one line, at most `limit` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in value).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def entry(value: str, limit: int = 36) -> str:
    """Foreign text as an entry of a legend, from which matplotlib drops what starts with an underscore."""
    line = text(value, limit)
    return f" {line}" if line.startswith("_") else line


def display(name: str, limit: int = 60) -> str:
    """A label as people write it: `pleural_effusion` -> `Pleural effusion`."""
    words = text(name.replace("_", " "), limit)
    return words[:1].upper() + words[1:]


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 patient`, `1,200 patients`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def grid_shape(panels: int, columns: int) -> tuple[int, int]:
    """Rows and columns of small multiples, as even as possible."""
    rows = max(1, math.ceil(panels / columns))
    return rows, max(1, math.ceil(panels / rows))


def render(figure: Figure, kind: str = "png", dpi: int = 200) -> bytes:
    """The figure as a file's bytes (png, svg or pdf); the same figure gives the same bytes."""
    stream = io.BytesIO()
    with style():
        figure.savefig(stream, format=kind, dpi=dpi, metadata=_UNDATED[kind])
    return stream.getvalue()


def save(figure: Figure, path: Path, kinds: Sequence[str] = ("png", "pdf"), dpi: int = 200) -> list[Path]:
    """Write `<path>.<kind>` for each kind; the folder is made.

    Args:
        figure: what `draw` returned.
        path: without a suffix, `plots/roc_curves`.
        kinds: any of png, pdf, svg.
        dpi: dots per inch of the pixels in it.
    """
    paths = [path.with_name(f"{path.name}.{kind}") for kind in kinds]
    for target, kind in zip(paths, kinds, strict=True):
        write(target, render(figure, kind, dpi))
    return paths


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes files for the owner alone; a report is made to be read.
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
