"""What a comparison's recipe says, what is made of it, and what is refused before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scoreline.config.compare.recipe import Budget, read, short, written
from scoreline.config.compare.trials import changed, config_of, trials
from scoreline.config.dump import dump
from scoreline.errors import ConfigError, DataError

BASE = """
reward = ["arithmetic_answer"]
[model]
path = "tiny:init"
device = "cpu"
[train]
steps = 3
prompts_per_step = 2
num_generations = 2
"""

COMPARED = """
title = "Naive against GRPO"
recipe = ["base.toml"]
set = ["train.learning_rate=1e-4"]
seeds = [0, 3]

[budget]
tokens = 100

[[arm]]
name = "naive"
set = ["algorithm=naive"]

[[arm]]
name = "grpo"
title = "GRPO"
set = ["objective.kl.beta=0.1"]

[[claim]]
text = "GRPO is better"
arm = "grpo"
margin = 0.02
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    (tmp_path / "base.toml").write_text(BASE, encoding="utf-8")

    def make(text: str = COMPARED, name: str = "study.toml") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return make


def test_every_arm_with_every_seed_at_the_budget(write: Write, tmp_path: Path) -> None:
    told = read(write())
    made = trials(told, tmp_path / "out")
    assert (told.name, told.title, told.threads) == ("study", "Naive against GRPO", 1)
    assert [trial.name for trial in made] == ["naive-0", "grpo-0", "naive-3", "grpo-3"]
    assert {trial.run.folder for trial in made} == {str(tmp_path / "out" / "runs")}
    assert [trial.run.seed for trial in made] == [0, 0, 3, 3]
    assert [trial.run.algorithm for trial in made[:2]] == ["naive", "grpo"]
    assert made[1].run.objective.kl is not None
    assert made[1].run.objective.kl.beta == 0.1
    assert {trial.run.train.learning_rate for trial in made} == {1e-4}
    assert {(trial.run.train.max_tokens, trial.run.train.steps) for trial in made} == {(100, 25)}


@pytest.mark.parametrize(
    ("budget", "plan"),
    [
        ("steps = 7", (7, None, None)),
        ("seconds = 1.5", (3, None, 1.5)),
        ("tokens = 10", (3, 10, None)),
        ("", (3, None, None)),
    ],
)
def test_budgets_become_plans(write: Write, tmp_path: Path, budget: str, plan: tuple[object, ...]) -> None:
    told = read(write(COMPARED.replace("tokens = 100", budget)))
    [run, *_] = [trial.run for trial in trials(told, tmp_path)]
    assert (run.train.steps, run.train.max_tokens, run.train.max_seconds) == plan


def test_the_command_line_changes_the_comparison_or_every_run(write: Write, tmp_path: Path) -> None:
    told = read(
        write(), ["seeds=[1]", "train.minibatches=2", "budget.tokens=none", "budget.steps=2", "objective.kl=none"]
    )
    made = trials(told, tmp_path)
    assert [trial.name for trial in made] == ["naive-1", "grpo-1"]
    assert {trial.run.train.minibatches for trial in made} == {2}
    assert {trial.run.train.steps for trial in made} == {2}
    assert made[1].run.objective.kl is None


def test_what_is_written_is_the_same_comparison(write: Write, tmp_path: Path) -> None:
    told, folder = read(write()), tmp_path / "comparisons" / "study"
    folder.mkdir(parents=True)
    (folder / "comparison.toml").write_text(dump(written(told, folder)), encoding="utf-8")
    again = read(folder / "comparison.toml")
    assert [trial.run for trial in trials(again, folder)] == [trial.run for trial in trials(told, folder)]
    assert (again.claim, again.seeds, again.budget, again.title) == (told.claim, told.seeds, told.budget, told.title)


def test_the_short_form(write: Write, tmp_path: Path) -> None:
    write()
    arms = ["algorithm=naive", "algorithm=grpo objective.kl.beta=0.1", f"{tmp_path}/base.toml train.steps=9"]
    told = short([tmp_path / "base.toml"], ["train.minibatches=2"], arms, seeds=2, budget=Budget(steps=4), name=None)
    assert [arm.name for arm in told.arm] == ["naive", "grpo-beta-0.1", "base-steps-9"]
    assert told.name == "naive-against-grpo-beta-0.1-against-base-steps-9"
    with pytest.raises(ConfigError, match="Two arms are the same"):
        short_trials(tmp_path, ["algorithm=grpo", "train.max_grad_norm=1.0"])
    made = short_trials(tmp_path, arms[:2])
    assert [trial.name for trial in made] == ["naive-0", "grpo-beta-0.1-0"]


def short_trials(tmp_path: Path, arms: list[str]) -> list:
    budget = Budget(steps=4)
    return trials(short([tmp_path / "base.toml"], [], arms, seeds=1, budget=budget, name=None), tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "grpo"', 'name = "naive"', "nothing to compare"),
        ('name = "grpo"', 'name = "../up"', "one plain name"),
        ('name = "grpo"', 'name = "start"', "one plain name"),
        ('arm = "grpo"', 'arm = "gpro"', r"about arms of its comparison[\s\S]*gpro"),
        ("margin = 0.02", "margin = -1", "margin is a size"),
        ("margin = 0.02", 'expects = "same"', "Nothing is ever exactly the same"),
        ("tokens = 100", "tokens = 0", r"budget.tokens is an amount"),
        ("tokens = 100", "tokens = 100\nsteps = 5", "one budget"),
        ("seeds = [0, 3]", "seeds = [1, 1]", "seeds are different numbers"),
        ('["base.toml"]', '["base.tml"]', "no such recipe"),
        ('["algorithm=naive"]', '["algorithm=niave"]', r"Arm naive: Unknown algorithm[\s\S]*'naive'"),
        ('["algorithm=naive"]', '["data.level=3"]', r"cannot be compared[\s\S]*data.level"),
        ('["algorithm=naive"]', '["train.steps=5"]', r"cannot be|no budget|are the same|differ"),
        ('["algorithm=naive"]', '["train.num_generations=1"]', r"Arm naive: A group baseline needs"),
        ('["algorithm=naive"]', '["model.path=./gone"]', r"Arm naive: The model folder is missing"),
        ('["algorithm=naive"]', '["judge.path=./gone"]', r"Arm naive: The model folder is missing"),
        (
            '["algorithm=naive"]',
            '["reward=[]", "step_reward=[\\"arithmetic_steps\\"]"]',
            r"Arm naive: Steps are rewarded, but",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(write: Write, tmp_path: Path, old: str, new: str, said: str) -> None:
    text = COMPARED.replace(old, new)
    if "train.steps=5" in new:
        text = text.replace("tokens = 100", "")
    with pytest.raises(ConfigError, match=said):
        trials(read(write(text)), tmp_path)


def test_questions_that_are_not_there_are_refused(write: Write, tmp_path: Path) -> None:
    text = COMPARED.replace('"train.learning_rate=1e-4"', '"data.source=gone.jsonl"')
    with pytest.raises(DataError, match=r"gone\.jsonl"):
        trials(read(write(text)), tmp_path)


def test_a_difference_that_is_meant_is_allowed(write: Write, tmp_path: Path) -> None:
    text = COMPARED.replace('["algorithm=naive"]', '["data.level=3"]')
    assert len(trials(read(write('allow = ["data.level"]\n' + text)), tmp_path)) == 4


def test_a_training_recipe_is_no_comparison(tmp_path: Path, write: Write) -> None:
    write()
    with pytest.raises(ConfigError, match=r"nothing to compare[\s\S]*--arms"):
        read(tmp_path / "base.toml")


def test_a_run_that_another_recipe_made_is_seen(write: Write, tmp_path: Path) -> None:
    [trial, *_] = trials(read(write()), tmp_path)
    assert changed(trial) is None
    trial.folder.mkdir(parents=True)
    file = trial.folder / "config.resolved.toml"
    file.write_text(dump(trial.run), encoding="utf-8")
    assert changed(trial) == []
    file.write_text(dump(trial.run).replace("learning_rate = 0.0001", "learning_rate = 0.5"), encoding="utf-8")
    assert changed(trial) == ["train.learning_rate"]
    file.write_text("from = 'elsewhere'", encoding="utf-8")
    assert changed(trial) == ["a recipe of another version"]
    assert config_of(trial.run)["train"]["max_tokens"] == 100
