"""Whole objectives, worked by hand; what each needs; what is refused."""

from __future__ import annotations

from dataclasses import replace
from math import log

import pytest
import torch

from scoreline.errors import ObjectiveError
from scoreline.objectives.aggregates import FixedLength
from scoreline.objectives.dialects import DIALECTS
from scoreline.objectives.divergences import KL
from scoreline.objectives.explain import explain
from scoreline.objectives.groups import GroupNorm, LeaveOneOut
from scoreline.objectives.objective import Objective, PolicyOutput, Resample, silent_groups
from scoreline.objectives.ratios import TruncatedImportance
from scoreline.objectives.returns import GAE, ToGo, Total
from scoreline.objectives.zoo import ZOO, actor_critic, dapo, dr_grpo, grpo, naive, ppo, ppo_clip, rloo

LOGP = [[-0.5, -0.7], [-0.3, 0.0]]


def two_answers(batch, **more):
    """Two answers to one question: two tokens and score 1, one token and score 0."""
    return batch([[0.0, 1.0], [0.0, 0.0]], [[1, 1], [1, 0]], **{"logp_old": LOGP, **more})


def total(objective: Objective, made, **policy):
    """Estimate, weigh and sum, as a step does."""
    scored = objective.estimate(made)
    out = {"logp": LOGP, **policy}
    weighed = replace(scored, weights=objective.aggregate(scored.mask))
    return objective.loss(weighed, PolicyOutput(**{k: torch.tensor(v) for k, v in out.items()}))


def test_naive(batch):
    # A = 1 on both tokens of the first answer, 0 on the second: (0.5 + 0.7) / 2.
    assert float(total(naive, two_answers(batch)).total) == pytest.approx(0.6)


def test_actor_critic(batch):
    # A = r - V: 0.6, 0.5 and -0.2. Policy: (0.5 * 0.6 + 0.7 * 0.5 - 0.3 * 0.2) / 2 = 0.295.
    # Value: (0.36 + 0.25 + 0.04) / 2 / 2 = 0.1625.
    made = two_answers(batch, values=[[0.4, 0.5], [0.2, 9.0]])
    loss = total(actor_critic, made, values=[[0.4, 0.5], [0.2, 9.0]])
    assert float(loss.parts["policy"]) == pytest.approx(0.295)
    assert float(loss.parts["value"]) == pytest.approx(0.1625)
    assert float(loss.total) == pytest.approx(0.4575)


def test_ppo(batch):
    # Charge 0.05 * (0.2, -0.4): rewards -0.01, 1.02. d_1 = 1.02 - 0.6 = 0.42; d_0 = -0.01 + 0.6 - 0.5 = 0.09.
    # A_1 = 0.42; A_0 = 0.09 + 0.95 * 0.42 = 0.489; R = A + V = 0.989, 1.02.
    # Ratios are 1: policy -(0.489 + 0.42) / 2 = -0.4545; value (0.489^2 + 0.42^2) / 2 / 2 = 0.103880.
    values = [[0.5, 0.6]]
    made = batch([[0.0, 1.0]], [[1, 1]], logp_old=[[-0.8, -1.4]], logp_ref=[[-1.0, -1.0]], values=values)
    loss = total(ppo, made, logp=[[-0.8, -1.4]], values=values)
    torch.testing.assert_close(ppo.estimate(made).returns, torch.tensor([[0.989, 1.02]]))
    assert float(loss.parts["policy"]) == pytest.approx(-0.4545, abs=1e-5)
    assert float(loss.parts["value"]) == pytest.approx(0.103880, abs=1e-5)
    # Without the KL: A_1 = 0.4, A_0 = 0.1 + 0.38 = 0.48, so -(0.48 + 0.4) / 2.
    assert float(total(ppo_clip, made, logp=[[-0.8, -1.4]], values=values).parts["policy"]) == pytest.approx(-0.44)


def test_grpo(batch):
    # A = +-0.5 / 0.707107 = +-0.707107. Ratios 1.5, 1 and 0.5.
    # First answer: -1.2 A, -A, mean -0.777817; second: 0.8 * 0.707107 = 0.565685. Policy: their mean, -0.106066.
    # x = 0.5, -1 and 0: k3 0.106531, 0.718282 and 0: mean of 0.412406 and 0 is 0.206203, times 0.04 is 0.008248.
    logp = [[-0.5, -0.7], [-0.3, 0.0]]
    old = [[-0.5 - log(1.5), -0.7], [-0.3 - log(0.5), 0.0]]
    loss = total(grpo, two_answers(batch, logp_old=old, logp_ref=[[-1.0, 0.3], [-0.3, 0.0]]), logp=logp)
    assert float(loss.parts["policy"]) == pytest.approx(-0.106066, abs=1e-5)
    assert float(loss.parts["kl"]) == pytest.approx(0.008248, abs=1e-5)
    assert float(loss.total) == pytest.approx(-0.097818, abs=1e-5)
    # Sums over own tokens, for metrics: one token was cut above, one below; k3 sums to 0.824813.
    sums = {name: float(value) for name, value in loss.sums.items()}
    assert sums["clip_ratio/high_mean"] == 1.0
    assert sums["clip_ratio/low_mean"] == 1.0
    assert sums["kl"] == pytest.approx(0.824813, abs=1e-5)


def test_rloo(batch):
    # Charges 0.05 * (0.2 - 0.4) = -0.01 and 0.05 * 0.4 = 0.02: scores 1.01 and -0.02, so A = +-1.03.
    # (1.03 * 1.2 - 1.03 * 0.3) / 2 = 0.4635.
    made = two_answers(batch, logp_ref=[[-0.7, -0.3], [-0.7, 0.0]])
    torch.testing.assert_close(rloo.estimate(made).advantages, torch.tensor([[1.03, 1.03], [-1.03, 0.0]]))
    assert float(total(rloo, made).total) == pytest.approx(0.4635)


def test_dr_grpo(batch):
    # A = +-0.5, ratios 1, two answers and a budget of 8 tokens: (-2 * 0.5 + 0.5) / 16.
    objective = replace(dr_grpo, aggregate=FixedLength(8))
    assert float(total(objective, two_answers(batch)).total) == pytest.approx(-0.03125)


def test_dapo(batch):
    # A = +-0.707107 over three tokens: (-2 + 1) * 0.707107 / 3. A ratio of 1.5 is cut at 1.28.
    assert float(total(dapo, two_answers(batch)).total) == pytest.approx(-0.235702, abs=1e-5)
    old = [[-0.5 - log(1.5), -0.7], [-0.3, 0.0]]  # (-1.28 - 1 + 1) * 0.707107 / 3
    assert float(total(dapo, two_answers(batch, logp_old=old)).total) == pytest.approx(-0.301699, abs=1e-5)
    assert dapo.resample == Resample(rounds=3)


@pytest.mark.parametrize(
    ("std", "expected"),
    [
        (
            "population",
            [[0.408248, 0.408248, -0.816497, -0.816497, 0.0], [-0.408248, 0.408248, 0.408248, 1.224745, 1.224745]],
        ),
        (
            "sample",
            [[0.365148, 0.365148, -0.730297, -0.730297, 0.0], [-0.365148, 0.365148, 0.365148, 1.095445, 1.095445]],
        ),
    ],
)
def test_grpo_under_process_supervision(batch, std, expected):
    # The arithmetic is in test_golden_groups: the same objective takes outcome and step rewards.
    objective = replace(grpo, credit=(GroupNorm(std), ToGo()))
    made = batch(
        [[0.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]],
        [[1] * 5] * 2,
        rewarded=[[0, 1, 0, 1, 0], [1, 0, 1, 0, 1]],
    )
    torch.testing.assert_close(objective.estimate(made).advantages, torch.tensor(expected), atol=1e-5, rtol=0)


def test_correction_weighs_the_surrogate(batch):
    # Ratios learner / sampler 3 (capped at 2), 1 and 0.5 on the terms 0.5, 0.7 and 0: (2 * 0.5 + 0.7) / 2.
    objective = replace(naive, correction=TruncatedImportance(2.0))
    sampler = [[-0.5 - log(3.0), -0.7], [-0.3 - log(0.5), 0.0]]
    loss = total(objective, two_answers(batch, logp_sampler=sampler))
    assert float(loss.total) == pytest.approx(0.85)
    assert float(loss.sums["sampling/importance_ratio"]) == pytest.approx(2.0 + 1.0 + 0.5)


def test_answers_without_a_score_teach_neither_policy_nor_critic(batch):
    # Only the first answer was scored. The second has no advantage and no share in the value loss.
    values = [[0.4, 0.5], [7.0, 7.0]]
    made = two_answers(batch, rewarded=[[0, 1], [0, 0]], values=values, logp_ref=LOGP)
    assert ppo.estimate(made).advantages[1].tolist() == [0.0, 0.0]
    loss = total(actor_critic, made, values=values)
    assert float(loss.parts["value"]) == pytest.approx((0.36 + 0.25) / 2 / 2)


@pytest.mark.parametrize(
    ("name", "needs", "first_update"),
    [
        ("naive", set(), set()),
        ("actor_critic", {"values"}, {"values"}),
        ("ppo_clip", {"values", "logp_old"}, {"values"}),
        ("ppo", {"values", "logp_old", "logp_ref"}, {"values", "logp_old", "logp_ref"}),
        ("grpo", {"logp_old", "logp_ref"}, {"logp_ref"}),
        ("rloo", {"logp_old", "logp_ref"}, {"logp_old", "logp_ref"}),
        ("dr_grpo", {"logp_old"}, set()),
        ("dapo", {"logp_old"}, set()),
    ],
)
def test_needs(name, needs, first_update):
    assert ZOO[name].needs == needs
    assert ZOO[name].passes(updates=2) == needs
    assert ZOO[name].passes(updates=1) == first_update


def test_a_correction_needs_the_learners_log_probabilities():
    assert replace(dapo, correction=TruncatedImportance()).passes(updates=1) == {"logp_old"}


def test_grouped():
    assert {name for name, objective in ZOO.items() if objective.grouped} == {"grpo", "rloo", "dr_grpo", "dapo"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"kl": KL(estimator="k1", into="loss")},
            r"k1 in the loss carries no KL signal[\s\S]*got:[\s\S]*accepted: k2, k3 or k3_unbiased[\s\S]*to do:",
        ),
        (
            {"credit": (GAE(),)},
            r"GAE needs a critic, and nothing trains one[\s\S]*value = None[\s\S]*add a value loss",
        ),
        (
            {"kl": KL(estimator="k1", into="reward")},
            r"KL in the reward sits on every token[\s\S]*Total\(\) in front[\s\S]*objective\.kl\.into='loss'",
        ),
        (
            {"kl": KL(into="reward"), "credit": (LeaveOneOut(), Total(), ToGo())},
            r"KL in the reward sits on every token",
        ),
    ],
)
def test_refused(change, message):
    with pytest.raises(ObjectiveError, match=message):
        replace(grpo, **change)


def test_silent_groups(batch):
    # Group 3 earned 0.1 twice, group 7 earned 1 and 0: half of the groups say nothing.
    rewards = [[0.1], [1.0], [0.1], [0.0]]
    assert silent_groups(batch(rewards, [[1]] * 4, group=[3, 7, 3, 7])) == 0.5


@pytest.mark.parametrize("name", [*ZOO, *DIALECTS])
def test_explain_states_formula_source_and_values_of_every_part(name):
    rows = explain({**ZOO, **DIALECTS}[name])
    assert all(row.formula and row.source for row in rows)
    assert {"credit.0", "surrogate", "aggregate"} <= {row.slot for row in rows}
    assert all(address.startswith(f"objective.{row.slot}.") for row in rows for address in row.values)
