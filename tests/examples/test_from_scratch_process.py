"""The page on process supervision computes what the library computes, to 1e-5; it and the one on rounds are pages."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from scoreline.models import tiny
from scoreline.objectives.zoo import grpo
from scoreline.train.collate import collate
from scoreline.types import Batch, Completion, Prompt, Reward, Rollout, Step
from tests.examples.test_from_scratch import (
    CLOSE,
    EACH_OPTIMIZER,
    FOLDER,
    GROUP,
    MU,
    SEEDS,
    Setting,
    agree,
    fresh,
    library,
    same_weights,
)
from tests.examples.test_from_scratch import page as module
from tests.parts import policy

PAGES = {"grpo_process": 165, "iterative": 205}
EACH_PAGE = pytest.mark.parametrize("name", PAGES)
page = cache(module)


# Process supervision: step rewards instead of one score.


def stepwise(seed: int) -> tuple[Batch, Tensor, Tensor]:
    """Eight ragged answers to two questions, a step or more in each; and log pi and V as leaves to differentiate."""
    numbers, made = random.Random(seed), []
    for row in range(2 * GROUP):
        length = numbers.randint(1, 7)
        ends = sorted(numbers.sample(range(length), numbers.randint(1, length)))
        steps = tuple(numbers.gauss(0, 1) for _ in ends)
        done = Completion((4,) * length, (-1.0,) * length, "stop")
        cut = tuple(Step("", end) for end in ends)
        made.append(Rollout(Prompt("q", "?"), (3,), done, "", Reward(None, steps=steps), row // GROUP, cut))
    batch = collate(made)
    draw = torch.Generator().manual_seed(seed)

    def noise(scale: float) -> Tensor:
        return scale * torch.randn(batch.mask.shape, generator=draw) * batch.mask

    old = noise(1.0) - 2.0
    batch = replace(batch, logp_old=old, logp_ref=old + noise(0.3))
    return batch, (old + noise(0.3)).requires_grad_(), noise(1.0).requires_grad_()


@SEEDS
def test_process_supervision_is_the_library_s(seed):
    lesson = page("grpo_process")
    batch, logp, values = stepwise(seed)
    ours, estimated = library(grpo, batch, logp, values)
    advantage = lesson.advantages(batch.rewards, batch.rewarded.long(), GROUP)
    torch.testing.assert_close(advantage, estimated.advantages, **CLOSE)
    assert advantage.std() > 0.1
    agree(ours, lesson.loss(logp, batch.logp_old, batch.logp_ref, advantage, batch.mask), logp)


def test_the_vector_of_the_paper_s_section():
    lesson = page("grpo_process")
    rewards = torch.tensor([[0.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]])
    ends = torch.tensor([[0, 1, 0, 1, 0], [1, 0, 1, 0, 1]])
    expected = [[0.365148, 0.365148, -0.730297, -0.730297, 0.0], [-0.365148, 0.365148, 0.365148, 1.095445, 1.095445]]
    torch.testing.assert_close(lesson.advantages(rewards, ends, 2), torch.tensor(expected), atol=1e-5, rtol=0)


class StepSetting(Setting):
    """The same sixteen answers with two steps each (one where there is one token), rewarded at random."""

    def __init__(self) -> None:
        super().__init__()
        numbers = random.Random(0)
        self.rollouts = [stepped(rollout, numbers) for rollout in self.rollouts]
        self.batch = collate(self.rollouts)


def stepped(rollout: Rollout, numbers: random.Random) -> Rollout:
    ends = sorted({(len(rollout.completion.token_ids) - 1) // 2, len(rollout.completion.token_ids) - 1})
    rewards = tuple(numbers.random() for _ in ends)
    return replace(rollout, reward=Reward(None, steps=rewards), steps=tuple(Step("", end) for end in ends))


@EACH_OPTIMIZER
def test_a_step_of_process_supervision_is_the_library_s(make):
    lesson, setting = page("grpo_process"), StepSetting()
    learned, _, losses = setting.learn(grpo, make, updates=MU)
    model = fresh(0)
    advantage = lesson.advantages(setting.batch.rewards, setting.batch.rewarded.long(), GROUP)
    taught = lesson.step(model, fresh(1), make(model.parameters()), setting.samples(lesson), advantage, MU)
    assert taught == pytest.approx(losses, abs=1e-5)
    same_weights(model, learned.model, setting.policy.model)


@pytest.mark.parametrize(
    ("answer", "ends", "rewards"),
    [
        ("#23|", [3], [1.0]),
        ("#22|", [3], [0.0]),
        ("3+8=11;11+12=23#23|", [6, 18], [1.0, 1.0]),
        ("3+8=12;12+12=24#24|", [6, 18], [0.0, 0.0]),  # the second equation holds, its result is not the sum
        ("3+8=12;11+12=23#23|", [6, 18], [0.0, 1.0]),
        ("3+8=11;11+12=23|", [6, 15], [1.0, 1.0]),
        ("3+8=11;", [6], [1.0]),  # the budget ended it
        ("3+8=11;|", [6, 7], [1.0, 0.0]),  # the end says nothing
        ("3+8=11;1", [6, 7], [1.0, 0.0]),
        ("=;;|", [1, 2, 3], [0.0, 0.0, 0.0]),
    ],
)
def test_rewards_sit_on_the_tokens_that_end_steps(answer, ends, rewards):
    # `|` is the end token here.
    lesson, tokenizer = page("grpo_process"), policy().text.tokenizer
    ids = [tokenizer.eos_token_id if c == "|" else tokenizer.get_vocab()[c] for c in answer]
    written = torch.tensor([[*ids, 0, 0]])
    mask = torch.tensor([[1] * len(ids) + [0, 0]])
    made, where = lesson.placed([answer.rstrip("|")], [23], written, mask, tokenizer.get_vocab()[";"])
    assert where[0].nonzero().flatten().tolist() == ends
    assert made[0][ends].tolist() == rewards
    assert made.sum() == sum(rewards)


# The pages as pages.


@EACH_PAGE
def test_is_one_page_without_the_library(name):
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= PAGES[name]
    assert "import scoreline" not in text
    assert "from scoreline" not in text


@EACH_PAGE
@pytest.mark.parametrize("shared", ["class Samples", "def question", "@torch.no_grad()\ndef sample"])
def test_what_grpo_has_too_is_the_same_to_the_letter(name, shared):
    # So that a reader sees what is new.
    blocks = (FOLDER / "grpo.py").read_text(encoding="utf-8").split("\n\n\n")
    (block,) = [block for block in blocks if block.startswith(shared)]
    assert block in (FOLDER / f"{name}.py").read_text(encoding="utf-8")


@EACH_PAGE
def test_reads_the_embedded_model_by_default(name):
    assert str(tiny.path()) == page(name).TINY


@EACH_PAGE
@pytest.mark.parametrize(("answer", "right"), [("#23", 1.0), ("3+8=11;11+12=23#23", 1.0), ("#22", 0.0), ("23", 0.0)])
def test_rewards_the_sum(name, answer, right):
    assert page(name).reward(answer, 23) == right


def run(name: str, *options: str) -> list[str]:
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--prompts", "4", "--budget", "24", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_process_supervision_runs_from_the_command_line():
    first, second, example = run("grpo_process", "--steps", "2")
    assert first.split()[:2] == ["1", "reward"]
    assert second.split()[:2] == ["2", "reward"]
    assert example.startswith("for example: ")
