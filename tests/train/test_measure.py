"""Metrics of a step that no other test reads."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from scoreline.train.collate import collate
from scoreline.train.measure import sampler
from tests import parts


def test_the_gap_between_sampler_and_learner_over_own_tokens() -> None:
    batch = collate(parts.rollouts(parts.policy(), questions=1, answers=2))
    assert sampler(batch) == {}, "nothing to compare with"
    difference = torch.zeros_like(batch.logp_sampler)
    difference[0, 0], difference[1, 0] = math.log(2.0), math.log(0.25)
    difference[~batch.mask] = 9.0
    found = sampler(replace(batch, logp_old=batch.logp_sampler + difference))
    tokens = int(batch.mask.sum())
    assert found == {
        "sampling/sampling_logp_difference/mean": pytest.approx(math.log(8.0) / tokens, abs=1e-6),
        "sampling/sampling_logp_difference/max": pytest.approx(math.log(4.0), abs=1e-6),
        "sampling/importance_sampling_ratio/min": pytest.approx(0.25, abs=1e-6),
        "sampling/importance_sampling_ratio/mean": pytest.approx((2.25 + tokens - 2) / tokens, abs=1e-6),
        "sampling/importance_sampling_ratio/max": pytest.approx(2.0, abs=1e-6),
    }
