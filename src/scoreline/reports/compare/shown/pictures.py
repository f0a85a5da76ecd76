"""Learning curves of several arms, each with its band: one colour, one dash and one marker an arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from scoreline.reports.compare.shown.measured import known
from scoreline.reports.compare.shown.naming import Comparison, title
from scoreline.reports.curves import Curve
from scoreline.reports.drawing import COLOURS, End, draw_svg


@dataclass(frozen=True)
class Stroke:
    """How an arm is drawn. Dash and marker tell two arms apart where their colours look alike.

    `dash` is the lengths of line and gap; `marker` is what matplotlib calls it, `outline` the same as an SVG path.
    """

    colour: str
    dash: tuple[float, ...]
    marker: str
    outline: str


STROKES = (
    Stroke("blue", (), "o", "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0"),
    Stroke("amber", (5, 2), "s", "M-3.5-3.5h7v7h-7z"),
    Stroke("green", (1.5, 1.5), "^", "M0-4.5L4.5 3.5h-9z"),
    Stroke("plum", (7, 2, 1.5, 2), "D", "M0-4.8L4.8 0L0 4.8L-4.8 0z"),
    Stroke("red", (), "v", "M0 4.5L4.5-3.5h-9z"),
    Stroke("teal", (5, 2), "P", "M-1.6-4.8h3.2v3.2h3.2v3.2h-3.2v3.2h-3.2v-3.2h-3.2v-3.2h3.2z"),
    Stroke("olive", (7, 2, 1.5, 2), "<", "M-4.8 0L3.5-4.5v9z"),
    Stroke("slate", (1.5, 1.5), "p", "M0-4.8L4.6-1.5L2.8 3.9h-5.6L-4.6-1.5z"),
)

_PANELS = {
    "accuracy": ("Accuracy", "On held-out questions: the mean over the seeds, with its 95 % interval as a band."),
    "reward": ("Reward", "Mean reward of the sampled answers in training."),
    "judged": ("Judged reward", "What the judge gives to the answers to held-out questions."),
    "kl": ("Distance to the reference", "Mean KL divergence per token, in nats."),
    "length": ("Answer length", "Mean tokens of a sampled answer."),
    "entropy": ("Entropy", "Mean entropy of the next-token distribution, in nats."),
}

MAIN = "accuracy"

_X = {"tokens": "sampled tokens", "steps": "step", "seconds": "seconds"}

Points = list[tuple[float, float, float | None, float | None]]


@dataclass(frozen=True)
class _Line:
    label: str
    stroke: Stroke
    points: Points


def stroke(place: int) -> Stroke:
    """Of the arm at this place; after eight they begin again, and the labels tell."""
    return STROKES[place % len(STROKES)]


def draw_arms(comparison: Comparison) -> tuple[Curve, ...]:
    """The learning curve first, then what else was followed; what no arm has is left out."""
    arms = comparison["arms"]
    others = dict.fromkeys(name for arm in arms for name in arm.get("curves") or () if name not in _PANELS)
    drawn = (_draw(arms, name, comparison.get("measure")) for name in (*_PANELS, *others))
    return tuple(curve for curve in drawn if curve is not None)


def _draw(arms: Sequence[Mapping[str, Any]], name: str, measure: Any) -> Curve | None:
    followed = [(arm.get("curves") or {}).get(name) or {} for arm in arms]
    lines = [_Line(_short(title(arm)), stroke(i), _points(followed[i])) for i, arm in enumerate(arms)]
    lines = [line for line in lines if line.points]
    if not lines:
        return None
    x = next(_X.get(curve["x"], str(curve["x"])) for curve in followed if curve.get("points"))
    heading, caption = _PANELS.get(name, (name.replace("_", " "), "The mean over the seeds."))
    right = 18 + 6.4 * max(len(line.label) for line in lines)

    def plot(axes: Axes) -> list[End]:
        return [_plotted(axes, line) for line in lines]

    if name != MAIN:
        return Curve(name, heading, caption, draw_svg(name, plot, x=x, right=right))
    heading = f"{heading}, {measure}" if measure else heading
    wide = draw_svg(name, plot, width=960, height=400, x=x, right=right)
    return Curve(name, heading, caption, wide, draw_svg(f"{name}-narrow", plot, height=300, x=x, right=right))


def _plotted(axes: Axes, line: _Line) -> End:
    """Draws the line with its band, and returns its label."""
    colour, style = COLOURS[line.stroke.colour], (0, line.stroke.dash) if line.stroke.dash else "-"
    x, mean, low, high = (list(column) for column in zip(*line.points, strict=True))
    there = [end is not None and other is not None for end, other in zip(low, high, strict=True)]
    lows, highs = ([value or 0.0 for value in ends] for ends in (low, high))
    axes.fill_between(x, lows, highs, where=there, color=colour, alpha=0.13, linewidth=0)
    every = max(1, len(x) // 8)
    axes.plot(x, mean, color=colour, linestyle=style, marker=line.stroke.marker, markersize=4.5, markevery=every)
    return mean[-1], line.label, line.stroke.colour


def _points(curve: Mapping[str, Any]) -> Points:
    """(x, mean, low, high) where x and mean are numbers."""
    rows = ([known(value) for value in row[:4]] for row in curve.get("points") or ())
    return [(x, mean, low, high) for x, mean, low, high in rows if x is not None and mean is not None]


def _short(label: str) -> str:
    return label if len(label) <= 16 else f"{label[:15]}…"
