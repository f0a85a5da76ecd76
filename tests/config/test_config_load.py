"""Defaults < files < overrides, and how parts of an objective are named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from scoreline.config.load import ALGORITHMS, load
from scoreline.config.run import Run, SftRun
from scoreline.environments.rewards import RewardSpec
from scoreline.errors import ConfigError
from scoreline.objectives.aggregates import TokenMean
from scoreline.objectives.divergences import KL, AdaptiveBeta
from scoreline.objectives.groups import GroupNorm
from scoreline.objectives.ratios import Clip, LogProb
from scoreline.objectives.returns import GAE, ToGo, Total
from scoreline.objectives.values import LambdaReturn, ValueLoss
from scoreline.objectives.zoo import actor_critic, dapo, grpo, naive, ppo

Write = Callable[..., Path]


@pytest.fixture
def recipe(tmp_path: Path) -> Write:
    def write(text: str, name: str = "recipe.toml") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def test_without_a_word_it_is_the_defaults() -> None:
    assert load(Run, []) == Run()
    assert load(SftRun, []) == SftRun()


def test_later_files_win_and_tables_merge(recipe: Write) -> None:
    first = recipe('seed = 1\nname = "a"\n[train]\nsteps = 5\nlearning_rate = 1e-4', "first.toml")
    second = recipe('name = "b"\n[train]\nsteps = 7', "second.toml")
    run = load(Run, [first, second], ["train.steps=9"])
    assert (run.seed, run.name, run.train.steps, run.train.learning_rate) == (1, "b", 9, 1e-4)


def test_only_the_result_must_be_valid(recipe: Write) -> None:
    """16 minibatches do not fit 8 prompts a step, but 32."""
    first, second = recipe("[train]\nminibatches = 16", "a.toml"), recipe("[train]\nprompts_per_step = 32", "b.toml")
    assert load(Run, [first, second]).train.minibatches == 16
    assert load(Run, [], ["train.minibatches=16", "train.prompts_per_step=32"]).train.prompts_per_step == 32


def test_free_tables_add_up(recipe: Write) -> None:
    file = recipe('[data.columns]\nquestion = "prompt"')
    assert load(Run, [file], ["data.columns.label=answer"]).data.columns == {"question": "prompt", "label": "answer"}


def test_lists_are_replaced_and_items_changed(recipe: Write) -> None:
    first = recipe('[[reward]]\nfunction = "boxed"\n[[reward]]\nfunction = "last_number"', "first.toml")
    second = recipe('[[reward]]\nfunction = "exact_match"\noptions = {column = "label"}', "second.toml")
    assert [spec.function for spec in load(Run, [first]).reward] == ["boxed", "last_number"]
    changed = load(Run, [first], ["reward.1.weight=2"]).reward
    assert [spec.weight for spec in changed] == [1.0, 2.0]
    assert load(Run, [first, second]).reward == (RewardSpec("exact_match", options={"column": "label"}),)


def test_a_reward_has_a_short_form(recipe: Write) -> None:
    file = recipe('reward = ["arithmetic_answer", {function = "format_match", weight = 0.2}]')
    assert load(Run, [file]).reward == (RewardSpec("arithmetic_answer"), RewardSpec("format_match", weight=0.2))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_algorithm_is_its_value(name: str) -> None:
    assert load(Run, [], [f"algorithm={name}"]).objective == ALGORITHMS[name]


def test_the_objective_changes_the_algorithm(recipe: Write) -> None:
    file = recipe('algorithm = "grpo"\n[objective.surrogate]\nhigh = 0.28\n[objective.kl]\nbeta = 0.01')
    expected = replace(grpo, surrogate=Clip(0.2, 0.28), kl=KL(beta=0.01))
    assert load(Run, [file]).objective == expected


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["objective.kl=none"], replace(grpo, kl=None)),
        (["objective.kl=none", "objective.kl.estimator=k2"], replace(grpo, kl=KL(estimator="k2"))),
        (["objective.kl.adapt.target=0.2"], replace(grpo, kl=KL(adapt=AdaptiveBeta(target=0.2)))),
        (["algorithm=naive", "objective.kl.beta=0.1"], replace(naive, kl=KL(beta=0.1))),
        (["objective.kl.beta=0.1", "algorithm=naive"], replace(naive, kl=KL(beta=0.1))),
        (["objective.credit.0.std=none"], replace(grpo, credit=(GroupNorm("none"), ToGo()))),
        (["objective.credit.0.type=Total"], replace(grpo, credit=(Total(), ToGo()))),
        (['objective.credit=["Total", {type = "ToGo", gamma = 0.9}]'], replace(grpo, credit=(Total(), ToGo(0.9)))),
        (["objective.aggregate=TokenMean"], replace(grpo, aggregate=TokenMean())),
        (["objective.surrogate.type=LogProb"], replace(grpo, surrogate=LogProb())),
        (
            ["objective.value.target.lam=0.95", "objective.credit=['GAE']"],
            replace(grpo, credit=(GAE(),), value=ValueLoss(target=LambdaReturn(lam=0.95))),
        ),
        (["algorithm=ppo", "objective.surrogate.dual=3"], replace(ppo, surrogate=Clip(dual=3.0))),
    ],
)
def test_parts_have_addresses(overrides: list[str], expected: object) -> None:
    assert load(Run, [], overrides).objective == expected


def test_the_same_type_keeps_its_values_and_another_starts_anew(recipe: Write) -> None:
    file = recipe('algorithm = "dapo"\n[objective.surrogate]\ntype = "Clip"\nlow = 0.1')
    assert load(Run, [file]).objective == replace(dapo, surrogate=Clip(0.1, 0.28))
    back = load(Run, [file], ["objective.surrogate.type=LogProb", "objective.surrogate.type=Clip"])
    assert back.objective == replace(dapo, surrogate=Clip())


def test_another_algorithm_starts_anew(recipe: Write) -> None:
    first = recipe('algorithm = "dapo"\n[objective.surrogate]\nhigh = 0.3', "first.toml")
    second = recipe('algorithm = "actor_critic"\n[objective.value]\nclip = 0.2', "second.toml")
    run = load(Run, [first, second])
    assert (run.algorithm, run.objective) == ("actor_critic", replace(actor_critic, value=ValueLoss(clip=0.2)))


@pytest.mark.parametrize(
    ("override", "address", "expected"),
    [
        ("name=7", "name", "7"),
        ("name=2026-11-22", "name", "2026-11-22"),
        ('name="7"', "name", "7"),
        ("name=a=b", "name", "a=b"),
        ("data.template=[{question}]", "data.template", "[{question}]"),
        ("data.system=none", "data.system", None),
        ("data.held_out=8", "data.held_out", 8),
        ("data.held_out=0.5", "data.held_out", 0.5),
        ("data.chat=true", "data.chat", True),
        ("train.learning_rate=1", "train.learning_rate", 1.0),
        ("train.learning_rate=1e-4", "train.learning_rate", 1e-4),
        ('sampling.stop=["\\n"]', "sampling.stop", ("\n",)),
        ("checkpoint.best=none", "checkpoint.best", None),
        ("checkpoint.best=pass@k", "checkpoint.best", "pass@k"),
    ],
)
def test_override_values(override: str, address: str, expected: object) -> None:
    value: object = load(Run, [], [override])
    for name in address.split("."):
        value = getattr(value, name)
    assert value == expected
    assert type(value) is type(expected)


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    file = tmp_path / "windows.toml"
    file.write_bytes("seed = 3\r\n[train]\r\nsteps = 4\r\n".encode("utf-8-sig"))
    assert load(Run, [file]).train.steps == 4


def test_a_number_or_a_word() -> None:
    assert load(Run, [], ["train.micro_batch_size=auto"]).train.micro_batch_size == "auto"
    assert load(Run, [], ["train.micro_batch_size=4"]).train.micro_batch_size == 4
    with pytest.raises(ConfigError, match=r'a whole number or "auto"'):
        load(Run, [], ["train.micro_batch_size=many"])
