"""What holds for every objective: padding, order, splits and scale of a batch change nothing that they must not."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scoreline.objectives.aggregates import FixedLength, SequenceMean, SequenceSum, TokenMean
from scoreline.objectives.dialects import DIALECTS
from scoreline.objectives.divergences import EntropyBonus
from scoreline.objectives.objective import Objective, PolicyOutput
from scoreline.objectives.ratios import TruncatedImportance
from scoreline.objectives.signal import Signal
from scoreline.objectives.zoo import ZOO, grpo, naive
from scoreline.types import Batch

settings.register_profile("small", max_examples=15, deadline=None, derandomize=True)
settings.load_profile("small")

SEEDS = st.integers(0, 2**20)
OBJECTIVES = {
    **ZOO,
    **DIALECTS,
    "dr_grpo": replace(ZOO["dr_grpo"], aggregate=FixedLength(16)),
    "corrected": replace(grpo, correction=TruncatedImportance(), entropy=EntropyBonus()),
}
NAMES = pytest.mark.parametrize("name", OBJECTIVES)


def random_batch(seed: int, dtype: torch.dtype = torch.float64) -> tuple[Batch, PolicyOutput]:
    """Three groups of unequal size, ragged rows with tool tokens, an unscorable row, a silent group."""
    g = torch.Generator().manual_seed(seed)

    def noise(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return scale * torch.randn(*shape, generator=g, dtype=dtype)

    group = torch.tensor([0, 0, 0, 0, 2, 2, 2, 1, 1, 1])
    n, t = len(group), 7
    length = torch.randint(1, t + 1, (n,), generator=g)
    position = torch.arange(t)
    mask = (position < length[:, None]) & ((torch.rand(n, t, generator=g) < 0.8) | (position == 0))
    last = torch.where(mask, position, -1).amax(1, keepdim=True)
    rewarded = (position == last) | (mask & (torch.rand(n, t, generator=g) < 0.2))
    rewarded[2] = False  # no function could score it
    rewards = torch.where(group[:, None] == 1, torch.tensor(0.1, dtype=dtype), noise(n, t)) * rewarded
    old = noise(n, t) - 2
    batch = Batch(
        prompts=torch.ones(n, 1, dtype=torch.long),
        prompt_length=torch.ones(n, dtype=torch.long),
        completions=torch.ones(n, t, dtype=torch.long),
        length=length,
        mask=mask,
        group=group,
        rewards=rewards,
        rewarded=rewarded,
        truncated=length == t,
        logp_sampler=old + noise(n, t, scale=0.5),
        logp_old=old,
        logp_ref=old + noise(n, t, scale=0.5),
        values=noise(n, t),
        value_end=noise(n),
    )
    return batch, PolicyOutput(old + noise(n, t, scale=0.3), noise(n, t).abs(), noise(n, t))


def prepared(objective: Objective, batch: Batch) -> Batch:
    return replace(objective.estimate(batch), weights=objective.aggregate(batch.mask))


def rows(policy: PolicyOutput, index: object) -> PolicyOutput:
    return PolicyOutput(**{f.name: getattr(policy, f.name)[index] for f in fields(policy)})


def loss_and_gradients(objective: Objective, batch: Batch, policy: PolicyOutput) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss, and its derivatives by log pi and V side by side."""
    leaves = replace(policy, logp=policy.logp.clone().requires_grad_(), values=policy.values.clone().requires_grad_())
    total = objective.loss(batch, leaves).total
    grads = torch.autograd.grad(total, [leaves.logp, leaves.values], allow_unused=True, materialize_grads=True)
    return total.detach(), torch.stack(grads)


def padded(column: torch.Tensor, seed: int) -> torch.Tensor:
    """Two columns of noise (or of False) behind each row."""
    extra = torch.zeros(len(column), 2, dtype=column.dtype)
    if column.dtype.is_floating_point:
        extra = torch.randn(len(column), 2, generator=torch.Generator().manual_seed(seed), dtype=column.dtype)
    return torch.cat([column, extra], 1)


@NAMES
@given(seed=SEEDS)
def test_padding_changes_nothing(name, seed):
    objective = OBJECTIVES[name]
    batch, policy = random_batch(seed)
    t = batch.mask.shape[1]
    wide = {f.name: getattr(batch, f.name) for f in fields(batch)}
    wide = {k: padded(c, seed) if c is not None and c.shape[1:] == (t,) else c for k, c in wide.items()}
    long = Batch(**{**wide, "rewards": torch.nn.functional.pad(batch.rewards, (0, 2))})
    long_policy = PolicyOutput(*(padded(getattr(policy, f.name), seed) for f in fields(policy)))
    short, longer = prepared(objective, batch), prepared(objective, long)
    torch.testing.assert_close(longer.advantages[:, :t], short.advantages)
    loss, grads = loss_and_gradients(objective, short, policy)
    long_loss, long_grads = loss_and_gradients(objective, longer, long_policy)
    torch.testing.assert_close(long_loss, loss)
    torch.testing.assert_close(long_grads[..., :t], grads)
    assert long_grads[..., t:].eq(0).all()


@NAMES
@given(seed=SEEDS)
def test_order_of_rows_and_names_of_groups_do_not_matter(name, seed):
    objective = OBJECTIVES[name]
    batch, policy = random_batch(seed)
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(seed))
    shuffled = batch.rows(order)
    shuffled = replace(shuffled, group=torch.tensor([5, 0, 9])[shuffled.group])
    straight, mixed = prepared(objective, batch), prepared(objective, shuffled)
    torch.testing.assert_close(mixed.advantages, straight.advantages[order])
    loss, grads = loss_and_gradients(objective, straight, policy)
    mixed_loss, mixed_grads = loss_and_gradients(objective, mixed, rows(policy, order))
    torch.testing.assert_close(mixed_loss, loss)
    torch.testing.assert_close(mixed_grads, grads[:, order])


@NAMES
@given(seed=SEEDS, cut=st.integers(1, 9))
def test_parts_of_a_step_add_up(name, seed, cut):
    objective = OBJECTIVES[name]
    batch, policy = random_batch(seed)
    whole = prepared(objective, batch)
    loss, grads = loss_and_gradients(objective, whole, policy)
    parts = [slice(0, cut), slice(cut, len(batch))]
    made = [loss_and_gradients(objective, whole.rows(part), rows(policy, part)) for part in parts]
    torch.testing.assert_close(sum(part for part, _ in made), loss, atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.cat([grad for _, grad in made], 1), grads, atol=1e-6, rtol=0)


@NAMES
@given(seed=SEEDS)
def test_what_was_not_scored_gets_exactly_zero(name, seed):
    batch, _ = random_batch(seed)
    advantages = OBJECTIVES[name].estimate(batch).advantages
    assert advantages[~batch.mask].eq(0).all()
    assert advantages[2].eq(0).all()
    if OBJECTIVES[name].grouped and "Total" not in str(OBJECTIVES[name].credit):  # rloo's scores hold the KL too
        assert advantages[batch.group == 1].eq(0).all()


@NAMES
@given(seed=SEEDS)
def test_an_unscorable_row_teaches_the_critic_nothing(name, seed):
    objective = replace(OBJECTIVES[name], entropy=None)
    batch, policy = random_batch(seed)
    _, grads = loss_and_gradients(objective, prepared(objective, batch), policy)
    assert grads[1, 2].eq(0).all()
    if objective.kl is None or objective.kl.into == "reward":
        assert grads[0, 2].eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@NAMES
def test_dtype_is_kept(name, dtype):
    objective = OBJECTIVES[name]
    batch, policy = random_batch(3, dtype)
    made = prepared(objective, batch)
    assert made.advantages.dtype == dtype
    assert objective.loss(made, policy).total.dtype == dtype


@pytest.mark.parametrize("aggregate", [TokenMean(), SequenceMean(), SequenceSum(), FixedLength(16)])
@given(seed=SEEDS)
def test_weights(aggregate, seed):
    batch, _ = random_batch(seed)
    weights = aggregate(batch.mask)
    assert weights[~batch.mask].eq(0).all()
    assert weights[batch.mask].gt(0).all()
    if isinstance(aggregate, TokenMean | SequenceMean):
        torch.testing.assert_close(weights.sum(), torch.tensor(1.0))


@dataclass(frozen=True)
class Halved:
    """A credit of one's own: half of the reward."""

    formula: ClassVar[str] = "A = r / 2"
    source: ClassVar[str] = "this test"

    def __call__(self, signal: Signal) -> Signal:
        return replace(signal, rewards=signal.rewards / 2)


def test_a_credit_from_outside_the_package_fits():
    batch, _ = random_batch(0)
    objective = replace(naive, credit=(Halved(), *naive.credit))
    torch.testing.assert_close(objective.estimate(batch).advantages, naive.estimate(batch).advantages / 2)
