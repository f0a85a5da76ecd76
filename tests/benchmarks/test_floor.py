"""The arithmetic floor: which products a model has, and FLOPs by rates worked by hand."""

from __future__ import annotations

from collections import Counter

import pytest
from figures import Step
from floor import Count, Matrices, Rates, count, divided, matrices, rate, reading
from step import arguments
from turns import make_setup

from scoreline.models import tiny


def test_matrices_of_the_embedded_model_are_its_linear_layers() -> None:
    model, _ = tiny.build(0)
    found, config = matrices("tiny:init"), model.config
    weights = sum(k * n * times for (k, n), times in found.body.items())
    head = found.head[0] * found.head[1]
    embedding_and_norms = (
        config.vocab_size * config.hidden_size + (2 * config.num_hidden_layers + 1) * config.hidden_size
    )
    assert weights + embedding_and_norms == sum(p.numel() for p in model.parameters())
    assert head == config.vocab_size * config.hidden_size
    assert found.attended == config.hidden_size * config.num_hidden_layers


SHAPES = Matrices(Counter({(2, 3): 5}), (2, 10), attended=4)  # 60 FLOPs a token in the body, 40 in the head
RATES = Rates(decoding={(2, 3): 30.0, (2, 10): 20.0}, training={(2, 3): 60.0, (2, 10): 80.0}, reading=10.0)


def test_flops_by_rates() -> None:
    told = Count(rows=8, sampled=100, asked=10, past=50, longest=20)  # 4 x 4 x 50 = 800 FLOPs of attention a token
    found = divided(SHAPES, told, RATES, width=4)
    assert SHAPES.weights == 50
    assert found.sampling == 100 * (1 + 0.5 + 10)
    assert found.products == 100 * (2 + 2 + 10)
    assert found.prompts == 10 * 4
    assert found.training == 100 * 3 * (1 + 0.5 + 10)
    assert found.seconds == found.sampling + found.prompts + found.training
    assert found.gflop == pytest.approx((100 * 4 * 100 + 10 * 4 * 60) / 1e9)
    assert found.record()["seconds"] == found.seconds


def test_few_answers_are_bound_by_reading_the_weights() -> None:
    found = divided(SHAPES, Count(rows=1, sampled=20, asked=10, past=50, longest=20), RATES, width=4)
    assert found.sampling == 20 * 50 * 4 / 10.0
    assert found.products == 20 * (2 + 2 + 10)


def test_tokens_are_counted_in_the_steps() -> None:
    setup = make_setup(arguments(["--model", "tiny:init"]), 2)
    steps = [Step(1.0, n, {}, ((1, 2, 3), (4, 5)), (n - 7, 7)) for n in (60, 100)]
    assert count(setup, steps) == Count(rows=16, sampled=80.0, asked=5.0, past=2.5 + 80 / 16 / 2, longest=73.0)


def test_bandwidth_is_measured() -> None:
    assert 1e7 < reading(1 << 16, "cpu", repetitions=1) < 1e15


@pytest.mark.parametrize("cold", [True, False])
def test_a_rate_is_measured(cold: bool) -> None:
    assert 1e6 < rate(4, (512, 1024), "bf16", "cpu", cold=cold, repetitions=1) < 1e15
