"""Ten runs that learn: the doctor has nothing to say but notes."""

from __future__ import annotations

from pathlib import Path

import pytest
from reports.doctor.patients import grave, trained

from scoreline.reports.doctor import compare_seeds, diagnose
from scoreline.reports.history import read_history

STEPS = (
    'steps={by="pattern", at=";"}',
    'step_reward=["arithmetic_steps"]',
)

HEALTHY = {
    "grpo": ("algorithm=grpo", "train.minibatches=4", "seed=0"),
    "grpo-plain": ("algorithm=grpo", "seed=1", "objective.kl=none", "train.learning_rate=1e-3"),
    "ppo": ("algorithm=ppo", "train.minibatches=4", "critic.learning_rate=1e-3", "seed=2"),
    "ppo-clip": (
        "algorithm=ppo_clip",
        "objective.kl=none",
        "train.minibatches=4",
        "critic.learning_rate=1e-3",
        "seed=3",
    ),
    "naive": ("algorithm=naive", "objective.kl=none", "train.learning_rate=1e-3", "seed=4"),
    "actor-critic": ("algorithm=actor_critic", "objective.kl=none", "train.learning_rate=1e-3", "seed=5"),
    "rloo": ("algorithm=rloo", "seed=6", "train.learning_rate=1e-3"),
    "dr-grpo": ("algorithm=dr_grpo", "objective.kl=none", "train.minibatches=2", "seed=7", "train.learning_rate=1e-3"),
    "dapo": ("algorithm=dapo", "objective.kl=none", "objective.resample.rounds=1", "train.minibatches=4", "seed=8"),
    "grpo-steps": ("algorithm=grpo", *STEPS, "train.minibatches=4", "seed=9"),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_run_that_learns_is_left_alone(tmp_path: Path, name: str) -> None:
    size = ("train.steps=24", "train.prompts_per_step=16", "train.schedule=linear", "eval.before=true", "eval.every=12")
    history = read_history(trained(tmp_path, *size, *HEALTHY[name]))
    assert history.evaluations[-1]["avg@k"]["low"] > history.evaluations[0]["avg@k"]["high"], "it learns"
    assert grave(diagnose(history)) == []
    assert "To change:" not in (history.folder / "log.txt").read_text(encoding="utf-8"), "nor did it say anything live"
    assert compare_seeds([history]) == []
