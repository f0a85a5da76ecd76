"""GC by hand: each surrogate, correction and KL estimator written straight, and the paper's own line on policy."""

from __future__ import annotations

from dataclasses import replace
from math import exp

import pytest
import torch
from torch import Tensor

from scoreline.objectives.aggregates import FixedLength
from scoreline.objectives.coefficients import Coefficients, alignment, coefficients, outside
from scoreline.objectives.dialects import DIALECTS
from scoreline.objectives.divergences import KL, EntropyBonus
from scoreline.objectives.objective import Objective
from scoreline.objectives.ratios import Clip, LogProb, Terms, TruncatedImportance
from scoreline.objectives.zoo import ZOO, grpo, naive, ppo
from scoreline.train.collate import collate
from scoreline.types import Batch
from tests import parts

NAMED = ZOO | DIALECTS | {"dr_grpo": replace(ZOO["dr_grpo"], aggregate=FixedLength(9))}
VARIED = {
    "dual": replace(grpo, surrogate=Clip(0.2, 0.2, dual=1.5)),
    "k2": replace(grpo, kl=KL(0.1, "k2")),
    "k3_unbiased": replace(grpo, kl=KL(0.1, "k3_unbiased")),
    "correction": replace(grpo, correction=TruncatedImportance(1.2)),
    "corrected naive": replace(naive, correction=TruncatedImportance(1.2)),
    "entropy": replace(grpo, entropy=EntropyBonus(0.1)),
}
EVERY = NAMED | VARIED


def drawn(objective: Objective, seed: int = 0) -> Batch:
    """A batch with every column, its policies apart enough for the clip to hold on both sides."""
    bare = collate(parts.rollouts(parts.policy(), seed=seed))
    draw = torch.Generator().manual_seed(seed)

    def noise(scale: float) -> Tensor:
        return scale * torch.randn(bare.mask.shape, generator=draw) * bare.mask

    old = bare.logp_sampler + noise(0.2)
    batch = replace(bare, logp_old=old, logp_ref=old + noise(0.5), values=noise(1.0), logp=old + noise(0.4))
    return replace(objective.estimate(batch), weights=objective.aggregate(batch.mask))


def straight(objective: Objective, batch: Batch) -> Tensor:
    """GC token by token, from the numbers alone."""
    out = torch.zeros(batch.mask.shape)
    for i, t in batch.mask.nonzero().tolist():
        logp, old, sampler, ref, a = (
            float(column[i, t])  # type: ignore[index]
            for column in (batch.logp, batch.logp_old, batch.logp_sampler, batch.logp_ref, batch.advantages)
        )
        rho, surrogate = exp(logp - old), objective.surrogate
        if isinstance(surrogate, Clip):
            held = (a > 0 and rho > 1 + surrogate.high) or (a < 0 and rho < 1 - surrogate.low)
            held = held or (surrogate.dual is not None and a < 0 and rho > surrogate.dual)
            told = 0.0 if held else rho * a
        else:
            told = a
        if objective.correction is not None:
            told *= min(exp(old - sampler), objective.correction.cap)
        if objective.kl is not None and objective.kl.into == "loss":
            x = logp - ref
            told -= objective.kl.beta * (1 - exp(-x) if objective.kl.estimator == "k3" else x)
        out[i, t] = told
    return out


def one(objective: Objective, advantage: float, rho: float, x: float = 0.0) -> Coefficients:
    """A single token."""
    bare = collate(parts.rollouts(parts.policy(), questions=1, answers=1, longest=1))
    old = torch.zeros(1, 1)
    now = old + torch.tensor(rho).log()
    columns = {"logp_old": old, "logp": now, "logp_ref": now - x, "advantages": torch.full((1, 1), advantage)}
    return coefficients(objective, replace(bare, **columns, weights=objective.aggregate(bare.mask)))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("seed", range(3))
def test_every_objective_tells_what_its_formula_says(name: str, seed: int) -> None:
    batch = drawn(EVERY[name], seed)
    found = coefficients(EVERY[name], batch)
    assert torch.allclose(found.total, straight(EVERY[name], batch), rtol=1e-4, atol=1e-5)
    assert not found.total[~batch.mask].any()
    assert torch.equal(found.weights, batch.weights)  # type: ignore[arg-type]
    assert torch.allclose(found.weighted, found.weights * (found.policy + found.kl))


def test_grpo_on_policy_is_the_papers_line() -> None:
    """GC = A + beta (pi_ref / pi - 1), 2402.03300, appendix A.1: with A = 1.5, x = 0.5 and beta 0.04."""
    told = one(grpo, 1.5, 1.0, 0.5)
    assert float(told.total) == pytest.approx(1.5 + 0.04 * (exp(-0.5) - 1), abs=1e-6)
    assert float(told.policy) == pytest.approx(1.5)
    assert float(told.kl) == pytest.approx(-0.0157388, abs=1e-6)
    assert float(told.divergence) == pytest.approx(0.1065307, abs=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("advantage", "rho", "policy", "clipped"),
    [
        (1.0, 1.1, 1.1, False),
        (1.0, 1.3, 0.0, True),
        (1.0, 0.5, 0.5, False),
        (-1.0, 0.9, -0.9, False),
        (-1.0, 0.7, 0.0, True),
        (-1.0, 1.5, -1.5, False),
        (0.0, 1.3, 0.0, False),
    ],
)
def test_the_clip_takes_the_gradient_away_on_its_own_side(
    advantage: float, rho: float, policy: float, clipped: bool
) -> None:
    told = one(replace(grpo, kl=None), advantage, rho)
    assert float(told.policy) == pytest.approx(policy, abs=1e-6)
    assert bool(told.clipped) is clipped
    assert float(told.ratio) == pytest.approx(rho)


def test_a_dual_clip_holds_bad_tokens_that_became_much_likelier() -> None:
    dual = replace(grpo, kl=None, surrogate=Clip(0.2, 0.2, dual=3.0))
    assert float(one(dual, -1.0, 2.9).policy) == pytest.approx(-2.9)
    told = one(dual, -1.0, 3.1)
    assert float(told.policy) == 0.0
    assert bool(told.clipped)


def test_clipped_is_what_the_clip_counts() -> None:
    batch = drawn(grpo, 1)
    assert batch.logp is not None
    assert batch.logp_old is not None
    assert batch.advantages is not None
    found = coefficients(grpo, batch)
    counted = Clip().clipped((batch.logp - batch.logp_old).exp(), batch.advantages)["clip_ratio/region_mean"]
    assert torch.equal(found.clipped, counted.bool() & batch.mask)
    assert int(found.clipped.sum()) > 3


def test_a_kl_in_the_reward_has_no_share_of_its_own() -> None:
    batch = drawn(ppo)
    found = coefficients(ppo, batch)
    assert not found.kl.any()
    assert found.divergence is not None
    assert batch.logp_old is not None
    assert batch.logp_ref is not None
    assert torch.equal(found.divergence, (batch.logp_old - batch.logp_ref) * batch.mask)


def test_beta_of_the_step_replaces_the_objectives_own() -> None:
    batch = drawn(grpo)
    assert torch.allclose(coefficients(grpo, batch, 0.4).kl, 10 * coefficients(grpo, batch).kl, rtol=1e-5)


def test_a_batch_that_was_used_once_has_ratios_of_one() -> None:
    batch = replace(drawn(grpo), logp_old=None)
    found = coefficients(grpo, batch)
    assert torch.equal(found.ratio, batch.mask.float())
    assert torch.allclose(found.policy, batch.advantages)  # type: ignore[arg-type]


class Squared:
    """A surrogate of nobody's: l = -A rho^2 / 2, so GC = A rho^2."""

    formula, source, ratios = "l = -A rho^2 / 2", "nowhere", True

    def __call__(self, logp: Tensor, logp_old: Tensor, advantage: Tensor) -> Terms:
        return Terms(-advantage * (2 * (logp - logp_old)).exp() / 2)


def test_parts_of_ones_own_have_coefficients_too() -> None:
    own = replace(grpo, surrogate=Squared(), kl=None)
    batch = drawn(own)
    assert batch.advantages is not None
    found = coefficients(own, batch)
    assert torch.allclose(found.policy, batch.advantages * found.ratio**2, rtol=1e-4, atol=1e-6)


def test_what_is_no_coefficient_is_named() -> None:
    assert outside(grpo) == ()
    assert outside(ppo) == ("value",)
    assert outside(replace(ppo, entropy=EntropyBonus())) == ("value", "entropy")


def test_the_losses_are_the_objectives_own() -> None:
    batch = drawn(grpo)
    found = coefficients(grpo, batch)
    again = replace(grpo, surrogate=LogProb())
    assert found.losses.keys() == {"policy", "kl"}
    x = (batch.logp - batch.logp_ref)[batch.mask]  # type: ignore[operator]
    kl = 0.04 * (batch.weights[batch.mask] * ((-x).exp() - 1 + x)).sum()  # type: ignore[index]
    assert found.losses["kl"] == pytest.approx(float(kl), rel=1e-5)
    told = -(batch.weights * batch.advantages * batch.logp)[batch.mask].sum()  # type: ignore[operator,index]
    assert coefficients(again, batch).losses["policy"] == pytest.approx(float(told), rel=1e-4, abs=1e-6)


def test_alignment_by_hand() -> None:
    found = alignment(torch.tensor([3.0, 4.0]), torch.tensor([4.0, 3.0]))
    assert (found.cosine, found.norm, found.other) == (pytest.approx(24 / 25), 5.0, 5.0)
    assert alignment(torch.zeros(2), torch.ones(2)).cosine != alignment(torch.zeros(2), torch.ones(2)).cosine
