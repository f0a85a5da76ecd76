"""Look at a saved step: the run's objective on its own tensors, and, asked for, another objective on the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scoreline.config.export import RESOLVED, recorded, schema_of
from scoreline.config.load import load
from scoreline.config.recipe import read
from scoreline.config.run import Run, completed
from scoreline.errors import CheckpointError, ConfigError
from scoreline.objectives.aggregates import Aggregate
from scoreline.objectives.coefficients import coefficients, outside
from scoreline.objectives.objective import Objective
from scoreline.reports.history import History, read_history
from scoreline.reports.inspect.answers import samples
from scoreline.reports.inspect.view import Inspection, Told
from scoreline.reports.jsonl import Row
from scoreline.types import Batch

NEEDED = ("prompt", "completion", "reward", "group", "finish", "tokens")
"""What a line must have to be looked at."""

BEYOND = {
    "value": "The critic's loss moves the critic (and a trunk that it shares) along grad V, which is no part of GC.",
    "entropy": "The entropy bonus moves the policy along grad H, which is no part of GC.",
}


@dataclass(frozen=True)
class Saved:
    """A step as a run saved it: the configuration, the lines, the tensors, the step's metrics, and beta in it."""

    folder: Path
    run: Run
    step: int
    rows: tuple[Row, ...]
    batch: Batch
    metrics: Mapping[str, Any]
    beta: float | None

    @property
    def answers(self) -> int:
        """How many answers the step had, saved or not."""
        return self.run.train.prompts_per_step * self.run.train.num_generations

    @property
    def whole(self) -> bool:
        """Whether all of them were saved."""
        return len(self.rows) == self.answers

    def weighed(self, batch: Batch, aggregate: Aggregate) -> Batch:
        """The batch with the weights of each row's last update, of the saved rows alone."""
        plan = self.run.train
        order = {"seed": self.run.seed, "step": self.step - 1, "groups": plan.prompts_per_step}
        for rows, mini in plan.updates(batch, aggregate, **order):
            batch = batch.noted(rows, weights=mini.weights)
        return batch


@dataclass(frozen=True)
class Place:
    """Where to look: a saved step (left out: the last one), one of its answers, one of its tokens, both from 0."""

    step: int | None = None
    sample: int | None = None
    token: int | None = None


def inspect(folder: Path, place: Place = Place(), *, objective: Objective | None = None) -> Inspection:
    """What each token of a step's saved answers was told.

    `objective` is the run's own, where it has parts that only Python knows.
    """
    saved = saved_step(folder, place, objective)
    return looked_at(saved, as_it_was(saved))


def looked_at(saved: Saved, own: Told, other: Told | None = None) -> Inspection:
    """The step as the run's objective tells it, each token with what another one tells it."""
    return Inspection(
        run=saved.folder.resolve().name,
        step=saved.step,
        objective=own.name,
        beta=saved.beta,
        samples=samples(saved.rows, own, other),
        losses=losses(own, saved),
        notes=notes(saved, own.objective),
    )


def saved_step(folder: Path, place: Place, objective: Objective | None = None) -> Saved:
    """Read a step. Raises `CheckpointError` for a folder, a step or a file that cannot be used, and says why;
    `ConfigError` for a sample or a token that is not there.
    """
    history = read_history(folder)
    run = own_run(folder, objective)
    chosen = place.step if place.step is not None else max(history.traces, default=1)
    batch = history.batch(chosen)
    metrics: Row = next((row for row in history.metrics if row["step"] == chosen), {})
    rows = checked(history, chosen, batch)
    refuse_missing(place, rows, chosen)
    if batch.logp_old is None and run.train.updates_per_step == 1:
        batch = replace(batch, logp_old=batch.logp)  # used once: pi_old is pi
    return Saved(folder, run, chosen, rows, batch, metrics, beta_of(run, chosen, metrics))


def own_run(folder: Path, objective: Objective | None) -> Run:
    """The configuration that the run left. With `objective`, what it says of its own is not read."""
    file = folder / RESOLVED
    tables = read(file)
    if schema_of(tables) is not Run:
        raise CheckpointError(
            "This run sampled no answers to learn from.", got=folder, accepted="a run of `scoreline train`"
        )
    if objective is not None:
        run = recorded(folder)
        assert isinstance(run, Run)
        return replace(run, objective=objective)
    try:
        return load(Run, [file])
    except ConfigError as error:
        raise CheckpointError(
            "This version cannot read the run's configuration.",
            got=error,
            accepted="a run of this version, of parts that a recipe can name",
            todo="from Python, inspect(folder, objective=...) of scoreline.config.inspect takes parts of your own.",
        ) from error


def checked(history: History, step: int, batch: Batch) -> tuple[Row, ...]:
    """The step's lines, which must be the rows of its tensors."""
    path = history.completions.get(step)
    if path is None:
        raise CheckpointError(
            f"The answers of step {step} are missing.",
            got=history.traces[step],
            accepted="a .jsonl beside the .safetensors",
            todo="restore the file, or look at another step.",
        )
    rows = tuple(history.answers(step))
    for number, row in enumerate(rows, start=1):
        if missing := [name for name in NEEDED if name not in row]:
            raise _mismatch(path, f"line {number} without {', '.join(missing)}")
    lengths = [len(row["tokens"]) for row in rows]
    if lengths != batch.length.tolist():
        tensors = f"{len(batch)} rows of {int(batch.length.sum())} tokens"
        raise _mismatch(path, f"{len(rows)} lines of {sum(lengths)} tokens, and tensors of {tensors}")
    if absent := [name for name in ("logp", "advantages", "weights") if getattr(batch, name) is None]:
        raise _mismatch(path, f"tensors without {', '.join(absent)}")
    return rows


def beta_of(run: Run, step: int, metrics: Mapping[str, Any]) -> float | None:
    """Beta in a step: as it was measured, or as its schedule has it."""
    kl = run.objective.kl
    if kl is None:
        return None
    measured = metrics.get("beta")
    return kl.beta * run.train.beta_factor(step - 1) if measured is None else float(measured)


def as_it_was(saved: Saved) -> Told:
    """The run's own objective, with the advantages and weights that the update used."""
    objective = completed(saved.run)
    found = coefficients(objective, saved.batch, saved.beta)
    return Told(saved.run.algorithm, objective, saved.beta, saved.batch, found)


def losses(told: Told, saved: Saved) -> dict[str, float]:
    """The policy's and the KL's part of the loss: a mean over the updates of a pass, as in metrics.jsonl."""
    return {name: loss / saved.run.train.minibatches for name, loss in told.coefficients.losses.items()}


def notes(saved: Saved, objective: Objective) -> tuple[str, ...]:
    """What a reader must know of the numbers."""
    said = []
    if not saved.whole:
        said.append(f"{len(saved.rows)} of the step's {saved.answers} answers were saved; the losses are theirs alone.")
    if saved.run.train.updates_per_step == 1:
        said.append("The batch was used for one update, so pi_old is pi and every ratio is 1.")
    elif saved.batch.logp_old is None:
        said.append("The objective compares with no pi_old, so none was computed; the ratio is shown as 1.")
    if saved.metrics.get("skipped_updates"):
        said.append("Some update of this step was not finite, and the optimiser skipped it.")
    return (*said, *(BEYOND[name] for name in outside(objective)))


def refuse_missing(place: Place, rows: Sequence[Row], step: int) -> None:
    """Refuse a sample or a token that is not there."""
    if place.token is not None and place.sample is None:
        raise ConfigError("A token is one of a sample.", got=f"--token {place.token}", todo="add --sample.")
    if place.sample is None:
        return
    _in_range("sample", place.sample, rows, f"step {step}")
    if place.token is not None:
        _in_range("token", place.token, rows[place.sample]["tokens"], f"sample {place.sample}")


def _in_range(what: str, number: int, of: Sequence[object], where: str) -> None:
    if not 0 <= number < len(of):
        raise ConfigError(f"There is no such {what} in {where}.", got=number, accepted=f"0 to {len(of) - 1}")


def _mismatch(path: Path, got: str) -> CheckpointError:
    return CheckpointError(
        f"{path} and its tensors do not belong together.",
        got=got,
        accepted="a line for each row, with as many tokens",
        todo="restore both files, or look at another step.",
    )
