"""Runs that end when a budget is spent leave what every run leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scoreline.config.launch import train
from scoreline.config.run import Checkpoint, Eval, Run
from scoreline.environments.prompts import Data
from scoreline.environments.rewards import RewardSpec
from scoreline.models.policy import Model
from scoreline.rollout.engine import Sampling
from scoreline.train.plan import Plan

PLAN = Plan(steps=40, prompts_per_step=2, num_generations=2, learning_rate=1e-4, schedule="linear")


def spec(folder: Path, **plan: Any) -> Run:
    return Run(
        name="short",
        folder=str(folder),
        model=Model("tiny:init", device="cpu"),
        data=Data(level=1, held_out=4),
        reward=(RewardSpec("arithmetic_answer"),),
        sampling=Sampling(max_completion_length=6),
        train=replace(PLAN, **plan),
        eval=Eval(prompts=4, k=2),
        checkpoint=Checkpoint(every=2),
    )


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("budget", [{"max_tokens": 60}, {"max_seconds": 0.02}])
def test_a_spent_budget_is_a_normal_end(tmp_path: Path, budget: dict[str, Any]) -> None:
    run = spec(tmp_path, **budget)
    folder = train(run)
    steps, summary = rows(folder, "metrics.jsonl"), json.loads((folder / "summary.json").read_text())
    last = steps[-1]["step"]
    assert 1 <= last < 40
    assert summary["steps"] == last
    assert [row["step"] for row in rows(folder, "evaluation.jsonl")] == [0, last]
    assert (folder / "checkpoints" / f"step-{last:06d}" / "hf").is_dir()
    if "max_tokens" in budget:
        assert [row["num_tokens"] >= 60 for row in steps] == [False] * (last - 1) + [True]
        rates = [row["learning_rate"] / 1e-4 for row in steps]
        before = [0.0, *(row["num_tokens"] for row in steps[:-1])]
        assert rates == pytest.approx([1 - tokens / 60 for tokens in before])
    train(run, resume=True)
    assert len(rows(folder, "metrics.jsonl")) == last, "what is spent stays spent"
    assert len(rows(folder, "evaluation.jsonl")) == 2


def test_a_run_says_what_it_learned_with(tmp_path: Path) -> None:
    folder = train(spec(tmp_path, steps=1))
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["parameters"] == 444_960
    [before, after] = rows(folder, "evaluation.jsonl")
    assert len(before["rights"]) == len(after["rights"]) == 4
    assert sum(after["rights"]) / 8 == after["avg@k"]["mean"]
    assert "rights" not in summary["eval"]["after"]
