"""What the fast passes compute is what transformers' own forward pass and autograd compute."""

from __future__ import annotations

import copy
from statistics import median
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from scoreline.models.device import Precision, autocast
from scoreline.models.policy import Policy
from scoreline.train.collate import collate
from scoreline.types import Batch
from tests import parts

FAMILIES = ["llama", "qwen2", "qwen3", "mistral", "gemma2", "gpt2", "granite"]
WIDE = {"hidden_size": 64, "intermediate_size": 160}


def uneven(actor: Policy) -> Batch:
    """Groups of 4, 1 and 3 answers of different lengths."""
    made = parts.rollouts(actor, questions=3, answers=4)
    return collate([*made[:4], made[5], *made[9:]])


def plain(actor: Policy) -> Any:
    """The library's model with the same weights and its plainest attention."""
    config = copy.deepcopy(actor.model.config)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    model.load_state_dict(actor.model.state_dict())
    return model.eval()


def plain_logprobs(model: Any, batch: Batch, precision: Precision, temperature: float) -> Tensor:
    """log pi(o_t) of each row by itself, from logits of the whole model."""
    logp = torch.zeros(batch.mask.shape)
    for i in range(len(batch)):
        asked, answered = int(batch.prompt_length[i]), int(batch.length[i])
        ids = torch.cat([batch.prompts[i, -asked:], batch.completions[i, :answered]])
        with autocast(torch.device("cpu"), precision):
            logits = model(input_ids=ids[None], use_cache=False).logits[0].float() / temperature
        rows = logits[asked - 1 : -1].log_softmax(-1)
        logp[i, :answered] = rows.gather(1, ids[asked:, None]).squeeze(1)
    return logp


def gradient(model: Any, logp: Tensor) -> Tensor:
    """The gradient of a weighted sum of log-probabilities, all parameters in one row."""
    (logp * torch.linspace(-1, 1, logp.numel()).view_as(logp)).sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def fast(actor: Policy, batch: Batch, temperature: float) -> tuple[Tensor, Tensor]:
    """log pi and its gradient as the learner computes them."""
    with actor.compute():
        logp, _ = actor.logprobs(actor.states(batch), batch, temperature=temperature)
        return logp.detach() * batch.mask, gradient(actor.model, logp)


def distance(found: Tensor, expected: Tensor) -> float:
    """|found - expected| / |expected|."""
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("family", FAMILIES)
def test_fp32_is_the_library_to_1e_5(family: str) -> None:
    actor = parts.policy(family)
    batch, model = uneven(actor), plain(actor)
    expected = plain_logprobs(model, batch, "fp32", 0.7)
    slope = gradient(model, expected)
    logp, found = fast(actor, batch, 0.7)
    assert distance(logp, expected.detach() * batch.mask) < 1e-5
    assert distance(found, slope) < 1e-5


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2"])
def test_bf16_is_as_near_to_fp32_as_autocast(family: str) -> None:
    slopes, logps = [], []
    for seed in range(5):  # the rounding of a small random model is a matter of luck: the median of five is not
        actor = parts.policy(family, seed=seed, precision="bf16", **WIDE)
        batch, exact, cast = uneven(actor), plain(actor), plain(actor)
        true = plain_logprobs(exact, batch, "fp32", 1.0)
        near = plain_logprobs(cast, batch, "bf16", 1.0)
        slope, rounded = gradient(exact, true), gradient(cast, near)
        logp, found = fast(actor, batch, 1.0)
        slopes.append(distance(found, slope) / distance(rounded, slope))
        logps.append(distance(logp, true.detach()) / distance(near.detach(), true.detach()))
    assert 0.1 < median(slopes) < 1.15, slopes
    assert 0.1 < median(logps) < 1.15, logps


def test_attention_in_slices_or_by_the_librarys_kernel_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    actor = parts.policy("llama")
    batch, ends = uneven(actor), []
    for bound, at_once in ((1 << 25, 1 << 18), (1 << 25, 1), (0, 0)):
        monkeypatch.setattr("scoreline.models.attention.SCORES", bound)
        monkeypatch.setattr("scoreline.models.attention.SLICE", at_once)
        actor.model.zero_grad()
        ends.append(fast(actor, batch, 1.0))
    for logp, found in ends[1:]:
        assert distance(logp, ends[0][0]) < 1e-5
        assert distance(found, ends[0][1]) < 1e-5


def test_frozen_weights_get_no_gradient_and_the_others_the_same() -> None:
    ends = []
    for frozen in (False, True):
        actor = parts.policy("llama", precision="bf16")
        if frozen:
            for name, parameter in actor.model.named_parameters():
                parameter.requires_grad_("q_proj" in name)
        batch = uneven(actor)
        with actor.compute():
            logp, _ = actor.logprobs(actor.states(batch), batch, temperature=1.0)
            logp.sum().backward()
        ends.append({name: p.grad for name, p in actor.model.named_parameters()})
    for name, found in ends[1].items():
        assert found is None or torch.equal(found, ends[0][name])
        assert (found is not None) == ("q_proj" in name)
