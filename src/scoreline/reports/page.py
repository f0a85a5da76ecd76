"""`report.html`: one self-contained page about a run. No scripts, nothing loaded; what a model wrote is text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scoreline.reports import jsonl
from scoreline.reports.answers import answers
from scoreline.reports.curves import draw
from scoreline.reports.doctor import Finding, diagnose
from scoreline.reports.frame import Frame, framed
from scoreline.reports.history import History, read_history
from scoreline.reports.jsonl import Row
from scoreline.reports.judged import judge
from scoreline.reports.numbers import numbers
from scoreline.reports.numerals import interval, lasting, number
from scoreline.reports.standing import standing

PAGE = "report.html"

_ACRONYMS = ("ppo", "grpo", "rloo", "dapo")


def write_report(folder: Path) -> Path:
    """Writes `report.html` into a run folder, finished or not, and returns its path.

    Raises `CheckpointError` if the folder is no run or cannot be written.
    """
    page = folder / PAGE
    jsonl.replace(page, render(read_history(folder)))
    return page


def render(history: History, findings: Sequence[Finding] | None = None, *, refresh: int | None = None) -> str:
    """The page as text. The same history gives the same page.

    `findings` are the doctor's, the gravest first; left out, it is asked. A browser reads the page again after
    `refresh` seconds.
    """
    before, after = _ends(history)
    name = history.folder.resolve().name
    status = standing(history).words(followed=refresh is not None)
    return framed(
        "report.html.j2",
        Frame(name, f"Scoreline · {name}", _headline(history, before, after), _facts(history), status, refresh),
        findings=diagnose(history) if findings is None else findings,
        rows=_rows(before, after),
        curves=draw(history),
        numbers=numbers(history),
        judged=judge(history),
        answers=answers(history, before, after),
        objective=history.objective,
        config=history.config_text,
        environment=history.environment,
    )


def _ends(history: History) -> tuple[Row | None, Row | None]:
    """The evaluation of step 0 and the last one of a later step."""
    rows = [row for row in history.evaluations if row.get("avg@k")]
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
    if _above(new, old):
        return [("words", f"{name} took held-out accuracy from"), *start, ("words", "to"), *end, ("words", effort)]
    if _above(old, new):
        return [("words", f"{name} lost held-out accuracy, from"), *start, ("words", "to"), *end, ("words", effort)]
    words = f"{name} made no clear difference to held-out accuracy:"
    return [("words", words), *start, ("words", "before,"), *end, ("words", f"after, {effort}")]


def _above(share: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether an interval lies wholly above another; not, where an end is not known."""
    low, high = share["low"], other["high"]
    return low is not None and high is not None and bool(low > high)


def _score(kind: str, share: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(kind, number(share["mean"])), ("range", f"[{interval(share)}]")]


def _steps(history: History) -> int:
    last = history.metrics[-1]["step"] if history.metrics else 0
    return int(history.summary.get("steps", last))


def _duration(history: History) -> str:
    seconds = history.summary.get("wall_s")
    return " so far" if seconds is None else f", {lasting(seconds)}"


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
    measures = [
        ("avg@k", f"avg@{k}", f"mean accuracy of {k} sampled answers to a question"),
        ("greedy", "greedy", "accuracy of the most likely answer, token by token"),
        ("pass@k", f"pass@{k}", f"share of questions with a right one among {k} answers"),
        ("judged", "judged", "mean score that the training rewards give to the sampled answers"),
        ("judge_accuracy", "judge", "how often they score a right answer above a wrong one to the same question"),
        ("mean_length", "length", "mean tokens of a sampled answer"),
    ]
    ends = {"before": before or {}, "after": after or {}}
    return [
        {"name": name, "meaning": meaning} | {end: row.get(key) for end, row in ends.items()}
        for key, name, meaning in measures
        if any(key in row for row in ends.values())
    ]
