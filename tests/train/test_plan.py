"""Minibatches are whole groups, each exactly once a pass; schedules by hand."""

from __future__ import annotations

import pytest

from scoreline.errors import ConfigError
from scoreline.objectives.aggregates import SequenceMean
from scoreline.train.collate import collate
from scoreline.train.plan import Plan
from tests import parts


def test_every_group_is_used_once_a_pass() -> None:
    plan = Plan(prompts_per_step=5, num_generations=3, minibatches=2, num_iterations=2)
    batch = collate(parts.rollouts(parts.policy(), questions=5, answers=3))
    minis = [mini for _, mini in plan.updates(batch, SequenceMean(), seed=0, step=4)]
    assert len(minis) == plan.updates_per_step == 4
    for part in (minis[:2], minis[2:]):
        assert sorted(g for mini in part for g in set(mini.group.tolist())) == [0, 1, 2, 3, 4]
        assert sum(len(mini) for mini in part) == 15
    for mini in minis:
        assert mini.weights is not None
        assert float(mini.weights.sum()) == pytest.approx(1.0)


def test_the_order_is_a_function_of_seed_and_step() -> None:
    plan = Plan(prompts_per_step=8, minibatches=8)
    batch = collate(parts.rollouts(parts.policy(), questions=8, answers=1))

    def order(seed: int, step: int) -> list[int]:
        return [int(mini.group[0]) for _, mini in plan.updates(batch, SequenceMean(), seed=seed, step=step)]

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, step)) for seed in (0, 1) for step in (0, 1)}) == 4


def test_learning_rate_schedules() -> None:
    linear = Plan(steps=10, minibatches=2, schedule="linear", warmup_updates=4)
    assert [linear.lr_factor(i) for i in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert linear.lr_factor(4) == 1.0
    assert linear.lr_factor(12) == pytest.approx(0.5)
    cosine = Plan(steps=10, schedule="cosine")
    assert cosine.lr_factor(5) == pytest.approx(0.5)
    assert Plan(steps=10).lr_factor(9) == 1.0
    assert Plan(steps=10, beta_schedule="linear").beta_factor(5) == 0.5


def test_more_minibatches_than_groups_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"fewer groups in a step than minibatches[\s\S]*minibatches=4"):
        Plan(prompts_per_step=2, minibatches=4)


def test_counts_below_one_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"train.steps is too small[\s\S]*got: +0"):
        Plan(steps=0)


def test_micro_batches_are_a_number_or_automatic() -> None:
    assert Plan().micro_batch_size == "auto"
    assert Plan(micro_batch_size=3).micro_batch_size == 3
    with pytest.raises(ConfigError, match=r"micro_batch_size is too small[\s\S]*0"):
        Plan(micro_batch_size=0)


def test_a_budget_of_tokens_ends_the_run_and_its_schedules() -> None:
    plan = Plan(steps=1000, schedule="linear", beta_schedule="linear", max_tokens=200)
    assert [plan.over(1, tokens) for tokens in (199, 200, 230)] == [False, True, True]
    assert [plan.lr_factor(0, tokens) for tokens in (0, 50, 150, 230)] == pytest.approx([1.0, 0.75, 0.25, 0.0])
    assert plan.beta_factor(1, 50) == pytest.approx(0.75)
    assert plan.lr_factor(900, 50) == pytest.approx(0.1), "the steps, where more of them is over"
    assert Plan(steps=3).over(3, 0)
    assert not Plan(steps=3).over(2, 10**9)


def test_seconds_end_the_run_and_leave_the_schedules() -> None:
    plan = Plan(steps=10, schedule="linear", max_seconds=2.0)
    assert [plan.over(1, 0, seconds) for seconds in (1.9, 2.0)] == [False, True]
    assert plan.lr_factor(5) == Plan(steps=10, schedule="linear").lr_factor(5)


@pytest.mark.parametrize("told", [{"max_tokens": 0}, {"max_seconds": 0.0}, {"max_seconds": float("inf")}])
def test_a_budget_is_above_nothing(told: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"train.max_\w+ is"):
        Plan(**told)  # type: ignore[arg-type]
