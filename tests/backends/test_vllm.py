"""vLLM for real, on SmolLM2-135M-Instruct (`make test-vllm`): what it samples, and that it follows the learner."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scoreline.backends import vllm as backend
from scoreline.backends.parity import gap
from scoreline.backends.vllm import Serving, Vllm, VllmEngine
from scoreline.errors import EngineError
from scoreline.models.policy import Model, Policy, load_policy
from scoreline.rollout.engine import Sampling
from scoreline.rollout.local import LocalEngine
from scoreline.types import Completion, Prompt, Request

ROOT = Path(__file__).parents[2]
FOLDER = os.environ.get("SCORELINE_SMOLLM2", "")
pytestmark = [
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed (make test-vllm)"),
    pytest.mark.skipif(not FOLDER, reason="SCORELINE_SMOLLM2 names no folder (make test-vllm)"),
]
SAMPLED = Sampling(max_completion_length=16)
GREEDY = replace(SAMPLED, temperature=0.0)


@pytest.fixture(scope="module")
def actor() -> Policy:
    return load_policy(Model(path=FOLDER, device="cpu"))


@pytest.fixture(scope="module")
def asked(actor: Policy) -> list[Request]:
    """Four answers to each of three questions."""
    said = [f"What is {i} + {i + 3}? Say in a few words how you know, then give the number." for i in range(3)]
    ids = [actor.text.encode(Prompt("a", ({"role": "user", "content": text},))) for text in said]
    return [Request(ids[i], (0, 0, i, j)) for i in range(3) for j in range(4)]


@pytest.fixture(scope="module")
def engine(actor: Policy, asked: list[Request]) -> Iterator[VllmEngine]:
    settings = Vllm(context=256, memory=0.02, rows=16, eager=True)
    made = VllmEngine(actor, settings, SAMPLED, [request.prompt_ids for request in asked])
    yield made
    made.close()


@pytest.fixture
def moved(actor: Policy, engine: VllmEngine) -> Iterator[Policy]:
    """The learner after an update that vLLM has not heard of; afterwards both are as they were."""
    before = [parameter.detach().clone() for parameter in actor.model.parameters()]
    shift(actor, 0)
    yield actor
    with torch.no_grad():
        for parameter, old in zip(actor.model.parameters(), before, strict=True):
            parameter.copy_(old)
    engine.load(0)


def shift(actor: Policy, seed: int) -> None:
    """An update: noise of a twentieth of each tensor's spread."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in actor.model.parameters():
            parameter.add_(0.05 * parameter.std() * torch.randn_like(parameter))


def tokens(done: list[Completion]) -> list[tuple[int, ...]]:
    return [completion.token_ids for completion in done]


def test_it_samples_from_the_learners_policy(actor: Policy, engine: VllmEngine, asked: list[Request]) -> None:
    assert engine.gap is not None
    assert engine.gap.within(1e-4, 1e-3), "in fp32 the two differ by rounding alone"
    done = engine.generate(asked, SAMPLED)
    assert gap(actor, asked, done, 1.0).within(1e-4, 1e-3)
    for completion in done:
        ends = [token in actor.text.eos_ids for token in completion.token_ids]
        assert not any(ends[:-1])
        assert completion.finish == ("stop" if ends[-1] else "length")
        assert completion.finish == "stop" or len(ends) == 16
    assert {completion.finish for completion in done} == {"stop", "length"}


def test_the_same_seeds_are_the_same_tokens(engine: VllmEngine, asked: list[Request]) -> None:
    once = tokens(engine.generate(asked, SAMPLED))
    assert tokens(engine.generate(asked, SAMPLED)) == once
    assert len(set(once[:4])) > 1, "answers to one question have streams of their own"
    other = [replace(request, stream=(1, *request.stream[1:])) for request in asked]
    assert tokens(engine.generate(other, SAMPLED)) != once


def test_greedy_answers_are_those_of_the_engine_in_this_process(
    actor: Policy, engine: VllmEngine, asked: list[Request]
) -> None:
    theirs, ours = engine.generate(asked[::4], GREEDY), LocalEngine(actor).generate(asked[::4], GREEDY)
    assert tokens(theirs) == tokens(ours)
    for one, other in zip(theirs, ours, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-3)


def test_a_stop_string_ends_an_answer_and_stays_part_of_it(
    actor: Policy, engine: VllmEngine, asked: list[Request]
) -> None:
    done = engine.generate(asked, replace(SAMPLED, stop=("the", "+")))
    texts = [actor.text.decode(completion.token_ids) for completion in done]
    stopped = [text for text in texts if text.endswith("the") or text.rstrip().endswith("+")]
    assert stopped
    assert all(text[:-1].count("the") == 0 or not text.endswith("the") for text in stopped)
    assert all(completion.finish == "stop" for completion, text in zip(done, texts, strict=True) if text in stopped)


def test_a_cut_leaves_the_log_probabilities_whole(actor: Policy, engine: VllmEngine, asked: list[Request]) -> None:
    done = engine.generate(asked, replace(SAMPLED, top_k=3, top_p=0.8))
    assert gap(actor, asked, done, 1.0).within(1e-4, 1e-3)


def test_answers_to_one_question_share_its_computation(engine: VllmEngine, asked: list[Request]) -> None:
    engine.llm.reset_prefix_cache()
    step, reused = engine.flight.engine.step, []
    with pytest.MonkeyPatch.context() as patched:

        def noted() -> list[Any]:
            outputs = step()
            reused.extend((int(output.request_id), output.num_cached_tokens) for output in outputs)
            return outputs

        patched.setattr(engine.flight.engine, "step", noted)
        engine.generate(asked, SAMPLED)
    reused = [cached for _, cached in sorted(reused)]
    assert all(sum(reused[i + 1 : i + 4]) >= 3 * 32 for i in (0, 4, 8)), reused


def test_another_temperature_than_the_runs_is_refused(engine: VllmEngine, asked: list[Request]) -> None:
    with pytest.raises(EngineError, match=r"temperature 0.5[\s\S]*0 or 1.0"):
        engine.generate(asked, replace(SAMPLED, temperature=0.5))


def test_it_follows_the_learner_after_every_update(moved: Policy, engine: VllmEngine, asked: list[Request]) -> None:
    seen = [tokens(engine.generate(asked[::4], GREEDY))]
    with pytest.raises(EngineError, match=r"does not sample from the learner's policy[\s\S]*nats on average"):
        engine.probe()  # the update has not been loaded
    for version in (1, 2):
        engine.load(version)
        done = engine.generate(asked[::4], GREEDY)
        assert {completion.version for completion in done} == {version}
        assert tokens(done) == tokens(LocalEngine(moved).generate(asked[::4], GREEDY))
        assert tokens(done) not in seen, "the prompts' keys and values are not those of old weights"
        assert engine.probe().within(1e-4, 1e-3)
        seen.append(tokens(done))
        shift(moved, version)


class Later:
    """An update that comes when it was asked for so many times."""

    def __init__(self, actor: Policy, calls: int) -> None:
        self.actor, self.calls = actor, calls

    def waiting(self) -> bool:
        self.calls -= 1
        return self.calls == 0

    def take(self) -> int:
        shift(self.actor, 1)
        return 1


def test_weights_that_come_between_two_tokens(actor: Policy, moved: Policy, engine: VllmEngine) -> None:
    """The engine in this process does the same: it asks after a token what vLLM asks before it."""
    ids = actor.text.encode(Prompt("a", ({"role": "user", "content": "Name three rivers."},)))
    flying = [Request((*ids, 198 + i), (0, 0, i, 0)) for i in range(16)]
    later = [replace(request, stream=(0, 1, *request.stream[2:])) for request in flying]
    own = LocalEngine(actor)
    engine.load(0)
    before = [weight.detach().clone() for weight in actor.model.parameters()]
    engine.arrivals = Later(actor, 8)
    theirs = engine.generate([*flying, *later], GREEDY)  # these have the same prompts, and enter behind the others
    engine.arrivals = None
    fresh = own.generate(later, GREEDY)
    with torch.no_grad():
        for weight, old in zip(actor.model.parameters(), before, strict=True):
            weight.copy_(old)
    own.arrivals = Later(actor, 7)
    ours = own.generate(flying, GREEDY)
    assert [answer.versions for answer in theirs[:16]] == [answer.versions for answer in ours]
    assert any(answer.versions[6:8] == (0, 1) for answer in ours)
    assert tokens(theirs[:16]) == tokens(ours)
    for one, other in zip(theirs, ours, strict=False):
        assert one.logprobs == pytest.approx(other.logprobs, abs=2e-3)
    entered = [(one, other) for one, other in zip(theirs[16:], fresh, strict=True) if one.version == 1]
    assert entered
    assert all(one.token_ids == other.token_ids for one, other in entered), "they share nothing of the old weights"


def test_a_head_that_is_left_behind_is_caught(
    moved: Policy, engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "repack_heads", lambda model: None)
    engine.load(1)
    with pytest.raises(EngineError, match=r"does not sample[\s\S]*engine.mean_gap=0.001[\s\S]*engine=local"):
        engine.probe()
    monkeypatch.undo()
    engine.load(2)
    assert engine.probe().within(1e-4, 1e-3)


def test_a_question_that_is_too_long_for_the_context(actor: Policy, engine: VllmEngine, asked: list[Request]) -> None:
    with pytest.raises(
        EngineError, match=r"cannot run this model[\s\S]*maximum model length of 8[\s\S]*engine.context"
    ):
        VllmEngine(actor, replace(engine.settings, context=8), SAMPLED, [asked[0].prompt_ids])


def test_several_callers_fill_one_batch(actor: Policy, engine: VllmEngine, asked: list[Request]) -> None:
    steps, settings = 0, replace(engine.settings, rows=12)
    many = VllmEngine(actor, settings, SAMPLED, [asked[0].prompt_ids], Serving(callers=3))
    step = many.flight.engine.step

    def counted() -> Any:
        nonlocal steps
        steps += 1
        return step()

    many.flight.engine.step = counted
    try:
        with ThreadPoolExecutor(3) as callers:
            done = [callers.submit(many.generate, asked[i : i + 4], SAMPLED) for i in (0, 4, 8)]
            answers = [answer for each in done for answer in each.result()]
            assert steps < 3 * 16, "a step is one for all of them"
            assert gap(actor, asked, answers, 1.0).within(1e-4, 1e-3), "everybody gets what he asked for"
            broken = callers.submit(many.generate, [Request((5,) * 400, (0, 0, 0, 0))], SAMPLED)
            assert "maximum model length of 256" in str(broken.exception())
            assert len(callers.submit(many.generate, asked, SAMPLED).result()) == 12, "the next call is not spoilt"
    finally:
        many.close()


class Forgetful(VllmEngine):
    """Copies all weights but those of one layer."""

    def _weights(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, weight) for name, weight in super()._weights() if "layers.7." not in name)


def test_weights_that_do_not_arrive_are_caught_before_the_first_step(
    actor: Policy, engine: VllmEngine, asked: list[Request]
) -> None:
    with pytest.raises(EngineError, match=r"does not sample from the learner's policy"):
        Forgetful(actor, replace(engine.settings, rows=8), SAMPLED, [request.prompt_ids for request in asked])


def command(folder: Path, *changes: str) -> subprocess.CompletedProcess[str]:
    recipes = [str(ROOT / "recipes/laptop" / name) for name in ("smollm2_sums.toml", "vllm.toml")]
    told = [sys.executable, "-m", "scoreline", "train", *recipes, f"folder={folder}", f"model.path={FOLDER}"]
    return subprocess.run([*told, *changes], capture_output=True, text=True, cwd=folder)


def test_steps_of_grpo_on_one_digit_sums(tmp_path: Path) -> None:
    small = ["train.steps=3", "train.prompts_per_step=4", "eval.prompts=8", "eval.k=2", "checkpoint.best=none"]
    ended = command(tmp_path, *small, "eval.every=0", "engine.memory=0.02", "engine.probe_every=1")
    assert ended.returncode == 0, ended.stderr
    folder = tmp_path / "smollm2_sums"
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert row["skipped_updates"] == 0
        assert all(math.isfinite(value) for value in row.values() if isinstance(value, float)), row
        assert 0 < row["sampling/sampling_logp_difference/mean"] < 0.1
        assert row["sampling/sampling_logp_difference/max"] < 1.5
        assert 0.9 < row["sampling/importance_ratio"] < 1.1, "the correction weighs every token"
        low, high = (row[f"sampling/importance_sampling_ratio/{end}"] for end in ("min", "max"))
        assert low < 1 < high
    assert any(row["grad_norm"] > 0 for row in rows)
    assert "nats on average" in (folder / "environment.json").read_text()
    assert json.loads((folder / "summary.json").read_text())
    assert (folder / "report.html").stat().st_size > 10_000


def test_a_model_that_it_cannot_run_is_refused(tmp_path: Path) -> None:
    ended = command(tmp_path, "model.path=tiny", "engine.context=none", "data.chat=false")
    assert ended.returncode == 2
    assert "vLLM cannot run this model with these settings" in ended.stderr
    assert "engine=local" in ended.stderr
    assert not list(tmp_path.glob("*/metrics.jsonl"))
