"""Small runs of the quickstart, on a cluster or beside one, and what they leave."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from scoreline.backends.runtime import Local, Ray
from scoreline.config.load import load
from scoreline.config.run import Run
from scoreline.models.rows import Parts

RECIPE = Path(__file__).parents[2] / "recipes/quickstart.toml"
SETTINGS = (
    "train.steps=9",
    "train.prompts_per_step=8",
    "eval.prompts=8",
    "checkpoint.every=3",
    "runtime.type=ray",
    "runtime.rollouts=2",
    "runtime.threads=1",
    "runtime.max_restarts=100",
)
RECORDED = (
    "train.steps=6",
    "eval.before=false",
    "eval.every=0",
    "eval.prompts=40",
    "checkpoint.every=2",
    "checkpoint.best=none",
    "watch.completions_every=1",
    "watch.completions_saved=all",
)
"""Six steps, and a checkpoint every two."""


def small(folder: Path, name: str, *more: str, **tables: Any) -> Run:
    """GRPO on the embedded model: nine steps, a checkpoint every three. `tables` stand in place of the recipe's."""
    return replace(load(Run, [RECIPE], told(folder, name, *more)), **tables)


def recorded(folder: Path, runtime: Local | Ray, **tables: Any) -> Run:
    """The same for six steps, on a runtime of any kind; every answer is kept."""
    return small(folder, "recorded", *RECORDED, runtime=runtime, **tables)


def told(folder: Path, name: str, *more: str) -> list[str]:
    """What the command line says of it."""
    return [*SETTINGS, f"folder={folder}", f"name={name}", *more]


def on(address: str, **told: Any) -> Ray:
    """A runtime of one thread a process on the tests' cluster."""
    return Ray(address=address, threads=1, **told)


def metrics(run: Path) -> list[dict[str, float]]:
    """A line a step."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def completions(run: Path) -> list[list[dict[str, Any]]]:
    """All answers of each step."""
    files = sorted((run / "completions").glob("step-*.jsonl"))
    return [[json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] for file in files]


def weights(run: Path, step: int) -> str:
    """The sum of the policy's weights after so many steps."""
    return digest(run / "checkpoints" / f"step-{step:06d}" / "hf" / "model.safetensors")


def left(run: Path) -> dict[str, Any]:
    """Weights, optimiser and state of the last checkpoint, and the rewards and losses on the way."""
    last = sorted(run.glob("checkpoints/step-*"))[-1]
    sums = {str(f.relative_to(last)): digest(f) for f in sorted(last.rglob("*.safetensors"))}
    return {
        "step": last.name,
        "sums": sums,
        "course": [(row["step"], row["reward"], row["loss"]) for row in metrics(run)],
    }


def checkpointed(run: Path, step: int) -> dict[str, Tensor]:
    """All tensors of a checkpoint, whoever wrote them: policy, moments, reference and critic."""
    folder = run / f"checkpoints/step-{step:06d}"
    stems = {part.name.split("-0")[0].removesuffix(".safetensors") for part in folder.glob("*.safetensors")}
    tables = {stem: Parts(folder, stem) for stem in stems - {"rng"}} | {"policy": Parts(folder / "hf", "model")}
    return {f"{stem}.{name}": table.read(name) for stem, table in tables.items() for name in table}


def digest(file: Path) -> str:
    """sha256."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
