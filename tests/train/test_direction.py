"""sum_it w_it GC_it grad log pi is the gradient of the learner's own update, for every objective."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from scoreline.models.critic import CriticConfig, make_critic
from scoreline.objectives.aggregates import FixedLength
from scoreline.objectives.coefficients import Coefficients, coefficients
from scoreline.objectives.dialects import DIALECTS
from scoreline.objectives.divergences import KL, EntropyBonus
from scoreline.objectives.objective import Objective
from scoreline.objectives.ratios import Clip, LogProb, TruncatedImportance
from scoreline.objectives.zoo import ZOO, grpo, ppo
from scoreline.train.collate import collate
from scoreline.train.direction import direction
from scoreline.train.learner import LocalLearner, Update
from scoreline.types import Batch, Reward, Step
from tests import parts

EVERY = (
    ZOO
    | DIALECTS
    | {
        "dr_grpo": replace(ZOO["dr_grpo"], aggregate=FixedLength(9)),
        "dual": replace(grpo, surrogate=Clip(0.2, 0.2, dual=1.2)),
        "k2": replace(grpo, kl=KL(0.5, "k2")),
        "k3_unbiased": replace(grpo, kl=KL(0.5, "k3_unbiased")),
        "correction": replace(grpo, correction=TruncatedImportance(1.2)),
    }
)


def learner(objective: Objective, kind: str = "separate") -> LocalLearner:
    actor = parts.policy()
    critic = make_critic(CriticConfig(kind=kind), actor) if objective.value else None  # type: ignore[arg-type]
    reference = parts.policy(seed=1) if objective.kl else None
    return LocalLearner(
        actor, objective, reference=reference, critic=critic, learning_rate=1e-2, max_grad_norm=1e9, micro_batch_size=5
    )


def answers(steps: bool) -> Batch:
    """Random answers; with `steps`, each has a reward at its middle and at its end."""
    rollouts = parts.rollouts(parts.policy())
    if steps:
        ends = [(len(r.completion.token_ids) // 2, len(r.completion.token_ids) - 1) for r in rollouts]
        rollouts = [
            replace(r, steps=(Step("", a), Step("", b)), reward=Reward(None, steps=(i % 3 - 1.0, i % 2 + 0.5)))
            for i, (r, (a, b)) in enumerate(zip(rollouts, ends, strict=True))
        ]
    return collate(rollouts)


def both(objective: Objective, *, steps: bool = False, kind: str = "separate") -> tuple[Tensor, Tensor, Coefficients]:
    """What the second update of a batch took, sign turned, and what its coefficients make of the same weights."""
    made = learner(objective, kind)
    batch = made.annotate(answers(steps), objective.passes(2))
    batch = objective.estimate(batch)
    batch = replace(batch, weights=objective.aggregate(batch.mask))
    made.update(batch, Update())
    weights = copy.deepcopy(made.policy.model.state_dict())
    seen = replace(batch, logp=made.update(batch, Update()).logp)
    taken = torch.cat([weight.grad.flatten() for weight in made.groups["policy"]])  # type: ignore[union-attr]
    made.policy.model.load_state_dict(weights)
    found = coefficients(objective, seen)
    return -taken.clone(), direction(made.policy, seen, found.weighted, temperature=1.0), found


def apart(taken: Tensor, found: Tensor) -> float:
    return float((taken - found).norm() / taken.norm())


@pytest.mark.parametrize("steps", [False, True], ids=["outcome", "process"])
@pytest.mark.parametrize("name", EVERY)
def test_coefficients_make_the_gradient_of_the_update(name: str, steps: bool) -> None:
    taken, found, told = both(EVERY[name], steps=steps)
    assert float(taken.norm()) > 1e-4
    assert apart(taken, found) < 1e-5
    if not isinstance(EVERY[name].surrogate, LogProb):
        assert bool(told.clipped.any()), "the first update moved some tokens out of the clip"


def test_the_entropy_bonus_is_no_coefficient() -> None:
    taken, found, _ = both(replace(grpo, entropy=EntropyBonus(0.5)))
    assert apart(taken, found) > 1e-3


def test_a_trunk_that_the_critic_shares_moves_by_its_loss_too() -> None:
    taken, found, _ = both(ppo, kind="shared")
    assert apart(taken, found) > 1e-3


def test_a_direction_is_linear_in_its_amounts() -> None:
    policy, batch = parts.policy(), answers(steps=False)
    one, two = torch.randn(batch.mask.shape), torch.randn(batch.mask.shape)
    sides = [direction(policy, batch, amounts, temperature=0.7) for amounts in (one, two, one - 2 * two)]
    assert torch.allclose(sides[0] - 2 * sides[1], sides[2], atol=1e-4)
