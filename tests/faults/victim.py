"""A small training run that kills itself: `victim.py MODEL FOLDER ALGORITHM [PHASE NUMBER]`.

ALGORITHM "compiled" is GRPO that samples through compiled layers, "adapted" one that trains an adapter; "iterative" is
GRPO in three rounds, paid by a judge of answers that learns, "stepwise" one paid by a judge of steps; they find their
judges in MODEL/outcome and MODEL/process. PHASE is a function in the middle of which SIGKILL comes, at its NUMBER-th
call. The run resumes if it exists.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from scoreline.config.launch import train
from scoreline.config.run import Checkpoint, Eval, Model, Run, Watch
from scoreline.config.run import Judge as JudgeInRun
from scoreline.environments.prompts import Data
from scoreline.environments.rewards import RewardSpec, Scorer
from scoreline.environments.steps import Splitter
from scoreline.models.adapters import Lora
from scoreline.models.decoder import SharedDecoder
from scoreline.models.judges import Judge
from scoreline.models.policy import Policy
from scoreline.objectives.zoo import ZOO
from scoreline.rollout.engine import Sampling
from scoreline.train.iterate import Rounds
from scoreline.train.judging import JudgeLearner
from scoreline.train.learner import LocalLearner
from scoreline.train.plan import Plan
from scoreline.train.replay import Replay

ITERATIVE = {"iterative": "outcome", "stepwise": "process"}

WAYS: dict[str, dict[str, Any]] = {"compiled": {"compile": True}, "adapted": {"lora": Lora(rank=4, alpha=8)}}

PHASES: dict[str, tuple[type, str]] = {
    "generation": (SharedDecoder, "step"),
    "scoring": (Scorer, "score"),
    "update": (LocalLearner, "_backward"),
    "checkpoint": (Policy, "save"),
    "judging": (Judge, "_batched"),
    "learning to judge": (JudgeLearner, "_accumulate"),
    "remembering": (Replay, "save"),
}


def deadly(phase: str, number: int) -> None:
    """Die inside the number-th call: the work of the call is done, nothing after it is."""
    owner, name = PHASES[phase]
    calls, original = count(1), getattr(owner, name)

    def patched(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        if next(calls) == number:
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        return result

    patch: Callable[..., Any] = patched
    setattr(owner, name, patch)


def run(model: str, folder: Path, algorithm: str) -> Run:
    """Six steps with a checkpoint every two and evaluations in between."""
    if algorithm in ITERATIVE:
        return in_rounds(run(model, folder, "grpo"), algorithm)
    if algorithm in WAYS:
        plain = run(model, folder, "grpo")
        return replace(plain, model=replace(plain.model, **WAYS[algorithm]))
    return Run(
        name="victim",
        folder=str(folder),
        algorithm=algorithm,
        objective=ZOO[algorithm],
        model=Model(path=model, device="cpu"),
        data=Data(size=60, held_out=8),
        reward=(RewardSpec("arithmetic_answer"), RewardSpec("format_match", 0.1, options={"pattern": "#"})),
        sampling=Sampling(max_completion_length=10),
        train=Plan(steps=6, prompts_per_step=4, num_generations=4, minibatches=2, learning_rate=1e-3),
        eval=Eval(every=3, prompts=8, k=2),
        checkpoint=Checkpoint(every=2),
        watch=Watch(completions_every=1, completions_saved="all"),
    )


def in_rounds(plain: Run, algorithm: str) -> Run:
    """The same steps as three rounds with a judge."""
    kind, asked = ITERATIVE[algorithm], RewardSpec("judge")
    right = (RewardSpec("format_match", options={"pattern": "[05]"}),)
    return replace(
        plain,
        reward=(asked,) if kind == "outcome" else (),
        step_reward=(asked,) if kind == "process" else (),
        steps=Splitter("pattern", at="[0-9]"),
        rounds=Rounds(3),
        judge=JudgeInRun(
            f"{plain.model.path}/{kind}",
            device="cpu",
            prompts=12,
            num_generations=4,
            continuations=2,
            replay=0.4,
            checker=right,
        ),
        eval=replace(plain.eval, reward=right),
    )


if __name__ == "__main__":
    if len(sys.argv) > 4:
        deadly(sys.argv[4], int(sys.argv[5]))
    spec = run(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
    train(spec, resume=(Path(sys.argv[2]) / "victim").exists())
