"""The numbers behind the curves of a run: some of its steps as a table."""

from __future__ import annotations

from collections.abc import Sequence

from scoreline.reports.history import History
from scoreline.reports.numerals import figure
from scoreline.reports.tables import Cell, Column, Table

STEPS = 12
"""Steps in the table at most: the first, the last, and others at even distances."""

_COLUMNS = {
    "reward": "reward",
    "step_reward": "step reward",
    "kl": "KL",
    "entropy": "entropy",
    "completions/mean_length": "length",
    "clip_ratio/low_mean": "clipped low",
    "clip_ratio/high_mean": "clipped high",
    "frac_reward_zero_std": "same reward",
    "grad_norm": "gradient norm",
    "value/explained_variance": "critic",
    "learning_rate": "learning rate",
    "time/step": "seconds",
    "time/wait": "waiting",
    "rollouts/utilisation": "workers busy",
    "staleness/mean": "age of answers",
}


def numbers(history: History) -> Table | None:
    """The table, or None for a run without a step."""
    rows = [history.metrics[i] for i in _spread(len(history.metrics))]
    names = [name for name in _COLUMNS if any(isinstance(row.get(name), (int, float)) for row in rows)]
    if not names:
        return None
    heads = [Cell(f"{row['step']:,}", value=float(row["step"])) for row in rows]
    cells = zip(heads, *(_column([row.get(name) for row in rows]) for name in names), strict=True)
    shown = f"{len(rows)} of {len(history.metrics):,} steps" if len(rows) < len(history.metrics) else "Every step"
    columns = [Column("step"), *(Column(_COLUMNS[name]) for name in names)]
    return Table("numbers", f"{shown}; metrics.jsonl has all numbers.", columns, [list(row) for row in cells])


def _spread(count: int) -> list[int]:
    """At most `STEPS` places from 0 to count - 1, the two ends among them."""
    most = min(count, STEPS)
    return sorted({round(i * (count - 1) / max(most - 1, 1)) for i in range(most)})


def _column(values: Sequence[object]) -> list[Cell]:
    """All with as many decimals as the largest has."""
    known = [float(value) if isinstance(value, (int, float)) else None for value in values]
    like = max(abs(value) for value in known if value is not None)
    return [Cell(figure(value, like), value=value) for value in known]
