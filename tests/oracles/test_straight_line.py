"""The papers' formulas once more, as plain loops over plain numbers, against the library: whole losses to 1e-6."""

from __future__ import annotations

from dataclasses import replace
from math import exp, sqrt
from random import Random

import pytest
import torch

from scoreline.objectives.aggregates import FixedLength
from scoreline.objectives.groups import GroupNorm
from scoreline.objectives.objective import Objective, PolicyOutput
from scoreline.objectives.returns import ToGo
from scoreline.objectives.zoo import actor_critic, dapo, dr_grpo, grpo, naive, ppo, ppo_clip, rloo
from scoreline.types import Batch

Rows = list[list[float]]
LENGTHS = [4, 2, 5, 3, 1, 5]
GROUPS = [[0, 1, 2, 3], [4, 5]]
T = max(LENGTHS)


class Data:
    """Six answers to two questions: ragged rows of plain numbers."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.old, self.ref, self.values = self.rows(-1.5, 0.5), self.rows(-1.5, 0.5), self.rows(0.0, 1.0)
        self.logp = [[x + self.random.gauss(0, 0.3) for x in row] for row in self.old]
        self.new_values = [[x + self.random.gauss(0, 0.3) for x in row] for row in self.values]
        self.scores = [self.random.gauss(0, 1) for _ in LENGTHS]

    def rows(self, mean: float, scale: float) -> Rows:
        return [[self.random.gauss(mean, scale) for _ in range(n)] for n in LENGTHS]

    def steps(self) -> list[dict[int, float]]:
        """Step rewards by the token that ends the step."""
        ends = [sorted(self.random.sample(range(n), min(n, 1 + n // 2))) for n in LENGTHS]
        return [{end: self.random.gauss(0, 1) for end in row} for row in ends]


def column(rows: Rows) -> torch.Tensor:
    return torch.tensor([row + [0.0] * (T - len(row)) for row in rows], dtype=torch.float64)


def library(objective: Objective, data: Data, steps: list[dict[int, float]] | None = None) -> float:
    n = len(LENGTHS)
    mask = torch.arange(T) < torch.tensor(LENGTHS)[:, None]
    at = steps or [{length - 1: score} for length, score in zip(LENGTHS, data.scores, strict=True)]
    rewards, rewarded = torch.zeros(n, T, dtype=torch.float64), torch.zeros(n, T, dtype=torch.bool)
    for i, row in enumerate(at):
        for end, reward in row.items():
            rewards[i, end], rewarded[i, end] = reward, True
    batch = Batch(
        prompts=torch.ones(n, 1, dtype=torch.long),
        prompt_length=torch.ones(n, dtype=torch.long),
        completions=torch.ones(n, T, dtype=torch.long),
        length=torch.tensor(LENGTHS),
        mask=mask,
        group=torch.tensor([0, 0, 0, 0, 1, 1]),
        rewards=rewards,
        rewarded=rewarded,
        truncated=torch.zeros(n, dtype=torch.bool),
        logp_sampler=column(data.old),
        logp_old=column(data.old),
        logp_ref=column(data.ref),
        values=column(data.values),
    )
    made = objective.estimate(batch)
    made = replace(made, weights=objective.aggregate(mask).double())
    policy = PolicyOutput(logp=column(data.logp), values=column(data.new_values))
    return float(objective.loss(made, policy).total)


def mean(x: list[float]) -> float:
    return sum(x) / len(x)


def std(x: list[float]) -> float:
    return sqrt(sum((r - mean(x)) ** 2 for r in x) / (len(x) - 1))


def clipped(logp: float, old: float, advantage: float, low: float, high: float) -> float:
    ratio = exp(logp - old)
    return min(ratio * advantage, min(max(ratio, 1 - low), 1 + high) * advantage)


def k3(logp: float, ref: float) -> float:
    return exp(ref - logp) - (ref - logp) - 1


def normalised(scores: list[float]) -> list[float]:
    """(r - mean) / (std + 1e-6) within each group."""
    out = [0.0] * len(scores)
    for group in GROUPS:
        own = [scores[i] for i in group]
        for i in group:
            out[i] = (scores[i] - mean(own)) / (std(own) + 1e-6)
    return out


def gae(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    """The sum of the definition, term by term."""
    n = len(rewards)
    following = [*values[1:], 0.0]
    delta = [rewards[t] + gamma * following[t] - values[t] for t in range(n)]
    return [sum((gamma * lam) ** (k - t) * delta[k] for k in range(t, n)) for t in range(n)]


def critic(data: Data, advantages: Rows) -> Rows:
    """(V - (A + V_old))^2 / 2 of every token."""
    return [
        [(v - (a + old)) ** 2 / 2 for v, a, old in zip(new, adv, olds, strict=True)]
        for new, adv, olds in zip(data.new_values, advantages, data.values, strict=True)
    ]


def by_token(rows: Rows) -> float:
    return sum(sum(row) for row in rows) / sum(LENGTHS)


SEEDS = pytest.mark.parametrize("seed", range(5))


def agrees(objective: Objective, data: Data, expected: float, steps: list[dict[int, float]] | None = None) -> None:
    assert library(objective, data, steps) == pytest.approx(expected, abs=1e-6)


@SEEDS
def test_reinforce(seed):
    data = Data(seed)
    agrees(naive, data, -mean([data.scores[i] * sum(data.logp[i]) for i in range(6)]))


@SEEDS
def test_actor_critic(seed):
    data = Data(seed)
    advantages = [[data.scores[i] - v for v in data.values[i]] for i in range(6)]
    policy = -mean([sum(a * x for a, x in zip(advantages[i], data.logp[i], strict=True)) for i in range(6)])
    agrees(actor_critic, data, policy + mean([sum(row) for row in critic(data, advantages)]))


@SEEDS
@pytest.mark.parametrize("beta", [0.0, 0.05])
def test_ppo(seed, beta):
    data = Data(seed)
    advantages, gains = [], []
    for i, length in enumerate(LENGTHS):
        rewards = [-beta * (data.old[i][t] - data.ref[i][t]) for t in range(length)]
        rewards[-1] += data.scores[i]
        advantages.append(gae(rewards, data.values[i], 1.0, 0.95))
        tokens = zip(data.logp[i], data.old[i], advantages[i], strict=True)
        gains.append([clipped(x, old, a, 0.2, 0.2) for x, old, a in tokens])
    expected = -by_token(gains) + by_token(critic(data, advantages))
    agrees(ppo if beta else ppo_clip, data, expected)


def grpo_loss(data: Data, advantages: Rows, beta: float = 0.04) -> float:
    per_answer = []
    for i, length in enumerate(LENGTHS):
        tokens = [
            clipped(data.logp[i][t], data.old[i][t], advantages[i][t], 0.2, 0.2)
            - beta * k3(data.logp[i][t], data.ref[i][t])
            for t in range(length)
        ]
        per_answer.append(sum(tokens) / length)
    return -mean(per_answer)


@SEEDS
def test_grpo_with_outcome_rewards(seed):
    data = Data(seed)
    scores = normalised(data.scores)
    agrees(grpo, data, grpo_loss(data, [[scores[i]] * n for i, n in enumerate(LENGTHS)]))


@SEEDS
@pytest.mark.parametrize("kind", ["sample", "population"])
def test_grpo_with_process_rewards(seed, kind):
    data = Data(seed)
    steps = data.steps()
    advantages: Rows = [[0.0] * n for n in LENGTHS]
    for group in GROUPS:
        pooled = [reward for i in group for reward in steps[i].values()]
        spread = std(pooled) if kind == "sample" else std(pooled) * sqrt((len(pooled) - 1) / len(pooled))
        for i in group:
            for t in range(LENGTHS[i]):
                later = [reward for end, reward in steps[i].items() if end >= t]
                advantages[i][t] = sum((reward - mean(pooled)) / (spread + 1e-6) for reward in later)
    objective = replace(grpo, credit=(GroupNorm(kind), ToGo()))
    agrees(objective, data, grpo_loss(data, advantages), steps)


@SEEDS
def test_rloo(seed):
    data = Data(seed)
    charged = [
        data.scores[i] - 0.05 * sum(a - b for a, b in zip(data.old[i], data.ref[i], strict=True)) for i in range(6)
    ]
    terms = []
    for group in GROUPS:
        for i in group:
            baseline = mean([charged[j] for j in group if j != i])
            terms.append((charged[i] - baseline) * sum(data.logp[i]))
    agrees(rloo, data, -mean(terms))


@SEEDS
def test_dr_grpo(seed):
    data = Data(seed)
    gains = []
    for group in GROUPS:
        baseline = mean([data.scores[i] for i in group])
        for i in group:
            tokens = zip(data.logp[i], data.old[i], strict=True)
            gains.append(sum(clipped(x, old, data.scores[i] - baseline, 0.2, 0.2) for x, old in tokens) / 8)
    agrees(replace(dr_grpo, aggregate=FixedLength(8)), data, -mean(gains))


@SEEDS
def test_dapo(seed):
    data = Data(seed)
    scores = normalised(data.scores)
    gains = [
        [clipped(x, old, scores[i], 0.2, 0.28) for x, old in zip(data.logp[i], data.old[i], strict=True)]
        for i in range(6)
    ]
    agrees(dapo, data, -by_token(gains))
