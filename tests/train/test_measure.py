"""Metrics of a step that no other test reads."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from scoreline.train.collate import collate
from scoreline.train.measure import rewards, sampler
from scoreline.types import Reward
from tests import parts


def test_the_gap_between_sampler_and_learner_over_own_tokens() -> None:
    batch = collate(parts.rollouts(parts.policy(), questions=1, answers=2))
    assert sampler(batch, updates=1) == {}, "nothing to compare with"
    difference = torch.zeros_like(batch.logp_sampler)
    difference[0, 0], difference[1, 0] = math.log(2.0), math.log(0.25)
    difference[~batch.mask] = 9.0
    old = batch.logp_sampler + difference
    found = sampler(replace(batch, logp_old=old, logp=old - 1), updates=1)
    tokens = int(batch.mask.sum())
    assert found == {
        "sampling/sampling_logp_difference/mean": pytest.approx(math.log(8.0) / tokens, abs=1e-6),
        "sampling/sampling_logp_difference/max": pytest.approx(math.log(4.0), abs=1e-6),
        "sampling/importance_sampling_ratio/min": pytest.approx(0.25, abs=1e-6),
        "sampling/importance_sampling_ratio/mean": pytest.approx((2.25 + tokens - 2) / tokens, abs=1e-6),
        "sampling/importance_sampling_ratio/max": pytest.approx(2.0, abs=1e-6),
        "rollout_train_kl": pytest.approx(math.log(2.0) / tokens, abs=1e-6),
    }
    assert sampler(replace(batch, logp=old), updates=1) == found, "in the only update pi_old is pi"
    assert sampler(replace(batch, logp=old), updates=2) == {}, "pi has moved on"


def test_what_each_function_gave_and_what_nothing_could_score() -> None:
    """Scores 1, 3, 2 and none; f gave 1, 3, none, none; g none, none, 2, none."""
    parts_given = [{"f": 1.0, "g": None}, {"f": 3.0, "g": None}, {"f": None, "g": 2.0}, {"f": None, "g": None}]
    made = parts.rollouts(parts.policy(), questions=1, answers=4)
    totals = [1.0, 3.0, 2.0, None]
    scored = [replace(r, reward=Reward(t, p)) for r, t, p in zip(made, totals, parts_given, strict=True)]
    assert rewards(scored) == {
        "reward": 2.0,
        "reward_std": pytest.approx(math.sqrt(2 / 3)),
        "frac_unscored": 0.25,
        "rewards/f/mean": 2.0,
        "rewards/f/std": 1.0,
        "rewards/f/none": 0.5,
        "rewards/g/mean": 2.0,
        "rewards/g/std": 0.0,
        "rewards/g/none": 0.75,
    }
