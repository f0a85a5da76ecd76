"""The probe's arithmetic: on the engine whose numbers are the learner's own, and on one whose are not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from scoreline.backends.parity import Gap, gap
from scoreline.models.policy import Policy
from scoreline.rollout.engine import Sampling
from scoreline.rollout.local import LocalEngine
from scoreline.types import Completion, Request
from tests import parts


@pytest.fixture(scope="module")
def actor() -> Policy:
    return parts.policy()


@pytest.fixture(scope="module")
def asked(actor: Policy) -> list[Request]:
    prompts = [actor.text.encode(prompt) for prompt in parts.prompts(3)]
    return [Request(prompts[i], (0, i, j)) for j in range(2) for i in range(3)]  # prompts are not side by side


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_learners_own_answers_have_no_gap(actor: Policy, asked: list[Request], temperature: float) -> None:
    done = LocalEngine(actor).generate(asked, Sampling(max_completion_length=8, temperature=temperature))
    found = gap(actor, asked, done, temperature)
    assert found.max < 1e-4
    assert found.tokens == sum(len(completion.token_ids) for completion in done)
    assert gap(actor, asked, done, temperature * 1.5).max > 0.05, "another temperature is another policy"


def test_the_gap_is_that_of_the_reported_numbers(actor: Policy, asked: list[Request]) -> None:
    done = LocalEngine(actor).generate(asked[:2], Sampling(max_completion_length=4))
    moved = [replace(done[0], logprobs=tuple(p - 0.5 for p in done[0].logprobs)), done[1]]
    first, both = len(done[0].token_ids), len(done[0].token_ids) + len(done[1].token_ids)
    found = gap(actor, asked[:2], moved, 1.0)
    assert found.mean == pytest.approx(0.5 * first / both, abs=1e-4)
    assert found.max == pytest.approx(0.5, abs=1e-4)


def test_weights_that_the_sampler_does_not_have_show(asked: list[Request]) -> None:
    actor = parts.policy()
    done = LocalEngine(actor).generate(asked, Sampling(max_completion_length=8))
    with torch.no_grad():
        for parameter in actor.model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    assert gap(actor, asked, done, 1.0).mean > 0.01


@pytest.mark.parametrize(
    ("found", "fits"),
    [(Gap(0.1, 1.0, 4), True), (Gap(0.11, 1.0, 4), False), (Gap(0.1, 1.1, 4), False), (Gap(math.nan, 0.1, 4), False)],
)
def test_within(found: Gap, fits: bool) -> None:
    assert found.within(0.1, 1.0) is fits


def test_a_sampler_without_numbers_is_not_within(actor: Policy, asked: list[Request]) -> None:
    broken = [Completion((3, 4), (math.nan, -1.0), "length") for _ in asked]
    assert not gap(actor, asked, broken, 1.0).within(1e9, 1e9)
