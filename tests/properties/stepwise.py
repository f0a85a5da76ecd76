"""Answers with rewards on their steps, and what an objective makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st

from scoreline.objectives.aggregates import FixedLength
from scoreline.objectives.groups import GroupNorm
from scoreline.objectives.objective import Objective, PolicyOutput
from scoreline.objectives.returns import ToGo
from scoreline.objectives.zoo import ZOO, grpo
from scoreline.train.collate import collate
from scoreline.train.learner import LocalLearner, Update
from scoreline.train.plan import Plan
from scoreline.types import Batch, Completion, Prompt, Reward, Rollout, Step
from tests.parts import policy

settings.register_profile("small", max_examples=15, deadline=None, derandomize=True)
settings.load_profile("small")

SEEDS = st.integers(0, 2**20)
EACH_STD = pytest.mark.parametrize("std", ["sample", "population", "none"])
OBJECTIVES = {**ZOO, "dr_grpo": replace(ZOO["dr_grpo"], aggregate=FixedLength(16))}
NAMES = pytest.mark.parametrize("name", OBJECTIVES)


def answer(length: int, reward: Reward, ends: Sequence[int] = (), *, group: int = 0) -> Rollout:
    """An answer of `length` tokens whose steps end where `ends` says."""
    steps = tuple(Step(f"step {k}", end) for k, end in enumerate(ends))
    done = Completion(tuple(range(3, 3 + length)), (-1.0,) * length, "stop")
    return Rollout(Prompt(f"q{group}", "1+1="), (5, 6), done, "", reward, group, steps)


def uneven(seed: int, *, outcomes: bool = False) -> list[Rollout]:
    """Three groups of unequal size; no step to four steps an answer, some of them without a number, some meeting."""
    random = Random(seed)
    made = []
    for group, size in enumerate((4, 3, 2)):
        for _ in range(size):
            length = random.randint(1, 9)
            ends = sorted(random.choices(range(length), k=random.randint(0, 4)))
            steps = tuple(None if random.random() < 0.1 else random.gauss(0, 1) for _ in ends)
            total = random.gauss(0, 1) if outcomes and random.random() < 0.7 else None
            made.append(answer(length, Reward(total, steps=steps), ends, group=group))
    return made


def exactly(rollouts: Sequence[Rollout]) -> Batch:
    """Collated, in double precision."""
    batch = collate(rollouts)
    return replace(batch, rewards=batch.rewards.double())


def normed(std: str, eps: float = 1e-6) -> Objective:
    return replace(grpo, credit=(GroupNorm(std, eps), ToGo()))


def annotated(batch: Batch, seed: int) -> tuple[Batch, PolicyOutput]:
    """The batch with the columns that objectives may need, and what a policy near pi_old says. Random, by seed."""
    draw = torch.Generator().manual_seed(seed)

    def noise(scale: float = 1.0) -> torch.Tensor:
        return (scale * torch.randn(batch.mask.shape, generator=draw)).to(batch.rewards)

    old = noise() - 2
    made = replace(batch, logp_old=old, logp_ref=old + noise(0.3), values=noise())
    return made, PolicyOutput(logp=old + noise(0.3), values=noise())


def learned(objective: Objective, batch: Batch, policy: PolicyOutput) -> tuple[torch.Tensor, ...]:
    """Advantages, loss, and the loss's derivatives by log pi and V side by side."""
    made = replace(objective.estimate(batch), weights=objective.aggregate(batch.mask).to(batch.rewards))
    logp, values = policy.logp.clone().requires_grad_(), policy.values.clone().requires_grad_()
    total = objective.loss(made, PolicyOutput(logp, values=values)).total
    grads = torch.autograd.grad(total, [logp, values], allow_unused=True, materialize_grads=True)
    return made.advantages, total.detach(), torch.stack(grads)


def weights_after(batch: Batch, *, updates: int, rows: int = 16) -> dict[str, torch.Tensor]:
    """What `grpo` makes of a fresh policy in so many updates along the gradient, `rows` rows a micro-batch."""
    actor, reference = policy(seed=0), policy(seed=1).frozen()
    learner = LocalLearner(actor, grpo, reference=reference, learning_rate=0.3, micro_batch_size=rows)
    learner.optimizer = torch.optim.SGD(actor.model.parameters())  # Adam would make a direction of mere rounding
    made = grpo.estimate(learner.annotate(batch, grpo.passes(updates)))
    plan = Plan(prompts_per_step=4, num_generations=4, num_iterations=updates)
    for _, mini in plan.updates(made, grpo.aggregate, seed=0, step=0):
        learner.update(mini, Update())
    return actor.model.state_dict()


def moved(weights: dict[str, torch.Tensor]) -> float:
    """How far the weights are from the fresh policy's."""
    start = policy(seed=0).model.state_dict()
    return max(float((weights[name] - start[name]).abs().max()) for name in start)
