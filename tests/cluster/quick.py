"""The quickstart in small, on a cluster: `quick.py FOLDER ADDRESS MAX_STALENESS STEP SIGNAL` gets it after that step.

The run resumes if it exists; STEP 0 lets it end.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from scoreline.backends.runtime import Local, Ray
from scoreline.config.launch import train
from scoreline.config.run import Checkpoint, Eval, Run, Watch
from scoreline.config.session import Session
from scoreline.environments.prompts import Data
from scoreline.environments.rewards import RewardSpec
from scoreline.models.policy import Model
from scoreline.objectives.divergences import KL
from scoreline.objectives.zoo import grpo
from scoreline.rollout.engine import Sampling
from scoreline.train.plan import Plan

PLAN = Plan(
    steps=6,
    prompts_per_step=8,
    num_generations=8,
    minibatches=4,
    micro_batch_size=256,
    learning_rate=3e-4,
    schedule="linear",
)


def quick(folder: Path, runtime: Local | Ray, plan: Plan = PLAN, **tables: Any) -> Run:
    """The embedded model on sums, by the numbers of `recipes/quickstart.toml` with fewer questions a step."""
    plain = Run(
        name="quick",
        folder=str(folder),
        objective=replace(grpo, kl=KL(0.01, "k3", into="loss")),
        model=Model(device="cpu"),
        data=Data(held_out=200),
        reward=(RewardSpec("arithmetic_answer"),),
        sampling=Sampling(max_completion_length=32),
        runtime=runtime,
        train=plan,
        eval=Eval(prompts=40, before=False),
        checkpoint=Checkpoint(every=2, best=None),
        watch=Watch(completions_every=1, completions_saved="all"),
    )
    return replace(plain, **tables)


def on(address: str, **told: Any) -> Ray:
    """A runtime of one thread a process on the tests' cluster."""
    return Ray(address=address, threads=1, **told)


def metrics(folder: Path) -> list[dict[str, float]]:
    """A line a step."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def completions(folder: Path) -> list[list[dict[str, Any]]]:
    """All answers of each step."""
    files = sorted((folder / "completions").glob("step-*.jsonl"))
    return [[json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] for file in files]


def weights(folder: Path, step: int) -> str:
    """The sum of the policy's weights after so many steps."""
    file = folder / "checkpoints" / f"step-{step:06d}" / "hf" / "model.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest()


def told_after(step: int, number: int) -> None:
    """A signal to this process when all that the step leaves is there, a checkpoint where one was due."""
    original = Session.between

    def between(self: Session, at: int, told: list[int]) -> None:
        original(self, at, told)
        if at == step:
            os.kill(os.getpid(), number)

    Session.between = between  # type: ignore[method-assign]


if __name__ == "__main__":
    asked, address, staleness, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    told_after(last, signal.Signals[sys.argv[5]])
    train(quick(asked, on(address, max_staleness=staleness, unit=2)), resume=(asked / "quick").exists())
