"""Intervals by hand, and evaluation of a real engine."""

from __future__ import annotations

import numpy as np
import pytest

from scoreline.rollout.collect import Encoded, Sampler
from scoreline.rollout.engine import Sampling
from scoreline.rollout.local import LocalEngine
from scoreline.train.evaluate import Evaluator, bootstrap, wilson
from scoreline.types import Reward
from tests import parts


def test_wilson_by_hand() -> None:
    """7 of 10: centre (0.7 + 0.19207)/1.38415 = 0.64450, half 1.95996/1.38415 sqrt(0.021 + 0.0096036) = 0.24773."""
    interval = wilson([True] * 7 + [False] * 3)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.7, 0.39678, 0.89222), abs=1e-4)


def test_wilson_at_the_ends() -> None:
    assert wilson([True] * 10).high == 1.0
    assert wilson([True] * 10).low == pytest.approx(0.7225, abs=1e-4)
    assert wilson([False] * 10).low == 0.0


def test_bootstrap_covers_like_the_normal_interval() -> None:
    means = np.random.default_rng(0).random(400)
    interval = bootstrap(means, seed=0)
    half = 1.96 * means.std() / 20
    assert interval.mean == pytest.approx(means.mean())
    assert interval.low == pytest.approx(means.mean() - half, abs=0.005)
    assert interval.high == pytest.approx(means.mean() + half, abs=0.005)


def test_bootstrap_of_equal_means_is_not_certainty() -> None:
    interval = bootstrap(np.ones(20), seed=0)
    assert interval.mean == 1.0
    assert interval.low < 0.9


class FirstCharacter:
    """Right when the answer starts with a digit below 5; nothing can score an empty one."""

    def score(self, prompts: object, completions: list[str], completion_ids: object) -> list[Reward]:
        return [Reward(float(text[0] in "01234") if text else None) for text in completions]


def test_an_evaluation_counts_what_it_says() -> None:
    actor = parts.policy()
    prompts = [Encoded(p, actor.text.encode(p)) for p in parts.prompts(12)]
    sampler = Sampler(LocalEngine(actor), FirstCharacter(), actor.text.decode)  # type: ignore[arg-type]
    evaluator = Evaluator(sampler, prompts, Sampling(max_completion_length=6), k=8)
    found = evaluator.evaluate(5)
    assert found.step == 5
    assert 0 < found.avg_at_k.mean < found.pass_at_k.mean <= 1
    assert found.avg_at_k.low <= found.avg_at_k.mean <= found.avg_at_k.high
    assert len(found.samples) == 8
    again = evaluator.evaluate(5)
    assert (again.greedy, again.avg_at_k, again.pass_at_k) == (found.greedy, found.avg_at_k, found.pass_at_k)
