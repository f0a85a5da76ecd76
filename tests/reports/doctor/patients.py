"""Runs for the doctor: short ones of the embedded model, really trained, each with what the test plants in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scoreline.config.launch import train
from scoreline.config.load import load
from scoreline.config.run import Run
from scoreline.reports.doctor import Finding, diagnose
from scoreline.reports.history import read_history

SMALL = """
[model]
path = "tiny"
device = "cpu"

[data]
source = "arithmetic"
level = 2
held_out = 200

[[reward]]
function = "arithmetic_answer"

[sampling]
max_completion_length = 32

[train]
steps = 6
prompts_per_step = 8
num_generations = 4
learning_rate = 3e-4

[objective.kl]
beta = 0.01

[eval]
before = false
every = 0
prompts = 100

[checkpoint]
every = 0
best = "none"

[watch]
samples_every = 0
completions_every = 2
"""
"""The quickstart with small numbers, and without what a test does not look at."""


def trained(folder: Path, *changes: str, name: str = "patient") -> Path:
    """The folder of a run of the small recipe with some changes."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / "small.toml"
    recipe.write_text(SMALL, encoding="utf-8")
    return train(load(Run, [recipe], [f"folder={folder}", f"name={name}", *changes]))


def found(folder: Path) -> dict[str, Finding]:
    """What the doctor finds, by name."""
    return {finding.name: finding for finding in diagnose(read_history(folder))}


def grave(findings: Iterable[Finding]) -> list[str]:
    """What is more than a note."""
    return [f"{finding.severity}: {finding.line}" for finding in findings if finding.severity != "note"]


def rewards(folder: Path, body: str) -> str:
    """A file with the reward function `score`, as a recipe names it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rewards.py").write_text(f"def score(prompts, completions, **columns):\n    {body}\n", encoding="utf-8")
    return f"{folder}/rewards.py:score"


def rows(path: Path, prompts: Sequence[tuple[str, str]]) -> Path:
    """A file of questions with their answers."""
    path.write_text("".join(json.dumps({"prompt": p, "answer": a}) + "\n" for p, a in prompts), encoding="utf-8")
    return path


def rewrite(path: Path, change: Mapping[str, Any]) -> None:
    """Every row of a file with some of its values changed."""
    lines = [json.loads(line) | change for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
