"""Reinforcement learning for language models, one mechanism at a time.

`import scoreline` is light: a name of the Python interface is imported from its own module when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from scoreline.config.launch import train
    from scoreline.config.run import Judge as Judge
    from scoreline.config.run import Run as Run
    from scoreline.environments.prompts import Data as Data
    from scoreline.environments.rewards import RewardSpec as RewardSpec
    from scoreline.environments.steps import Splitter as Splitter
    from scoreline.models.adapters import Lora as Lora
    from scoreline.models.policy import Model as Model
    from scoreline.objectives.objective import Objective as Objective
    from scoreline.objectives.zoo import (
        actor_critic as actor_critic,
    )
    from scoreline.objectives.zoo import (
        dapo as dapo,
    )
    from scoreline.objectives.zoo import (
        dr_grpo as dr_grpo,
    )
    from scoreline.objectives.zoo import (
        grpo as grpo,
    )
    from scoreline.objectives.zoo import (
        naive as naive,
    )
    from scoreline.objectives.zoo import (
        ppo as ppo,
    )
    from scoreline.objectives.zoo import (
        ppo_clip as ppo_clip,
    )
    from scoreline.objectives.zoo import (
        rloo as rloo,
    )
    from scoreline.rollout.engine import Sampling as Sampling
    from scoreline.train.iterate import Reference as Reference
    from scoreline.train.iterate import Rounds as Rounds
    from scoreline.train.plan import Plan as Plan

    launch = train

_ZOO = ("naive", "actor_critic", "ppo_clip", "ppo", "grpo", "rloo", "dr_grpo", "dapo")
_HOMES = {
    "Run": "scoreline.config.run",
    "Judge": "scoreline.config.run",
    "Data": "scoreline.environments.prompts",
    "RewardSpec": "scoreline.environments.rewards",
    "Splitter": "scoreline.environments.steps",
    "Lora": "scoreline.models.adapters",
    "Model": "scoreline.models.policy",
    "Objective": "scoreline.objectives.objective",
    "Sampling": "scoreline.rollout.engine",
    "Plan": "scoreline.train.plan",
    "Reference": "scoreline.train.iterate",
    "Rounds": "scoreline.train.iterate",
    **dict.fromkeys(_ZOO, "scoreline.objectives.zoo"),
}


def __getattr__(name: str) -> Any:
    if name == "launch":  # `train` is the name of a level of the package
        return import_module("scoreline.config.launch").train
    if name not in _HOMES:
        raise AttributeError(f"module 'scoreline' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), "launch", *_HOMES])
