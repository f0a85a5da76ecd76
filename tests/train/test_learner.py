"""The learner: micro-batches, order and padding change nothing; a non-finite update is never made; state comes back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scoreline.errors import DivergenceError
from scoreline.models.critic import CriticConfig, make_critic
from scoreline.models.device import Precision
from scoreline.models.policy import recompute_activations
from scoreline.objectives.divergences import EntropyBonus
from scoreline.objectives.objective import Objective
from scoreline.objectives.ratios import TruncatedImportance
from scoreline.objectives.zoo import ZOO, grpo, naive, ppo
from scoreline.train.collate import collate
from scoreline.train.learner import LocalLearner, Update
from scoreline.train.schedule import skipped_in_a_row
from scoreline.types import Batch
from tests import parts


def learner(objective: Objective, *, micro: int = 64, kind: str = "separate", rate: float = 1e-3) -> LocalLearner:
    actor = parts.policy()
    critic = make_critic(CriticConfig(kind=kind), actor) if objective.value else None  # type: ignore[arg-type]
    reference = parts.policy(seed=1) if objective.kl else None
    return LocalLearner(
        actor, objective, reference=reference, critic=critic, micro_batch_size=micro, learning_rate=rate
    )


def prepared(made: LocalLearner, batch: Batch, updates: int = 2) -> Batch:
    objective = made.objective
    batch = objective.estimate(made.annotate(batch, objective.passes(updates)))
    return replace(batch, weights=objective.aggregate(batch.mask))


def weights(made: LocalLearner) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(made.policy.model.parameters()).detach().clone()


ALL = {**{k: v for k, v in ZOO.items() if k != "dr_grpo"}, "entropy": replace(grpo, entropy=EntropyBonus(0.1))}


@pytest.mark.parametrize("name", ALL)
def test_micro_batches_change_nothing(name: str) -> None:
    batch = collate(parts.rollouts(parts.policy()))
    ends = []
    for micro in (1, 3, 64):
        made = learner(ALL[name], micro=micro)
        ready = prepared(made, batch)
        facts = made.update(ready, Update())
        ends.append((ready.advantages, facts["loss"], facts["grad_norm"]))
    for advantages, loss, norm in ends[1:]:
        assert torch.allclose(advantages, ends[0][0], atol=1e-5)
        assert loss == pytest.approx(ends[0][1], abs=1e-5, rel=1e-5)
        assert norm == pytest.approx(ends[0][2], rel=1e-4)


def test_the_order_of_rows_changes_nothing() -> None:
    batch = collate(parts.rollouts(parts.policy()))
    shuffled = batch.rows(torch.randperm(len(batch)))
    norms = [
        m.update(prepared(m, b), Update())["grad_norm"] for m, b in ((learner(ppo), batch), (learner(ppo), shuffled))
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_the_old_log_probability_is_the_policys_own() -> None:
    made = learner(grpo)
    batch = made.annotate(collate(parts.rollouts(made.policy)), frozenset({"logp_old"}))
    with torch.no_grad():
        logp, _ = made.policy.logprobs(made.policy.states(batch), batch, temperature=1.0)
    assert batch.logp_old is not None
    assert torch.allclose(batch.logp_old, logp, atol=1e-5)


def test_a_batch_used_once_needs_no_old_log_probabilities() -> None:
    batch = collate(parts.rollouts(parts.policy()))
    once, twice = learner(replace(grpo, kl=None)), learner(replace(grpo, kl=None))
    first, second = prepared(once, batch, updates=1), prepared(twice, batch, updates=2)
    assert first.logp_old is None
    assert second.logp_old is not None
    once.update(first, Update())
    twice.update(second, Update())
    assert torch.allclose(weights(once), weights(twice), atol=1e-6)


def test_a_good_answer_becomes_likelier_and_a_bad_one_less_likely() -> None:
    made = learner(replace(grpo, kl=None), rate=1e-2)
    batch = prepared(made, collate(parts.rollouts(made.policy)))
    before = batch.logp_old
    made.update(batch, Update())
    after = made.annotate(batch, frozenset({"logp_old"})).logp_old
    assert before is not None
    assert after is not None
    assert batch.advantages is not None
    assert float(((after - before) * batch.advantages).sum()) > 0


def test_a_critic_learns_its_returns() -> None:
    made = learner(ppo, rate=1e-3)
    made.rates[1] = 1e-2
    batch = prepared(made, collate(parts.rollouts(made.policy)))
    losses = [made.update(batch, Update(hold_policy=True))["loss/value"] for _ in range(30)]
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("kind", ["separate", "shared"])
def test_a_held_policy_does_not_move_and_its_critic_does(kind: str) -> None:
    made = learner(ppo, kind=kind)
    assert made.critic is not None
    batch = prepared(made, collate(parts.rollouts(made.policy)))
    policy, head = weights(made), made.critic.head.weight.detach().clone()
    made.update(batch, Update(hold_policy=True))
    assert torch.equal(weights(made), policy)
    assert not torch.equal(made.critic.head.weight, head)
    made.update(batch, Update())
    assert not torch.equal(weights(made), policy)


def test_values_are_zero_at_the_start_so_advantages_are_rewards_to_go() -> None:
    made = learner(replace(ZOO["actor_critic"]))
    batch = prepared(made, collate(parts.rollouts(made.policy)))
    assert batch.advantages is not None
    expected = batch.rewards.sum(1, keepdim=True) * batch.mask
    assert torch.allclose(batch.advantages, expected, atol=1e-6)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_the_optimiser_never_steps_on_a_non_finite_gradient(poison: float) -> None:
    made = learner(naive)
    batch = prepared(made, collate(parts.rollouts(made.policy)))
    assert batch.advantages is not None
    before = weights(made)
    facts = made.update(replace(batch, advantages=batch.advantages * poison), Update())
    assert facts["skipped_updates"] == 1.0
    assert torch.equal(weights(made), before)
    assert made.update(batch, Update())["skipped_updates"] == 0.0
    assert not torch.equal(weights(made), before)


def test_too_many_bad_updates_in_a_row_stop_the_run() -> None:
    bad, good = ({"skipped_updates": s, "loss": float("nan"), "grad_norm": 1.0} for s in (1.0, 0.0))
    assert skipped_in_a_row(0, [bad, good, bad], bound=3) == 1
    with pytest.raises(DivergenceError, match=r"not finite in 3 updates in a row[\s\S]*last checkpoint is untouched"):
        skipped_in_a_row(1, [bad, bad], bound=3)


@pytest.mark.parametrize("kind", ["separate", "shared"])
def test_saved_state_comes_back_bit_by_bit(tmp_path: Path, kind: str) -> None:
    made = learner(ppo, kind=kind)
    batch = collate(parts.rollouts(made.policy))
    made.update(prepared(made, batch), Update())
    made.save(tmp_path)
    again = learner(ppo, kind=kind)
    again.restore(tmp_path)
    assert torch.equal(weights(again), weights(made))
    for one in (made, again):
        one.update(prepared(one, batch), Update())
    assert torch.equal(weights(again), weights(made))
    assert made.critic is not None
    assert again.critic is not None
    assert torch.equal(made.critic.head.weight, again.critic.head.weight)


def test_the_sampler_correction_reweighs_tokens() -> None:
    made = learner(replace(grpo, kl=None, correction=TruncatedImportance(cap=1.5)))
    batch = prepared(made, collate(parts.rollouts(made.policy)), updates=1)
    assert batch.logp_old is not None, "the correction compares with the learner's own"
    ratio = made.update(batch, Update())["sampling/importance_ratio"]
    assert 0.0 < ratio <= 1.5


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_updates_twice_give_the_same_weights(precision: Precision) -> None:
    batch = collate(parts.rollouts(parts.policy()))
    ends = []
    for _ in range(2):
        actor = parts.policy(precision=precision)
        made = LocalLearner(actor, replace(grpo, kl=None), micro_batch_size=5, learning_rate=1e-3)
        for _ in range(2):
            made.update(prepared(made, batch), Update())
        ends.append(weights(made))
    assert torch.equal(ends[0], ends[1])


def test_an_update_begins_with_sums_of_zero() -> None:
    batch = collate(parts.rollouts(parts.policy()))
    made = learner(naive, rate=0.0)
    ready = prepared(made, batch)
    norms = [made.update(ready, Update())["grad_norm"] for _ in range(3)]
    assert norms[0] == norms[1] == norms[2]


@pytest.mark.parametrize("kind", ["separate", "shared"])
def test_gradient_checkpointing_changes_memory_only(kind: str) -> None:
    batch = collate(parts.rollouts(parts.policy()))
    norms, passes = [], []
    for checkpointed in (False, True):
        made = learner(ppo, kind=kind)
        if checkpointed:
            recompute_activations(made.policy.model)
        ready = prepared(made, batch)
        layer = made.policy.model.base_model.layers[0].mlp
        calls: list[int] = []
        layer.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        norms.append(made.update(ready, Update())["grad_norm"])
        passes.append(len(calls))
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
    assert passes == [1, 2], "each layer is computed again for the backward pass"


def test_a_checkpointed_policy_still_samples_with_its_cache() -> None:
    from scoreline.rollout.engine import Sampling
    from scoreline.rollout.local import LocalEngine
    from scoreline.types import Request

    plain, recomputed = parts.policy(), parts.policy()
    recompute_activations(recomputed.model)
    asked = [Request((5, 6, 7), (0, i)) for i in range(4)]
    done = [LocalEngine(p).generate(asked, Sampling(max_completion_length=6)) for p in (plain, recomputed)]
    assert done[0] == done[1]


def test_the_gradient_is_the_updates_own_and_leaves_nothing_behind() -> None:
    batch = collate(parts.rollouts(parts.policy()))
    once, twice = learner(grpo), learner(grpo)
    ready = prepared(once, batch)
    beta = grpo.kl.beta if grpo.kl else None
    gradient = once.gradient(ready, beta)
    assert [part.shape for part in gradient] == [weight.shape for weight in once.groups["policy"]]
    assert all(weight.grad is None for weight in once.groups["policy"])
    assert not once.optimizer.state
    assert torch.equal(weights(once), weights(twice))
    for made in (once, twice):
        made.max_grad_norm = 1e9  # nothing is clipped: `grad` holds what the step was made of
        made.update(ready, Update(beta))
    assert torch.equal(weights(once), weights(twice))
    for part, weight in zip(gradient, twice.groups["policy"], strict=True):
        assert weight.grad is not None
        assert torch.allclose(part, weight.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_gradient_has_all_weights_in_either_precision(precision: Precision) -> None:
    actor = parts.policy(precision=precision)
    made = LocalLearner(actor, naive, micro_batch_size=5)
    gradient = made.gradient(prepared(made, collate(parts.rollouts(actor))))
    assert all(bool(part.any()) for part in gradient), "every weight of this model has a gradient"


@pytest.mark.parametrize("kind", ["separate", "shared"])
def test_the_policys_gradient_is_without_the_value_loss(kind: str) -> None:
    batch = collate(parts.rollouts(parts.policy()))
    with_critic, without = learner(ZOO["actor_critic"], kind=kind), learner(naive)
    pairs = zip(
        with_critic.gradient(prepared(with_critic, batch)), without.gradient(prepared(without, batch)), strict=True
    )
    assert all(torch.allclose(one, other, atol=1e-6, rtol=1e-4) for one, other in pairs), "values are zero at the start"


@pytest.mark.parametrize("kind", ["separate", "shared"])
def test_a_held_critic_does_not_move_and_its_policy_does(kind: str) -> None:
    made = learner(ppo, kind=kind)
    assert made.critic is not None
    batch = prepared(made, collate(parts.rollouts(made.policy)))
    made.update(batch, Update())  # from now on the optimiser has moments that would move it
    before = {name: weight.detach().clone() for name, weight in made.critic.weights().items()}
    policy = weights(made)
    made.update(batch, Update(hold_critic=True))
    assert all(torch.equal(weight, before[name]) for name, weight in made.critic.weights().items())
    assert not torch.equal(weights(made), policy)
    made.update(batch, Update())
    assert not torch.equal(made.critic.head.weight, before["head.weight"])


def test_a_held_shared_critic_does_not_train_the_trunk() -> None:
    held, plain = learner(ZOO["actor_critic"], kind="shared"), learner(naive)
    assert held.critic is not None
    torch.nn.init.normal_(held.critic.head.weight)  # its value loss would reach the trunk
    batch = collate(parts.rollouts(held.policy))
    ready = prepared(held, batch)
    held.update(ready, Update(hold_critic=True))
    plain.update(replace(ready, values=None, returns=None), Update())
    assert torch.allclose(weights(held), weights(plain), atol=1e-6)
