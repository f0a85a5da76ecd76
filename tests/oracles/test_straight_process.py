"""DeepSeekMath's section 4.1.3 once more, as plain loops over plain numbers, against the library on random uneven
answers: any number of steps, steps that share a token, outcomes besides them, answers without anything. To 1e-6."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import exp, sqrt
from random import Random

import pytest
import torch

from scoreline.objectives.aggregates import FixedLength
from scoreline.objectives.groups import GroupNorm, LeaveOneOut
from scoreline.objectives.objective import Objective, PolicyOutput
from scoreline.objectives.returns import ToGo
from scoreline.objectives.zoo import dr_grpo, grpo, ppo, ppo_clip
from scoreline.train.collate import collate
from scoreline.types import Batch, Completion, Prompt, Reward, Rollout, Step

Rows = list[list[float]]
SEEDS = pytest.mark.parametrize("seed", range(12))


@dataclass
class Answer:
    """What a plain loop needs to know of an answer. Tokens are counted from 0."""

    group: int
    length: int
    steps: list[tuple[int, float | None]]
    """(token that ends the step, its reward or None)"""
    outcome: float | None
    old: list[float] = field(default_factory=list)
    ref: list[float] = field(default_factory=list)
    new: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    new_values: list[float] = field(default_factory=list)

    def earned(self) -> dict[int, float]:
        """The reward of each token that has one. What meets on a token adds up; None is nothing."""
        at: dict[int, float] = {}
        for end, reward in [*self.steps, (self.length - 1, self.outcome)]:
            if reward is not None:
                at[end] = at.get(end, 0.0) + reward
        return at


def answers(seed: int, outcomes: bool) -> list[Answer]:
    """Two to four groups of two to five answers."""
    random = Random(seed)
    made = []
    for group in range(random.randint(2, 4)):
        for _ in range(random.randint(2, 5)):
            length = random.randint(1, 12)
            ends = sorted(random.choices(range(length), k=random.randint(0, 5)))
            steps = [(end, random.gauss(0, 1) if random.random() < 0.9 else None) for end in ends]
            one = Answer(group, length, steps, random.gauss(0, 2) if outcomes and random.random() < 0.7 else None)
            one.old = [random.gauss(-1.5, 0.5) for _ in range(length)]
            one.ref = [x + random.gauss(0, 0.3) for x in one.old]
            one.new = [x + random.gauss(0, 0.3) for x in one.old]
            one.values = [random.gauss(0, 1) for _ in range(length)]
            one.new_values = [x + random.gauss(0, 0.3) for x in one.values]
            made.append(one)
    random.shuffle(made)
    return made


# The library.


def column(rows: Rows) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [0.0] * (width - len(row)) for row in rows], dtype=torch.float64)


def prepared(made: list[Answer]) -> Batch:
    rollouts = [
        Rollout(
            Prompt(f"q{one.group}", "?"),
            (3,),
            Completion((4,) * one.length, tuple(one.old), "stop"),
            "",
            Reward(one.outcome, steps=tuple(reward for _, reward in one.steps)),
            one.group,
            tuple(Step("", end) for end, _ in one.steps),
        )
        for one in made
    ]
    columns = {
        "logp_old": column([one.old for one in made]),
        "logp_ref": column([one.ref for one in made]),
        "values": column([one.values for one in made]),
    }
    batch = collate(rollouts)
    return replace(batch, rewards=batch.rewards.double(), **columns)


def library(objective: Objective, made: list[Answer]) -> tuple[Rows, float]:
    """Advantages of each answer's own tokens, and the whole loss."""
    batch = objective.estimate(prepared(made))
    batch = replace(batch, weights=objective.aggregate(batch.mask).double())
    policy = PolicyOutput(column([one.new for one in made]), values=column([one.new_values for one in made]))
    advantages = [row[: one.length] for row, one in zip(batch.advantages.tolist(), made, strict=True)]
    return advantages, float(objective.loss(batch, policy).total)


def agree(objective: Objective, made: list[Answer], advantages: Rows, loss: float) -> None:
    found, total = library(objective, made)
    assert any(any(row) for row in found)
    for ours, theirs in zip(found, advantages, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)
    assert total == pytest.approx(loss, abs=1e-6)


# The paper.


def mean(x: list[float]) -> float:
    return sum(x) / len(x)


def process_advantages(made: list[Answer], std: str) -> Rows:
    """Section 4.1.3: r~ = (r - mean(R)) / std(R) over all rewards R of a group; A_it = the sum of r~ from t on."""
    out = []
    for one in made:
        pool = [reward for other in made if other.group == one.group for reward in other.earned().values()]
        row = []
        for t in range(one.length):
            total = 0.0
            for end, reward in one.earned().items():
                if end >= t:
                    total += normalised(reward, pool, std)
            row.append(total)
        out.append(row)
    return out


def normalised(reward: float, pool: list[float], std: str) -> float:
    if max(pool) == min(pool):
        return 0.0
    if std == "none":
        return reward - mean(pool)
    squares = sum((r - mean(pool)) ** 2 for r in pool)
    by = sqrt(squares / (len(pool) - 1)) if std == "sample" else sqrt(squares / len(pool))
    return (reward - mean(pool)) / (by + 1e-6)


def clipped(new: float, old: float, advantage: float) -> float:
    ratio = exp(new - old)
    return min(ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage)


def gain(one: Answer, t: int, advantage: float, beta: float) -> float:
    """What equation 3 adds up for a token: the clipped surrogate less the KL of equation 4."""
    ratio = exp(one.ref[t] - one.new[t])
    return clipped(one.new[t], one.old[t], advantage) - beta * (ratio - (one.ref[t] - one.new[t]) - 1)


def grpo_loss(made: list[Answer], advantages: Rows, beta: float = 0.04) -> float:
    """Equation 3: the mean over answers of the mean over tokens."""
    return -mean(
        [
            mean([gain(one, t, row[t], beta) for t in range(one.length)])
            for one, row in zip(made, advantages, strict=True)
        ]
    )


@SEEDS
@pytest.mark.parametrize("outcomes", [False, True], ids=["process", "mixture"])
@pytest.mark.parametrize("std", ["sample", "population"])
def test_grpo(seed, outcomes, std):
    made = answers(seed, outcomes)
    advantages = process_advantages(made, std)
    objective = replace(grpo, credit=(GroupNorm(std), ToGo()))
    agree(objective, made, advantages, grpo_loss(made, advantages))


@SEEDS
def test_dr_grpo(seed):
    # No std, a constant for the length, no KL.
    made = answers(seed, outcomes=True)
    advantages = process_advantages(made, "none")
    sums = [
        sum(gain(one, t, row[t], 0.0) for t in range(one.length)) for one, row in zip(made, advantages, strict=True)
    ]
    agree(replace(dr_grpo, aggregate=FixedLength(16)), made, advantages, -mean(sums) / 16)


@SEEDS
def test_leave_one_out_measures_a_step_by_the_other_answers_steps(seed):
    made = answers(seed, outcomes=True)
    advantages = []
    for one in made:
        others = [r for other in made if other is not one and other.group == one.group for r in other.earned().values()]
        pool = [*others, *one.earned().values()]
        silent = not others or max(pool) == min(pool)
        later = [[r for end, r in one.earned().items() if end >= t] for t in range(one.length)]
        advantages.append([0.0 if silent else sum(r - mean(others) for r in rewards) for rewards in later])
    agree(replace(grpo, credit=(LeaveOneOut(), ToGo())), made, advantages, grpo_loss(made, advantages))


@SEEDS
@pytest.mark.parametrize("beta", [0.0, 0.05])
def test_ppo_with_step_rewards(seed, beta):
    # Equation 2 with r on the tokens that end steps, GAE as the sum of its definition, gamma 1 and lambda 0.95.
    made = answers(seed, outcomes=False)
    advantages, gains, errors = [], [], []
    for one in made:
        scored = bool(one.earned())
        rewards = [one.earned().get(t, 0.0) - beta * (one.old[t] - one.ref[t]) for t in range(one.length)]
        following = [*one.values[1:], 0.0]
        delta = [rewards[t] + following[t] - one.values[t] for t in range(one.length)]
        row = [sum(0.95 ** (k - t) * delta[k] for k in range(t, one.length)) for t in range(one.length)]
        row = row if scored else [0.0] * one.length  # what nothing scored teaches neither policy nor critic
        advantages.append(row)
        for t in range(one.length):
            gains.append(clipped(one.new[t], one.old[t], row[t]))
            target = row[t] + one.values[t]
            errors.append((one.new_values[t] - target) ** 2 / 2 if scored else 0.0)
    agree(ppo if beta else ppo_clip, made, advantages, mean(errors) - mean(gains))


def test_the_random_answers_have_every_difficulty():
    everything = [one for seed in range(12) for one in answers(seed, outcomes=True)]
    assert any(not one.earned() for one in everything)
    assert any(len({end for end, _ in one.steps}) < len(one.steps) for one in everything)
    assert any(one.steps and one.steps[-1][0] == one.length - 1 and one.outcome is not None for one in everything)
    assert any(one.steps and one.steps[-1][0] < one.length - 1 and one.outcome is None for one in everything)
    assert any(reward is None for one in everything for _, reward in one.steps)
    assert len({len(one.steps) for one in everything}) == 6
