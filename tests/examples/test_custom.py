"""The examples of own parts: what they compute, and two steps of training with each."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import scoreline as sl
from scoreline.config.run import Eval
from scoreline.objectives.signal import Signal

ROOT = Path(__file__).parents[2]


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """An example as a script imports its neighbour: `example("custom_reward")`."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    return importlib.import_module


def small(run: sl.Run, folder: Path) -> sl.Run:
    """Two steps of a few answers, from random weights."""
    train = replace(run.train, steps=2, prompts_per_step=2, num_generations=2, minibatches=1)
    return replace(run, folder=str(folder), model=sl.Model("tiny:init"), train=train, eval=Eval(prompts=4, k=2), seed=1)


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_reward_prefers_short_right_answers(example):
    reward = example("custom_reward").short_and_right
    ids = [[0] * 4, [0] * 20, [0] * 36, [0] * 100, [0] * 4, [0] * 4]
    scores = reward(completions=["#23", "1#23", "2#23", "3#23", "#22", "23"], completion_ids=ids, answer=["23"] * 6)
    assert scores == pytest.approx([1.2, 1.1, 1.0, 1.0, 0.0, 0.0])


def test_the_reward_trains_from_the_command_line(tmp_path):
    told = [
        'reward=[{function="examples/custom_reward.py:short_and_right"}]',
        *("name=short", f"folder={tmp_path}", "model.path=tiny:init"),
        *("train.steps=2", "train.prompts_per_step=2", "train.minibatches=1", "eval.prompts=4"),
    ]
    command = [sys.executable, "-m", "scoreline", "train", "recipes/quickstart.toml", *told]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr
    assert [row["step"] for row in metrics(tmp_path / "short")] == [1, 2]
    assert "rewards/short_and_right/mean" in metrics(tmp_path / "short")[0]


def test_the_reward_trains_from_python(example, tmp_path):
    folder = sl.launch(small(example("custom_reward").configured(), tmp_path))
    assert folder == tmp_path / "short"
    assert [row["step"] for row in metrics(folder)] == [1, 2]
    assert "rewards/short_and_right/mean" in metrics(folder)[0]


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [([1, 0, 0, 0], [3, -1, -1, -1]), ([1, 1, 1, 0], [1 / 3, 1 / 3, 1 / 3, -1]), ([0, 0, 0, 0], [0, 0, 0, 0])],
)
def test_the_advantage_is_relative_to_the_mean(rewards, expected, example, signal: Callable[..., Signal]):
    credited = example("custom_objective").MaxRL()(signal([[float(r)] for r in rewards]))
    assert credited.rewards[:, 0].tolist() == pytest.approx(expected)


def test_the_advantage_trains_and_is_explained(example, tmp_path):
    folder = sl.launch(small(example("custom_objective").configured(), tmp_path))
    assert [row["step"] for row in metrics(folder)] == [1, 2]
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8"))["algorithm"] == "maxrl"
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert "MaxRL" in report
    assert "2602.02710" in report
