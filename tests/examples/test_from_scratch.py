"""The single pages compute what the library computes: losses, gradients, whole updates, to 1e-5. And they run."""

from __future__ import annotations

import copy
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForTokenClassification

from scoreline.models import tiny
from scoreline.models.attention import token_mask
from scoreline.models.critic import Critic, CriticConfig, make_critic
from scoreline.models.policy import Policy
from scoreline.objectives.objective import Objective, PolicyOutput
from scoreline.objectives.zoo import grpo, naive, ppo
from scoreline.train.collate import collate
from scoreline.train.learner import LocalLearner, Update
from scoreline.train.plan import Plan
from scoreline.types import Batch
from tests.parts import policy, rollouts

FOLDER = Path(__file__).parents[2] / "examples" / "from_scratch"
PAGES = ["naive", "ppo", "grpo"]
CLOSE: dict[str, float] = {"atol": 1e-5, "rtol": 1e-5}
GROUP, MU = 4, 3
SEEDS = pytest.mark.parametrize("seed", range(5))


def page(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"from_scratch_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Losses and gradients on random numbers.


@pytest.fixture
def random_batch(batch: Callable[..., Batch]) -> Callable[[int], tuple[Batch, Tensor, Tensor, Tensor]]:
    """Eight ragged answers to two questions; their scores, and log pi and V as leaves to differentiate."""

    def make(seed: int) -> tuple[Batch, Tensor, Tensor, Tensor]:
        draw = torch.Generator().manual_seed(seed)
        n, t = 2 * GROUP, 7
        lengths = torch.randint(1, t + 1, (n, 1), generator=draw)
        lengths[0] = t
        mask, last = torch.arange(t) < lengths, torch.arange(t) == lengths - 1
        scores, old = torch.randn(n, generator=draw), torch.randn(n, t, generator=draw) - 2.0
        near = {
            "logp_old": old,
            "logp_ref": old + 0.3 * torch.randn(n, t, generator=draw),
            "values": torch.randn(n, t, generator=draw),
        }
        columns = {name: (column * mask).tolist() for name, column in near.items()}
        made = batch((scores[:, None] * last).tolist(), mask.tolist(), group=[0] * GROUP + [1] * GROUP, **columns)
        logp = (old + 0.3 * torch.randn(n, t, generator=draw)) * mask
        values = torch.randn(n, t, generator=draw) * mask
        return made, scores, logp.requires_grad_(), values.requires_grad_()

    return make


def library(objective: Objective, batch: Batch, logp: Tensor, values: Tensor) -> tuple[Tensor, Batch]:
    estimated = replace(objective.estimate(batch), weights=objective.aggregate(batch.mask))
    return objective.loss(estimated, PolicyOutput(logp, values=values)).total, estimated


def agree(ours: Tensor, theirs: Tensor, *leaves: Tensor) -> None:
    torch.testing.assert_close(theirs, ours, **CLOSE)
    for left, right in zip(torch.autograd.grad(theirs, leaves), torch.autograd.grad(ours, leaves), strict=True):
        assert float(right.abs().sum()) > 0
        torch.testing.assert_close(left, right, **CLOSE)


@SEEDS
def test_naive_is_the_library_s(seed, random_batch):
    lesson = page("naive")
    batch, scores, logp, values = random_batch(seed)
    ours, estimated = library(naive, batch, logp, values)
    advantage = lesson.advantages(scores)
    torch.testing.assert_close(advantage[:, None] * batch.mask, estimated.advantages, **CLOSE)
    agree(ours, lesson.loss(logp, advantage, batch.mask), logp)


@SEEDS
def test_grpo_is_the_library_s(seed, random_batch):
    lesson = page("grpo")
    batch, scores, logp, values = random_batch(seed)
    ours, estimated = library(grpo, batch, logp, values)
    advantage = lesson.advantages(scores, GROUP)
    torch.testing.assert_close(advantage[:, None] * batch.mask, estimated.advantages, **CLOSE)
    agree(ours, lesson.loss(logp, batch.logp_old, batch.logp_ref, advantage, batch.mask), logp)


@SEEDS
def test_ppo_is_the_library_s(seed, random_batch):
    lesson = page("ppo")
    batch, scores, logp, values = random_batch(seed)
    ours, estimated = library(ppo, batch, logp, values)
    rewards = lesson.charged(scores, batch.logp_old, batch.logp_ref, batch.mask)
    advantage = lesson.advantages(rewards, batch.values, batch.mask)
    torch.testing.assert_close(advantage, estimated.advantages, **CLOSE)
    returns = (advantage + batch.values) * batch.mask
    torch.testing.assert_close(returns, estimated.returns, **CLOSE)
    agree(ours, lesson.loss(logp, batch.logp_old, values, advantage, returns, batch.mask), logp, values)


# Whole training steps of the embedded architecture on the same answers.


@dataclass(frozen=True)
class SGD:
    """Moves along the gradient itself, far enough for pi to leave pi_old."""

    rate: float = 0.3

    def __call__(self, parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=self.rate)


@dataclass(frozen=True)
class AdamW:
    """What the pages and the library train with, but for a larger epsilon: Adam divides a gradient by its own size, and
    one that is nothing but rounding would become a direction."""

    rate: float = 1e-3

    def __call__(self, parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr=self.rate, weight_decay=0.0, eps=1e-6)


EACH_OPTIMIZER = pytest.mark.parametrize("make", [SGD(), AdamW()], ids=["sgd", "adamw"])


class Setting:
    """A random policy, another as its reference, a critic, and sixteen answers to four questions."""

    def __init__(self) -> None:
        self.policy, self.reference = policy(seed=0), policy(seed=1)
        self.critic = make_critic(CriticConfig(), self.policy)
        torch.nn.init.normal_(self.critic.head.weight, std=0.1)
        self.rollouts = rollouts(self.policy, questions=4, answers=GROUP)
        self.batch = collate(self.rollouts)

    def learn(self, objective: Objective, make: SGD | AdamW, updates: int) -> tuple[Policy, Critic, list[float]]:
        """The library's updates: the trained policy and critic, and the loss of each update."""
        actor, critic = copy.deepcopy(self.policy), copy.deepcopy(self.critic)
        learner = LocalLearner(
            actor,
            objective,
            reference=self.reference.frozen(),
            critic=critic if objective.value else None,
            learning_rate=make.rate,
            critic_learning_rate=make.rate,
        )
        learner.optimizer = make([{"params": parameters} for parameters in learner.groups.values()])
        plan = Plan(prompts_per_step=4, num_generations=GROUP, num_iterations=updates)
        batch = objective.estimate(learner.annotate(self.batch, objective.passes(updates)))
        minis = plan.updates(batch, objective.aggregate, seed=0, step=0)
        return actor, critic, [learner.update(mini, Update()).metrics["loss"] for _, mini in minis]

    def samples(self, lesson: ModuleType) -> Any:
        tokens = torch.cat([self.batch.prompts, self.batch.completions], 1)
        return lesson.Samples(tokens, token_mask(self.batch).long(), self.batch.mask.long())

    def rewards(self) -> Tensor:
        return self.batch.rewards.sum(1)


def same_weights(taught: torch.nn.Module, learned: torch.nn.Module, start: torch.nn.Module) -> None:
    """The same weights to 1e-5, and other ones than before."""
    pairs = zip(taught.parameters(), learned.parameters(), start.parameters(), strict=True)
    moved = 0.0
    for left, right, before in pairs:
        torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-5)
        moved = max(moved, float((right - before).detach().abs().max()))
    assert moved > 1e-4


@EACH_OPTIMIZER
def test_a_step_of_naive_is_the_library_s(make):
    lesson, setting = page("naive"), Setting()
    learned, _, losses = setting.learn(naive, make, updates=1)
    model = fresh(0)
    taught = lesson.step(model, make(model.parameters()), setting.samples(lesson), setting.rewards())
    assert taught == pytest.approx(losses, abs=1e-5)
    same_weights(model, learned.model, setting.policy.model)


@EACH_OPTIMIZER
def test_a_step_of_grpo_is_the_library_s(make):
    lesson, setting = page("grpo"), Setting()
    learned, _, losses = setting.learn(grpo, make, updates=MU)
    model, samples = fresh(0), setting.samples(lesson)
    optimizer = make(model.parameters())
    taught = lesson.step(model, fresh(1), optimizer, samples, setting.rewards(), GROUP, MU)
    assert taught == pytest.approx(losses, abs=1e-5)
    same_weights(model, learned.model, setting.policy.model)


@EACH_OPTIMIZER
def test_a_step_of_ppo_is_the_library_s(make):
    lesson, setting = page("ppo"), Setting()
    learned, learned_critic, losses = setting.learn(ppo, make, updates=MU)
    model, critic = fresh(0), token_critic(setting)
    optimizer = make([{"params": model.parameters()}, {"params": critic.parameters()}])
    models = model, fresh(1), critic
    taught = lesson.step(models, optimizer, setting.samples(lesson), setting.rewards(), MU)
    assert taught == pytest.approx(losses, abs=1e-5)
    same_weights(model, learned.model, setting.policy.model)
    same_weights(critic, learned_critic, setting.critic)


def fresh(seed: int) -> torch.nn.Module:
    """The weights that `policy(seed)` starts from, in a model that the library has not touched."""
    return tiny.build(seed)[0].eval()


def token_critic(setting: Setting) -> torch.nn.Module:
    """The library's critic as the class that the page uses."""
    config = fresh(0).config
    config.num_labels = 1
    made = AutoModelForTokenClassification.from_config(config).eval()
    made.model.load_state_dict(setting.critic.trunk.state_dict())
    made.score.load_state_dict(setting.critic.head.state_dict())
    return made


# The pages as pages.


@pytest.mark.parametrize("name", PAGES)
def test_is_one_page_without_the_library(name):
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert "import scoreline" not in text
    assert "from scoreline" not in text


@pytest.mark.parametrize("name", PAGES)
def test_runs_from_the_command_line(name, tmp_path):
    model, tokenizer = tiny.build(0)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    few = ["--steps", "2", "--prompts", "4", "--budget", "8", "--model", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), *few], capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    first, second, example = done.stdout.splitlines()
    assert first.split()[:2] == ["1", "reward"]
    assert second.split()[:2] == ["2", "reward"]
    assert example.startswith("for example: ")


def test_reads_the_embedded_model_by_default():
    assert all(str(tiny.path()) == page(name).TINY for name in PAGES)


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("answer", "right"), [("#23", 1.0), ("3+8=11;11+12=23#23", 1.0), ("#22", 0.0), ("23", 0.0)])
def test_rewards_the_sum(name, answer, right):
    assert page(name).reward(answer, 23) == right


def test_padding_changes_no_log_probability():
    lesson, actor = page("grpo"), policy()
    tokenizer = actor.text.tokenizer
    tokenizer.padding_side = "left"
    asked = tokenizer(["3+8=", "13+8+20="], padding=True, return_tensors="pt")
    samples = lesson.sample(actor.model, asked.input_ids, asked.attention_mask, tokenizer.eos_token_id, 6)
    logp = lesson.logprobs(actor.model, samples)
    assert samples.mask.shape[1] <= 6
    for row in range(2):
        own = samples.present[row].bool()
        alone = samples.tokens[row][own]
        n = int(samples.mask[row].sum())
        scores = actor.model(alone[None]).logits[0].log_softmax(-1)[:-1].gather(-1, alone[1:, None])[:, 0]
        torch.testing.assert_close(logp[row][:n], scores[-n:], **CLOSE)
