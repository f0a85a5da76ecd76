"""The weights nearest to a step that a run still has, and what they make of a step's coefficients."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import torch
from torch import Tensor

from scoreline.config.inspect import Saved
from scoreline.config.run import Run
from scoreline.models.policy import Policy, load_policy
from scoreline.objectives.coefficients import Alignment, alignment
from scoreline.reports.inspect.view import Told
from scoreline.train.checkpoint import STATE, Checkpoints, damage
from scoreline.train.direction import direction
from scoreline.types import Batch

AT_ONCE = 32
"""Rows that the reference reads at once."""


def gradients(saved: Saved, own: Told, other: Told) -> tuple[Alignment, str]:
    """sum_it w_it GC_it grad log pi_theta for both objectives, and which theta: that of the nearest checkpoint.

    The step's own weights are those after the step before it, so a checkpoint of that step is theta itself as the step
    began; any other is near it in time only.
    """
    policy, name = nearest(saved)
    batch, temperature = moved(saved.batch, policy.device), saved.run.sampling.temperature
    found = [
        direction(policy, batch, told.coefficients.weighted.to(policy.device), temperature=temperature)
        for told in (own, other)
    ]
    return alignment(*found), name


def nearest(saved: Saved) -> tuple[Policy, str]:
    """The policy at the whole checkpoint nearest to the beginning of the step; the run's first model is that of step
    0. Of two that are as near, the earlier.
    """
    began = saved.step - 1
    known: dict[int, Path | None] = {0: None} | {step_of(path): path for path in whole(saved.folder)}
    step = min(known, key=lambda number: (abs(number - began), number))
    policy, path = first_model(saved.run), known[step]
    if path is None:
        return policy, f"the run's first model, {saved.run.model.path}"
    policy.restore(path / "hf")
    return policy, f"checkpoint {path.name}"


def whole(folder: Path) -> list[Path]:
    """The checkpoints of a run that are what their manifests say, `best` among them."""
    checkpoints = Checkpoints(folder / "checkpoints")
    found = [*checkpoints.steps(), *checkpoints.folder.glob("best")]
    return [path for path in reversed(found) if damage(path) is None]


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written."""
    return int(json.loads((checkpoint / STATE).read_text(encoding="utf-8"))["step"])


def first_model(run: Run) -> Policy:
    """The model that the run began with."""
    torch.manual_seed(run.seed)  # a fresh adapter draws, as it did in the run
    return load_policy(run.model)


@torch.no_grad()
def reference(run: Run, batch: Batch) -> Tensor:
    """log pi_ref with the model that the run began with."""
    policy = first_model(run)
    parts = [moved(batch.rows(rows), policy.device) for rows in torch.arange(len(batch)).split(AT_ONCE)]
    with policy.compute():
        found = [policy.logprobs(policy.states(part), part, temperature=run.sampling.temperature)[0] for part in parts]
    return torch.cat(found).to(batch.mask.device)


def moved(batch: Batch, device: torch.device) -> Batch:
    """The same columns on another device."""
    columns = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return replace(batch, **{name: column.to(device) for name, column in columns.items() if column is not None})
