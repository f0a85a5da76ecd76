"""The whole configuration as one tree: what a recipe can say. A component is its own configuration."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from scoreline.backends.runtime import Local as InProcess
from scoreline.backends.runtime import Ray
from scoreline.backends.vllm import Vllm
from scoreline.environments.prompts import Data
from scoreline.environments.rewards import RewardSpec
from scoreline.environments.steps import Splitter
from scoreline.errors import ConfigError
from scoreline.models.critic import CriticConfig
from scoreline.models.device import Precision
from scoreline.models.policy import Model
from scoreline.objectives.aggregates import FixedLength
from scoreline.objectives.objective import Objective
from scoreline.objectives.zoo import grpo
from scoreline.rollout.engine import Sampling
from scoreline.rollout.local import Local
from scoreline.train.iterate import Reference, Rounds
from scoreline.train.judging import JudgeFit
from scoreline.train.plan import Plan
from scoreline.train.sft import SFT

Metric = Literal["greedy", "avg@k", "pass@k"]


@dataclass(frozen=True)
class Eval:
    """Evaluation on held-out prompts: before training, every `every` steps (0: never in between) and after it.

    Each prompt gets one greedy answer and `k` sampled ones. An answer is right when its total reward, under the
    functions in `reward` (left out: those that train), is at least `right_at`.
    """

    before: bool = True
    every: int = 0
    k: int = 4
    prompts: int = 128
    right_at: float = 1.0
    reward: tuple[RewardSpec, ...] = ()
    shown: int = 8


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint every `every` steps (0: only at the end), the newest `keep` of them, and the best by a metric."""

    every: int = 20
    keep: int = 2
    best: Metric | None = "avg@k"


@dataclass(frozen=True)
class Watch:
    """What a person sees while it runs: sample answers and saved rollouts every so many steps.

    Of a step that is saved, the first `completions_saved` answers are kept, in whole groups, or "all" of them.
    """

    samples_every: int = 20
    completions_every: int = 10
    completions_saved: int | Literal["all"] = 32


@dataclass(frozen=True)
class Judge:
    """A judge that lives in the run: rewards call it by the name "judge".

    With `learn` it goes on training at the end of each round, on `prompts` questions with `num_generations` fresh
    answers each, and on history, which makes up the share `replay` of what it trains on. An outcome judge learns from
    pairs of a right and a wrong answer to one question, at most `most` of each; a process judge from step labels. What
    is right says `checker` (left out: the evaluation's rewards); a step's label comes from `step_checker`, or, where
    there is none, from `continuations` sampled behind the step (Math-Shepherd, 2312.08935). With `data` it trains on
    those rows instead, an equal share a round. `history` is replayed from the first round on.
    """

    path: str
    device: str = "auto"
    precision: Precision = "fp32"
    batch_size: int = 32
    learn: bool = True
    prompts: int = 64
    num_generations: int = 8
    most: int = 4
    replay: float = 0.1
    held_out: float = 0.2
    continuations: int = 4
    checker: tuple[RewardSpec, ...] = ()
    step_checker: tuple[RewardSpec, ...] = ()
    data: Data | None = None
    history: Data | None = None
    fit: JudgeFit = field(default_factory=JudgeFit)

    def __post_init__(self) -> None:
        for name in ("replay", "held_out"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"judge.{name} is a share.", got=getattr(self, name), accepted="0 to below 1")
        for name in ("batch_size", "prompts", "num_generations", "most", "continuations"):
            if getattr(self, name) < 1:
                raise ConfigError(f"judge.{name} is a count.", got=getattr(self, name), accepted="at least 1")


@dataclass(frozen=True)
class Run:
    """A training run. `runs/name/` holds all that it leaves.

    `algorithm` names a value of the zoo; the table `[objective]` changes parts of it. `reward` scores whole answers,
    `step_reward` the steps that `steps` cuts them into. `overlong` says what happens to a prompt that leaves no room
    for an answer in the model's context. `engine` samples: the learner's own model, or vLLM. `runtime` says where: in
    this process, or on a cluster.
    """

    name: str = "run"
    folder: str = "runs"
    seed: int = 0
    algorithm: str = "grpo"
    objective: Objective = grpo
    model: Model = field(default_factory=Model)
    critic: CriticConfig = field(default_factory=CriticConfig)
    data: Data = field(default_factory=Data)
    reward: tuple[RewardSpec, ...] = ()
    steps: Splitter = field(default_factory=Splitter)
    step_reward: tuple[RewardSpec, ...] = ()
    judge: Judge | None = None
    rounds: Rounds = field(default_factory=Rounds)
    reference: Reference = field(default_factory=Reference)
    overlong: Literal["error", "drop", "truncate"] = "error"
    sampling: Sampling = field(default_factory=Sampling)
    engine: Local | Vllm = Local()  # noqa: RUF009 - frozen
    runtime: InProcess | Ray = InProcess()  # noqa: RUF009 - frozen
    train: Plan = field(default_factory=Plan)
    eval: Eval = field(default_factory=Eval)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    watch: Watch = field(default_factory=Watch)


def completed(run: Run) -> Objective:
    """The objective with what other tables say of it: the token budget where its aggregate asks for one, and the
    correction that an engine asks for where `[objective]` has none.
    """
    objective = run.objective
    if isinstance(objective.aggregate, FixedLength) and objective.aggregate.length is None:
        objective = replace(objective, aggregate=FixedLength(run.sampling.max_completion_length))
    for told in (run.engine, run.runtime):
        if isinstance(told, Vllm | Ray) and objective.correction is None:
            objective = replace(objective, correction=told.correction)
    return objective


@dataclass(frozen=True)
class SftRun:
    """A supervised fine-tuning run. `runs/name/hf/` is the model that it makes."""

    name: str = "sft"
    folder: str = "runs"
    seed: int = 0
    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    sft: SFT = field(default_factory=SFT)
