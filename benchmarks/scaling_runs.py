"""Real runs beside the model: rates from their metrics, and what the model says of other runs at these rates.

    time/rollout = unit * units + decode_step * iterations + decode_row * tokens
    time/update  = update * updates + learn * tokens              rest of the step = annotate * tokens

Rates are fitted to all steps of all runs that are given, without each run's first `SKIP`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from safetensors import safe_open
from scaling_model import Array, Cluster, Rates, Recorded, Work
from scaling_process import simulate

from scoreline.errors import ConfigError
from scoreline.reports.jsonl import read as read_lines

SKIP = 1
"""Steps of a run that warm up: memory is taken, threads are started."""
ROWS = 256
"""Answers in flight at once, where the recipe says nothing of it."""


@dataclass(frozen=True)
class Real:
    """A run's folder: what it did, on what, and the metrics of its steps."""

    name: str
    work: Work
    cluster: Cluster
    rows: int
    steps: tuple[Mapping[str, float], ...]

    @property
    def units(self) -> int:
        """Units of a step."""
        return -(-self.work.questions // self.cluster.asked(self.work.questions))


def read(folder: Path, cores: int | None = None) -> Real:
    """What `config.resolved.toml`, `metrics.jsonl` and the saved answers say."""
    file = folder / "config.resolved.toml"
    steps = read_lines(folder / "metrics.jsonl")
    if not file.is_file() or len(steps) <= SKIP:
        raise ConfigError(
            "This is no run to measure.",
            got=f"{folder}: {len(steps)} steps",
            accepted=f"a run's folder with more than {SKIP} steps",
            todo="train with train.steps=20 first.",
        )
    config = tomllib.loads(file.read_text(encoding="utf-8"))
    told, engine = config["train"], config.get("engine")
    lengths = Recorded(tuple(_lengths(row) for row in steps[SKIP:]))
    updates = told["minibatches"] * told["num_iterations"]
    work = Work(told["prompts_per_step"], told["num_generations"], prompt_tokens(folder), lengths, updates)
    rows = engine.get("rows", ROWS) if isinstance(engine, dict) else ROWS
    return Real(folder.name, work, runtime(config, cores or os.cpu_count() or 1), rows, tuple(steps[SKIP:]))


def runtime(config: Mapping[str, Any], cores: int) -> Cluster:
    """What the table `[runtime]` says; without one, or with type "local", a process that does everything by turns."""
    told = config.get("runtime")
    if not isinstance(told, dict) or told.get("type", "Local").lower() == "local":
        unit = told.get("unit") if isinstance(told, dict) else None
        return Cluster(1, 1, shared=True, unit=unit if isinstance(unit, int) else None)
    learners, rollouts, stale = told["learners"], told["rollouts"], told["max_staleness"]
    unit, threads = told.get("unit"), told.get("threads")
    busy = learners + rollouts if stale else max(learners, rollouts)
    each = threads if isinstance(threads, int) else max(1, cores // busy)
    whole = unit if isinstance(unit, int) else None
    return Cluster(learners, rollouts, stale, unit=whole, cores=max(1, cores // each), overlap=stale > 0)


def prompt_tokens(folder: Path) -> float:
    """The mean prompt, by the tensors of the saved answers; 0 where there are none."""
    found = []
    for path in sorted(folder.glob("completions/step-*.safetensors")):
        with safe_open(path, "numpy") as file:
            found.append(float(file.get_tensor("prompt_length").mean()))
    return fmean(found) if found else 0.0


def measured(runs: Sequence[Real]) -> Rates:
    """The rates of this machine. Decoding and learning alone are from runs with one learner and one worker."""
    alone = [run for run in runs if run.cluster.learners == run.cluster.rollouts == 1 and not run.cluster.max_staleness]
    if not alone:
        raise ConfigError(
            "No run has one learner and one rollout worker.",
            got=", ".join(run.name for run in runs) or "no run",
            accepted='at least one with runtime.type "local", or with learners=1 rollouts=1 max_staleness=0',
        )
    called = [run for run in alone if not run.cluster.shared] or alone
    told = [(run, row) for run in alone for row in run.steps]
    decode_step, decode_row, unit = fitted(starmap(_decoding, told), ("iterations", "tokens", "calls"))
    update, learn = fitted(starmap(_updating, told), ("updates", "tokens"))
    (annotate,) = fitted(starmap(_annotating, told), ("tokens",))
    rates = blank(runs[0].rows, f"measured: {', '.join(run.name for run in runs)}")
    rates = replace(rates, decode_step=decode_step, decode_row=decode_row, unit=unit)
    rates = replace(rates, update=update, learn=learn, annotate=annotate)
    rates = replace(rates, call=_each(called, "time/sync", lambda run: 1))
    rates = replace(rates, score=_each(alone, "time/score", _answers))
    return replace(rates, hop=_exchanged(runs, rates), collectives=1.0)


def fitted(rows: Iterable[tuple[Mapping[str, float], float]], names: Sequence[str]) -> tuple[float, ...]:
    """Least absolute residuals, so that a few steps in which the machine was busy change little; no negative rates.

    What would be negative is 0, and the others are fitted again.
    """
    told = list(rows)
    x = np.array([[facts[name] for name in names] for facts, _ in told])
    y = np.array([seconds for _, seconds in told])
    kept = list(range(len(names)))
    found = _nearest(x, y)
    while (found < 0).any():
        kept.pop(int(found.argmin()))
        found = _nearest(x[:, kept], y)
    values = np.zeros(len(names))
    values[kept] = found
    return tuple(map(float, values))


def _nearest(x: Array, y: Array, rounds: int = 50) -> Array:
    """argmin_b sum |y - x b|, by least squares with weights 1 / |residual|."""
    weight = np.ones(len(y))
    for _ in range(rounds):
        found = np.linalg.lstsq(x * weight[:, None], y * weight, rcond=None)[0]
        weight = 1 / np.sqrt(np.maximum(np.abs(y - x @ found), 1e-6 * np.abs(y).max() + 1e-12))
    return np.asarray(found)


def middle(values: Iterable[float]) -> float:
    """The mean without the lowest and the highest tenth: a few busy seconds of the machine are not the run's."""
    ordered = sorted(values)
    cut = len(ordered) // 10
    return fmean(ordered[cut : len(ordered) - cut])


def compared(run: Real, rates: Rates, seed: int = 0) -> dict[str, Any]:
    """Seconds a step of a run, as it was and as the model has it."""
    known = replace(rates, rows=run.rows)
    if run.cluster.shared:
        known = replace(known, unit=0.0, call=0.0, load=0.0)  # nobody is called
    found = simulate(run.work, run.cluster, known, steps=len(run.steps), seed=seed)
    real = middle(row["time/step"] for row in run.steps)
    parts = {"rollout": found.waited, "sync": found.synced}
    return {
        "run": run.name,
        "learners": run.cluster.learners,
        "rollouts": run.cluster.rollouts,
        "shared": run.cluster.shared,
        "max_staleness": run.cluster.max_staleness,
        "questions": run.work.questions,
        "steps": len(run.steps),
        "real": real,
        "model": found.seconds_per_step,
        "error": found.seconds_per_step / real - 1,
        "real_parts": {name: middle(row.get(f"time/{name}", 0.0) for row in run.steps) for name in parts},
        "model_parts": {name: share * found.seconds_per_step for name, share in parts.items()},
        "real_staleness": fmean(row.get("staleness/mean", 0.0) for row in run.steps),
        "model_staleness": found.mean_staleness,
    }


def _lengths(row: Mapping[str, float]) -> tuple[float, float, float]:
    mean, low, high = (float(row[f"completions/{name}_length"]) for name in ("mean", "min", "max"))
    return mean, low, high


def _answers(run: Real) -> int:
    return run.work.questions * run.work.answers


def _tokens(run: Real, row: Mapping[str, float]) -> float:
    return _answers(run) * row["completions/mean_length"]


def _decoding(run: Real, row: Mapping[str, float]) -> tuple[Mapping[str, float], float]:
    each = run.cluster.asked(run.work.questions) * run.work.answers
    full = max(row["completions/max_length"], row["completions/mean_length"] * each / run.rows)
    calls = 0 if run.cluster.shared else run.units
    return {"iterations": run.units * full, "tokens": _tokens(run, row), "calls": calls}, row["time/rollout"]


def _updating(run: Real, row: Mapping[str, float]) -> tuple[Mapping[str, float], float]:
    tokens = _tokens(run, row) + run.work.questions * run.work.prompt
    return {"updates": float(run.work.updates), "tokens": tokens}, row["time/update"]


def _annotating(run: Real, row: Mapping[str, float]) -> tuple[Mapping[str, float], float]:
    known = sum(row.get(f"time/{name}", 0.0) for name in ("rollout", "score", "update", "sync"))
    return {"tokens": _updating(run, row)[0]["tokens"]}, max(row["time/step"] - known, 0.0)


def _each(runs: Sequence[Real], name: str, count: Callable[[Real], int]) -> float:
    return middle(row.get(name, 0.0) / count(run) for run in runs for row in run.steps)


def _exchanged(runs: Sequence[Real], rates: Rates) -> float:
    """Seconds that an update takes longer for each further learner than its share of the tokens."""
    left = []
    for run in (run for run in runs if run.cluster.learners > 1 and not run.cluster.max_staleness):
        for facts, seconds in (_updating(run, row) for row in run.steps):
            alone = rates.update * facts["updates"] + rates.learn * facts["tokens"] / run.cluster.learners
            left.append((seconds - alone) / facts["updates"] / (run.cluster.learners - 1))
    return max(middle(left), 0.0) if left else 0.0


def blank(rows: int, source: str) -> Rates:
    """No rate takes any time yet."""
    names = [name for name in Rates.__dataclass_fields__ if name != "sources"]
    zero: dict[str, Any] = dict.fromkeys(names, 0.0)
    zero |= {"rows": rows, "node": 64, "least": 1, "micro": np.inf, "within": np.inf, "between": np.inf, "mtbf": np.inf}
    return Rates(**zero, sources=dict.fromkeys(names, source))
