"""Every rung of the ladder learns the embedded task from its recipe: from guessing to showing the work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scoreline.config.launch import train
from scoreline.config.load import load
from scoreline.config.run import Run

RECIPES = Path(__file__).parents[2] / "recipes"


def learned(recipe: Path, folder: Path, *overrides: str) -> dict[str, Any]:
    run = load(Run, [recipe], [f"folder={folder}", "eval.every=0", *overrides])
    summary: dict[str, Any] = json.loads((train(run) / "summary.json").read_text())
    return summary["eval"]


@pytest.mark.learning
@pytest.mark.parametrize(
    ("name", "least"),
    [("naive", 0.85), ("actor_critic", 0.85), ("ppo_clip", 0.85), ("ppo", 0.85), ("grpo", 0.95), ("grpo_lora", 0.9)],
)
def test_the_recipe_learns(tmp_path: Path, name: str, least: float) -> None:
    found = learned(RECIPES / "laptop" / f"{name}.toml", tmp_path)
    assert found["before"]["avg@k"]["mean"] <= 0.55
    assert found["after"]["avg@k"]["mean"] >= least
    assert found["after"]["mean_length"] > 1.5 * found["before"]["mean_length"], "it learned to show the work"


@pytest.mark.learning
@pytest.mark.parametrize("name", ["grpo_steps", "ppo_steps"])
def test_rewards_on_steps_and_answers_learn(tmp_path: Path, name: str) -> None:
    found = learned(RECIPES / "laptop" / f"{name}.toml", tmp_path, "train.steps=30")
    assert found["before"]["avg@k"]["mean"] <= 0.55
    assert found["after"]["avg@k"]["mean"] >= 0.9


@pytest.mark.learning
def test_the_quickstart_reaches_its_promise(tmp_path: Path) -> None:
    found = learned(RECIPES / "quickstart.toml", tmp_path, "seed=1")
    assert found["before"]["avg@k"]["mean"] <= 0.55
    assert found["after"]["avg@k"]["mean"] >= 0.95


@pytest.mark.learning
def test_moments_of_8_bits_learn_too(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra [bnb] is not installed")
    found = learned(RECIPES / "quickstart.toml", tmp_path, "train.optimizer=adamw_8bit")
    assert found["before"]["avg@k"]["mean"] <= 0.55
    assert found["after"]["avg@k"]["mean"] >= 0.95
