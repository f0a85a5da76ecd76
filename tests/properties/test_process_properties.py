"""Step rewards on their tokens, and what must not matter under process supervision: order, shift, scale, padding,
the cut into micro-batches."""

from __future__ import annotations

from dataclasses import fields, replace
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scoreline.objectives.objective import PolicyOutput
from scoreline.objectives.zoo import grpo
from scoreline.train.collate import collate
from scoreline.types import Batch, Reward, Step
from tests.parts import policy, rollouts
from tests.properties.stepwise import (
    EACH_STD,
    NAMES,
    OBJECTIVES,
    SEEDS,
    annotated,
    answer,
    exactly,
    learned,
    moved,
    normed,
    uneven,
    weights_after,
)

# Where rewards sit.


def test_step_rewards_sit_on_the_tokens_that_end_the_steps() -> None:
    batch = collate([answer(5, Reward(None, steps=(1.0, 0.5)), (1, 3)), answer(2, Reward(None, steps=(-1.0,)), (1,))])
    assert batch.rewards.tolist() == [[0.0, 1.0, 0.0, 0.5, 0.0], [0.0, -1.0, 0.0, 0.0, 0.0]]
    assert batch.rewarded.tolist() == [[False, True, False, True, False], [False, True, False, False, False]]


def test_the_total_sits_on_the_last_token_besides_the_steps() -> None:
    batch = collate([answer(4, Reward(2.0, steps=(1.0, 0.0)), (0, 2)), answer(3, Reward(3.0, steps=(1.0,)), (1,))])
    assert batch.rewards.tolist() == [[1.0, 0.0, 0.0, 2.0], [0.0, 1.0, 3.0, 0.0]]
    assert batch.rewarded.tolist() == [[True, False, True, True], [False, True, True, False]]


def test_rewards_that_meet_on_one_token_add_up() -> None:
    # The last step ends where the answer does; and two steps may end inside one token.
    batch = collate(
        [answer(4, Reward(2.0, steps=(1.0, 0.25)), (1, 3)), answer(2, Reward(None, steps=(1.0, -0.5)), (0, 0))]
    )
    assert batch.rewards.tolist() == [[0.0, 1.0, 0.0, 2.25], [0.5, 0.0, 0.0, 0.0]]
    assert batch.rewarded.tolist() == [[False, True, False, True], [True, False, False, False]]


def test_none_is_no_reward_and_zero_is_one() -> None:
    batch = collate(
        [
            answer(3, Reward(None, steps=(None, 0.0)), (0, 2)),
            answer(3, Reward(None, steps=(None, None)), (0, 2)),
            answer(3, Reward(1.0, steps=(None, None)), (0, 2)),
            answer(3, Reward(None, steps=(0.5, None)), (2, 2)),
            answer(3, Reward(None)),
        ]
    )
    assert batch.rewarded.tolist() == [
        [False, False, True],
        [False, False, False],
        [False, False, True],
        [False, False, True],
        [False, False, False],
    ]
    assert batch.rewards[:, 2].tolist() == [0.0, 0.0, 1.0, 0.5, 0.0]


def test_a_reward_without_its_step_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"zip\(\)"):
        collate([answer(3, Reward(None, steps=(1.0, 1.0)), (2,))])


# Uneven answers.


@EACH_STD
@given(seed=SEEDS, shift=st.floats(-10, 10))
def test_a_constant_added_to_every_step_of_a_group_changes_nothing(std, seed, shift):
    # Of one group: the others hold still. On tokens: two steps that end on one token are one reward.
    batch = exactly(uneven(seed))
    shifted = batch.rewards + shift * (batch.rewarded & (batch.group == 1)[:, None])
    before, after = (normed(std).estimate(made).advantages for made in (batch, replace(batch, rewards=shifted)))
    torch.testing.assert_close(after, before, atol=1e-7, rtol=1e-7)
    assert torch.equal(after[batch.group != 1], before[batch.group != 1])


@pytest.mark.parametrize("std", ["sample", "population"])
@given(seed=SEEDS, scale=st.floats(0.1, 10))
def test_scale_changes_nothing_but_what_epsilon_is_worth(std, seed, scale):
    batch = exactly(uneven(seed))
    larger = replace(batch, rewards=batch.rewards * scale)
    torch.testing.assert_close(
        normed(std, 0.0).estimate(larger).advantages, normed(std, 0.0).estimate(batch).advantages
    )
    weaker = normed(std, 0.1 / scale).estimate(batch).advantages
    torch.testing.assert_close(normed(std, 0.1).estimate(larger).advantages, weaker)


@NAMES
@given(seed=SEEDS)
def test_permuted_answers_have_permuted_advantages(name, seed):
    made = uneven(seed, outcomes=True)
    order = torch.randperm(len(made), generator=torch.Generator().manual_seed(seed))
    straight, policy = annotated(exactly(made), seed)
    mixed = straight.rows(order)
    shuffled = PolicyOutput(policy.logp[order], values=policy.values[order])
    first, second = learned(OBJECTIVES[name], straight, policy), learned(OBJECTIVES[name], mixed, shuffled)
    torch.testing.assert_close(second[0], first[0][order])
    torch.testing.assert_close(second[1], first[1])
    torch.testing.assert_close(second[2], first[2][:, order])


@given(seed=SEEDS)
def test_collating_in_another_order_is_the_same(seed):
    made = uneven(seed, outcomes=True)
    order = list(range(len(made)))
    Random(seed).shuffle(order)
    straight, mixed = exactly(made), exactly([made[i] for i in order])
    for field in fields(Batch):
        if getattr(straight, field.name) is not None:
            assert torch.equal(getattr(mixed, field.name), getattr(straight, field.name)[order]), field.name


@EACH_STD
@given(seed=SEEDS)
def test_a_wider_batch_changes_nothing(std, seed):
    # Another group with one long answer: 31 more columns.
    made = uneven(seed, outcomes=True)
    company = [answer(40, Reward(None, steps=(3.0,)), (38,), group=3), answer(1, Reward(2.0), group=3)]
    narrow, wide = exactly(made), exactly([*made, *company])
    n, t = narrow.mask.shape
    before, after = normed(std).estimate(narrow).advantages, normed(std).estimate(wide).advantages
    torch.testing.assert_close(after[:n, :t], before)
    assert after[:n, t:].eq(0).all()
    assert after[n:].ne(0).any()


@given(seed=SEEDS, cut=st.integers(1, 8))
def test_micro_batches_add_up(seed, cut):
    batch, policy = annotated(exactly(uneven(seed, outcomes=True)), seed)
    whole = replace(grpo.estimate(batch), weights=grpo.aggregate(batch.mask).double())
    parts = [slice(0, cut), slice(cut, len(batch))]
    losses = [grpo.loss(whole.rows(part), PolicyOutput(policy.logp[part])).total for part in parts]
    torch.testing.assert_close(losses[0] + losses[1], grpo.loss(whole, policy).total)


def test_micro_batches_of_the_learner_add_up():
    made = []
    for row, rollout in enumerate(rollouts(policy(seed=0), questions=4, answers=4, seed=0)):
        last = len(rollout.completion.token_ids) - 1
        steps = (Step("a", last // 2), Step("b", last))
        made.append(replace(rollout, reward=Reward(None, steps=(float(row % 3), float(row % 2))), steps=steps))
    batch = collate(made)
    whole, cut = weights_after(batch, updates=1), weights_after(batch, updates=1, rows=3)
    assert moved(whole) > 1e-2
    for name, weight in whole.items():
        torch.testing.assert_close(cut[name], weight, atol=1e-6, rtol=1e-5)


@EACH_STD
@given(seed=SEEDS)
def test_tokens_behind_the_last_step_get_exactly_zero_and_keep_the_kl(std, seed):
    batch, policy = annotated(exactly(uneven(seed)), seed)
    advantages, _, (gradient, _) = learned(normed(std), batch, policy)
    behind = batch.mask & (batch.rewarded.flip(1).cumsum(1).flip(1) == 0)
    assert advantages[behind].eq(0).all()
    # What is left of the loss is beta k3, whose derivative is beta (1 - pi_ref / pi).
    pull = 0.04 * grpo.aggregate(batch.mask).double() * (1 - (batch.logp_ref - policy.logp).exp())
    torch.testing.assert_close(gradient[behind], pull[behind])
    assert gradient[behind].ne(0).all()


@EACH_STD
@given(seed=SEEDS)
def test_all_tokens_of_a_step_share_one_advantage(std, seed):
    batch = exactly(uneven(seed, outcomes=True))
    advantages = normed(std).estimate(batch).advantages
    inside = ~batch.rewarded[:, :-1] & batch.mask[:, 1:]
    assert torch.equal(advantages[:, :-1][inside], advantages[:, 1:][inside])


@EACH_STD
@given(seed=SEEDS)
def test_the_first_tokens_of_a_group_sum_to_zero(std, seed):
    # A first token answers for every step of its answer, and all steps of the group are measured by their own mean.
    batch = exactly(uneven(seed, outcomes=True))
    first = normed(std).estimate(batch).advantages[:, 0]
    sums = torch.zeros(3, dtype=torch.float64).index_add(0, batch.group, first)
    torch.testing.assert_close(sums, torch.zeros_like(sums), atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", ["naive", "rloo"])
@given(seed=SEEDS)
def test_where_an_answer_is_one_action_only_its_sum_counts(name, seed):
    # REINFORCE pays the first token for all steps to come; RLOO adds an answer's steps up before it compares.
    batch, policy = annotated(exactly(uneven(seed)), seed)
    last = torch.arange(batch.mask.shape[1]) == batch.length[:, None] - 1
    one = replace(
        batch,
        rewards=batch.rewards.sum(1, keepdim=True) * last,
        rewarded=last & batch.rewarded.any(1, keepdim=True),
    )
    stepwise, summed = (learned(OBJECTIVES[name], made, policy)[0] for made in (batch, one))
    torch.testing.assert_close(stepwise[:, 0], summed[:, 0])
