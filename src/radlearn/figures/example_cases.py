"""Example cases: radiographs with their findings outlined.

Reads `cases/<data>.parquet`: `image_id`, `view`, `impression`, `findings` (list of names), `height`, `width`
of the mask, `png` (the image, of that size or smaller), `mask` (list of class and rle; run lengths "start
length ..." over the flattened height x width image, row by row, from 0). That file holds pixels: it is
written for generated and open data only, or on the user's word.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.image
import numpy as np
import polars as pl
from matplotlib import patheffects
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from radlearn import run_lengths
from radlearn.errors import DataError
from radlearn.figures import base

NEEDS = ("image_id", "height", "width", "png", "mask")
_COLUMNS = 4
# Inches of a panel with its heading and caption, and of a line of the legend.
_PANEL_WIDTH, _PANEL_HEIGHT, _LINE_HEIGHT = 2.25, 3.0, 0.24
_CAPTION_WIDTH, _CAPTION_LINES = 36, 4
_OUTLINE, _HANDLE = 1.3, 2.6  # line widths in points, on the image and in the legend


def draw(table: pl.DataFrame, *, title: str = "", max_cases: int = 8, labels: Sequence[str] = ()) -> Figure:
    """Draw a panel a case: the image, an outline a finding, and its impression below.

    Args:
        table: columns as in the module's docstring, one row an image.
        title: what stands on top.
        max_cases: draw the first so many.
        labels: order of the findings, which fixes their colours; default is the order in which they appear.
    Raises:
        DataError: if the table is empty, a column is missing, an image cannot be decoded, or a mask leaves
            its image.
    """
    base.require(table, NEEDS, "example_cases")
    cases = table.head(max_cases).to_dicts()
    seen = dict.fromkeys(entry["class"] for case in cases for entry in case["mask"] or ())
    # Known labels come first and in order, so that a finding has one colour in every figure.
    names = [*labels, *(name for name in seen if name not in labels)]
    colours = base.colours(names, base.PALETTE_ON_DARK)
    synthetic = base.is_synthetic(table)
    with base.style():
        rows, columns = base.grid_shape(len(cases), _COLUMNS)
        width = _PANEL_WIDTH * columns + 0.2
        entries, lines = _legend_shape([base.display(name, 32) for name in seen], width)
        heights = [_LINE_HEIGHT * lines, *[_PANEL_HEIGHT] * rows]
        figure = base.new_figure(width, sum(heights) + 0.4 + 0.3 * bool(title), title)
        grid = figure.add_gridspec(rows + 1, columns, height_ratios=heights)
        _legend(figure.add_subplot(grid[0, :]), {name: colours[name] for name in seen}, entries)
        for index, case in enumerate(cases):
            axes = figure.add_subplot(grid[1 + index // columns, index % columns])
            _panel(axes, case, colours, synthetic=synthetic)
        note = (
            f"n = {len(cases):,} of {base.count(table.height, 'image')} · outlines: the masks of the findings"
        )
        base.footer(figure, note, synthetic=synthetic)
    return figure


def fake() -> pl.DataFrame:
    """Four chest-like pictures of 64 x 64 pixels: two dark lungs, a heart, and up to two findings each."""
    plan = (("cardiomegaly",), ("nodule",), (), ("cardiomegaly", "pleural_effusion"))
    return pl.DataFrame([_fake_case(index, findings) for index, findings in enumerate(plan)])


def _rim(width: float) -> list[Any]:
    """A dark rim, which keeps every colour readable on bone, on air and on paper."""
    return [patheffects.Stroke(linewidth=width + 1, foreground="#000000a0"), patheffects.Normal()]


def _legend_shape(names: Sequence[str], width: float) -> tuple[int, int]:
    """Entries a line and lines of a legend that is `width` inches wide."""
    # A handle and its gaps take half an inch, a letter of this size 0.07.
    entries = max(1, int(width / (0.5 + 0.07 * max(map(len, names), default=1))))
    return entries, max(1, math.ceil(len(names) / entries))


def _legend(axes: Any, colours: Mapping[str, str], entries: int) -> None:
    axes.axis("off")
    handles = [
        Line2D([], [], color=hue, linewidth=_HANDLE, label=base.display(name, 32))
        for name, hue in colours.items()
    ]
    if not handles:
        return
    legend = axes.legend(handles=handles, loc="center left", ncols=entries, borderaxespad=0)
    # Its place is reserved; measured by the layout, a wide legend would shrink the images.
    legend.set_in_layout(False)
    for line in legend.get_lines():
        line.set_path_effects(_rim(_HANDLE))


def _panel(axes: Any, case: Mapping[str, Any], colours: Mapping[str, str], *, synthetic: bool) -> None:
    height, width = int(case["height"]), int(case["width"])
    axes.imshow(_pixels(case), cmap="gray", extent=(0, width, height, 0), interpolation="bilinear")
    for entry in case["mask"] or ():
        mask = run_lengths.decode(entry["rle"], height, width)
        if mask.any():
            _outline(axes, mask, colours[entry["class"]])
    axes.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(_heading(case), fontsize=8.5)
    impression = base.text(str(case.get("impression") or ""), 600)
    axes.set_xlabel(_wrapped(impression), fontsize=8, loc="left", linespacing=1.3)
    if synthetic:
        _burn_in(axes)


def _pixels(case: Mapping[str, Any]) -> NDArray[np.float32]:
    """The image as (H, W), low to high."""
    try:
        image = matplotlib.image.imread(io.BytesIO(case["png"]), format="png")
    except (OSError, SyntaxError, ValueError, TypeError) as error:
        raise DataError(
            f"figure 'example_cases' cannot decode the image of '{case['image_id']}': {error}"
        ) from error
    grey: NDArray[np.float32] = image if image.ndim == 2 else image[..., 0]
    return grey


def _outline(axes: Any, mask: NDArray[np.bool_], colour: str) -> None:
    # A border of background closes the outline of a finding that touches the edge of the image.
    padded = np.pad(mask, 1).astype(float)
    rows, columns = (np.arange(size) - 0.5 for size in padded.shape)
    outline = axes.contour(columns, rows, padded, levels=[0.5], colors=[colour], linewidths=_OUTLINE)
    outline.set_path_effects(_rim(_OUTLINE))


def _heading(case: Mapping[str, Any]) -> str:
    findings = [base.display(str(name), 24) for name in case.get("findings") or ()]
    parts = [str(case.get("view") or ""), ", ".join(findings) or "No finding"]
    return base.text(" · ".join(part for part in parts if part), 36)


def _wrapped(impression: str) -> str:
    return "\n".join(
        textwrap.wrap(
            impression, _CAPTION_WIDTH, max_lines=_CAPTION_LINES, placeholder=" …", break_on_hyphens=False
        )
    )


def _burn_in(axes: Any) -> None:
    label = axes.text(
        0.5,
        0.025,
        "SYNTHETIC",
        transform=axes.transAxes,
        ha="center",
        va="bottom",
        fontsize=8.5,
        fontweight="bold",
        color="white",
    )
    label.set_path_effects([patheffects.withStroke(linewidth=2, foreground="black")])


def _fake_case(index: int, findings: Sequence[str]) -> dict[str, Any]:
    size = 64
    y, x = np.mgrid[:size, :size] / size

    def ellipse(centre_x: float, centre_y: float, half_x: float, half_y: float) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = ((x - centre_x) / half_x) ** 2 + ((y - centre_y) / half_y) ** 2 < 1
        return inside

    masks = {
        "cardiomegaly": ellipse(0.55, 0.65, 0.25, 0.18),
        "nodule": ellipse(0.28, 0.35, 0.05, 0.05),
        "pleural_effusion": ellipse(0.27, 0.8, 0.17, 0.12),
    }
    grey = 0.75 - 0.5 * (ellipse(0.27, 0.5, 0.17, 0.36) | ellipse(0.73, 0.5, 0.17, 0.36))
    grey = np.where(ellipse(0.55, 0.65, 0.16, 0.16), 0.8, grey)
    for name in findings:
        grey = np.where(masks[name], 0.85, grey)
    stream = io.BytesIO()
    noise = np.random.Generator(np.random.PCG64(np.random.SeedSequence([4, index]))).standard_normal(
        grey.shape
    )
    matplotlib.image.imsave(stream, grey + 0.03 * noise, cmap="gray", vmin=0, vmax=1, format="png")
    return {
        "image_id": f"image_{index:04d}",
        "view": ("PA", "AP")[index % 2],
        "impression": ". ".join(f"There is {base.display(name).lower()}" for name in findings)
        or "No acute cardiopulmonary process.",
        "findings": list(findings),
        "height": size,
        "width": size,
        "png": stream.getvalue(),
        "mask": [{"class": name, "rle": run_lengths.encode(masks[name])} for name in findings],
        "synthetic": True,
    }
