"""Packed and padded passes give the same states and the same gradients; models that cannot be packed are left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scoreline.models.attention import NAME, lay_out
from scoreline.train.collate import collate
from tests import parts

PACKED = ["tiny", "llama", "qwen2", "gpt2", "granite"]


@pytest.mark.parametrize("architecture", PACKED)
def test_packed_states_and_gradients_are_the_padded_ones(architecture: str) -> None:
    actor = parts.policy(architecture)
    assert actor.packs
    batch = collate(parts.rollouts(actor, questions=3, answers=4))
    results = []
    for packs in (True, False):
        actor.packs = packs
        actor.model.zero_grad()
        logp, _ = actor.logprobs(actor.states(batch), batch, temperature=1.0)
        (logp * torch.linspace(-1, 1, logp.numel()).view_as(logp)).sum().backward()
        gradient = torch.cat([p.grad.flatten() for p in actor.model.parameters() if p.grad is not None])
        results.append((logp.detach(), gradient))
    assert torch.allclose(results[0][0], results[1][0], atol=1e-4)
    assert torch.allclose(results[0][1], results[1][1], atol=1e-4 * float(results[1][1].abs().max()))


@pytest.mark.parametrize("architecture", ["mistral", "gemma2"])
def test_a_model_with_windows_or_capped_scores_stays_padded(architecture: str) -> None:
    actor = parts.policy(architecture)
    assert not actor.packs
    assert actor.model.config._attn_implementation != NAME


def test_a_prompt_is_laid_out_once_for_its_group() -> None:
    actor = parts.policy()
    made = parts.rollouts(actor, questions=3, answers=5)
    layout = lay_out(collate(made))
    answers = sum(len(r.completion.token_ids) for r in made)
    prompts = sum(len(r.prompt_ids) for r in made[::5])
    assert len(layout.tokens) == answers + prompts
    assert sorted(layout.tokens.tolist()) == sorted(
        [t for r in made for t in r.completion.token_ids] + [t for r in made[::5] for t in r.prompt_ids]
    )


def test_a_saved_folder_does_not_know_of_it(tmp_path: Path) -> None:
    actor = parts.policy()
    actor.save(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()
