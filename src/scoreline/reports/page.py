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
    pages.filters |= {"shown": _shown, "number": _number, "interval": _interval, "mark": _mark}
    before, after = _ends(history)
    return pages.get_template("report.html.j2").render(
        title=history.folder.resolve().name,
        headline=_headline(history, before, after),
        facts=_facts(history),
        rows=_rows(before, after),
        curves=[(curve, Markup(curve.svg)) for curve in draw(history)],
        pairs=_pairs(before, after),
        stages=_stages(history),
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
    """The result as one sentence, in pieces of (kind, text); kind is "text", "before" or "after"."""
    name = str(history.summary.get("algorithm", "This run")).replace("_", " ")
    name = name.upper() if len(name) <= 5 else name[:1].upper() + name[1:]
    effort = f"in {_steps(history)} steps{_duration(history)}."
    if before is None or after is None:
        return [("text", f"{name} trained {effort}" if history.summary else f"{name} has come {effort[3:]}")]
    old, new = before["avg@k"], after["avg@k"]
    verb = "took" if new["low"] > old["high"] else "brought" if new["high"] < old["low"] else "left"
    if verb == "left":
        ends = [("before", _score(old)), ("text", "before and"), ("after", _score(new)), ("text", "after,")]
        return [("text", f"{name} left held-out accuracy within its uncertainty:"), *ends, ("text", effort)]
    text = f"{name} {verb} held-out accuracy {'down ' if verb == 'brought' else ''}from"
    return [("text", text), ("before", _score(old)), ("text", "to"), ("after", _score(new)), ("text", effort)]


def _score(interval: Mapping[str, Any]) -> str:
    return _number(interval["mean"])


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


def _pairs(before: Row | None, after: Row | None) -> list[dict[str, Any]]:
    """The greedy answers to the same held-out question, before and after."""
    if before is None or after is None:
        return []
    old = {_key(sample): sample for sample in before["samples"]}
    return [
        {"prompt": sample["prompt"], "before": old[_key(sample)], "after": sample}
        for sample in after["samples"]
        if _key(sample) in old
    ]


def _key(sample: Row) -> str:
    return jsonl.encode(sample["prompt"])


def _stages(history: History, tries: int = 4) -> list[dict[str, Any]]:
    """The first answers of an early, a middle and a late step, grouped by their question."""
    steps = sorted(history.completions)
    chosen = sorted({steps[0], steps[len(steps) // 2], steps[-1]}) if steps else []
    return [{"step": step, "questions": _questions(history.answers(step)[:tries])} for step in chosen]


def _questions(answers: Sequence[Row]) -> list[dict[str, Any]]:
    return [{"prompt": rows[0]["prompt"], "answers": rows} for rows in _runs(answers)]


def _runs(answers: Sequence[Row]) -> list[list[Row]]:
    return [list(rows) for _, rows in groupby(answers, key=lambda row: row["group"])]


def _shown(content: Any) -> str:
    return visible(clipped(spoken(content), _LONGEST), keep="\n\t")


def _number(value: float | None) -> str:
    """Three digits below 1 (an accuracy), one decimal above; a dash for what was not measured."""
    if value is None:
        return "–"
    return f"{value:.2f}" if abs(value) <= 1 else f"{value:,.1f}"


def _interval(value: Any) -> str:
    return f"{_number(value['low'])} – {_number(value['high'])}" if isinstance(value, Mapping) else ""


def _mark(reward: float | None) -> str:
    """How an answer did: "right" from a reward of 1 on, "wrong" up to 0, "partly" between, "unscored" without one."""
    if reward is None:
        return "unscored"
    return "right" if reward >= 1 else "wrong" if reward <= 0 else "partly"
