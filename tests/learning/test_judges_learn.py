"""From a model's own answers to judges, and from a judge alone to a better model: the commands of the recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scoreline.config.judge import JudgeRun, train_judge
from scoreline.config.label import LabelRun, label
from scoreline.config.launch import train
from scoreline.config.load import load
from scoreline.config.run import Run

RECIPES = Path(__file__).parents[2] / "recipes" / "laptop"


def made(folder: Path, data: str, judge: str, file: str) -> dict[str, Any]:
    """Label, train the judge; what it says of held-out rows before and after."""
    label(load(LabelRun, [RECIPES / f"{data}.toml"], [f"folder={folder}"]))
    told = [f"folder={folder}", f"data.source={folder / file}"]
    run = train_judge(load(JudgeRun, [RECIPES / f"{judge}.toml"], told))
    ends: dict[str, Any] = json.loads((run / "summary.json").read_text(encoding="utf-8"))["eval"]
    return ends


@pytest.mark.learning
@pytest.mark.timeout(1200)
def test_a_pairwise_judge_learns_and_is_enough_to_learn_from(tmp_path: Path) -> None:
    ends = made(tmp_path, "pairs", "reward_model", "pairs/pairs.jsonl")
    assert ends["before"]["accuracy"] <= 0.6
    assert ends["after"]["accuracy"] >= 0.9
    judge = f"judge.path={tmp_path / 'reward_model' / 'hf'}"
    history = f"judge.history.source={tmp_path / 'pairs' / 'pairs.jsonl'}"
    run = load(Run, [RECIPES / "iterative.toml"], [f"folder={tmp_path}", judge, history, "eval.every=0"])
    found = json.loads((train(run) / "summary.json").read_text(encoding="utf-8"))["eval"]
    before, after = found["before"]["avg@k"], found["after"]["avg@k"]
    assert after["low"] > before["high"], "the judge alone took true accuracy up"


@pytest.mark.learning
@pytest.mark.timeout(1200)
def test_a_process_judge_learns(tmp_path: Path) -> None:
    ends = made(tmp_path, "step_labels", "process_reward_model", "steps/steps.jsonl")
    assert ends["before"]["accuracy"] <= 0.7
    assert ends["after"]["accuracy"] >= 0.9
    assert ends["after"]["accuracy"] > ends["after"]["majority"] + 0.15
