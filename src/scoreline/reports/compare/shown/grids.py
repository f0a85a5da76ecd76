"""The tables of a comparison: every measure of every arm, the settings that differ, every run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scoreline.reports.compare.shown.measured import Measured, known, measured
from scoreline.reports.compare.shown.naming import Comparison, in_order, name_of, title
from scoreline.reports.tables import Cell, Column, Table

LinkTo = Callable[[str], str]
"""The address of a run's report from the run's folder, "" where there is none."""

Arm = Mapping[str, Any]


def arms_table(comparison: Comparison) -> Table | None:
    """One row an arm, one column a measure that some arm has; the best mean of a column is marked."""
    arms = comparison["arms"]
    taken = [{name: measured(value) for name, value in (arm.get("measures") or {}).items()} for arm in arms]
    names = in_order(name for measures in taken for name, value in measures.items() if value.mean is not None)
    if not names:
        return None
    columns = {name: [measures.get(name) for measures in taken] for name in names}
    cells = [[_measure(value, _best(name, each), _size(each)) for value in each] for name, each in columns.items()]
    heads = [Cell(title(arm), _algorithm(arm), float(place)) for place, arm in enumerate(arms)]
    rows = [[head, *row] for head, *row in zip(heads, *cells, strict=True)]
    caption = (
        "Mean over the seeds, and its 95 % interval. The best mean of a column is blue; that alone proves nothing."
    )
    named = [Column("arm"), *(Column(name_of(name).title, name_of(name).note) for name in names)]
    return Table("arms", caption, named, rows)


def _algorithm(arm: Arm) -> str:
    """Said where the arm's title does not say it."""
    algorithm = str(arm.get("algorithm") or "")
    return "" if algorithm.replace("_", " ").lower() in title(arm).lower() else algorithm


def _best(measure: str, values: Sequence[Measured | None]) -> float | None:
    """The best mean of several, where there is a best."""
    means = [value.mean for value in values if value is not None and value.mean is not None]
    better = name_of(measure).better
    if not better or len(set(means)) < 2:
        return None
    return max(means) if better == "more" else min(means)


def _measure(value: Measured | None, best: float | None, like: float) -> Cell:
    if value is None or value.mean is None:
        return Cell("–")
    mark = "best" if best is not None and value.mean == best else ""
    return Cell(value.number(like=like), value.interval(like=like).strip("[]"), value.mean, mark)


def _size(values: Sequence[Measured | None]) -> float:
    """Of the largest mean of a column: all its numbers have as many decimals."""
    return max(abs(value.mean) for value in values if value is not None and value.mean is not None)


def settings_table(comparison: Comparison) -> Table | None:
    """The settings in which the arms differ, under their addresses in a recipe."""
    settings, arms = comparison.get("settings") or (), comparison["arms"]
    if not settings:
        return None
    columns = [Column("setting"), *(Column(title(arm)) for arm in arms)]
    rows = [
        [Cell(row["key"], value=row["key"]), *(_setting((row.get("values") or {}).get(arm["name"])) for arm in arms)]
        for row in settings
    ]
    return Table("settings", "All other settings are the same in every arm.", columns, rows)


def _setting(value: Any) -> Cell:
    if value is None:
        return Cell("–")
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    text = json.dumps(value, ensure_ascii=False)
    return Cell(text, value=float(value) if number else text, mark="" if number or len(text) < 24 else "words")


def runs_table(comparison: Comparison, link: LinkTo) -> Table | None:
    """One row a run; the name of one that failed is marked."""
    rows = [_run(place, arm, run, link) for place, (arm, run) in enumerate(_runs(comparison))]
    columns = [Column("run"), Column("seed"), Column("steps"), Column("sampled tokens"), Column("seconds")]
    return Table("runs", "Each leads to the run's own report, where it has one.", columns, rows) if rows else None


def failures(comparison: Comparison) -> list[tuple[str, str]]:
    """Which runs failed, and why."""
    return [
        (f"{title(arm)}, seed {run.get('seed', '?')}", str(run["failed"]))
        for arm, run in _runs(comparison)
        if run.get("failed")
    ]


def _runs(comparison: Comparison) -> list[tuple[Arm, Mapping[str, Any]]]:
    return [(arm, run) for arm in comparison["arms"] for run in arm.get("runs") or ()]


def _run(place: int, arm: Arm, run: Mapping[str, Any], link: LinkTo) -> list[Cell]:
    counts = [known(run.get(name)) for name in ("seed", "steps", "tokens", "seconds")]
    folder, failed = str(run.get("folder") or ""), bool(run.get("failed"))
    small = ", ".join(words for words in (folder, "failed" if failed else "") if words)
    return [
        Cell(title(arm), small, float(place), "failed" if failed else "", link(folder) if folder else ""),
        *(Cell("–" if count is None else f"{count:,.0f}", value=count) for count in counts),
    ]
