"""The runs of a comparison, read back: an arm is one way to train, with one run a seed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoreline.errors import CheckpointError, ScorelineError
from scoreline.reports.history import History, read_history

PROBE = "probe.json"


@dataclass(frozen=True)
class Trial:
    """One run of an arm. Without a history it `failed`, for the reason that is said."""

    seed: int
    folder: Path
    history: History | None
    failed: str | None = None

    @property
    def summary(self) -> Mapping[str, Any]:
        return {} if self.history is None else self.history.summary


@dataclass(frozen=True)
class Arm:
    """What is compared: its name, the recipe that its runs share, and one run a seed."""

    name: str
    title: str
    config: Mapping[str, Any]
    trials: tuple[Trial, ...]

    def histories(self) -> list[History]:
        """Those of the runs that ended."""
        return [trial.history for trial in self.trials if trial.history is not None]


def read_trial(folder: Path, seed: int, failed: str | None = None) -> Trial:
    """A run's folder as one of an arm; one that failed, is not finished, or cannot be read says so in `failed`."""
    if failed is not None:
        return Trial(seed, folder, None, failed)
    if not folder.is_dir():
        return Trial(seed, folder, None, "not run yet")
    try:
        history = read_history(folder)
        probe(folder)
    except ScorelineError as error:
        return Trial(seed, folder, None, " ".join(str(error).split()))
    reached = history.metrics[-1]["step"] if history.metrics else 0
    if not history.summary:
        return Trial(seed, folder, None, f"not finished: it has come to step {reached}")
    lacking = _lacking(history)
    return Trial(seed, folder, None if lacking else history, lacking)


def probe(folder: Path) -> Mapping[str, Any]:
    """What was measured of a run's checkpoint afterwards; nothing where it was not. Raises `CheckpointError`."""
    file = folder / PROBE
    if not file.is_file():
        return {}
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{file} is not a JSON object", got=error, todo="delete the file") from error


def common(names: Sequence[str]) -> str:
    """What names of runs share before their seeds: `grpo` of grpo-0 and grpo-1; of a single one, its whole name."""
    heads = {name.rpartition("-")[0] if name.rpartition("-")[2].isdigit() else name for name in names}
    return heads.pop() if len(heads) == 1 and len(names) > 1 else names[0]


def _lacking(history: History) -> str | None:
    """Steps that the metrics of a finished run do not have."""
    steps = {int(row["step"]) for row in history.metrics}
    lacking = sorted(set(range(1, int(history.summary.get("steps", 0)) + 1)) - steps)
    return f"metrics.jsonl lacks {len(lacking)} steps, the first of them {lacking[0]}" if lacking else None
