"""Outcome supervision is process supervision with one step that reaches the end: the same bits, through advantages,
loss, gradient and update."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch
from hypothesis import given

from scoreline.objectives.groups import GroupNorm
from scoreline.objectives.returns import ToGo
from scoreline.objectives.signal import Signal
from scoreline.objectives.zoo import grpo
from scoreline.train.collate import collate
from scoreline.types import Batch, Reward, Step
from tests.parts import policy, rollouts
from tests.properties.stepwise import EACH_STD, NAMES, OBJECTIVES, SEEDS, annotated, learned, moved, weights_after

reader = cache(policy)


def outcome_and_process(seed: int) -> tuple[Batch, Batch]:
    """The same random answers with the same random scores: as totals, and as rewards of one step each."""
    told = rollouts(reader(), questions=4, answers=4, seed=seed)
    steps = [(Step(r.text, len(r.completion.token_ids) - 1),) for r in told]
    stepped = [
        replace(r, reward=Reward(None, steps=(r.reward.total,)), steps=cut) for r, cut in zip(told, steps, strict=True)
    ]
    return collate(told), collate(stepped)


@NAMES
@given(seed=SEEDS)
def test_one_step_to_the_end_is_the_outcome_in_advantages_loss_and_gradient(name, seed):
    outcome, process = (learned(OBJECTIVES[name], *annotated(made, seed)) for made in outcome_and_process(seed))
    for left, right in zip(outcome, process, strict=True):
        assert torch.equal(left, right)
    assert outcome[2].abs().sum() > 0


@EACH_STD
@given(seed=SEEDS)
def test_one_step_to_the_end_is_one_number_an_answer(std, seed):
    # Section 4.1.2 on [n] scores, without tokens and without a sum over steps: the same bits on every token.
    _, process = outcome_and_process(seed)
    score = process.rewards.sum(1, keepdim=True)
    one = torch.ones_like(score, dtype=torch.bool)
    part = GroupNorm(std)
    alone = part(Signal(score, one, one, process.group)).rewards
    objective = replace(grpo, credit=(part, ToGo()))
    assert torch.equal(objective.estimate(process).advantages, alone * process.mask)


def test_one_step_to_the_end_is_the_outcome_in_the_trained_weights():
    # Three updates of the whole learner, so that the clip is at work.
    outcome, process = (weights_after(batch, updates=3) for batch in outcome_and_process(0))
    assert moved(outcome) > 1e-2
    assert all(torch.equal(outcome[name], process[name]) for name in outcome)
