"""Whether the questions are what they seem: repeated ones, and training questions among those that measure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scoreline.reports.doctor.chart import Chart
from scoreline.reports.doctor.finding import MOST, Finding
from scoreline.reports.plaintext import visible

REPEATED = 0.1
"""Share of training prompts that repeat another: every tenth question then counts at least twice."""

LEAKED = 0.01
"""Share of held-out questions that are trained on: of a hundred right answers one is known by heart."""

LOST = 0.1
"""Share of held-out questions that are trained on from which accuracy says little about new ones."""


def duplicates(chart: Chart) -> Finding | None:
    """Training prompts that say the same as another row, but for case and spaces."""
    data = chart.history.data
    count, total = _count(data, "duplicates"), _count(data, "train")
    if not count or not total:
        return None
    return Finding(
        name="duplicate-prompts",
        severity="warning" if count >= REPEATED * total else "note",
        title="Prompts repeat one another",
        evidence=(f"{count:,} of {total:,} training prompts say the same as an earlier one, but for case and spaces.",),
        cause="The data holds the same question several times, perhaps with different answers: it counts as often as "
        "it stands there, and its answers are not compared with one another.",
        change="keep one row of each question in data.source.",
        samples=_rows(data, "duplicates"),
    )


def leaks(chart: Chart) -> Finding | None:
    """Held-out questions that stand in the training data too, but for case and spaces."""
    data = chart.history.data
    count, total = _count(data, "leaked"), _count(data, "held_out")
    if not count or not total:
        return None
    share = count / total
    return Finding(
        name="leaked-prompts",
        severity="alarm" if share >= LOST else "warning" if share >= LEAKED else "note",
        title="Training prompts are in the evaluation",
        evidence=(f"{count:,} of {total:,} held-out questions are trained on, written alike but for case and spaces.",),
        cause="The sources overlap: rows were copied from one to the other, or stand in the file in several spellings.",
        change="take them out of data.source or data.held_out_source; or hold rows out of one source (data.held_out) "
        "after its spellings are made equal.",
        samples=_rows(data, "leaked"),
    )


def left_out(chart: Chart) -> Finding | None:
    """Training rows that stand word for word in the held-out source: left out, so that accuracy is honest."""
    data = chart.history.data
    count = _count(data, "left_out")
    if not count:
        return None
    return Finding(
        name="overlapping-sources",
        severity="note",
        title="The sources overlap; the rows were left out of training",
        evidence=(f"{count:,} rows of data.source stand word for word in the held-out source, and were left out.",),
        cause="One file was made from the other. A model fine-tuned on data.source has seen them all the same.",
        change="nothing for this run; make sure that the model it started from was not trained on these rows.",
        samples=_rows(data, "left_out"),
    )


def _count(data: Mapping[str, Any], name: str) -> int:
    """A number of the census: of rows, or of rows of a kind that it also names."""
    value = data.get(name, 0)
    count = value.get("count") if isinstance(value, Mapping) else value
    return int(count) if isinstance(count, (int, float)) else 0


def _rows(data: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The rows that the census names: `train:30 = train:10` where one says the same as another."""
    value = data.get(name)
    named = value.get("ids", ()) if isinstance(value, Mapping) else ()
    return tuple(visible(" = ".join(row) if isinstance(row, list) else str(row)) for row in named[:MOST])
