"""Process supervision (DeepSeekMath 2402.03300, section 4.1.3), worked by hand to 1e-6."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import pytest
import torch

from scoreline.objectives.groups import GroupNorm
from scoreline.objectives.objective import Loss, Objective, PolicyOutput, silent_groups
from scoreline.objectives.returns import ToGo
from scoreline.objectives.values import LambdaReturn
from scoreline.objectives.zoo import dr_grpo, grpo, naive, ppo, ppo_clip, rloo

KINDS = pytest.mark.parametrize("std", ["sample", "population"])


def with_std(std: str, eps: float = 1e-6) -> Objective:
    """`grpo` itself for the sample std and 1e-6."""
    return replace(grpo, credit=(GroupNorm(std, eps), ToGo()))


def spread(std: str, squares: float, count: int, eps: float = 1e-6) -> float:
    """What a deviation is divided by: `squares` is the sum of the squared deviations of `count` step rewards."""
    return sqrt(squares / (count - (std == "sample"))) + eps


def near(actual: torch.Tensor, expected: object) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected), atol=1e-6, rtol=0)


def total(objective: Objective, made, logp, values=None) -> Loss:
    weighed = replace(objective.estimate(made), weights=objective.aggregate(made.mask))
    return objective.loss(weighed, PolicyOutput(torch.tensor(logp), values=values and torch.tensor(values)))


def test_the_std_of_grpo_is_the_sample_s():
    assert with_std("sample") == grpo


# The vector: R = {1, 0} and {0, 0, 1}, steps end at 1, 3 and at 0, 2, 4; five tokens each.


def vector(batch, **more):
    return batch(
        [[0.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]],
        [[1] * 5] * 2,
        rewarded=[[0, 1, 0, 1, 0], [1, 0, 1, 0, 1]],
        **more,
    )


@pytest.mark.parametrize(
    ("std", "expected"),
    [
        # Mean 0.4; squared deviations 2 * 0.36 + 3 * 0.16 = 1.2. sqrt(1.2 / 5): 1 -> 1.224745, 0 -> -0.816497.
        (
            "population",
            [[0.408248, 0.408248, -0.816497, -0.816497, 0.0], [-0.408248, 0.408248, 0.408248, 1.224745, 1.224745]],
        ),
        # sqrt(1.2 / 4): 1 -> 1.095445, 0 -> -0.730297.
        (
            "sample",
            [[0.365148, 0.365148, -0.730297, -0.730297, 0.0], [-0.365148, 0.365148, 0.365148, 1.095445, 1.095445]],
        ),
    ],
)
def test_the_vector(batch, std, expected):
    near(with_std(std, eps=0.0).estimate(vector(batch)).advantages, expected)


@KINDS
def test_the_vector_with_epsilon_outside_the_root(batch, std):
    by = spread(std, 1.2, 5)
    good, bad = 0.6 / by, -0.4 / by
    first = [good + bad, good + bad, bad, bad, 0.0]
    second = [bad + bad + good, bad + good, bad + good, good, good]
    near(with_std(std).estimate(vector(batch)).advantages, [first, second])


def test_the_loss_of_the_vector(batch):
    # pi = pi_old and pi_ref: policy -(1/2) (1/5) (sum of A over both answers).
    # First: 2 * 0.365148 - 2 * 0.730297 = -0.730297. Second: -0.365148 + 2 * 0.365148 + 2 * 1.095445 = 2.556038.
    # In all 1.825742 = 1 / sqrt(0.3), so the loss is -0.1 / sqrt(0.3); epsilon takes 2e-6 of it.
    zeros = [[0.0] * 5] * 2
    loss = total(grpo, vector(batch, logp_old=zeros, logp_ref=zeros), zeros)
    assert float(loss.total) == pytest.approx(-0.1 / (sqrt(0.3) + 1e-6), abs=1e-6)


# Uneven answers.


@KINDS
def test_uneven_step_counts(batch, std):
    # Three answers with 3, 1 and 2 steps: R = 1, 1, 0 | 0.5 | 0.5, 0. Mean 0.5, deviations .5 .5 -.5 | 0 | 0 -.5,
    # squares 4 * 0.25 = 1 over six rewards: every step counts once, so the longest answer weighs most in the mean.
    made = batch(
        [[1.0, 0.0, 1.0, 0.0, 0.0], [0.0, 0.5, 0.0, 0.0, 0.0], [0.0, 0.5, 0.0, 0.0, 0.0]],
        [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0]],
        rewarded=[[1, 0, 1, 0, 1], [0, 1, 0, 0, 0], [0, 1, 0, 1, 0]],
    )
    d = 0.5 / spread(std, 1.0, 6)
    expected = [[d, 0.0, 0.0, -d, -d], [0.0, 0.0, 0.0, 0.0, 0.0], [-d, -d, -d, -d, 0.0]]
    near(with_std(std).estimate(made).advantages, expected)


@KINDS
def test_answers_of_one_step_are_outcome_supervision(batch, std):
    # 1, 0, 0, 0 on the last tokens: mean 0.25, squares 0.75. Each token of an answer gets its one advantage.
    made = batch([[0.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]], [[1, 1], [1, 1], [1, 0], [1, 1]])
    by = spread(std, 0.75, 4)
    good, bad = 0.75 / by, -0.25 / by
    near(with_std(std).estimate(made).advantages, [[good, good], [bad, bad], [bad, 0.0], [bad, bad]])


@KINDS
def test_tokens_behind_the_last_step_get_nothing_but_the_kl(batch, std):
    # One step each, at token 0 of three and at token 1 of two: R = 1, 0; mean 0.5, squares 0.5.
    made = batch(
        [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
        [[1, 1, 1], [1, 1, 0]],
        rewarded=[[1, 0, 0], [0, 1, 0]],
        logp_old=[[-1.0] * 3] * 2,
        logp_ref=[[-1.0, -1.0, -1.5], [-1.0] * 3],
    )
    objective = with_std(std)
    d = 0.5 / spread(std, 0.5, 2)
    near(objective.estimate(made).advantages, [[d, 0.0, 0.0], [-d, -d, 0.0]])
    # Policy: -(d / 3 - 2 d / 2) / 2 = d / 3. KL of the third token, x = 0.5: 0.106531 / 3 / 2.
    loss = total(objective, made, [[-1.0] * 3] * 2)
    assert float(loss.parts["policy"]) == pytest.approx(d / 3, abs=1e-6)
    assert float(loss.parts["kl"]) == pytest.approx(0.04 * 0.106531 / 6, abs=1e-6)


@KINDS
def test_an_answer_without_a_step_stays_out_of_mean_and_std(batch, std):
    # R = 1, 0 | nothing | 1: mean 2/3, squares 2/9 + 4/9 = 2/3 over three rewards, not four.
    made = batch(
        [[1.0, 0.0], [9.0, 9.0], [0.0, 1.0]],
        [[1, 1]] * 3,
        rewarded=[[1, 1], [0, 0], [0, 1]],
    )
    by = spread(std, 2 / 3, 3)
    good, bad = (1 / 3) / by, (-2 / 3) / by
    near(with_std(std).estimate(made).advantages, [[good + bad, bad], [0.0, 0.0], [good, good]])


@pytest.mark.parametrize("name", ["sample", "population", "none"])
def test_a_group_without_any_step_learns_nothing(batch, name):
    # Group 1 has no step at all; group 0 goes on as if it were alone.
    rows, mask = [[1.0, 0.0], [0.0, 0.0]], [[1, 1]] * 2
    alone = batch(rows, mask)
    both = batch(rows * 2, mask * 2, rewarded=[[0, 1], [0, 1], [0, 0], [0, 0]], group=[0, 0, 1, 1])
    objective = with_std(name)
    made = objective.estimate(both)
    assert torch.equal(made.advantages[:2], objective.estimate(alone).advantages)
    assert torch.equal(made.advantages[2:], torch.zeros(2, 2))


def test_a_batch_without_any_step_is_held_to_the_reference_and_nothing_else(batch):
    # x = 0.5 on one of two tokens of one of two answers.
    ref = [[-1.0, -1.5], [-1.0, -1.0]]
    made = batch([[0.0, 0.0]] * 2, [[1, 1]] * 2, rewarded=[[0, 0]] * 2, logp_old=[[-1.0] * 2] * 2, logp_ref=ref)
    loss = total(grpo, made, [[-1.0] * 2] * 2)
    assert float(loss.parts["policy"]) == 0.0
    assert float(loss.total) == pytest.approx(0.04 * 0.106531 / 4, abs=1e-6)


def test_equal_step_rewards_say_nothing_however_many_there_are(batch):
    # A mean of seven floats 0.1 is not 0.1 in the last bit: exactly zero all the same.
    made = batch([[0.1] * 4, [0.1] * 4], [[1] * 4] * 2, rewarded=[[1, 1, 1, 1], [1, 0, 1, 1]])
    assert torch.equal(grpo.estimate(made).advantages, torch.zeros(2, 4))


@KINDS
def test_padding_and_other_groups_change_nothing(batch, std):
    # The vector once more: three columns wider, its rows apart, another group between them, other numbers for groups.
    rest = [0.0] * 3
    made = batch(
        [[0.0, 1.0, 0.0, 0.0, 0.0, *rest], [5.0, 7.0] + [0.0] * 6, [0.0, 0.0, 0.0, 0.0, 1.0, *rest], [6.0] + [0.0] * 7],
        [[1] * 5 + [0] * 3, [1, 1] + [0] * 6, [1] * 5 + [0] * 3, [1] + [0] * 7],
        rewarded=[[0, 1, 0, 1, 0, 0, 0, 0], [1, 1] + [0] * 6, [1, 0, 1, 0, 1, 0, 0, 0], [1] + [0] * 7],
        group=[3, 0, 3, 0],
    )
    advantages = with_std(std).estimate(made).advantages
    near(advantages[[0, 2], :5], with_std(std).estimate(vector(batch)).advantages.tolist())
    assert torch.equal(advantages[[0, 2], 5:], torch.zeros(2, 3))
    # 5, 7 and 6: mean 6, squares 2.
    d = 1 / spread(std, 2.0, 3)
    near(advantages[[1, 3], :2], [[0.0, d], [0.0, 0.0]])


# Outcome and process together.


def mixture(batch):
    """Step rewards 1, 0 and 0, 1 with weight 1; outcomes 1 and 0 with weight 2, on the last token, where a step ends.

    So R = 1, 0 + 2 | 0, 1 + 0: one reward a token, its weights applied before the mean and the std are taken.
    """
    return batch(
        [[0.0, 1.0, 0.0, 2.0], [0.0, 0.0, 1.0, 0.0]],
        [[1, 1, 1, 1], [1, 1, 1, 0]],
        rewarded=[[0, 1, 0, 1], [1, 0, 1, 0]],
    )


@KINDS
def test_outcome_and_process_rewards_are_one_group(batch, std):
    # R = 1, 2, 0, 1: mean 1, squares 2.
    d = 1 / spread(std, 2.0, 4)
    near(with_std(std).estimate(mixture(batch)).advantages, [[d, d, d, d], [-d, 0.0, 0.0, 0.0]])


@KINDS
def test_an_outcome_behind_the_last_step_is_a_reward_of_its_own(batch, std):
    # As above, but the outcome comes one token after the last step: R = 1, 0, 2 | 0, 1, 0. Mean 2/3;
    # deviations 1/3, -2/3, 4/3 | -2/3, 1/3, -2/3; squares (1 + 4 + 16 + 4 + 1 + 4) / 9 = 10/3.
    made = batch(
        [[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]],
        [[1, 1, 1]] * 2,
        rewarded=[[1, 1, 1]] * 2,
    )
    third = (1 / 3) / spread(std, 10 / 3, 6)
    expected = [[3 * third, 2 * third, 4 * third], [-3 * third, -third, -2 * third]]
    near(with_std(std).estimate(made).advantages, expected)


def test_a_mixture_in_which_all_is_right_is_not_silent(batch):
    # Two answers of two right steps and a right outcome each: R = 1, 1 + 1 | 1, 1 + 1. Mean 1.5, squares 1.
    # What all answers have in common cancels for their first tokens and not for their last steps.
    made = batch([[1.0, 0.0, 2.0]] * 2, [[1, 1, 1]] * 2, rewarded=[[1, 0, 1]] * 2)
    d = 0.5 / spread("sample", 1.0, 4)
    near(grpo.estimate(made).advantages, [[0.0, d, d]] * 2)
    assert silent_groups(made) == 0.0


def test_dr_grpo_leaves_the_std_out(batch):
    near(dr_grpo.estimate(mixture(batch)).advantages, [[1.0, 1.0, 1.0, 1.0], [-1.0, 0.0, 0.0, 0.0]])


def test_rloo_adds_the_steps_of_an_answer_up(batch):
    # The whole answer is one action: totals 3 and 1, so +-2 on every token.
    made = replace(mixture(batch), logp_old=torch.zeros(2, 4), logp_ref=torch.zeros(2, 4))
    near(rloo.estimate(made).advantages, [[2.0] * 4, [-2.0, -2.0, -2.0, 0.0]])


def test_naive_pays_each_token_for_the_steps_to_come(batch):
    near(naive.estimate(mixture(batch)).advantages, [[3.0, 3.0, 2.0, 2.0], [1.0, 1.0, 1.0, 0.0]])


# A critic: the same step rewards in GAE, gamma 1 and lambda 0.95.

VALUES = [[0.2, 0.4, 0.1, 0.3, 0.2], [0.5, 0.6, 9.0, 9.0, 9.0]]


def judged_by_a_critic(batch):
    """Five tokens with 1 at token 1 and 0.5 at token 3; two tokens with -1 at the last."""
    return batch(
        [[0.0, 1.0, 0.0, 0.5, 0.0], [0.0, -1.0, 0.0, 0.0, 0.0]],
        [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]],
        rewarded=[[0, 1, 0, 1, 0], [0, 1, 0, 0, 0]],
        values=VALUES,
        logp_old=[[-1.0] * 5] * 2,
        logp_ref=[[-1.0] * 5] * 2,
    )


# First answer: d_4 = 0 - 0.2 = -0.2;  d_3 = 0.5 + 0.2 - 0.3 = 0.4;  d_2 = 0.3 - 0.1 = 0.2;  d_1 = 1 + 0.1 - 0.4 = 0.7;
# d_0 = 0.4 - 0.2 = 0.2.  A_4 = -0.2;  A_3 = 0.4 - 0.95 * 0.2 = 0.21;  A_2 = 0.2 + 0.95 * 0.21 = 0.3995;
# A_1 = 0.7 + 0.95 * 0.3995 = 1.079525;  A_0 = 0.2 + 0.95 * 1.079525 = 1.22554875.
# Behind the last step a critic still draws its line: A_4 = -V, where GRPO says 0.
# Second: d_1 = -1 - 0.6 = -1.6;  d_0 = 0.6 - 0.5 = 0.1.  A_1 = -1.6;  A_0 = 0.1 - 1.52 = -1.42.
GAE_BY_HAND = [[1.22554875, 1.079525, 0.3995, 0.21, -0.2], [-1.42, -1.6, 0.0, 0.0, 0.0]]


def test_step_rewards_in_gae(batch):
    made = ppo_clip.estimate(judged_by_a_critic(batch))
    near(made.advantages, GAE_BY_HAND)
    # R = A + V.
    near(made.returns, [[1.42554875, 1.479525, 0.4995, 0.51, 0.0], [-0.92, -1.0, 0.0, 0.0, 0.0]])


def test_the_loss_of_ppo_with_step_rewards(batch):
    # Ratios 1: -(1.22554875 + 1.079525 + 0.3995 + 0.21 - 0.2 - 1.42 - 1.6) / 7 = 0.305426 / 7.
    # V unchanged, so (V - R)^2 = A^2: (1.501970 + 1.165374 + 0.159600 + 0.0441 + 0.04 + 2.0164 + 2.56) / 2 / 7.
    loss = total(ppo_clip, judged_by_a_critic(batch), [[-1.0] * 5] * 2, VALUES)
    assert float(loss.parts["policy"]) == pytest.approx(0.30542625 / 7, abs=1e-6)
    assert float(loss.parts["value"]) == pytest.approx(7.48744436 / 14, abs=1e-6)


def test_the_kl_of_ppo_is_charged_to_tokens_besides_their_step_rewards(batch):
    # x = 0.2 on token 0 of the first answer alone: its reward is 0 - 0.05 * 0.2, and only its advantage moves.
    made = judged_by_a_critic(batch)
    ref = made.logp_ref.clone()
    ref[0, 0] -= 0.2
    moved = ppo.estimate(replace(made, logp_ref=ref)).advantages
    expected = [row[:] for row in GAE_BY_HAND]
    expected[0][0] -= 0.01
    near(moved, expected)


def test_the_critic_s_own_target_with_lambda_one_is_the_sum_of_the_steps_to_come(batch):
    made = replace(ppo_clip, value=replace(ppo_clip.value, target=LambdaReturn(1.0, 1.0)))
    near(made.estimate(judged_by_a_critic(batch)).returns, [[1.5, 1.5, 0.5, 0.5, 0.0], [-1.0, -1.0, 0.0, 0.0, 0.0]])
