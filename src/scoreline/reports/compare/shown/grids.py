"""The tables of a comparison: every measure of every arm, the settings that differ, every run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scoreline.reports.compare.shown.measured import Measured, known, measured
from scoreline.reports.compare.shown.naming import Comparison, in_order, name_of, title
from scoreline.reports.numerals import figure
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
    best = {name: _best(name, [measures.get(name) for measures in taken]) for name in names}
    rows = [
        [Cell(title(arm), _algorithm(arm), float(i)), *(_measure(measures.get(name), best[name]) for name in names)]
        for i, (arm, measures) in enumerate(zip(arms, taken, strict=True))
    ]
    caption = (
        "Mean over the seeds, and its 95 % interval. The best mean of a column is blue; that alone proves nothing."
    )
    columns = [Column("arm"), *(Column(name_of(name).title, name_of(name).note) for name in names)]
    return Table("arms", caption, columns, rows)


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


def _measure(value: Measured | None, best: float | None) -> Cell:
    if value is None or value.mean is None:
        return Cell("–")
    mark = "best" if best is not None and value.mean == best else ""
    return Cell(figure(value.mean), value.interval().strip("[]"), value.mean, mark)


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
    """One row a run; one that failed says why."""
    runs = [(arm, run) for arm in comparison["arms"] for run in arm.get("runs") or ()]
    if not runs:
        return None
    columns = [Column("run"), Column("seed"), Column("steps"), Column("sampled tokens"), Column("seconds")]
    failed = any(run.get("failed") for _, run in runs)
    rows = [_run(i, arm, run, link)[: None if failed else 5] for i, (arm, run) in enumerate(runs)]
    caption = "Each leads to the run's own report, where it has one."
    return Table("runs", caption, [*columns, *([Column("failed")] if failed else [])], rows)


def _run(place: int, arm: Arm, run: Mapping[str, Any], link: LinkTo) -> list[Cell]:
    counts = [known(run.get(name)) for name in ("seed", "steps", "tokens", "seconds")]
    folder = str(run.get("folder") or "")
    return [
        Cell(title(arm), folder, float(place), link=link(folder) if folder else ""),
        *(Cell("–" if count is None else f"{count:,.0f}", value=count) for count in counts),
        Cell(str(run["failed"]), value="failed", mark="failed words") if run.get("failed") else Cell(""),
    ]
