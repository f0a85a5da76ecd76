"""Every accelerated way of decoding against a plain forward pass of the whole text for each token."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import pytest
import torch

from scoreline.errors import ModelError
from scoreline.models import decoder as decoding
from scoreline.models.compiling import CompiledLayers
from scoreline.models.decoder import SharedDecoder, make_decoder
from scoreline.models.fallback import CachedDecoder, WholeDecoder
from scoreline.models.policy import Model, load_policy
from scoreline.models.sharing import apart, seated, together
from scoreline.rollout.engine import Sampling
from scoreline.rollout.local import LocalEngine
from scoreline.rollout.sampling import ALMOST_ONE, uniforms
from scoreline.types import Completion, Request
from tests import parts

FAMILIES = ["tiny", *parts.ARCHITECTURES]
SAMPLING = Sampling(max_completion_length=10)
EDGE = 1e-5
"""A draw this close to the boundary between two tokens may fall on either side of it."""


def asked(actor: parts.Policy, questions: int, answers: int) -> list[Request]:
    encoded = [actor.text.encode(prompt) for prompt in parts.prompts(questions)]
    return [Request(ids, (3, i, j)) for i, ids in enumerate(encoded) for j in range(answers)]


@torch.no_grad()
def plainly(actor: parts.Policy, request: Request, completion: Completion) -> int:
    """How many of an answer's tokens were drawn at an edge; the others must be those of the plain model."""
    ids = torch.tensor([[*request.prompt_ids, *completion.token_ids]])
    logits = actor.model(ids, use_cache=False).logits[0, len(request.prompt_ids) - 1 : -1].float()
    cumulative = logits.softmax(-1).cumsum(-1)
    draws = torch.tensor(uniforms(request.stream, len(completion.token_ids)), dtype=torch.float32).clamp(max=ALMOST_ONE)
    target = draws[:, None] * cumulative[:, -1:]
    expected = torch.searchsorted(cumulative, target, right=True).squeeze(1)
    differ = expected != torch.tensor(completion.token_ids)
    distance = (cumulative - target).abs().min(-1).values
    assert bool((distance[differ] < EDGE).all()), "another token, and not at a boundary"
    return int(differ.sum())


@pytest.fixture(params=["copied", "shared"])
def held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Prompts copied to each answer, as short ones are, and shared, as long ones are."""
    monkeypatch.setattr(decoding, "COPIED", 128 if request.param == "copied" else 0)
    return str(request.param)


@pytest.mark.parametrize("rows", [3, 256])
@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_those_of_the_plain_model(family: str, rows: int, held: str) -> None:
    actor = parts.policy(family)
    requests = asked(actor, 7, 3)
    done = LocalEngine(actor, max_rows=rows).generate(requests, SAMPLING)
    edges = sum(plainly(actor, request, completion) for request, completion in zip(requests, done, strict=True))
    assert edges <= 1, f"{edges} of {sum(len(c.token_ids) for c in done)} tokens at a boundary"


def test_an_answer_at_its_budget_waits_for_the_others_without_harm(held: str) -> None:
    actor = parts.policy("llama")
    actor.text.eos_ids = ()
    requests = asked(actor, 9, 1)
    done = LocalEngine(actor, max_rows=8).generate(requests, Sampling(max_completion_length=3))
    assert [len(c.token_ids) for c in done] == [3] * 9
    for request, completion in zip(requests, done, strict=True):
        assert plainly(actor, request, completion) == 0


def test_a_budget_beyond_the_first_room(held: str) -> None:
    actor = parts.policy("llama")
    actor.text.eos_ids = ()
    requests = asked(actor, 2, 2)
    done = LocalEngine(actor).generate(requests, Sampling(max_completion_length=150))
    assert max(len(c.token_ids) for c in done) > 64
    for request, completion in zip(requests, done, strict=True):
        plainly(actor, request, completion)


def test_waiting_requests_take_the_places_of_ended_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    actor = parts.policy()
    entered: list[int] = []
    admit = SharedDecoder.admit

    def noted(self: SharedDecoder, prompts: Any) -> None:
        entered.append(len(prompts))
        admit(self, prompts)

    monkeypatch.setattr(SharedDecoder, "admit", noted)
    LocalEngine(actor, max_rows=8).generate(asked(actor, 10, 4), SAMPLING)
    assert sum(entered) == 40
    assert entered[0] == 8
    assert any(0 < count < 8 for count in entered[1:]), "places are filled while others go on"


def test_a_prompt_is_held_once_for_all_of_its_answers() -> None:
    actor = parts.policy("llama")
    decoder = make_decoder(actor, budget=5, widest=129)
    assert isinstance(decoder, SharedDecoder)
    with torch.no_grad():
        decoder.admit([(3, 4, 5)] * 6 + [(6, 7)] * 2)
        decoder.step(torch.zeros(8, dtype=torch.long))
    assert {held.prompt_keys.shape[0] for held in decoder.held.values()} == {2}
    assert len(decoder.held) == 2, "one store a layer"
    decoder.close()
    assert not [name for name, module in actor.model.named_modules() if hasattr(module, "held")]


def test_a_model_with_windows_keeps_the_librarys_cache() -> None:
    assert isinstance(make_decoder(parts.policy("mistral"), budget=5, widest=9), CachedDecoder)


RECURRENT = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 24}


def test_a_model_without_keys_and_values_is_computed_from_the_whole_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(parts.ARCHITECTURES, "mamba", RECURRENT | {"state_size": 4})
    actor = parts.policy("mamba")
    assert isinstance(make_decoder(actor, budget=5, widest=9), WholeDecoder)
    requests = asked(actor, 4, 2)
    for request, completion in zip(requests, LocalEngine(actor).generate(requests, SAMPLING), strict=True):
        plainly(actor, request, completion)


def test_a_model_that_heeds_no_padding_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(parts.ARCHITECTURES, "rwkv", RECURRENT | {"attention_hidden_size": 32})
    with pytest.raises(ModelError, match="among padded ones"):
        parts.policy("rwkv")


def test_rows_of_prompts_and_rows_of_answers_are_inverse() -> None:
    seat = torch.tensor([1, 0, 1, 2, 1])
    members, home = seated(seat, seats=3, most=3)
    x = torch.randn(5, 2, 3, 4)
    assert torch.equal(apart(together(x, members, home), members, home), x)
    assert members[1].tolist() == [0, 2, 4]
    assert seated(torch.tensor([0, 0, 1, 1]), seats=2, most=2)[1] is None


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler to compile layers with")
def test_compiled_layers_draw_the_same_tokens(held: str) -> None:
    actor = parts.policy("llama")
    requests = asked(actor, 5, 3)
    eager = LocalEngine(actor).generate(requests, SAMPLING)
    actor.compiled = CompiledLayers(actor.model, actor.device)
    compiled = [LocalEngine(actor).generate(requests, SAMPLING) for _ in range(2)]
    assert compiled[0] == compiled[1], "the same run twice"
    assert [c.token_ids for c in compiled[0]] == [c.token_ids for c in eager]
    for request, completion in zip(requests, compiled[0], strict=True):
        assert plainly(actor, request, completion) == 0


def test_without_a_compiler_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ModelError, match="need a compiler") as error:
        load_policy(Model(compile=True))
    assert "model.compile = false" in str(error.value)


def test_bf16_weights_are_copies_that_leave_no_trace() -> None:
    actor = parts.policy("llama")
    before = {name: (p.data_ptr(), p.clone()) for name, p in actor.model.named_parameters()}
    actor.precision = "bf16"
    LocalEngine(actor).generate(asked(actor, 2, 2), replace(SAMPLING, temperature=0.0))
    for name, parameter in actor.model.named_parameters():
        assert parameter.requires_grad
        assert parameter.data_ptr() == before[name][0]
        assert torch.equal(parameter, before[name][1])
