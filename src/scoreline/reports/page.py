"""`report.html`: one self-contained page about a run. No scripts, nothing loaded; what a model wrote is text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from scoreline.reports import jsonl
from scoreline.reports.curves import draw
from scoreline.reports.history import History, read_history
from scoreline.reports.jsonl import Row
from scoreline.reports.plaintext import clipped, spoken, visible

_ACRONYMS = ("ppo", "grpo", "rloo", "dapo")

_LONGEST = 1600
"""Characters of one answer on the page; the files in completions/ have all of them."""


def write_report(folder: Path) -> Path:
    """Writes `report.html` into a run folder, finished or not, and returns its path.

    Raises `CheckpointError` if the folder is no run or cannot be written.
    """
    history = read_history(folder)
    page = folder / "report.html"
    jsonl.replace(page, render(history))
    return page


def render(history: History) -> str:
    """The page as text. The same history gives the same page."""
    pages = Environment(
        loader=PackageLoader("scoreline.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {"shown": _shown, "number": _number, "interval": _interval}
    before, after = _ends(history)
    right_at = history.config.get("eval", {}).get("right_at", 1.0)
    return pages.get_template("report.html.j2").render(
        title=history.folder.resolve().name,
        headline=_headline(history, before, after),
        facts=_facts(history),
        rows=_rows(before, after),
        curves=[(curve, Markup(curve.svg)) for curve in draw(history)],
        pairs=_pairs(before, after, right_at),
        stages=_stages(history, right_at),
        objective=history.objective,
        config=history.config_text,
        environment=history.environment,
    )


def _ends(history: History) -> tuple[Row | None, Row | None]:
    """The evaluation of step 0 and the last one of a later step."""
    rows = history.evaluations
    before = rows[0] if rows and rows[0]["step"] == 0 else None
    after = rows[-1] if rows and rows[-1]["step"] > 0 else None
    return before, after


def _headline(history: History, before: Row | None, after: Row | None) -> list[tuple[str, str]]:
    """The result as one sentence, in pieces of (kind, text); kind is "words", "before", "after" or "range"."""
    name = str(history.summary.get("algorithm") or history.config.get("algorithm", "this run")).replace("_", " ")
    name = name.upper() if name in _ACRONYMS else name[:1].upper() + name[1:]
    effort = f"in {_steps(history)} steps{_duration(history)}."
    if before is None or after is None:
        return [("words", f"{name} trained {effort}" if history.summary else f"{name} has come {effort[3:]}")]
    old, new = before["avg@k"], after["avg@k"]
    start, end = _score("before", old), _score("after", new)
    if new["low"] > old["high"]:
        return [("words", f"{name} took held-out accuracy from"), *start, ("words", "to"), *end, ("words", effort)]
    if new["high"] < old["low"]:
        return [("words", f"{name} lost held-out accuracy, from"), *start, ("words", "to"), *end, ("words", effort)]
    words = f"{name} made no clear difference to held-out accuracy:"
    return [("words", words), *start, ("words", "before,"), *end, ("words", f"after, {effort}")]


def _score(kind: str, interval: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(kind, _number(interval["mean"])), ("range", f"[{_interval(interval)}]")]


def _steps(history: History) -> int:
    last = history.metrics[-1]["step"] if history.metrics else 0
    return int(history.summary.get("steps", last))


def _duration(history: History) -> str:
    seconds = history.summary.get("wall_s")
    if seconds is None:
        return " so far"
    minutes = round(seconds / 60)
    return f", {seconds:.0f} s" if seconds < 120 else f", {minutes} min" if minutes < 120 else f", {minutes / 60:.1f} h"


def _facts(history: History) -> list[tuple[str, str]]:
    """The small print under the headline: what was trained, at what cost."""
    known = history.summary
    facts = [("model", known.get("model")), ("tokens sampled", _thousands(known.get("tokens")))]
    memory = known.get("peak_rss_mb")
    facts.append(("peak memory", None if memory is None else f"{memory:,.0f} MB"))
    return [(name, str(value)) for name, value in facts if value is not None]


def _thousands(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def _rows(before: Row | None, after: Row | None) -> list[dict[str, Any]]:
    """The table before/after: each measure with the sentence that says what it is."""
    k = (after or before or {}).get("k", 1)
    measures = (
        ("avg@k", f"avg@{k}", f"mean accuracy of {k} sampled answers to a question"),
        ("greedy", "greedy", "accuracy of the most likely answer, token by token"),
        ("pass@k", f"pass@{k}", f"share of questions with a right one among {k} answers"),
        ("mean_length", "length", "mean tokens of a sampled answer"),
    )
    ends = {"before": before, "after": after}
    rows = [
        {"name": name, "meaning": meaning} | {end: row and row[key] for end, row in ends.items()}
        for key, name, meaning in measures
    ]
    return rows if before or after else []


def _pairs(before: Row | None, after: Row | None, right_at: float) -> list[dict[str, Any]]:
    """The greedy answers to the same held-out question, before and after."""
    if before is None or after is None:
        return []
    old = {jsonl.encode(sample["prompt"]): sample for sample in before["samples"]}
    both = [(old.get(jsonl.encode(sample["prompt"])), sample) for sample in after["samples"]]
    return [
        {"prompt": new["prompt"], "before": _judged(first, right_at), "after": _judged(new, right_at)}
        for first, new in both
        if first is not None
    ]


def _stages(history: History, right_at: float, tries: int = 4) -> list[dict[str, Any]]:
    """The first answers of an early, a middle and a late step, grouped by their question.

    They are called right or wrong only where training and evaluation score alike.
    """
    alike = not history.config.get("eval", {}).get("reward")
    steps = sorted(history.completions)
    chosen = sorted({steps[0], steps[len(steps) // 2], steps[-1]}) if steps else []
    answers = {step: history.answers(step)[:tries] for step in chosen}
    judged = {step: [_judged(row, right_at if alike else None) for row in rows] for step, rows in answers.items()}
    return [{"step": step, "questions": _questions(rows)} for step, rows in judged.items()]


def _questions(answers: Sequence[Row]) -> list[dict[str, Any]]:
    groups = [list(rows) for _, rows in groupby(answers, key=lambda row: row["group"])]
    return [{"prompt": rows[0]["prompt"], "answers": rows} for rows in groups]


def _judged(row: Row, right_at: float | None) -> Row:
    """The row with `mark`: "right" from a reward of `right_at` on, else "wrong"; "" where that says nothing."""
    reward = row["reward"]
    mark = "" if reward is None or right_at is None else "right" if reward >= right_at else "wrong"
    return row | {"mark": mark}


def _shown(content: Any) -> str:
    return visible(clipped(spoken(content), _LONGEST), keep="\n\t")


def _number(value: float | None) -> str:
    """Three digits below 1 (an accuracy), one decimal above; a dash for what was not measured."""
    if value is None:
        return "–"
    return f"{value:.2f}" if abs(value) <= 1 else f"{value:,.1f}"


def _interval(value: Any) -> str:
    return f"{_number(value['low'])} – {_number(value['high'])}" if isinstance(value, Mapping) else ""
