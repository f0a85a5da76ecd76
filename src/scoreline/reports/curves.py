"""The curves of a run: small multiples, one question each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, cycle

from matplotlib.axes import Axes

from scoreline.reports.drawing import COLOURS, End, draw_svg
from scoreline.reports.history import History
from scoreline.reports.jsonl import Row


@dataclass(frozen=True)
class Curve:
    """One drawing. `caption` says what it shows and what to look for; `svg` scales to the width it is given.

    `narrow` is the same for a phone, where `svg` is too wide for its letters to be read; "" where one serves both.
    """

    name: str
    title: str
    caption: str
    svg: str
    narrow: str = ""


@dataclass(frozen=True)
class _Line:
    label: str
    metric: str
    colour: str


@dataclass(frozen=True)
class _Panel:
    name: str
    title: str
    caption: str
    lines: tuple[_Line, ...]
    silent_at: float = math.nan
    """A value that, where it is all there is, is not worth a drawing."""


_PANELS = (
    _Panel(
        "step_reward",
        "Reward of a step",
        "Mean over the rewarded steps of all sampled answers.",
        (_Line("step", "step_reward", "blue"),),
    ),
    _Panel(
        "steps",
        "Steps of an answer",
        "Mean number that an answer was cut into.",
        (_Line("steps", "steps/mean", "green"),),
    ),
    _Panel(
        "no_steps",
        "Answers without a step",
        "Share of answers in which no step was found. They have the reward of the whole answer only.",
        (_Line("none", "steps/none", "amber"),),
        silent_at=0.0,
    ),
    _Panel(
        "kl",
        "Distance to the reference",
        "Mean KL divergence per token, in nats, and its weight beta where it changes.",
        (_Line("KL", "kl", "plum"),),
    ),
    _Panel(
        "length",
        "Answer length",
        "Tokens of the sampled answers: the mean, and the shortest and the longest.",
        (
            _Line("longest", "completions/max_length", "slate"),
            _Line("mean", "completions/mean_length", "blue"),
            _Line("shortest", "completions/min_length", "slate"),
        ),
    ),
    _Panel(
        "entropy",
        "Entropy",
        "Mean entropy of the next-token distribution, in nats. Near zero, nothing new is tried any more.",
        (_Line("entropy", "entropy", "green"),),
    ),
    _Panel(
        "clip",
        "Clipped tokens",
        "Share of tokens whose probability moved beyond the clip range, downwards and upwards.",
        (_Line("low", "clip_ratio/low_mean", "plum"), _Line("high", "clip_ratio/high_mean", "amber")),
    ),
    _Panel("gradient", "Gradient norm", "Before clipping.", (_Line("norm", "grad_norm", "slate"),)),
    _Panel(
        "signal",
        "Answers that teach nothing",
        "Share of questions whose answers all got the same reward, and of answers cut by the token budget.",
        (
            _Line("same reward", "frac_reward_zero_std", "slate"),
            _Line("cut", "completions/clipped_ratio", "amber"),
        ),
    ),
    _Panel(
        "critic",
        "Critic",
        "Explained variance of the returns: 1 is perfect, 0 is no better than their mean.",
        (_Line("critic", "value/explained_variance", "green"),),
    ),
    _Panel(
        "staleness",
        "Age of the answers",
        "Steps by which the policy that sampled was behind the one that learns: the oldest answer, and the mean.",
        (_Line("oldest", "staleness/max", "slate"), _Line("mean", "staleness/mean", "blue")),
        silent_at=0.0,
    ),
    _Panel(
        "rollouts",
        "Busy rollout workers",
        "Share of the time in which they sampled. The rest they waited for weights or for something to do.",
        (_Line("busy", "rollouts/utilisation", "green"),),
    ),
    _Panel(
        "waiting",
        "Waiting for processes",
        "Seconds of each step: for answers, which may be sampling itself, and for new weights to reach the workers.",
        (_Line("answers", "time/wait", "blue"), _Line("weights", "time/sync", "plum")),
    ),
    _Panel(
        "replaced",
        "Lost and made good",
        "Rollout workers that died or hung and were replaced, and answers that were too old and sampled again.",
        (_Line("workers", "rollouts/restarts", "amber"), _Line("answers", "rollouts/dropped", "slate")),
        silent_at=0.0,
    ),
)

_PHASES = (
    _Line("rollout", "time/rollout", "blue"),
    _Line("score", "time/score", "green"),
    _Line("annotate", "time/annotate", "plum"),
    _Line("update", "time/update", "amber"),
)


_GIVEN = ("rewards/", "step_rewards/")

_COLOURS = ("blue", "amber", "green", "plum", "slate")


def draw(history: History) -> tuple[Curve, ...]:
    """The learning curve first, then a panel for each thing that was measured, then where the time went."""
    panels = [_panel(history.metrics, panel) for panel in (*_functions(history.metrics), *_PANELS)]
    drawn = [_learning(history), *panels, _time(history.metrics)]
    return tuple(curve for curve in drawn if curve is not None)


def _learning(history: History) -> Curve | None:
    steps, reward = _series(history.metrics, "reward")
    if not steps and not history.evaluations:
        return None
    alone = _on_another_scale(history, reward)

    def plot(axes: Axes) -> list[End]:
        if alone:
            return [held_out(axes, history.evaluations, *series) for series in _SCORES]
        axes.plot(steps, reward, color=COLOURS["slate"], linewidth=0.8, alpha=0.45)
        smooth = _smooth(reward)
        axes.plot(steps, smooth, color=COLOURS["slate"])
        ends = [(_last(smooth), "training", "slate")]
        return ends + [held_out(axes, history.evaluations, *series) for series in _SCORES if history.evaluations]

    caption = "Held-out accuracy, sampled and greedy, with its 95 % interval"
    caption += "." if alone else "; and the mean reward in training, smoothed."
    wide, narrow = draw_svg("learning", plot, width=460, height=300), draw_svg("learning-narrow", plot, height=250)
    return Curve("learning", "Learning", caption, wide, narrow)


def _on_another_scale(history: History, reward: Sequence[float]) -> bool:
    """Whether a judge's scores would press the accuracies flat; they have a chart of their own."""
    judged = any("judged" in row for row in history.evaluations)
    return judged and any(not -0.5 <= value <= 1.5 for value in reward)


_SCORES = (("avg@k", "sampled", "blue"), ("greedy", "greedy", "amber"))


def held_out(axes: Axes, rows: Sequence[Row], name: str, label: str, colour: str) -> End:
    """Draws an accuracy with its 95 % interval, and returns the label of its line."""
    steps = [row["step"] for row in rows]
    mean, low, high = ([_number((row.get(name) or {}).get(end)) for row in rows] for end in ("mean", "low", "high"))
    axes.fill_between(steps, low, high, color=COLOURS[colour], alpha=0.14, linewidth=0)
    axes.vlines(steps, low, high, color=COLOURS[colour], linewidth=1.2, alpha=0.6)
    axes.plot(steps, mean, color=COLOURS[colour], marker="o", markersize=4.5)
    return mean[-1], label, colour


def _panel(metrics: Sequence[Row], panel: _Panel) -> Curve | None:
    present = [(line, *_series(metrics, line.metric)) for line in panel.lines]
    present = [entry for entry in present if entry[1]]
    if all(value == panel.silent_at for _, _, values in present for value in values):
        return None

    def plot(axes: Axes) -> list[End]:
        for line, steps, values in present:
            axes.plot(steps, values, color=COLOURS[line.colour], linewidth=1.4)
        ends = [(_last(values), line.label, line.colour) for line, _, values in present]
        return ends + (_beta(axes, metrics) if panel.name == "kl" else [])

    return Curve(panel.name, panel.title, panel.caption, draw_svg(panel.name, plot))


def _functions(metrics: Sequence[Row]) -> tuple[_Panel, ...]:
    """What each reward function gave, where several are mixed."""
    names = dict.fromkeys(name for row in metrics for name in row if name.startswith(_GIVEN) and name.endswith("/mean"))
    if len(names) < 2:
        return ()
    labels = [name.removesuffix("/mean").split("/", 1)[1] for name in names]
    lines = zip(labels, names, cycle(_COLOURS), strict=False)
    shown = tuple(_Line(label if len(label) <= 13 else f"{label[:12]}…", name, colour) for label, name, colour in lines)
    caption = "Mean of each function, before its weight: on whole answers, and on steps."
    return (_Panel("functions", "Reward functions", caption, shown),)


def _beta(axes: Axes, metrics: Sequence[Row]) -> list[End]:
    """The weight of the KL on its own scale, only where it is not constant."""
    steps, beta = _series(metrics, "beta")
    if len(set(beta)) < 2:
        return []
    scale = max(axes.get_ylim()[1], 1e-12) / max(beta)
    scaled = [value * scale for value in beta]
    axes.plot(steps, scaled, color=COLOURS["amber"], linewidth=1.2, linestyle=(0, (4, 2)))
    return [(scaled[-1], f"beta {beta[-1]:.3g}", "amber")]


def _time(metrics: Sequence[Row]) -> Curve | None:
    rows = [row for row in metrics if _finite(row.get("time/step"))]
    if not rows:
        return None
    steps = [row["step"] for row in rows]
    phases = {line: [_number(row.get(line.metric), 0.0) for row in rows] for line in _PHASES}
    spent = [sum(values) for values in zip(*phases.values(), strict=True)]
    other = [max(row["time/step"] - known, 0.0) for row, known in zip(rows, spent, strict=True)]
    layers = {line: values for line, values in phases.items() if any(values)} | {_Line("other", "", "slate"): other}

    def plot(axes: Axes) -> list[End]:
        colours = [COLOURS[line.colour] for line in layers]
        axes.stackplot(steps, *layers.values(), colors=colours, linewidth=0, alpha=0.8)
        axes.set_ylim(bottom=0)
        tops = list(accumulate(values[-1] for values in layers.values()))
        middles = [(top + below) / 2 for top, below in zip(tops, [0.0, *tops], strict=False)]
        return [(middle, line.label, line.colour) for middle, line in zip(middles, layers, strict=True)]

    return Curve("time", "Time", "Seconds of each step, by what they were spent on.", draw_svg("time", plot))


def _series(metrics: Sequence[Row], name: str) -> tuple[list[int], list[float]]:
    rows = [row for row in metrics if _finite(row.get(name))]
    return [row["step"] for row in rows], [float(row[name]) for row in rows]


def _smooth(values: Sequence[float]) -> list[float]:
    """A centred mean over about a tenth of the run."""
    half = max(1, len(values) // 20)
    windows = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    return [math.fsum(window) / len(window) for window in windows]


def _last(values: Sequence[float]) -> float:
    return values[-1] if values else math.nan


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _number(value: object, otherwise: float = math.nan) -> float:
    return float(value) if isinstance(value, (int, float)) else otherwise
