"""A run folder, read back."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoreline.errors import CheckpointError
from scoreline.reports import jsonl
from scoreline.reports.jsonl import Row
from scoreline.reports.record import FAILURE, ROUNDS, step_of
from scoreline.reports.trace import SUFFIX, read_trace
from scoreline.types import Batch


@dataclass(frozen=True)
class History:
    """What a run left behind. Parts that the run did not reach are empty.

    `metrics` and `evaluations` are in the order of their steps, one row a step; `rounds` are in theirs. `completions`
    maps a step to the file with its answers, `traces` to the file with their tensors; `answers` and `batch` read one.
    `data` counts the questions, and `failure` is the error that ended the run.
    """

    folder: Path
    config: Mapping[str, Any]
    config_text: str
    metrics: tuple[Row, ...]
    evaluations: tuple[Row, ...]
    rounds: tuple[Row, ...]
    completions: Mapping[int, Path]
    traces: Mapping[int, Path]
    summary: Mapping[str, Any]
    objective: Mapping[str, Any]
    environment: Mapping[str, Any]
    data: Mapping[str, Any]
    failure: Mapping[str, Any]

    def answers(self, step: int) -> list[Row]:
        """The kept answers of a step: prompt, completion, reward, id, parts, length, finish, group; where known total,
        steps, tokens.
        """
        return jsonl.read(self.completions[step])

    def batch(self, step: int) -> Batch:
        """The tensors of the kept answers of a step, in the order of `answers`. Raises `CheckpointError`."""
        if step in self.traces:
            return read_trace(self.traces[step])
        kept = ", ".join(map(str, self.traces))
        raise CheckpointError(
            f"The run kept no tensors of step {step}.",
            got=self.folder,
            accepted=f"step {kept}" if kept else "a run of this version: earlier ones kept text and advantages alone",
            todo="name one of these steps." if kept else "train again, with watch.completions_every above 0.",
        )


def read_history(folder: Path) -> History:
    """Reads a run folder, finished or not. Raises `CheckpointError` if it is none, or a file of it is broken."""
    config_text = _config_text(folder)
    return History(
        folder=folder,
        config=_config(folder, config_text),
        config_text=config_text,
        metrics=_ordered(folder / "metrics.jsonl"),
        evaluations=_ordered(folder / "evaluation.jsonl"),
        rounds=_ordered(folder / ROUNDS, by="round"),
        completions={step_of(path): path for path in sorted(folder.glob("completions/step-*.jsonl"))},
        traces={step_of(path): path for path in sorted(folder.glob(f"completions/step-*{SUFFIX}"))},
        summary=_json(folder / "summary.json"),
        objective=_json(folder / "objective.json"),
        environment=_json(folder / "environment.json"),
        data=_json(folder / "data.json"),
        failure=_json(folder / FAILURE),
    )


def _config_text(folder: Path) -> str:
    path = folder / "config.resolved.toml"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    got = "no such folder" if not folder.is_dir() else "a folder without config.resolved.toml"
    todo = "name the folder that `scoreline train` wrote, for example runs/quickstart"
    raise CheckpointError(f"{folder} is not a run", got=got, accepted="a run folder", todo=todo)


def _config(folder: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CheckpointError(f"{folder / 'config.resolved.toml'} is not TOML", got=error) from error


def _ordered(path: Path, by: str = "step") -> tuple[Row, ...]:
    """The last row of each step: one that was written again replaces the first."""
    rows = {_place(path, row, by): row for row in jsonl.read(path)}
    return tuple(rows[number] for number in sorted(rows))


def _place(path: Path, row: Row, by: str) -> int:
    """The step of a row. Raises `CheckpointError` where it has none."""
    place = row.get(by)
    if isinstance(place, int):
        return place
    got, todo = repr(row)[:80], "delete the line, or restore the file"
    raise CheckpointError(f"{path}: a line without `{by}`", got=got, accepted=f'"{by}": a whole number', todo=todo)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        todo = "delete the file; the report leaves it out"
        raise CheckpointError(f"{path} is not a JSON object", got=error, todo=todo) from error
