"""Pictures of docs/scaling.md, as SVG: the same numbers give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Row = Mapping[str, Any]

COLOURS = ("#1f6f9f", "#b5492f", "#4d7c3a", "#7a5195", "#c4701a", "#9aa0ac")


def draw(name: str, rows: Sequence[Row]) -> str | None:
    """The picture of a study; None where it has none."""
    return _figure(name, rows, PICTURES[name]) if name in PICTURES else None


def _figure(name: str, rows: Sequence[Row], plot: Callable[[Axes, Sequence[Row]], None]) -> str:
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        plot(axes, rows)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    return svg[svg.index("<svg") :]


def _scaling(axes: Axes, rows: Sequence[Row]) -> None:
    """Throughput against devices, both doubling."""
    turns = [row for row in rows if row["shared"]]
    _lines(axes, turns, "devices", lambda row: "by turns", style="--")
    _lines(axes, [row for row in rows if not row["shared"]], "devices", _staleness)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set(xlabel="devices", ylabel="thousand answer tokens a second")


def _splitting(axes: Axes, rows: Sequence[Row]) -> None:
    _lines(axes, rows, "learners", _staleness)
    axes.set(
        xlabel=f"learners, of {rows[0]['devices']} devices", ylabel="thousand answer tokens a second", ylim=(0, None)
    )


def _tails(axes: Axes, rows: Sequence[Row]) -> None:
    for at_once, style in zip(dict.fromkeys(row["at_once"] for row in rows), ("-", "--"), strict=False):
        part = [row for row in rows if row["at_once"] == at_once]
        full = "" if at_once == 1 else f", {at_once} units at once"
        _lines(axes, part, "spread", lambda row, full=full: f"{_staleness(row)}{full}", style=style)  # type: ignore[misc]
    axes.set(xlabel="spread of the lengths' logarithm", ylabel="thousand answer tokens a second", ylim=(0, None))


def _staleness(row: Row) -> str:
    return f"staleness {row['max_staleness']}"


def _lines(axes: Axes, rows: Sequence[Row], x: str, label: Callable[[Row], str], style: str = "-") -> None:
    for index, name in enumerate(dict.fromkeys(map(label, rows))):
        part = [row for row in rows if label(row) == name]
        values = [row["tokens_per_second"] / 1000 for row in part]
        colour = COLOURS[-1] if name == "by turns" else COLOURS[index % len(COLOURS)]
        axes.plot([row[x] for row in part], values, f"o{style}", markersize=3, color=colour, label=name)


PICTURES: dict[str, Callable[[Axes, Sequence[Row]], None]] = {
    "scaling": _scaling,
    "splitting": _splitting,
    "tails": _tails,
}
