"""What an evaluation says of the rewards that train: judged scores, and how well they order right and wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from scoreline.rollout.collect import Encoded, Sampler
from scoreline.rollout.engine import Sampling
from scoreline.rollout.local import LocalEngine
from scoreline.train.evaluate import Evaluator, ordered
from scoreline.train.measure import rewards, steps
from scoreline.types import Completion, Prompt, Reward, Rollout, Step
from tests import parts


def test_pairs_on_one_question_are_counted_and_no_others() -> None:
    right = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0]])
    scores = [0.9, 0.1, 0.95, 5.0, 5.0, 5.0, 0.2, 0.2, 0.1]
    # question 1: 0.9 > 0.1 yes, 0.9 > 0.95 no; question 2 has no wrong answer; question 3: a tie and a win
    assert ordered(scores, right) == pytest.approx((1 + 0 + 0.5 + 1) / 4)


def test_answers_without_a_score_make_no_pair() -> None:
    assert ordered([None, 0.1, 0.2], np.array([[1.0, 0.0, 1.0]])) == 1.0
    assert ordered([None, 0.1], np.array([[1.0, 0.0]])) is None
    assert ordered([0.3, 0.1], np.array([[1.0, 1.0]])) is None


class Judge:
    """Longer is better, whatever is right."""

    def score(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]],
        steps: Sequence[Sequence[str]] = (),
    ) -> list[Reward]:
        return [Reward(float(len(text))) for text in completions]


class Truth(Judge):
    """An even number of characters is right."""

    def score(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]],
        steps: Sequence[Sequence[str]] = (),
    ) -> list[Reward]:
        return [Reward(float(len(text) % 2 == 0)) for text in completions]


def evaluator(judge: Judge | None) -> Evaluator:
    actor = parts.policy()
    engine = LocalEngine(actor)
    prompts = [Encoded(prompt, actor.text.encode(prompt)) for prompt in parts.prompts(6)]
    judged = None if judge is None else Sampler(engine, judge, actor.text.decode)
    truth = Sampler(engine, Truth(), actor.text.decode)
    return Evaluator(truth, prompts, Sampling(max_completion_length=6), k=3, judge=judged)


def test_an_evaluation_is_judged_by_what_trains() -> None:
    plain, judged = evaluator(None).evaluate(1), evaluator(Judge()).evaluate(1)
    assert (plain.judged, plain.judge_accuracy) == (None, None)
    assert judged.avg_at_k == plain.avg_at_k  # the same answers, and the same truth
    assert judged.judged is not None
    assert 0 < judged.judged <= 6
    assert judged.judge_accuracy is not None
    exact = evaluator(Truth()).evaluate(1)
    assert exact.judge_accuracy == 1.0
    assert exact.judged == pytest.approx(exact.avg_at_k.mean)


def rollout(reward: Reward, ends: Sequence[int]) -> Rollout:
    done = Completion((5, 6, 7), (0.0, 0.0, 0.0), "stop")
    return Rollout(Prompt("q", "1+1="), (3,), done, "abc", reward, 0, tuple(Step("x", end) for end in ends))


def test_step_metrics() -> None:
    made = [
        rollout(Reward(None, {}, (1.0, 0.0), {"f": (1.0, 0.0)}), [0, 2]),
        rollout(Reward(None, {}, (None,), {"f": (None,)}), [2]),
        rollout(Reward(None, {}, (), {"f": ()}), []),
        rollout(Reward(1.0, {"g": 1.0}, (1.0,), {"f": (1.0,)}), [1]),
    ]
    assert steps(made) == {
        "step_reward": pytest.approx(2 / 3),
        "step_rewards/f/mean": pytest.approx(2 / 3),
        "step_rewards/f/std": pytest.approx(math.sqrt(2) / 3),
        "step_rewards/f/none": 0.25,
        "steps/mean": 1.0,
        "steps/none": 0.25,
    }
    assert rewards(made)["reward"] == pytest.approx((0.5 + 2.0) / 2)  # scores: 0.5, none, none, 1 + 1
    assert steps([rollout(Reward(1.0, {"g": 1.0}), [])]) == {}
    assert math.isnan(rewards([rollout(Reward(None), [])])["reward"])


def test_a_score_is_the_total_and_the_mean_of_the_steps() -> None:
    assert Reward(0.5, {}, (1.0, 0.0, None)).score == 1.0
    assert Reward(None, {}, (0.25, 0.75)).score == 0.5
    assert Reward(0.5).score == 0.5
    assert Reward(None, {}, (None,)).score is None
