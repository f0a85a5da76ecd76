"""log pi and its gradient in tiles: the same as from all logits at once, of which n x t x v are never there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scoreline.models.device import Precision
from scoreline.models.likelihood import Readout, token_scores
from scoreline.models.policy import Head, token_logprobs
from scoreline.objectives.divergences import EntropyBonus
from scoreline.objectives.zoo import grpo
from scoreline.train.collate import collate
from scoreline.train.learner import LocalLearner, Update
from tests import parts

VOCABULARY = 5000


class Largest(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that any operation gives, backward passes included."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = [x.numel() for x in tree_leaves(out) if isinstance(x, Tensor)]
        self.elements = max([self.elements, *given])
        return out


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("bonus", [None, EntropyBonus(0.1)])
def test_rows_times_vocabulary_is_never_made(
    precision: Precision, bonus: EntropyBonus | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scoreline.models.likelihood.TILE", {"cpu": 1 << 14})
    actor = parts.policy("llama", precision=precision, vocab_size=VOCABULARY, tie_word_embeddings=True)
    made = LocalLearner(actor, replace(grpo, kl=None, entropy=bonus), micro_batch_size=16)
    batch = collate(parts.rollouts(actor, questions=4, answers=8, longest=40))
    weights = VOCABULARY * 32
    assert int(batch.mask.sum()) * VOCABULARY > 10 * weights, "the weights themselves must not hide the logits"
    with Largest() as seen:
        batch = made.annotate(batch, frozenset({"logp_old"}))
        batch = replace(made.objective.estimate(batch), weights=made.objective.aggregate(batch.mask))
        made.update(batch, Update())
    assert seen.elements <= weights
    with Largest() as all_at_once:
        actor.logits(actor.states(batch)[:, :-1][batch.mask])
    assert all_at_once.elements == int(batch.mask.sum()) * VOCABULARY


@pytest.mark.parametrize(("cap", "temperature", "scale"), [(None, 1.0, 1.0), (5.0, 0.7, 1.5), (None, 0.5, 0.25)])
@pytest.mark.parametrize("entropy_gradient", [False, True])
def test_tiles_give_what_all_logits_give(
    cap: float | None, temperature: float, scale: float, entropy_gradient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scoreline.models.likelihood.TILE", {"cpu": 1 << 10})
    monkeypatch.setattr("scoreline.models.likelihood.ROWS", 7)
    torch.manual_seed(0)
    head = Head(nn.Linear(16, 700), scale, cap).double()
    states, tokens = torch.randn(23, 16, dtype=torch.double), torch.randint(700, (23,))
    g, h = torch.randn(23), torch.randn(23) if entropy_gradient else torch.zeros(23)
    ends = []
    for tiled in (False, True):
        head.to(torch.float32 if tiled else torch.double).zero_grad()
        s = states.to(head.embedding.weight.dtype).detach().clone().requires_grad_()
        if tiled:
            readout = Readout(scale, cap, temperature)
            found = token_scores(s, tokens, head.embedding.weight, head.embedding.bias, readout, entropy_gradient)
        else:
            found = token_logprobs(head(s) / temperature, tokens, entropy_gradient)
        (found[0] * g + found[1] * h).sum().backward()
        gradients = [s.grad, head.embedding.weight.grad, head.embedding.bias.grad]
        ends.append([x.detach().double() for x in (*found, *gradients)])
    for exact, near in zip(*ends, strict=True):
        assert torch.allclose(near, exact, rtol=1e-5, atol=1e-6 * float(exact.abs().max()))


def test_a_head_that_is_no_plain_linear_layer_is_scored_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []
    for elements, wrapped in ((1 << 23, False), (100, True)):
        monkeypatch.setattr("scoreline.models.policy.CHUNK_ELEMENTS", elements)
        actor = parts.policy()
        batch = collate(parts.rollouts(actor))
        if wrapped:
            actor.head.embedding = nn.Sequential(actor.head.embedding)
        logp, entropy = actor.logprobs(actor.states(batch), batch, temperature=0.9, entropy_gradient=True)
        (logp.sum() + entropy.sum()).backward()
        ends.append([logp.detach(), entropy.detach(), *(p.grad for p in actor.model.parameters())])
    for one, other in zip(*ends, strict=True):
        assert torch.allclose(one, other, atol=1e-5 * max(1.0, float(one.abs().max())))


def test_a_batch_without_own_tokens_has_no_log_probabilities() -> None:
    actor = parts.policy()
    batch = collate(parts.rollouts(actor))
    batch = replace(batch, mask=torch.zeros_like(batch.mask))
    logp, entropy = actor.logprobs(actor.states(batch), batch, temperature=1.0)
    logp.sum().backward()
    assert not logp.any()
    assert not entropy.any()


def test_under_autocast_scores_are_as_exact_as_the_layers_own() -> None:
    torch.manual_seed(0)
    states, head = torch.randn(256, 512), nn.Linear(512, 999, bias=False)
    tokens = (head(states) / 0.1).argmax(-1)  # likely tokens, where the errors of a logit and of the sum should cancel

    def error(scored: tuple[Tensor, Tensor]) -> float:
        return float((scored[0] - token_logprobs(head(states) / 0.1, tokens)[0]).abs().mean().detach())

    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        tiles = token_scores(states, tokens, head.weight, None, Readout(temperature=0.1), False)
        whole = token_logprobs(head(states).float() / 0.1, tokens)
    assert error(tiles) < 1.1 * error(whole)
