"""One drawing as inline SVG: the house style, labels at the ends of the lines, colours that a page can restyle.

Colours become CSS variables with the light value as fallback, so that a page can restyle them and a lone file still
shows them. The same numbers give the same bytes.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

End = tuple[float, str, str]
"""A label at the right end of a line: height on the y axis, text, colour."""

COLOURS = {
    "ink": "#1c2430",
    "muted": "#6b7480",
    "rule": "#dfe3e8",
    "blue": "#1f6f9f",
    "amber": "#c4701a",
    "green": "#2f855b",
    "plum": "#8a4f8f",
    "slate": "#8794a3",
    "red": "#b3403a",
    "teal": "#146f79",
    "olive": "#6f6a14",
}
"""The palette, by the name of its CSS variable."""

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 11,
    "text.color": COLOURS["muted"],
    "axes.edgecolor": COLOURS["rule"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": COLOURS["rule"],
    "grid.linewidth": 0.8,
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "path.simplify": True,
}


_ROOT = (
    r'<svg xmlns="http://www.w3.org/2000/svg" viewBox="\1" width="100%" class="plot" '
    'style="stroke-linejoin: round; stroke-linecap: butt">'
)


def draw_svg(
    name: str,
    plot: Callable[[Axes], list[End]],
    *,
    width: int = 340,
    height: int = 210,
    x: str = "step",
    right: float = 82,
) -> str:
    """The <svg> element of what `plot` draws on the axes; `plot` returns the labels of its lines.

    `x` is what runs along the axis below, `right` the room for the labels. `name` is unique on its page.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a person's own matplotlibrc must not change a report
        matplotlib.rcParams.update(_STYLE | {"svg.hashsalt": name})
        figure = Figure(figsize=(width / 72, height / 72))
        axes = figure.add_axes((42 / width, 34 / height, (width - 42 - right) / width, (height - 46) / height))
        ends = plot(axes)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _brief(value)))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel(x, loc="right", labelpad=2)
        axes.margins(x=0.02)
        _label(axes, ends, spacing=14 / (height - 46), gap=7 / (width - 42 - right))
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(file.getvalue())


def _brief(value: float) -> str:
    """What an axis has room for: 40, 200k, 1.5M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= max(size, 1e4):
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _label(axes: Axes, ends: Sequence[End], spacing: float, gap: float) -> None:
    """Writes the labels right of the axes, each beside its line's end."""
    low, high = axes.get_ylim()
    places = [((value - low) / (high - low), text, colour) for value, text, colour in ends if math.isfinite(value)]
    places.sort(key=lambda place: place[0])
    for height, (_, text, colour) in zip(_apart([place[0] for place in places], spacing), places, strict=True):
        font = {"color": COLOURS[colour], "fontsize": 10.5, "fontweight": "bold"}
        axes.text(1 + gap, height, text, fontdict=font, transform=axes.transAxes, va="center", parse_math=False)


def _apart(heights: Sequence[float], spacing: float) -> list[float]:
    """Ascending heights, at least `spacing` from one another: pushed up, and down again from the top at 1."""
    up: list[float] = []
    for height in heights:
        up.append(max(height, up[-1] + spacing) if up else height)
    down: list[float] = []
    for height in reversed(up):
        down.append(min(height, down[-1] - spacing if down else 1.0))
    return down[::-1]


def _inline(svg: str) -> str:
    """Only the <svg> element, sized by its box, without page-wide ids, in the page's font and colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', _ROOT, svg, count=1)
    svg = re.sub(r"<(metadata|style)\b.*?</\1>\s*", "", svg, flags=re.DOTALL).replace("xlink:href", "href")
    svg = re.sub(r' id="[^"]+_\d+"', "", svg)
    svg = re.sub(r"font: ((?:\w+ )*)([\d.]+px) [^;\"]+", r"font: \1\2 sans-serif; font-family: inherit", svg)
    for name, value in COLOURS.items():
        svg = svg.replace(f": {value}", f": var(--{name}, {value})")
    return svg
