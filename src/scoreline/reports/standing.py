"""How far a run is: its step, what is left, whether it has ended."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from scoreline.reports.history import History
from scoreline.reports.numerals import lasting

RECENT = 20
"""Steps whose median seconds say how long a step takes now."""


@dataclass(frozen=True)
class Standing:
    """`done` says how far it is: `step 12 of 60`; `seconds` more of training are to be expected (None: not known)."""

    done: str
    seconds: float | None
    ended: bool

    def words(self, *, followed: bool) -> str:
        """`In progress: step 12 of 60, about 2 min left.` while it is `followed`; nothing for a run that has ended."""
        if self.ended:
            return ""
        left = f", about {lasting(self.seconds)} left" if self.seconds else ""
        return f"{'In progress' if followed else 'Not finished'}: {self.done}{left}."


def standing(history: History) -> Standing:
    """A run has ended when its summary is of its last step, and that is the last one planned or a budget was spent.

    A run that goes on after its end has the old summary until it ends again. What is no training run has ended.
    """
    step = int(history.metrics[-1]["step"]) if history.metrics else 0
    train = history.config.get("train", {})
    planned, budget = int(train.get("steps") or 0), any(_amount(train, key) for key in ("max_tokens", "max_seconds"))
    reached = int(history.summary.get("steps") or 0)
    if not train:  # fine-tuning, or a judge: there is no summary to wait for
        return Standing(_done(history, step, 0), None, ended=True)
    ended = bool(history.summary) and reached >= step and (budget or reached >= planned)
    return Standing(_done(history, step, planned), _left(history, step, planned), ended)


def _done(history: History, step: int, planned: int) -> str:
    """In tokens where they are the budget: nobody expects such a run to come to its last step."""
    tokens, most = _tokens(history)
    if tokens is not None and most is not None:
        return f"step {step:,}, {tokens:,.0f} of {most:,.0f} tokens"
    return f"step {step:,} of {planned:,}" if planned else f"step {step:,}"


def _tokens(history: History) -> tuple[float | None, float | None]:
    """What was sampled, and what may be."""
    last = history.metrics[-1] if history.metrics else {}
    return last.get("num_tokens"), _amount(history.config.get("train", {}), "max_tokens")


def _left(history: History, step: int, planned: int) -> float | None:
    """Seconds to the last step, or until the tokens are spent if that comes first, at the speed of the last steps."""
    rows = history.metrics[-RECENT:]
    times = [float(row["time/step"]) for row in rows if isinstance(row.get("time/step"), (int, float))]
    if not times or not planned:
        return None
    steps = float(planned - step)
    tokens, most = _tokens(history)
    if tokens and most and step:
        steps = min(steps, math.ceil((most - tokens) / (tokens / step)))
    return max(0.0, steps * median(times))


def _amount(table: Mapping[str, Any], key: str) -> float | None:
    """A number of the recipe; what it leaves out is written "none"."""
    value = table.get(key)
    return float(value) if isinstance(value, (int, float)) else None
