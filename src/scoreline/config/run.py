"""The whole configuration as one tree: what a recipe can say. A component is its own configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from scoreline.environments.prompts import Data
from scoreline.environments.rewards import RewardSpec
from scoreline.models.critic import CriticConfig
from scoreline.models.policy import Model
from scoreline.objectives.objective import Objective
from scoreline.objectives.zoo import grpo
from scoreline.rollout.engine import Sampling
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
    """What a person sees while it runs: sample answers and saved rollouts every so many steps."""

    samples_every: int = 20
    completions_every: int = 10
    completions_saved: int = 32


@dataclass(frozen=True)
class Run:
    """A training run. `runs/name/` holds all that it leaves.

    `algorithm` names a value of the zoo; the table `[objective]` changes parts of it. `overlong` says what happens to
    a prompt that leaves no room for an answer in the model's context. `engine_rows` answers are in flight at once.
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
    overlong: Literal["error", "drop", "truncate"] = "error"
    sampling: Sampling = field(default_factory=Sampling)
    engine_rows: int = 256
    train: Plan = field(default_factory=Plan)
    eval: Eval = field(default_factory=Eval)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    watch: Watch = field(default_factory=Watch)


@dataclass(frozen=True)
class SftRun:
    """A supervised fine-tuning run. `runs/name/hf/` is the model that it makes."""

    name: str = "sft"
    folder: str = "runs"
    seed: int = 0
    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    sft: SFT = field(default_factory=SFT)
