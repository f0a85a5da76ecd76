"""New weights between two tokens: what was sampled stays, what comes is sampled by them, every token says by which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch

from scoreline.models import decoder
from scoreline.models.device import Precision
from scoreline.models.policy import Policy
from scoreline.rollout.engine import Sampling
from scoreline.rollout.local import LocalEngine
from scoreline.types import Completion, Request
from tests import parts

SAMPLING = Sampling(max_completion_length=12)


@dataclass
class Swap:
    """Other weights, which arrive after so many tokens and again after as many."""

    policy: Policy
    after: int
    times: int = 1
    looks: int = 0
    taken: list[dict[str, torch.Tensor]] = field(default_factory=list)

    def waiting(self) -> bool:
        self.looks += 1
        return len(self.taken) < self.times and self.looks == self.after * (len(self.taken) + 1)

    @torch.no_grad()
    def take(self) -> int:
        for weight in self.policy.weights().values():
            weight.mul_(1.3)
        self.taken.append({name: weight.detach().clone() for name, weight in self.policy.weights().items()})
        return 7 + len(self.taken)


def requests(actor: Policy, questions: int, answers: int) -> list[Request]:
    encoded = [actor.text.encode(prompt) for prompt in parts.prompts(questions)]
    return [Request(ids, (0, 0, i, j)) for i, ids in enumerate(encoded) for j in range(answers)]


def sampled(
    architecture: str, after: int, *, times: int = 1, rows: int = 256, precision: Precision = "fp32"
) -> tuple[Policy, list[Request], list[Completion], Swap]:
    actor = parts.policy(architecture, precision=precision)
    engine = LocalEngine(actor, max_rows=rows)
    engine.load(7)
    engine.arrivals = swap = Swap(actor, after, times)
    asked = requests(actor, 4, 3)
    return actor, asked, engine.generate(asked, SAMPLING), swap


def spans(answer: Completion) -> Sequence[int]:
    return answer.versions or (answer.version,) * len(answer.token_ids)


@pytest.mark.parametrize("architecture", ["tiny", "mistral", "gpt2"])
def test_tokens_before_the_change_are_those_without_it(architecture: str) -> None:
    plain = parts.policy(architecture)
    before = LocalEngine(plain).generate(requests(plain, 4, 3), SAMPLING)
    _, _, after, swap = sampled(architecture, after=4)
    assert len(swap.taken) == 1
    assert any(answer.versions for answer in after)
    for one, other in zip(before, after, strict=True):
        assert spans(other) == (7,) * min(4, len(other.token_ids)) + (8,) * max(len(other.token_ids) - 4, 0)
        assert other.version == 7
        assert one.token_ids[:4] == other.token_ids[:4]
        assert one.logprobs[:4] == other.logprobs[:4]


@pytest.mark.parametrize("shared", [False, True])
def test_the_next_token_is_the_new_weights_reading_of_old_keys_and_values(
    shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "COPIED", 0 if shared else 128)
    actor, asked, answers, swap = sampled("llama", after=3)
    old = parts.policy("llama").model
    for request, answer in zip(asked, answers, strict=True):
        if not answer.versions:
            continue
        text = torch.tensor([[*request.prompt_ids, *answer.token_ids[:3]]])
        with torch.no_grad():
            kept = old(text[:, :-1], use_cache=True).past_key_values
            logits = actor.model(text[:, -1:], past_key_values=kept, use_cache=True).logits[0, -1].float()
        expected = logits.log_softmax(-1)[answer.token_ids[3]]
        assert answer.logprobs[3] == pytest.approx(float(expected), abs=2e-4)
    assert swap.looks > 3


def test_weights_may_change_more_than_once() -> None:
    _, _, answers, swap = sampled("tiny", after=2, times=3)
    longest = max(answers, key=lambda answer: len(answer.token_ids))
    assert len(swap.taken) == 3
    assert spans(longest)[:8] == (7, 7, 8, 8, 9, 9, 10, 10)


def test_who_enters_afterwards_has_the_new_weights_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "COPIED", 0)  # prompts are shared, also by answers that enter later
    actor, asked, answers, _ = sampled("tiny", after=2, rows=4)
    late = [i for i, answer in enumerate(answers) if answer.version == 8]
    assert late
    assert any(answers[i].version == 7 and asked[i].prompt_ids == asked[late[0]].prompt_ids for i in range(late[0]))
    fresh = LocalEngine(actor).generate([asked[i] for i in late], SAMPLING)
    for i, answer in zip(late, fresh, strict=True):
        assert answers[i].token_ids == answer.token_ids
        assert answers[i].logprobs == pytest.approx(answer.logprobs, abs=1e-4)


def test_in_bf16_the_weights_that_stay_are_the_new_ones() -> None:
    actor, _, answers, swap = sampled("llama", after=3, precision="bf16")
    assert any(answer.versions for answer in answers)
    for name, weight in actor.weights().items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, swap.taken[-1][name])
    whole = sampled("llama", after=3)[2]
    same = [i for i, (a, b) in enumerate(zip(answers, whole, strict=True)) if a.token_ids == b.token_ids]
    assert same, "rounding may change a token here and there, not most"
    for i in same:
        assert answers[i].versions == whole[i].versions
        assert answers[i].logprobs == pytest.approx(whole[i].logprobs, abs=0.15)
