"""Layers that keep less: where they stand, and that nobody else notices."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from scoreline.models.critic import CriticConfig, make_critic
from scoreline.models.lean import LeanEmbedding, LeanGate, LeanNorm
from scoreline.models.linear import CastLinear
from scoreline.train.collate import collate
from tests import parts


@pytest.mark.parametrize(
    ("family", "norms", "gates"),
    [("llama", 5, 2), ("qwen2", 5, 2), ("qwen3", 9, 2), ("mistral", 5, 2), ("gemma2", 0, 0), ("gpt2", 0, 0)],
)
def test_they_stand_where_the_librarys_layers_do_the_same(family: str, norms: int, gates: int) -> None:
    modules = list(parts.policy(family, precision="bf16").model.modules())
    assert sum(isinstance(m, LeanNorm) for m in modules) == norms
    assert sum(isinstance(m, LeanGate) for m in modules) == gates


def test_in_fp32_the_model_is_the_librarys_own() -> None:
    ours = (LeanNorm, LeanGate, LeanEmbedding, CastLinear)
    assert not any(isinstance(m, ours) for m in parts.policy("llama").model.modules())


def test_a_saved_folder_is_an_ordinary_one(tmp_path: Path) -> None:
    actor = parts.policy("llama", precision="bf16")
    actor.save(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded).__name__ == "LlamaForCausalLM"
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), actor.model.parameters(), strict=True))
    assert loaded.dtype == torch.float32


def test_a_pass_keeps_less_than_autocast_would() -> None:
    kept = []
    for stripped in (True, False):
        actor = parts.policy("llama", precision="fp32" if stripped else "bf16")
        actor.precision = "bf16"
        batch = collate(parts.rollouts(actor))
        weights = {p.untyped_storage().data_ptr() for p in actor.model.parameters()}
        seen: dict[int, int] = {}

        def note(x: torch.Tensor, seen: dict[int, int] = seen) -> torch.Tensor:
            seen[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with actor.compute(), torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            states = actor.states(batch)
        kept.append(sum(size for place, size in seen.items() if place not in weights))
        assert states.requires_grad
    assert kept[1] < 0.6 * kept[0]


def test_reference_and_critic_of_a_policy_are_made_of_them_too() -> None:
    actor = parts.policy("llama", precision="bf16")
    reference, critic = actor.frozen(), make_critic(CriticConfig(), actor)
    batch = collate(parts.rollouts(actor))
    for model in (reference.model, critic):
        assert sum(isinstance(m, LeanNorm) for m in model.modules()) == 5
    with torch.no_grad(), actor.compute():
        own, theirs = (p.logprobs(p.states(batch), batch, temperature=1.0)[0] for p in (actor, reference))
    assert torch.equal(own, theirs)
    with actor.compute():
        critic(batch, None).sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in critic.parameters())
