"""A step's label is the share of right answers among those sampled on from exactly the token that ends it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from scoreline.environments.rewards import RewardSpec, Scorer
from scoreline.models.policy import Model, Policy, load_policy
from scoreline.rollout.collect import LABEL, Encoded, Sampler
from scoreline.rollout.continuations import Prefix, Shepherd, flights, open_steps
from scoreline.rollout.engine import Sampling
from scoreline.rollout.local import LocalEngine
from scoreline.types import Completion, Prompt, Request, Reward, Rollout, Step
from tests import parts

SAMPLING = Sampling(max_completion_length=12)


class Noting(LocalEngine):
    """The engine, and a note of what it was asked."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self.asked: list[tuple[list[Request], int]] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        self.asked.append((list(requests), sampling.max_completion_length))
        return super().generate(requests, sampling)


def even(completions: Any, completion_ids: Sequence[Sequence[int]]) -> list[float]:
    """Right is an answer whose tokens add up to an even number."""
    return [float(sum(ids) % 2 == 0) for ids in completion_ids]


def scorer(function: Callable[..., Any] = even) -> Scorer:
    return Scorer([RewardSpec(lambda **given: function(given["completions"], given["completion_ids"]))])


@pytest.fixture(scope="module")
def policy() -> Policy:
    return parts.policy()


@pytest.fixture
def rollouts(policy: Policy) -> list[Rollout]:
    """Sampled answers, cut after every third token and at the last."""
    encoded = [Encoded(p, policy.text.encode(p)) for p in parts.prompts(3)]
    sampler = Sampler(LocalEngine(policy), scorer(), policy.text.decode)
    sampled = sampler.rollouts(encoded, streams(), 2, SAMPLING)
    return [replace(r, steps=thirds(policy, r.completion.token_ids)) for r in sampled]


def thirds(policy: Policy, ids: Sequence[int]) -> tuple[Step, ...]:
    ends = sorted({*range(2, len(ids), 3), len(ids) - 1})
    return tuple(Step(policy.text.decode(ids[: end + 1]), end) for end in ends)


def streams() -> list[tuple[int, ...]]:
    return [(0, LABEL, place) for place in range(3)]


def own(answers: int) -> list[tuple[int, ...]]:
    return [(0, LABEL, i // 2, i % 2) for i in range(answers)]


def shepherd(policy: Policy, **more: Any) -> Shepherd:
    given: dict[str, Any] = {"engine": LocalEngine(policy), "checker": scorer(), "continuations": 4} | more
    return Shepherd(decode=policy.text.decode, sampling=given.pop("sampling", SAMPLING), **given)


def test_the_sampled_tokens_themselves_go_on(policy: Policy, rollouts: list[Rollout]) -> None:
    engine = Noting(policy)
    shepherd(policy, engine=engine).label(rollouts, own(len(rollouts)))
    asked = {request.stream: request.prompt_ids for requests, _ in engine.asked for request in requests}
    wanted = {
        (0, LABEL, i // 2, i % 2, j, k): (*r.prompt_ids, *r.completion.token_ids[: r.steps[j].end + 1])
        for i, r in enumerate(rollouts)
        for j in open_steps(r)
        for k in range(4)
    }
    assert asked == wanted
    assert len(wanted) > 20


def test_soft_is_the_share_and_hard_is_one_of_them(policy: Policy, rollouts: list[Rollout]) -> None:
    soft = shepherd(policy).label(rollouts, own(len(rollouts)))
    hard = shepherd(policy, labels="hard").label(rollouts, own(len(rollouts)))
    tokens = 0
    for i, r in enumerate(rollouts):
        for j in open_steps(r):
            ids = r.completion.token_ids[: r.steps[j].end + 1]
            requests = [Request((*r.prompt_ids, *ids), (*own(6)[i], j, k)) for k in range(4)]
            left = replace(SAMPLING, max_completion_length=12 - len(ids))
            done = LocalEngine(policy).generate(requests, left)
            right = [sum((*ids, *c.token_ids)) % 2 == 0 for c in done]
            tokens += sum(len(c.token_ids) for c in done)
            assert soft.labels[i][j] == sum(right) / 4
            assert hard.labels[i][j] == float(any(right))
    assert soft.sampled_tokens == hard.sampled_tokens == tokens
    assert len({label for labels in soft.labels for label in labels}) > 3


def test_the_end_of_an_answer_is_labelled_with_its_outcome(policy: Policy, rollouts: list[Rollout]) -> None:
    labels = shepherd(policy).label(rollouts, own(len(rollouts))).labels
    assert [each[-1] for each in labels] == [float(r.reward.total or 0) for r in rollouts]
    assert len({r.reward.total for r in rollouts}) == 2


def test_an_answer_of_one_step_costs_nothing(policy: Policy, rollouts: list[Rollout]) -> None:
    engine = Noting(policy)
    whole = [replace(r, steps=r.steps[-1:]) for r in rollouts]
    found = shepherd(policy, engine=engine).label(whole, own(len(rollouts)))
    assert found.labels == [(float(r.reward.total or 0),) for r in rollouts]
    assert (found.sampled_tokens, engine.asked) == (0, [])


def test_an_answer_without_steps_has_no_labels(policy: Policy, rollouts: list[Rollout]) -> None:
    bare = [replace(rollouts[0], steps=()), rollouts[1]]
    labels = shepherd(policy).label(bare, own(2)).labels
    assert labels[0] == ()
    assert len(labels[1]) == len(rollouts[1].steps)


def test_a_last_step_that_does_not_end_the_answer_is_continued(policy: Policy, rollouts: list[Rollout]) -> None:
    engine = Noting(policy)
    cut = [replace(r, steps=r.steps[:1]) for r in rollouts if len(r.steps) > 1]
    shepherd(policy, engine=engine).label(cut, own(len(cut)))
    assert sum(len(requests) for requests, _ in engine.asked) == 4 * len(cut)


def test_labels_do_not_depend_on_the_other_answers(policy: Policy, rollouts: list[Rollout]) -> None:
    together = shepherd(policy).label(rollouts, own(len(rollouts))).labels
    alone = [shepherd(policy).label([r], [stream]).labels[0] for r, stream in zip(rollouts, own(6), strict=True)]
    assert alone == together


def test_a_whole_answer_keeps_the_budget(policy: Policy, rollouts: list[Rollout]) -> None:
    seen: list[int] = []

    def measured(completions: Any, completion_ids: Sequence[Sequence[int]]) -> list[float]:
        seen.extend(map(len, completion_ids))
        return [0.0] * len(completion_ids)

    shepherd(policy, checker=scorer(measured)).label(rollouts, own(len(rollouts)))
    assert max(seen) == SAMPLING.max_completion_length


def test_the_context_bounds_what_is_sampled_together(policy: Policy, rollouts: list[Rollout]) -> None:
    engine, longest = Noting(policy), max(len(r.prompt_ids) for r in rollouts)
    tight = shepherd(policy, engine=engine, context=longest + 12).label(rollouts, own(len(rollouts)))
    for requests, budget in engine.asked:
        assert max(len(request.prompt_ids) for request in requests) + budget <= longest + 12
    assert len(engine.asked) > 1
    assert tight == shepherd(policy).label(rollouts, own(len(rollouts)))


def test_flights_take_every_prefix_once(rollouts: list[Rollout]) -> None:
    prefixes = [Prefix(r, r.completion.token_ids[:n], (0,), 12 - n) for r in rollouts for n in (1, 4, 7)]
    for context in (1, 14, 18, 22, 100):
        made = list(flights(prefixes, context))
        assert sorted(place for places, _ in made for place in places) == list(range(len(prefixes)))
        assert all(budget >= prefixes[place].budget for places, budget in made for place in places)
    assert len(list(flights(prefixes, 100))) == 1


def test_a_stop_string_across_the_step_s_end_ends_the_answer(policy: Policy, rollouts: list[Rollout]) -> None:
    """Sampled in one piece the answer would have ended there."""
    texts: list[str] = []

    def kept(completions: Sequence[str], completion_ids: Any) -> list[float]:
        texts.extend(completions)
        return [0.0] * len(completions)

    answer = next(r for r in rollouts if len(r.steps) > 1 and len(r.steps[0].text) == 3)
    before = answer.steps[0].text
    shepherd(policy, checker=scorer(kept)).label([replace(answer, steps=answer.steps[:1])], [(0, LABEL, 0, 0)])
    going_on = next(text for text in texts if len(text) > 5)
    stop, texts[:] = going_on[2:4], []
    stopping = replace(SAMPLING, stop=(stop,))
    shepherd(policy, checker=scorer(kept), sampling=stopping).label(
        [replace(answer, steps=answer.steps[:1])], [(0, LABEL, 0, 0)]
    )
    assert before + stop[1] in texts
    assert not [text for text in texts if stop in text[:-1] and not text.endswith(stop)]


def test_a_wrong_step_leads_to_fewer_right_answers() -> None:
    policy = load_policy(Model(device="cpu"))
    prompt = Prompt("train:0", "13+8+12=", {"answer": "33"})
    texts = ["13+8=21;21+12=33#33", "13+8=23;23+12=35#35", "13+8=21;21+12=34#34"]
    answers = [written(policy, prompt, text) for text in texts]
    teacher = Shepherd(
        LocalEngine(policy),
        Scorer([RewardSpec("arithmetic_answer")]),
        policy.text.decode,
        Sampling(max_completion_length=32),
        continuations=16,
    )
    right, wrong, late = teacher.label(answers, [(0, LABEL, 0, j) for j in range(3)]).labels
    assert right[0] > 0.8
    assert right[1] == 1.0
    assert wrong[0] < 0.2
    assert late[0] > 0.8
    assert late[1] == 0.0


def written(policy: Policy, prompt: Prompt, text: str) -> Rollout:
    """An answer as if it had been sampled, with the steps that a ';' and the end of the text end."""
    ids = policy.text.encode_answer(prompt, text)
    cut = text.index(";") + 1
    steps = (Step(text[:cut], cut - 1), Step(text[cut:], len(ids) - 1))
    done = Completion(ids, (0.0,) * len(ids), "stop")
    total = float(text.endswith(f"#{prompt.columns['answer']}"))
    return Rollout(prompt, policy.text.encode(prompt), done, text, Reward(total), 0, steps)
