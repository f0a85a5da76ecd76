"""The in-process engine against plain forward passes, for several architectures."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scoreline.rollout.engine import Sampling
from scoreline.rollout.local import LocalEngine
from scoreline.train.collate import collate
from scoreline.types import Completion, Request, Reward, Rollout
from tests import parts

SAMPLING = Sampling(max_completion_length=12)


def requests(actor: parts.Policy, questions: int, answers: int) -> list[Request]:
    encoded = [actor.text.encode(prompt) for prompt in parts.prompts(questions)]
    return [Request(ids, (0, i, j)) for i, ids in enumerate(encoded) for j in range(answers)]


def plain(actor: parts.Policy, request: Request, completion: Completion) -> torch.Tensor:
    """log pi(o_t) of one answer, alone, without padding or cache."""
    ids = torch.tensor([[*request.prompt_ids, *completion.token_ids]])
    with torch.no_grad():
        logits = actor.model(ids, use_cache=False).logits[0, len(request.prompt_ids) - 1 : -1].float()
    return logits.log_softmax(-1).gather(1, torch.tensor(completion.token_ids)[:, None]).squeeze(1)


@pytest.mark.parametrize("architecture", ["tiny", *parts.ARCHITECTURES])
def test_log_probabilities_are_the_models(architecture: str) -> None:
    actor = parts.policy(architecture)
    asked = requests(actor, 5, 3)
    for request, completion in zip(asked, LocalEngine(actor).generate(asked, SAMPLING), strict=True):
        expected = plain(actor, request, completion)
        assert torch.allclose(torch.tensor(completion.logprobs), expected, atol=2e-4), architecture


@pytest.mark.parametrize("architecture", ["tiny", *parts.ARCHITECTURES])
def test_the_learner_agrees_with_the_sampler(architecture: str) -> None:
    actor = parts.policy(architecture)
    asked = requests(actor, 4, 2)
    done = LocalEngine(actor).generate(asked, SAMPLING)
    prompts = parts.prompts(4)
    made = [
        Rollout(prompts[i // 2], r.prompt_ids, c, "", Reward(0.0), i // 2)
        for i, (r, c) in enumerate(zip(asked, done, strict=True))
    ]
    batch = collate(made)
    with torch.no_grad():
        logp, entropy = actor.logprobs(actor.states(batch), batch, temperature=1.0)
    assert torch.allclose(logp, batch.logp_sampler, atol=2e-4)
    assert bool((entropy[batch.mask] >= 0).all())
    assert bool((entropy[~batch.mask] == 0).all())


@pytest.mark.parametrize("architecture", ["tiny", "gpt2", "mistral"])
def test_greedy_answers_are_those_of_generate(architecture: str) -> None:
    actor = parts.policy(architecture)
    asked = requests(actor, 4, 1)
    for request, completion in zip(
        asked, LocalEngine(actor).generate(asked, replace(SAMPLING, temperature=0.0)), strict=True
    ):
        ids = torch.tensor([list(request.prompt_ids)])
        told = {"do_sample": False, "max_new_tokens": 12, "pad_token_id": 0, "eos_token_id": list(actor.text.eos_ids)}
        expected = actor.model.generate(ids, attention_mask=torch.ones_like(ids), **told)[0, ids.shape[1] :]
        assert list(completion.token_ids) == expected.tolist()


def test_answers_do_not_depend_on_the_batch() -> None:
    actor = parts.policy()
    asked = requests(actor, 6, 4)
    together = LocalEngine(actor).generate(asked, SAMPLING)
    for rows in (1, 5, 24):
        apart = LocalEngine(actor, max_rows=rows).generate(asked, SAMPLING)
        assert [c.token_ids for c in apart] == [c.token_ids for c in together]
    backwards = LocalEngine(actor).generate(asked[::-1], SAMPLING)
    assert [c.token_ids for c in backwards[::-1]] == [c.token_ids for c in together]


def test_an_answer_ends_with_its_end_token_or_its_budget() -> None:
    actor = parts.policy()
    done = LocalEngine(actor).generate(requests(actor, 8, 8), SAMPLING)
    assert {c.finish for c in done} == {"stop", "length"}
    for completion in done:
        ends = [t for t in completion.token_ids if t in actor.text.eos_ids]
        assert len(completion.token_ids) == len(completion.logprobs)
        if completion.finish == "stop":
            assert len(ends) == 1
            assert completion.token_ids[-1] in actor.text.eos_ids
        else:
            assert not ends
            assert len(completion.token_ids) == 12


def test_stop_strings_end_an_answer_and_stay_in_it() -> None:
    actor = parts.policy()
    done = LocalEngine(actor).generate(requests(actor, 8, 8), replace(SAMPLING, stop=("+", "=3")))
    texts = [actor.text.decode(c.token_ids) for c in done]
    stopped = [t for t in texts if "+" in t or "=3" in t]
    assert len(stopped) > 10
    assert all(t.endswith(("+", "=3")) and t.count("+") <= 1 for t in stopped)


def test_the_same_prompt_is_computed_once_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    actor = parts.policy()
    widths: list[tuple[int, ...]] = []
    forward = actor.model.base_model.forward

    def noted(*args: object, **kwargs: torch.Tensor) -> object:
        widths.append(tuple(kwargs["input_ids"].shape))
        return forward(*args, **kwargs)

    monkeypatch.setattr(actor.model.base_model, "forward", noted)
    LocalEngine(actor).generate(requests(actor, 3, 5), SAMPLING)
    assert widths[0][0] == 3, "three prompts, not fifteen"
    assert widths[1] == (15, 1)


def test_a_version_is_written_on_every_answer() -> None:
    actor = parts.policy()
    engine = LocalEngine(actor)
    engine.load(7)
    assert {c.version for c in engine.generate(requests(actor, 2, 2), SAMPLING)} == {7}


def test_bf16_samples_and_scores_alike() -> None:
    actor = parts.policy("llama")
    actor.precision = "bf16"
    asked = requests(actor, 4, 2)
    for request, completion in zip(asked, LocalEngine(actor).generate(asked, SAMPLING), strict=True):
        with actor.compute():
            expected = plain(actor, request, completion)
        assert torch.allclose(torch.tensor(completion.logprobs), expected, atol=0.15)
