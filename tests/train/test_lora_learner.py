"""The learner under an adapter: only A and B move, every state comes back, and the reference can follow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from scoreline.models import adapters
from scoreline.models.adapters import Lora
from scoreline.models.critic import CriticConfig, make_critic
from scoreline.models.policy import Model, load_policy, recompute_activations
from scoreline.objectives.zoo import ppo
from scoreline.train.collate import collate
from scoreline.train.learner import LocalLearner, Update
from scoreline.types import Batch
from tests import parts

LORA = Lora(rank=4, alpha=8)
KINDS = pytest.mark.parametrize("kind", ["separate", "shared"])


@pytest.fixture
def base(tmp_path: Path) -> Path:
    parts.policy().save(tmp_path / "base")
    return tmp_path / "base"


def learner(base: Path, *, kind: str = "separate", micro: int = 64) -> LocalLearner:
    torch.manual_seed(0)
    policy = load_policy(Model(path=str(base), device="cpu", lora=LORA))
    return LocalLearner(
        policy,
        ppo,
        reference=policy.frozen(),
        critic=make_critic(CriticConfig(kind=kind), policy, lora=LORA),  # type: ignore[arg-type]
        micro_batch_size=micro,
        learning_rate=1e-2,
        critic_learning_rate=1e-2,
    )


def update(made: LocalLearner, times: int = 1) -> None:
    batch = collate(parts.rollouts(made.policy))
    for _ in range(times):
        made.update(prepared(made, batch), Update())


def prepared(made: LocalLearner, batch: Batch) -> Batch:
    batch = made.objective.estimate(made.annotate(batch, made.objective.passes(2)))
    return replace(batch, weights=made.objective.aggregate(batch.mask))


def state(made: LocalLearner) -> dict[str, torch.Tensor]:
    assert made.critic is not None
    parts_of = {"policy": made.policy.model, "critic": made.critic}
    return {
        f"{part}.{name}": p.detach().clone() for part, model in parts_of.items() for name, p in model.named_parameters()
    }


@KINDS
def test_only_adapters_and_heads_move(base: Path, kind: str) -> None:
    made = learner(base, kind=kind)
    before = state(made)
    update(made, 3)  # B first: A has no gradient while B = 0, nor B while the critic's head is
    moved = {name for name, value in state(made).items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if ".lora_" in name or name.startswith("critic.head")}
    states = made.optimizer.state_dict()["state"]
    assert len(states) == len(moved), "the optimiser remembers nothing of the weights that stay"


@KINDS
def test_saved_state_comes_back_bit_by_bit_under_an_adapter(base: Path, tmp_path: Path, kind: str) -> None:
    made, again = learner(base, kind=kind), learner(base, kind=kind)
    update(made)
    made.refresh(0.6)
    update(made)
    made.save(tmp_path / "saved")
    again.restore(tmp_path / "saved")
    assert all(torch.equal(value, state(again)[name]) for name, value in state(made).items())
    for one in (made, again):
        update(one, 2)
    assert all(torch.equal(value, state(again)[name]) for name, value in state(made).items())


def test_a_checkpoint_holds_no_weight_that_did_not_learn(base: Path, tmp_path: Path) -> None:
    made = learner(base)
    update(made)
    made.refresh(1.0)
    made.save(tmp_path / "saved")
    adapter = set(made.policy.weights())
    assert set(load_file(tmp_path / "saved/reference.safetensors")) == adapter
    stored = set(load_file(tmp_path / "saved/hf" / adapters.WEIGHTS))
    assert stored == {adapters.stored(name) for name in adapter}
    critic = load_file(tmp_path / "saved/critic.safetensors")
    assert len(critic) == len(adapter) + 2
    assert not (tmp_path / "saved/hf/model.safetensors").exists()


def test_the_reference_follows_the_policy(base: Path) -> None:
    made = learner(base)
    assert made.reference is not None
    batch = collate(parts.rollouts(made.policy))

    def references() -> torch.Tensor:
        logp = made.annotate(batch, frozenset({"logp_ref"})).logp_ref
        assert logp is not None
        return logp

    first = references()
    update(made, 3)
    assert torch.equal(references(), first), "until it is told to"
    made.refresh(0.0)
    assert torch.equal(references(), first)
    made.refresh(1.0)
    own = made.annotate(batch, frozenset({"logp_old"})).logp_old
    assert own is not None
    assert torch.equal(references(), own)
    assert not torch.allclose(references(), first, atol=1e-3)
    update(made, 3)
    assert torch.equal(references(), own), "it follows no further than it was told to"
    assert not any(p.requires_grad for p in made.reference.model.parameters())


def test_a_mixed_reference_misses_the_mixed_weights_by_the_product_of_the_changes(base: Path) -> None:
    """mix B'A' + (1 - mix) BA - (mixed B)(mixed A) = mix (1 - mix) (B' - B)(A' - A)."""
    made, mix = learner(base), 0.6
    assert made.reference is not None
    update(made)
    made.refresh(1.0)
    old = {
        name: layer.get_delta_weight("default") for name, layer in adapters.adapted_layers(made.reference.model).items()
    }
    before = {name: p.detach().clone() for name, p in made.reference.weights().items()}
    update(made, 3)
    new = adapters.adapted_layers(made.policy.model)
    change = {name: p.detach() - before[name] for name, p in made.policy.weights().items()}
    made.refresh(mix)
    for name, layer in adapters.adapted_layers(made.reference.model).items():
        exact = mix * new[name].get_delta_weight("default") + (1 - mix) * old[name]
        product = change[f"{name}.lora_B.default.weight"] @ change[f"{name}.lora_A.default.weight"]
        gap = mix * (1 - mix) * product * LORA.alpha / LORA.rank
        assert torch.allclose(exact - layer.get_delta_weight("default"), gap, atol=1e-6)
        assert gap.abs().max() > 0


@KINDS
def test_recomputed_layers_give_the_same_gradients_under_an_adapter(base: Path, kind: str) -> None:
    ends = []
    for recomputed in (False, True):
        made = learner(base, kind=kind)
        if recomputed:
            recompute_activations(made.policy.model)
        update(made, 2)
        ends.append(state(made))
    for name, value in ends[0].items():
        assert torch.allclose(value, ends[1][name], atol=1e-5), name


def test_micro_batches_change_nothing_under_an_adapter(base: Path) -> None:
    batch = collate(parts.rollouts(parts.policy()))
    facts = []
    for micro in (1, 3, 64):
        made = learner(base, micro=micro)
        facts.append(made.update(prepared(made, batch), Update()).metrics)
    for one in facts[1:]:
        assert one["loss"] == pytest.approx(facts[0]["loss"], rel=1e-5, abs=1e-5)
        assert one["grad_norm"] == pytest.approx(facts[0]["grad_norm"], rel=1e-4)
