"""Diseases of signal and data, each in a run that has it."""

from __future__ import annotations

from pathlib import Path

import pytest
from reports.doctor.patients import found, rewards, rows, trained

from scoreline.errors import RewardError
from scoreline.reports.doctor import diagnose
from scoreline.reports.history import read_history

FORMAT = 'reward=[{{function="format_match", options={{pattern="{}"}}}}]'


def test_no_step_has_a_signal(tmp_path: Path) -> None:
    sick = found(trained(tmp_path, FORMAT.format("never"), "train.steps=3"))["no-signal"]
    assert sick.severity == "alarm"
    assert sick.steps == (1, 2, 3)
    assert "3 of 3 steps" in sick.evidence[0]
    assert "with 0" in sick.evidence[-1]
    assert sick.samples[0].startswith("completions/step-000002.jsonl:1")


def test_groups_without_variance(tmp_path: Path) -> None:
    """Answers drawn at a low temperature are mostly the same."""
    sick = found(trained(tmp_path, "sampling.temperature=0.2", "train.steps=5"))["groups-without-variance"]
    assert sick.severity == "warning"
    assert "train.num_generations from 4 to 8" in sick.change
    assert sick.samples


def test_a_loss_of_zero_is_explained(tmp_path: Path) -> None:
    said = found(trained(tmp_path, "objective.kl=none", "train.steps=4"))
    assert said["zero-loss"].severity == "note"
    assert "sum to zero" in said["zero-loss"].cause
    assert said["clip-cannot-bind"].severity == "note"


def test_truncated_answers(tmp_path: Path) -> None:
    """Three tokens: `#8` and its end, but not `#12`."""
    small = ("data.level=1", "data.held_out=20", "sampling.max_completion_length=3", "train.steps=3")
    sick = found(trained(tmp_path, *small))["truncated-answers"]
    assert sick.severity == "warning"
    assert "budget of 3 tokens" in sick.evidence[0]
    assert "cut" in sick.evidence[1]
    assert "sampling.max_completion_length = 6 (now 3)" in sick.change
    assert sick.samples


def test_no_answer_ends(tmp_path: Path) -> None:
    sick = found(trained(tmp_path, "sampling.max_completion_length=1", "train.steps=3"))["missing-eos"]
    assert sick.severity == "alarm"
    assert "100%" in sick.evidence[0]
    assert sick.title == "No answer ends"


def test_a_dominant_reward_function(tmp_path: Path) -> None:
    """Marks out of 100 for length, beside right or wrong."""
    marks = rewards(tmp_path, "return [100 * len(c) / 32 for c in completions]")
    made = trained(tmp_path, f'reward=["arithmetic_answer", "{marks}"]', "train.steps=3")
    sick = found(made)["dominant-reward"]
    assert sick.title == "score decides alone"
    assert sick.change.startswith("the weight of score in [[reward]]: 0.0")
    even = found(
        trained(
            tmp_path, f'reward=["arithmetic_answer", {{function="{marks}", weight=0.02}}]', "train.steps=3", name="even"
        )
    )
    assert "dominant-reward" not in even, "the weight makes the scales alike"


def test_answers_without_a_score(tmp_path: Path) -> None:
    some = rewards(tmp_path, 'return [1.0 if ";" in c else None for c in completions]')
    made = trained(tmp_path, f'reward=["{some}"]', "train.steps=3")
    sick = found(made)["unscored-answers"]
    assert sick.severity == "alarm"
    assert any("score returned None for" in said for said in sick.evidence)
    assert all(":" in sample for sample in sick.samples)


def test_a_function_that_never_scores(tmp_path: Path) -> None:
    none = rewards(tmp_path, "return [None for c in completions]")
    said = found(trained(tmp_path, f'reward=["arithmetic_answer", "{none}"]', "train.steps=3"))
    assert said["silent-reward-function"].title == "score never gives a score"
    assert "unscored-answers" not in said


def test_a_reward_function_that_fails(tmp_path: Path) -> None:
    fails = rewards(tmp_path, "return [1 / (len(prompts) - 32) for c in completions]")
    with pytest.raises(RewardError):
        trained(tmp_path, f'reward=["{fails}"]', "data.held_out=0")
    history = read_history(tmp_path / "patient")
    [sick, *_] = diagnose(history)
    assert (sick.name, sick.severity) == ("stopped-by-an-error", "alarm")
    assert sick.title == "A reward function failed"
    assert any("ZeroDivisionError" in said for said in sick.evidence)
    assert sick.change.endswith("--resume.")


def test_duplicate_and_leaked_prompts(tmp_path: Path) -> None:
    """The held-out questions stand in the training file: some word for word, some with other spaces."""
    held = [(f"{a}+{a + 1}+2=", str(2 * a + 3)) for a in range(10)]
    spaced = [(prompt.replace("+", " + "), answer) for prompt, answer in held[4:]]
    other = [(f"{a}+9+{a}=", str(2 * a + 9)) for a in range(20)]
    source = rows(tmp_path / "train.jsonl", [*held[:4], *spaced, *other, *other[:8]])
    held_out = rows(tmp_path / "test.jsonl", held)
    made = trained(
        tmp_path, f"data.source={source}", f"data.held_out_source={held_out}", "data.held_out=none", "train.steps=1"
    )
    log = (made / "log.txt").read_text(encoding="utf-8")
    assert "warning: 4 training prompts stand in the held-out source too" in log
    said = found(made)
    assert said["leaked-prompts"].severity == "alarm"
    assert said["leaked-prompts"].evidence[0].startswith("6 of 10 held-out questions")
    assert said["leaked-prompts"].samples[0] == "held_out:4 = train:4"
    assert said["duplicate-prompts"].severity == "warning"
    assert said["duplicate-prompts"].evidence[0].startswith("8 of 34 training prompts")
    assert said["duplicate-prompts"].samples[0] == "train:30 = train:10"
    assert said["overlapping-sources"].severity == "note"
    assert said["overlapping-sources"].samples == tuple(f"train:{row}" for row in range(4))
