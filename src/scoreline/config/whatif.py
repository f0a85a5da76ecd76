"""What if: another objective on the rollouts of a saved step, beside the run's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from scoreline.config.export import RESOLVED
from scoreline.config.inspect import Place, Saved, as_it_was, looked_at, losses, saved_step
from scoreline.config.load import load
from scoreline.config.nearest import gradients, reference
from scoreline.config.run import Run, completed
from scoreline.errors import ConfigError
from scoreline.objectives.coefficients import alignment, coefficients
from scoreline.objectives.explain import explain
from scoreline.objectives.objective import Objective
from scoreline.reports.inspect.view import Inspection, Told, WhatIf

WHY = {
    "logp_ref": "log pi_ref: the run's objective has no KL, so no reference model read its answers",
    "values": "V(s_t): the run's objective has no critic",
    "logp_old": "log pi_old: the run's objective compares with no pi_old",
}
HOW = {
    "logp_ref": "--compute lets the run's first model read them; objective.kl=none leaves the KL out.",
    "values": "train with a critic (ppo, ppo_clip or actor_critic), or look through an objective without one.",
    "logp_old": "--compute takes the sampler's record, which is the same policy as its engine computed it.",
}


def what_if(
    folder: Path,
    place: Place = Place(),  # noqa: B008 - frozen
    *,
    name: str | None = None,
    changes: Sequence[str] = (),
    compute: bool = False,
    weights: bool = False,
    objective: Objective | None = None,
    other: Objective | None = None,
) -> Inspection:
    """The step with what another objective tells the same tokens: algorithm `name` (left out: the run's own) with
    `changes` such as `objective.kl.beta=0.1`, or any `other` from Python.

    `compute` makes columns that the run did not save, where that can be done. `weights` compares the gradients of the
    weights too, at the checkpoint nearest to the step.
    """
    saved = saved_step(folder, place, objective)
    ruled = replace(saved.run, objective=other) if other is not None else changed(saved.run, folder, name, changes)
    refuse_lonely(ruled)
    asked = completed(ruled)
    saved, said = with_columns(saved, asked, compute=compute)
    reweigh = saved.whole or asked.aggregate != completed(saved.run).aggregate
    own, near = again(saved, reweigh=reweigh)
    title = titled(name or (saved.run.algorithm if other is None else "another objective"), changes)
    told = told_anew(saved, title, asked, beta_for(saved, ruled), reweigh=reweigh)
    found = looked_at(saved, own, told)
    notes = (*found.notes, near, *said, *resampled(told.objective, own.objective))
    return replace(found, notes=notes, what_if=compared(saved, own, told, weights=weights))


def compared(saved: Saved, own: Told, told: Told, *, weights: bool) -> WhatIf:
    """The two objectives, side by side."""
    grads, checkpoint = gradients(saved, own, told) if weights else (None, None)
    return WhatIf(
        name=told.name,
        settings=differences(own.objective, told.objective),
        losses=losses(told, saved),
        coefficients=alignment(own.coefficients.weighted, told.coefficients.weighted),
        gradient=grads,
        checkpoint=checkpoint,
    )


def changed(run: Run, folder: Path, name: str | None, changes: Sequence[str]) -> Run:
    """The run under another objective. Its own algorithm's name keeps what its recipe said of the objective."""
    for change in changes:
        if not change.startswith("objective."):
            raise ConfigError(
                "A what-if changes the objective alone: the answers are those that were sampled.",
                got=change,
                accepted="objective.KEY=VALUE, such as objective.kl.beta=0.1",
                todo="train another run for anything else.",
            )
    named = [] if name is None else [f"algorithm={name}"]
    return load(Run, [folder / RESOLVED], [*named, *changes])


def titled(name: str, changes: Sequence[str]) -> str:
    """What the other objective is called."""
    return f"{name} with {', '.join(changes)}" if changes else name


def refuse_lonely(run: Run) -> None:
    """A group baseline over groups of one tells nobody anything."""
    if run.objective.grouped and run.train.num_generations < 2:
        raise ConfigError(
            "This objective compares answers to one question, and the run sampled one answer to each.",
            got=f"train.num_generations={run.train.num_generations}",
            accepted="a run with at least two answers a question",
            todo="look through naive, or train again with train.num_generations=8.",
        )


def with_columns(saved: Saved, objective: Objective, *, compute: bool) -> tuple[Saved, list[str]]:
    """The saved step with what the objective needs, and a sentence for each column that was made for it."""
    needed = objective.passes(saved.run.train.updates_per_step)
    missing = sorted(column for column in needed if getattr(saved.batch, column) is None)
    out_of_reach = [column for column in missing if not compute or column == "values"]
    if out_of_reach:
        raise ConfigError(
            "The objective needs what the run did not save.",
            got="; ".join(WHY[column] for column in out_of_reach),
            accepted="a run that saved " + " and ".join(out_of_reach),
            todo=" ".join(HOW[column] for column in out_of_reach),
        )
    batch, said = saved.batch, []
    if "logp_old" in missing:
        batch = replace(batch, logp_old=batch.logp_sampler)
        said.append("log pi_old is the sampler's record: the run did not compute its own.")
    if "logp_ref" in missing:
        batch = replace(batch, logp_ref=reference(saved.run, batch))
        said.append(f"log pi_ref was computed now, with the run's first model, {saved.run.model.path}.")
    return replace(saved, batch=batch), said


def again(saved: Saved, *, reweigh: bool) -> tuple[Told, str]:
    """The run's own objective computed from the saved rows, for a fair comparison, and how near it is to what it was.

    Weights depend on all rows of an update. They are made anew where all rows were saved, or where the other objective
    has another aggregate; else both sides keep those that the run used.
    """
    was = as_it_was(saved)
    now = told_anew(saved, was.name, was.objective, saved.beta, reweigh=reweigh)
    assert was.batch.advantages is not None
    assert now.batch.advantages is not None
    off = float((was.batch.advantages - now.batch.advantages).abs().max())
    if off == 0 and saved.whole and torch.equal(was.coefficients.weights, now.coefficients.weights):
        return now, "The run's own advantages and weights, computed again, are those it used, exactly."
    near = "are those it used" if off == 0 else f"differ from those it used by at most {off:.2g}"
    whose = (
        "Both sides have weights, and losses, of the saved rows alone"
        if reweigh
        else "Both sides have the run's weights"
    )
    return now, f"{whose}; the run's own advantages, computed again, {near}."


def told_anew(saved: Saved, name: str, objective: Objective, beta: float | None, *, reweigh: bool) -> Told:
    """Advantages, weights and coefficients of an objective, from the saved rows."""
    batch = objective.estimate(saved.batch, beta)
    batch = saved.weighed(batch, objective.aggregate) if reweigh else batch
    return Told(name, objective, beta, batch, coefficients(objective, batch, beta))


def beta_for(saved: Saved, ruled: Run) -> float | None:
    """The step's own beta where the KL is the run's own, else what the objective says."""
    kl = ruled.objective.kl
    return saved.beta if kl == saved.run.objective.kl or kl is None else kl.beta


def differences(own: Objective, other: Objective) -> dict[str, tuple[Any, Any]]:
    """Address of each setting that differs: the run's own value, the other's; None where there is none."""
    first, second = _settings(own), _settings(other)
    addresses = [*first, *(address for address in second if address not in first)]
    both = {address: (first.get(address), second.get(address)) for address in addresses}
    return {address: pair for address, pair in both.items() if pair[0] != pair[1]}


def _settings(objective: Objective) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for part in explain(objective):
        said |= {f"objective.{part.slot}.type": part.part} | part.values
    return said


def resampled(other: Objective, own: Objective) -> list[str]:
    """Dynamic sampling is about which answers there are, and these are the run's."""
    if other.resample == own.resample:
        return []
    return ["The two differ in dynamic sampling, which no what-if can show: the answers are those that were sampled."]
