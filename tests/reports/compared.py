"""Small run folders that can be compared, written through the public API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomli_w
from reports.runs import evaluation, report

from scoreline.reports.compare.arms import Arm, read_trial
from scoreline.reports.record import Record

CONFIG: dict[str, Any] = {
    "name": "a-0",
    "folder": "runs",
    "seed": 0,
    "algorithm": "grpo",
    "objective": {"kl": {"beta": 0.04}},
    "model": {"path": "tiny", "precision": "fp32"},
    "data": {"source": "arithmetic", "level": 1},
    "reward": [{"function": "arithmetic_answer", "weight": 1.0}],
    "sampling": {"temperature": 1.0},
    "eval": {"k": 4, "prompts": 3, "right_at": 1.0, "reward": []},
    "train": {"steps": 10},
}


def configured(seed: int = 0, **tables: Any) -> dict[str, Any]:
    """The recipe with whole tables replaced key by key: `configured(1, data={"level": 2})`."""
    changed = {name: {**CONFIG[name], **told} if isinstance(told, dict) else told for name, told in tables.items()}
    return {**CONFIG, "seed": seed, **changed}


def write_trial(
    folder: Path,
    accuracies: Sequence[float],
    *,
    config: dict[str, Any] | None = None,
    every: int = 5,
    tokens: int = 100,
    rights: Sequence[Sequence[int]] = (),
    finished: bool = True,
    **metrics: float,
) -> Path:
    """A run with an evaluation every `every` steps, the first before training, of `tokens` tokens a step."""
    record = Record(folder, every=0)
    (folder / "config.resolved.toml").write_text(tomli_w.dumps(config or CONFIG), encoding="utf-8")
    record.environment({"python": "3.12"})
    steps = every * (len(accuracies) - 1)
    for step in range(steps + 1):
        if step:
            numbers = {"num_tokens": float(tokens * step), "entropy": 1.0 / step, "clip_ratio/region_mean": 0.1}
            record.report(report(step, answers=[], **(numbers | metrics)))
        if step % every == 0:
            number = step // every
            found = evaluation(step, accuracies[number])
            record.evaluation(replace(found, rights=tuple(rights[number]) if rights else ()))
    if finished:
        record.summary(algorithm="grpo", model="tiny", steps=steps, wall_s=9.0, tokens=tokens * steps, parameters=7)
    return folder


def arm(root: Path, name: str, accuracies: Sequence[Sequence[float]], *, title: str = "", **told: Any) -> Arm:
    """An arm with a run a seed in `root/runs`."""
    config = told.pop("config", CONFIG)
    folders = [
        write_trial(root / "runs" / f"{name}-{seed}", row, config={**config, "seed": seed}, **told)
        for seed, row in enumerate(accuracies)
    ]
    return Arm(name, title or name, config, tuple(read_trial(folder, seed) for seed, folder in enumerate(folders)))
