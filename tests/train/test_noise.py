"""Gradient noise: numbers worked by hand, what must not matter, and what theory says of known gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from scoreline.errors import ConfigError
from scoreline.train.noise import estimates, flattened, gradient_noise, products, versus

FOUR = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 0.0]]


def of(rows: Sequence[Sequence[float]] | Tensor) -> Tensor:
    return products(list(torch.as_tensor(rows)))


def drawn(batches: int, mean: Tensor, spread: float, seed: int = 0) -> Tensor:
    """Gradients with E g = mean and tr Cov = spread^2 d."""
    return mean + spread * torch.randn(batches, len(mean), generator=torch.Generator().manual_seed(seed))


def test_four_gradients_by_hand() -> None:
    """mean (1, 1/2), |mean|^2 = 5/4, sum |g|^2 = 8: tr Cov = (8 - 5) / 3 = 1, |E g|^2 = 5/4 - 1/4 = 1."""
    noise = gradient_noise(of(FOUR))
    assert (noise.variance, noise.signal, noise.ratio, noise.batches) == pytest.approx((1.0, 1.0, 1.0, 4))
    cosines = (3 / math.sqrt(13), 1 / math.sqrt(17), 4 / math.sqrt(20), 4 / math.sqrt(32))
    assert noise.cosine == pytest.approx(sum(cosines) / 4)


def test_a_gradient_that_was_drawn_twice_is_no_pair_with_itself() -> None:
    """Drawn (2, 1, 1, 0) times: 10 ordered pairs; g_1 g_2 four times, g_1 g_3 four times, g_2 g_3 twice."""
    variance, signal = estimates(of(FOUR), torch.tensor([[2.0, 1.0, 1.0, 0.0]], dtype=torch.float64))
    assert float(signal) == pytest.approx((4 * 0 + 4 * 1 + 2 * 1) / 10)
    assert float(variance) == pytest.approx((4 * 2 / 2 + 4 * 1 / 2 + 2 * 1 / 2) / 10)


def test_equal_gradients_have_no_noise() -> None:
    noise = gradient_noise(of([[3.0, 4.0]] * 5))
    assert (noise.variance, noise.signal, noise.ratio) == pytest.approx((0.0, 25.0, 0.0), abs=1e-9)
    assert noise.cosine == pytest.approx(1.0)


def test_opposite_gradients_have_no_signal() -> None:
    noise = gradient_noise(of([[1.0], [-1.0], [1.0], [-1.0]]))
    assert noise.signal < 0
    assert noise.ratio == noise.ratio_high == math.inf
    assert noise.cosine == pytest.approx(-1.0)


def test_gradients_of_zero_say_nothing() -> None:
    noise = gradient_noise(of(torch.zeros(4, 3)))
    assert (noise.variance, noise.signal, noise.ratio, noise.cosine) == (0.0, 0.0, math.inf, 0.0)


@given(st.floats(1e-3, 1e3), st.permutations(range(8)), st.permutations(range(6)))
def test_scale_order_and_names_of_weights_do_not_matter(scale: float, batches: list[int], weights: list[int]) -> None:
    gradients = drawn(8, torch.arange(6.0), 2.0)
    noise, other = gradient_noise(of(gradients)), gradient_noise(of(scale * gradients[batches][:, weights]))
    assert (other.ratio, other.cosine) == pytest.approx((noise.ratio, noise.cosine), rel=1e-5)
    assert other.variance == pytest.approx(scale**2 * noise.variance, rel=1e-5)


def test_estimates_are_unbiased() -> None:
    """E g = (1, 2), tr Cov = 9 x 2: the mean over many small probes meets both, the signal too."""
    found = [gradient_noise(of(drawn(4, torch.tensor([1.0, 2.0]), 3.0, seed)), draws=1) for seed in range(3000)]
    assert sum(noise.variance for noise in found) / 3000 == pytest.approx(18.0, rel=0.03)
    assert sum(noise.signal for noise in found) / 3000 == pytest.approx(5.0, rel=0.1)


def bandit(batches: int, size: int, baseline: float, seed: int = 0) -> Tensor:
    """Policy gradients of a choice among three, rewards 1, 0, 0: mean over the batch of (r - b) grad log pi."""
    p = torch.tensor([0.2, 0.3, 0.5])
    picks = torch.multinomial(p.expand(batches, 3), size, replacement=True, generator=torch.manual_seed(seed))
    reward = (picks == 0).float() - baseline
    return (reward[..., None] * (torch.eye(3)[picks] - p)).mean(1)


def test_a_constant_score_line_moves_the_noise_and_not_the_signal() -> None:
    truth = 0.16**2 + 0.06**2 + 0.1**2  # |grad|^2 = sum_a (p_0 (1[a = 0] - p_a))^2
    near, far = (gradient_noise(of(bandit(2000, 32, b)), draws=1) for b in (0.2, 5.0))
    assert near.signal == pytest.approx(truth, rel=0.04)
    assert far.signal == pytest.approx(truth, rel=0.3)
    assert far.variance > 50 * near.variance


def test_twice_the_batch_halves_the_variance() -> None:
    once, twice = (gradient_noise(of(bandit(2000, size, 0.2)), draws=1) for size in (16, 32))
    assert twice.variance == pytest.approx(once.variance / 2, rel=0.1)
    by_formula = once.larger(2)
    assert (by_formula.variance, by_formula.ratio) == (once.variance / 2, once.ratio / 2)
    assert twice.ratio == pytest.approx(by_formula.ratio, rel=0.15)


def test_the_cosine_of_larger_batches_follows_the_formula() -> None:
    mean = torch.full((200,), 0.5)
    small, large = gradient_noise(of(drawn(40, mean, 1.0)), draws=1), gradient_noise(of(drawn(40, mean, 0.5)), draws=1)
    assert small.larger(4).cosine == pytest.approx(large.cosine, rel=0.15)
    assert small.larger(1).cosine == pytest.approx(small.cosine, rel=0.1)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """E g of length 1, tr Cov = 0.16 x 40 = 6.4, so the ratio is 6.4."""
    mean = torch.zeros(40).index_fill(0, torch.tensor([0]), 1.0)
    found = [gradient_noise(of(drawn(32, mean, 0.4, seed)), draws=300) for seed in range(120)]
    held = sum(noise.ratio_low <= 6.4 <= noise.ratio_high for noise in found) / 120
    assert 0.87 <= held <= 1.0
    assert all(noise.ratio_low <= noise.ratio <= noise.ratio_high for noise in found)


def test_two_lines_on_the_same_batches_are_compared_as_a_pair() -> None:
    gradients = drawn(24, torch.ones(30), 2.0)
    noisier = gradients + drawn(24, torch.zeros(30), 1.0, seed=1)
    variance, ratio = versus(of(noisier), of(gradients))
    exact = gradient_noise(of(noisier)), gradient_noise(of(gradients))
    assert variance.times == pytest.approx(exact[0].variance / exact[1].variance)
    assert ratio.times == pytest.approx(exact[0].ratio / exact[1].ratio)
    assert 1.0 < variance.low < variance.times < variance.high
    same, scaled = versus(of(3 * gradients), of(gradients))
    assert (same.low, same.high) == pytest.approx((9.0, 9.0), rel=1e-5)
    assert (scaled.low, scaled.high) == pytest.approx((1.0, 1.0), rel=1e-5)


def test_a_long_gradient_becomes_signed_sums_whose_products_are_near() -> None:
    one, two = torch.randn(2, 4000) + 0.5
    assert torch.equal(flattened((one[:1000].view(10, 100), one[1000:])), one)
    exact = float(one @ two)
    short = [float(flattened([one], 500, seed) @ flattened([two], 500, seed)) for seed in range(200)]
    error = float(one.norm() * two.norm()) / math.sqrt(500)
    assert len(flattened([one], 500)) == 500
    assert sum(short) / 200 == pytest.approx(exact, abs=4 * error / math.sqrt(200))
    assert max(abs(value - exact) for value in short) < 5 * error


def test_three_batches_are_too_few() -> None:
    with pytest.raises(ConfigError, match=r"difference between batches[\s\S]*3 batches[\s\S]*at least 4"):
        gradient_noise(of(FOUR[:3]))
