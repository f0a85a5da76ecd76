"""A small run on a cluster, and what it leaves."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from scoreline.config.load import load
from scoreline.config.run import Run

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


def small(folder: Path, name: str, *more: str) -> Run:
    """GRPO on the embedded model: nine steps, a checkpoint every three."""
    return load(Run, [RECIPE], told(folder, name, *more))


def told(folder: Path, name: str, *more: str) -> list[str]:
    """What the command line says of it."""
    return [*SETTINGS, f"folder={folder}", f"name={name}", *more]


def left(run: Path) -> dict[str, Any]:
    """Weights, optimiser and state of the last checkpoint, and the rewards and losses on the way."""
    last = sorted(run.glob("checkpoints/step-*"))[-1]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    sums = {str(f.relative_to(last)): digest(f) for f in sorted(last.rglob("*.safetensors"))}
    return {"step": last.name, "sums": sums, "course": [(row["step"], row["reward"], row["loss"]) for row in rows]}


def digest(file: Path) -> str:
    """sha256."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
