"""Diseases of the policy, the critic and the sampler, each in a run that has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from reports.doctor.patients import found, rewards, trained

from scoreline.config import hosts
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


def test_entropy_goes_before_the_task_is_learned(tmp_path: Path) -> None:
    """A bonus with the wrong sign pays for less entropy: from a fifth of a nat to nothing, told while it trains."""
    wrong = ("objective.entropy.coefficient=-1.0", "train.learning_rate=1e-3", "objective.kl=none")
    folder = trained(tmp_path, *wrong, "train.minibatches=4", "train.steps=18")
    first, *_, last = read_history(folder).metrics
    assert first["frac_reward_zero_std"] < 0.2, "in the beginning answers differ"
    assert last["entropy"] < 0.1 * first["entropy"]
    sick = found(folder)["entropy-collapse"]
    assert sick.severity == "alarm"
    assert sick.steps == (16, 17, 18)
    assert sick.change.startswith("objective.entropy.coefficient above 0 (now -1, which pays for less)")
    lines = (folder / "log.txt").read_text(encoding="utf-8").splitlines()
    told = next(number for number, line in enumerate(lines) if "Entropy has collapsed" in line)
    assert any("step 18/18" in line for line in lines[told:]), "before it ended"


@pytest.mark.parametrize("told", ["train.minibatches=2", "algorithm=grpo", "algorithm=naive"])
def test_a_sampler_that_is_not_the_learner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    """New weights do not reach the engine: it goes on with a copy of the first ones."""

    def stale(config: object, policy: Any, *rest: object) -> LocalEngine:
        return LocalEngine(policy.frozen())

    monkeypatch.setattr(hosts, "make_engine", stale)
    kl = "objective.kl=none" if told == "algorithm=naive" else "objective.kl.beta=0.01"
    sick = found(trained(tmp_path, told, kl, "train.learning_rate=1e-3", "train.steps=12"))["sampler-mismatch"]
    assert "do not reach the engine" in sick.cause


def test_loss_and_gradient_that_are_not_finite(tmp_path: Path) -> None:
    with pytest.raises(DivergenceError):
        trained(tmp_path, "train.learning_rate=1e30")
    sick = found(tmp_path / "patient")
    assert sick["stopped-by-an-error"].title == "Training diverged"
    assert sick["non-finite-updates"].evidence == ("2 updates were left out, in steps 2 to 3.",)
    assert "train.learning_rate = 3.3e+29 (now 1e+30)" in sick["non-finite-updates"].change


def test_rewards_that_are_too_large_to_compute_with(tmp_path: Path) -> None:
    """The nearer an answer is to twenty letters the better: exactly twenty divide by almost nothing."""
    near = rewards(tmp_path, "return [1 / (abs(len(c) - 20) + 1e-30) for c in completions]")
    more = ("algorithm=naive", "objective.kl=none", "train.max_bad_updates=8", "train.steps=8")
    folder = trained(tmp_path, f'reward=["{near}"]', *more)
    rows = read_history(folder).metrics
    left_out = tuple(row["step"] for row in rows if row["skipped_updates"])
    assert 0 < len(left_out) < len(rows), "the others were made"
    assert left_out == tuple(row["step"] for row in rows if row["reward"] > 1e20)
    sick = found(folder)["non-finite-updates"]
    assert (sick.severity, sick.steps) == ("alarm", left_out)
    assert sick.title == "Rewards are too large to compute with"
    assert "[[reward]]" in sick.change
    assert sick.samples


def test_seeds_that_differ(tmp_path: Path) -> None:
    """Steps so large that it hangs on the first of them where the policy ends."""
    rate = ("train.learning_rate=8e-4", "train.minibatches=4", "train.steps=8", "objective.kl=none")
    runs = [trained(tmp_path, *rate, f"seed={seed}", name=f"seed-{seed}") for seed in range(4)]
    [sick] = compare_seeds([read_history(run) for run in runs])
    assert (sick.name, sick.severity) == ("seeds-differ", "warning")
    assert len(sick.evidence) == 5
    assert "of 6 pairs" in sick.evidence[-1]
