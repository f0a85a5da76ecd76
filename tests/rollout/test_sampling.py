"""Drawing tokens: the streams are a function of their address, the draws follow the distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scoreline.rollout.engine import Sampling
from scoreline.rollout.sampling import cut, draw, uniforms


def test_a_stream_depends_on_its_address_alone() -> None:
    assert np.array_equal(uniforms((0, 0, 7, 3), 16), uniforms((0, 0, 7, 3), 16))
    assert not np.array_equal(uniforms((0, 0, 7, 3), 16), uniforms((0, 0, 7, 4), 16))
    assert not np.array_equal(uniforms((0, 0, 1, 23), 16), uniforms((0, 0, 12, 3), 16)), "1,23 and 12,3 are two places"


def test_a_longer_stream_starts_like_a_shorter_one() -> None:
    assert np.array_equal(uniforms((5, 1), 100)[:10], uniforms((5, 1), 10))


def test_a_stream_is_pinned() -> None:
    """A change of these numbers would silently change every run: resume across versions depends on them."""
    assert uniforms((0, 0, 0, 0), 2).tolist() == [0.22820169558554748, 0.39482213104069763]


def test_inverse_cdf_by_hand() -> None:
    """p = 0.1, 0.2, 0.3, 0.4: the cumulative sums are 0.1, 0.3, 0.6, 1."""
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log().expand(5, 4)
    tokens, logps = draw(logits, torch.tensor([0.0, 0.0999, 0.1001, 0.59, 0.99]), Sampling())
    assert tokens.tolist() == [0, 0, 1, 2, 3]
    assert logps.exp().tolist() == pytest.approx([0.1, 0.1, 0.2, 0.3, 0.4])


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([0.5, -1.0, 2.0, 0.0, 1.0])
    n = 40_000
    uniform = torch.from_numpy(uniforms((3,), n).astype(np.float32))
    tokens, _ = draw(logits.expand(n, 5), uniform, Sampling(temperature=0.7))
    seen = torch.bincount(tokens, minlength=5) / n
    assert seen.tolist() == pytest.approx((logits / 0.7).softmax(-1).tolist(), abs=0.01)


def test_tokens_without_probability_are_never_drawn() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]]).expand(3, 5)
    tokens, _ = draw(logits, torch.tensor([0.0, 0.5, 1.0 - 1e-9]), Sampling())
    assert tokens.tolist() == [1, 3, 3]


def test_top_k_and_top_p() -> None:
    p = torch.tensor([[0.5, 0.1, 0.3, 0.1]])
    assert cut(p, Sampling(top_k=2))[0].tolist() == pytest.approx([0.5, 0.0, 0.3, 0.0])
    assert cut(p, Sampling(top_p=0.5))[0].tolist() == pytest.approx([0.5, 0.0, 0.0, 0.0])
    assert cut(p, Sampling(top_p=0.6))[0].tolist() == pytest.approx([0.5, 0.0, 0.3, 0.0])


def test_the_log_probability_is_that_of_the_whole_distribution() -> None:
    logits = torch.tensor([[0.5, 0.1, 0.3, 0.1]]).log()
    token, logp = draw(logits, torch.tensor([0.99]), Sampling(top_k=1))
    assert token.tolist() == [0]
    assert logp.exp().item() == pytest.approx(0.5)


def test_temperature_zero_takes_the_most_likely() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0]])
    token, logp = draw(logits, torch.tensor([0.0]), Sampling(temperature=0.0))
    assert token.item() == 1
    assert logp.item() == pytest.approx(logits.log_softmax(-1)[0, 1].item())
