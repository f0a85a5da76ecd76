"""Diseases of the policy, the critic and the sampler, each in a run that has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from reports.doctor.patients import found, rewards, trained

from scoreline.config import build
from scoreline.errors import DivergenceError
from scoreline.reports.doctor import Finding, compare_seeds
from scoreline.reports.history import read_history
from scoreline.rollout.local import LocalEngine

Findings = dict[str, Finding]


@pytest.fixture(scope="module")
def cheat(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """A reward that pays for length, and an evaluation that asks for right answers."""
    folder = tmp_path_factory.mktemp("cheat")
    long = rewards(folder, "return [len(c) / 32 for c in completions]")
    changes = ("eval.before=true", 'eval.reward=["arithmetic_answer"]', "train.learning_rate=1e-3", "train.steps=20")
    return found(trained(folder, f'reward=["{long}"]', "train.minibatches=2", "objective.kl.beta=0.0001", *changes))


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """A learning rate a hundred times too high."""
    return found(trained(tmp_path_factory.mktemp("broken"), "train.learning_rate=3e-2", "train.minibatches=4"))


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """PPO in which neither policy nor critic moves."""
    still = ("train.learning_rate=1e-8", "critic.learning_rate=1e-8", "train.minibatches=2", "train.steps=20")
    return found(trained(tmp_path_factory.mktemp("idle"), "algorithm=ppo", *still))


def test_a_reward_that_is_cheated(cheat: Findings) -> None:
    sick = cheat["reward-without-accuracy"]
    assert sick.severity == "alarm"
    assert sick.title == "The reward rises, accuracy falls"
    assert sick.steps == (0, 20)
    assert "judged reward moved by +" in sick.evidence[1]
    assert sick.samples


def test_answers_that_no_longer_end_and_got_longer(cheat: Findings) -> None:
    assert cheat["missing-eos"].title == "Answers no longer end"
    assert cheat["length-drift"].title == "Answers became longer, and no better"


def test_a_policy_that_left_its_reference(cheat: Findings) -> None:
    sick = cheat["kl-runaway"]
    assert "objective.kl.beta (now 0.0001)" in sick.change
    assert sick.steps[-1] == 20


def test_a_learning_rate_that_is_too_high(broken: Findings) -> None:
    sick = broken["learning-rate-too-high"]
    assert sick.severity == "alarm"
    assert "train.learning_rate = 0.01" in sick.change
    assert next(iter(broken)) == sick.name, "the worst first"


def test_a_clip_that_always_binds(tmp_path: Path) -> None:
    """A thousandth either way, for eight updates of a batch."""
    narrow = ("objective.surrogate.low=0.001", "objective.surrogate.high=0.001", "objective.kl=none")
    many = ("train.num_iterations=4", "train.minibatches=2", "train.learning_rate=5e-4")
    sick = found(trained(tmp_path, *narrow, *many))["clip-always-binds"]
    assert sick.severity == "warning"
    assert "train.learning_rate = 0.00017 (now 0.0005)" in sick.change


def test_a_learning_rate_that_is_too_low(idle: Findings) -> None:
    sick = idle["learning-rate-too-low"]
    assert sick.severity == "warning"
    assert "train.learning_rate = 1e-07" in sick.change


def test_a_critic_that_explains_nothing(idle: Findings) -> None:
    sick = idle["critic-explains-nothing"]
    assert sick.severity == "warning"
    assert "critic.learning_rate" in sick.change


def test_a_clip_that_never_binds(idle: Findings) -> None:
    assert idle["clip-never-binds"].severity == "note"


def test_a_critic_that_makes_it_worse(tmp_path: Path) -> None:
    sick = found(trained(tmp_path, "algorithm=ppo", "critic.learning_rate=0.3"))["critic-explains-nothing"]
    assert sick.severity == "alarm"
    assert sick.title == "The critic makes it worse"


def test_entropy_explodes(tmp_path: Path) -> None:
    bonus = (
        "objective.entropy.coefficient=1.0",
        "train.learning_rate=1e-3",
        "train.minibatches=4",
        "objective.kl=none",
    )
    sick = found(trained(tmp_path, *bonus))["entropy-explosion"]
    assert sick.severity == "alarm"
    assert sick.change.startswith("objective.entropy.coefficient below 1")


def test_entropy_that_is_not_there(tmp_path: Path) -> None:
    """So cold that all answers to a question are the same."""
    sick = found(trained(tmp_path, "sampling.temperature=0.1"))["entropy-collapse"]
    assert sick.severity == "alarm"
    assert sick.change.startswith("sampling.temperature = 1.0 (now 0.1)")
    assert sick.samples


def test_a_sampler_that_is_not_the_learner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New weights do not reach the engine: it goes on with a copy of the first ones."""

    def stale(config: object, policy: Any, *rest: object) -> LocalEngine:
        return LocalEngine(policy.frozen())

    monkeypatch.setattr(build, "make_engine", stale)
    sick = found(trained(tmp_path, "train.minibatches=2", "train.learning_rate=1e-3", "train.steps=12"))
    assert "do not reach the engine" in sick["sampler-mismatch"].cause


def test_loss_and_gradient_that_are_not_finite(tmp_path: Path) -> None:
    with pytest.raises(DivergenceError):
        trained(tmp_path, "train.learning_rate=1e30")
    sick = found(tmp_path / "patient")
    assert sick["stopped-by-an-error"].title == "Training diverged"


def test_seeds_that_differ(tmp_path: Path) -> None:
    """Steps so large that it hangs on the first of them where the policy ends."""
    rate = ("train.learning_rate=8e-4", "train.minibatches=4", "train.steps=8", "objective.kl=none")
    runs = [trained(tmp_path, *rate, f"seed={seed}", name=f"seed-{seed}") for seed in range(4)]
    [sick] = compare_seeds([read_history(run) for run in runs])
    assert (sick.name, sick.severity) == ("seeds-differ", "warning")
    assert len(sick.evidence) == 5
    assert "of 6 pairs" in sick.evidence[-1]
