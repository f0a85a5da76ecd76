"""Judged score against true accuracy: where training is rewarded by a judge, the two can part.

Rule, of the first and the last evaluation: accuracy has risen if its 95 % interval lies wholly above the first one, and
fallen if wholly below; the judged score has risen if it is higher. A judged score that rises while accuracy does not is
over-optimisation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from scoreline.reports.curves import Curve, held_out
from scoreline.reports.drawing import COLOURS, End, draw_svg
from scoreline.reports.history import History
from scoreline.reports.jsonl import Row
from scoreline.reports.numerals import interval, number

Cell = tuple[str, str]
"""A number and its small print."""


@dataclass(frozen=True)
class Finding:
    """What the judged score did while true accuracy did what; `alarm` where it speaks of over-optimisation."""

    words: str
    alarm: bool = False


@dataclass(frozen=True)
class Judged:
    """What the page says about rounds and judges; parts that a run does not have are empty."""

    columns: list[str]
    rows: list[list[Cell]]
    findings: list[Finding]
    curves: list[Curve]
    taught: bool
    """Whether the judge went on learning."""


def judge(history: History) -> Judged | None:
    """The rounds of a run and what its judge said; None for a run with neither."""
    evaluations = [row for row in history.evaluations if _known(row.get("judged")) and _measured(row)]
    if not history.rounds and not evaluations:
        return None
    columns, rows = _table(history)
    taught = any(row["metrics"] for row in history.rounds)
    return Judged(columns, rows, findings(evaluations), list(_curves(evaluations, history.rounds)), taught)


def findings(evaluations: Sequence[Row]) -> list[Finding]:
    """The rule applied to the evaluations that have a judged score; nothing for fewer than two."""
    if len(evaluations) < 2:
        return []
    first, last = evaluations[0], evaluations[-1]
    return [_overall(first, last), *_peak(evaluations)]


def _overall(first: Row, last: Row) -> Finding:
    scores = f"from {number(first['judged'])} to {number(last['judged'])}"
    accuracies = f"from {_accuracy(first)} to {_accuracy(last)}"
    risen, fallen = _above(last, first), _above(first, last)
    if last["judged"] <= first["judged"]:
        did = "rose" if risen else "fell" if fallen else "did not clearly change"
        return Finding(f"The judged score did not rise: {scores}. True accuracy {did}: {accuracies}.")
    if risen:
        return Finding(f"The judged score rose {scores}, and true accuracy rose with it, {accuracies}.")
    sign, did = ("Over-optimised", "fell") if fallen else ("A sign of over-optimisation", "did not clearly rise")
    return Finding(f"{sign}: the judged score rose {scores} while true accuracy {did}, {accuracies}.", True)


def _peak(evaluations: Sequence[Row]) -> list[Finding]:
    """Accuracy that rose and was lost again, while the judged score went on rising."""
    last, best = evaluations[-1], max(evaluations, key=lambda row: row["avg@k"]["mean"])
    if best is evaluations[0] or not _above(best, last) or last["judged"] <= best["judged"]:
        return []
    scores = f"from {number(best['judged'])} to {number(last['judged'])}"
    words = f"After step {best['step']} true accuracy was lost again, from {_accuracy(best)} to {_accuracy(last)}"
    return [Finding(f"{words}, while the judged score went on rising, {scores}.", True)]


def _above(row: Row, other: Row) -> bool:
    return bool(row["avg@k"]["low"] > other["avg@k"]["high"])


def _accuracy(row: Row) -> str:
    return f"{number(row['avg@k']['mean'])} [{interval(row['avg@k'])}]"


def _table(history: History) -> tuple[list[str], list[list[Cell]]]:
    """A row for the start, where it was evaluated, and one a round; columns that nobody measured are left out."""
    if not history.rounds:
        return [], []
    table = [*_start(history.evaluations), *_ends(history)]
    columns = [name for name in table[-1] if name == TRUE or any(row.get(name, EMPTY) != EMPTY for row in table)]
    return columns, [[row.get(name, EMPTY) for name in columns] for row in table]


EMPTY: Cell = ("–", "")

TRUE = "true accuracy"


def _start(evaluations: Sequence[Row]) -> Iterator[Mapping[str, Cell]]:
    for row in evaluations[:1]:
        if row["step"] == 0:
            yield {"round": ("start", ""), **_evaluated(row)}


def _ends(history: History) -> Iterator[Mapping[str, Cell]]:
    begin = 0
    for row in history.rounds:
        within = [e for e in history.evaluations if begin < e["step"] <= row["step"]]
        steps = (str(row["round"]), f"steps {begin + 1} – {row['step']}")
        yield {"round": steps, **_evaluated(within[-1] if within else {}), **_learned(row["metrics"])}
        begin = row["step"]


def _evaluated(row: Row) -> dict[str, Cell]:
    share = row.get("avg@k")
    accuracy = (number(share["mean"]), interval(share)) if share else EMPTY
    return {TRUE: accuracy, "judged score": (number(row.get("judged")), "")}


def _learned(metrics: Mapping[str, Any]) -> dict[str, Cell]:
    error = metrics.get("judge/calibration_error")
    after = "" if error is None else f"calibration error {number(error)}"
    return {
        "judge accuracy before": (number(metrics.get("judge/accuracy_before")), ""),
        "judge accuracy after": (number(metrics.get("judge/accuracy")), after),
        "examples": (_count(metrics.get("judge/examples")), ""),
        "replayed": (_count(metrics.get("judge/replayed")), ""),
    }


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _curves(evaluations: Sequence[Row], rounds: Sequence[Row]) -> Iterator[Curve]:
    """Judged score and true accuracy side by side, and how well the judge judges; each with the ends of the rounds."""
    if not evaluations:
        return
    both = _common(evaluations)
    yield _drawn("judged", _plot(evaluations, "judged", "judged", "amber"), rounds, both)
    yield _drawn("true", lambda axes: held_out(axes, evaluations, "avg@k", "right", "blue"), rounds, both)
    ordered = [row for row in evaluations if _known(row.get("judge_accuracy"))]
    if ordered:
        yield _drawn("judge", _plot(ordered, "judge_accuracy", "judge", "plum"), rounds, None)


_TITLES = {
    "judged": ("Judged score", "Mean score that the training rewards give to the sampled held-out answers."),
    "true": ("True accuracy", "Share of the same answers that are right, with its 95 % interval."),
    "judge": (
        "Judge accuracy",
        "How often a right answer is scored above a wrong one to the same question; 0.5 is chance.",
    ),
}


def _drawn(name: str, line: Callable[[Axes], End], rounds: Sequence[Row], limits: tuple[float, float] | None) -> Curve:
    def plot(axes: Axes) -> list[End]:
        end = line(axes)
        if limits is not None:
            axes.set_ylim(*limits)
        _boundaries(axes, rounds)
        return [end]

    title, caption = _TITLES[name]
    return Curve(name, title, caption, draw_svg(name, plot))


def _plot(rows: Sequence[Row], key: str, label: str, colour: str) -> Callable[[Axes], End]:
    def line(axes: Axes) -> End:
        values = [row[key] for row in rows]
        axes.plot([row["step"] for row in rows], values, color=COLOURS[colour], marker="o", markersize=4.5)
        return values[-1], label, colour

    return line


def _common(evaluations: Sequence[Row]) -> tuple[float, float] | None:
    """One range for both drawings, where the judged score is a share too."""
    judged = [row["judged"] for row in evaluations]
    if not all(0 <= score <= 1 for score in judged):
        return None
    shares = [row["avg@k"][end] for row in evaluations for end in ("low", "high")]
    low, high = min(*judged, *shares), max(*judged, *shares)
    margin = 0.06 * (high - low or 1.0)
    return low - margin, high + margin


def _boundaries(axes: Axes, rounds: Sequence[Row]) -> None:
    """A dotted line where a round ends and another begins, and the rounds' numbers between them."""
    begin, grey, name = 0, COLOURS["muted"], "round {}" if len(rounds) < 4 else "{}"
    place: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "fontsize": 9, "ha": "center", "va": "bottom"}
    for row in rounds:
        axes.text((begin + row["step"]) / 2, 1.01, name.format(row["round"]), color=grey, **place)
        begin = row["step"]
        if row is not rounds[-1]:
            axes.axvline(begin, color=grey, linewidth=1, linestyle=(0, (1, 2)))


def _measured(row: Row) -> bool:
    return all(_known((row.get("avg@k") or {}).get(end)) for end in ("mean", "low", "high"))


def _known(value: object) -> bool:
    return isinstance(value, (int, float))
