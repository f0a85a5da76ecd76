"""Training a judge as a recipe says. The verb `reward-model`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from scoreline.config.dump import dump
from scoreline.config.launch import claim, describe_environment, resolve_model
from scoreline.environments.messages import text_of
from scoreline.environments.preferences import Labelled, Pair, hold_out_rows, load_labelled, load_pairs
from scoreline.environments.prompts import Data
from scoreline.errors import ConfigError
from scoreline.models.judges import start_judge
from scoreline.models.policy import Model, recompute_activations
from scoreline.reports import jsonl
from scoreline.reports.console import LOG, Console
from scoreline.reports.memory import peak_rss_mb
from scoreline.reports.record import Record
from scoreline.train.checkpoint import write_whole
from scoreline.train.judging import JudgeFit, JudgeLearner
from scoreline.types import Metrics

Rows = Sequence[Pair | Labelled]

UNITS = {"outcome": "pairs", "process": "answers with labelled steps"}


@dataclass(frozen=True)
class JudgeRun:
    """A run that trains a judge. `runs/name/hf/` is the judge that it makes.

    `kind` "outcome" learns from pairs (prompt, chosen, rejected) to score whole answers, "process" from labelled steps
    (prompt, completions, labels) to score steps. `model.path` is a causal language model, which gets a new head, or a
    judge of the kind, which goes on learning; a run's folder stands for its newest model.
    """

    name: str = "judge"
    folder: str = "runs"
    seed: int = 0
    kind: Literal["outcome", "process"] = "outcome"
    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=lambda: Data(source="runs/pairs/pairs.jsonl"))
    """No prompt is both trained on and held out: `data.held_out` and what belongs to it say which ones are."""
    separator: str = ""
    """Put behind each step but the last that does not end with it: some data sets leave the line end out."""
    fit: JudgeFit = field(default_factory=JudgeFit)


def train_judge(run: JudgeRun, *, overwrite: bool = False) -> Path:
    """Train a judge as the configuration says; the run's folder, with the judge in `hf/`."""
    started = time.monotonic()
    folder = claim(run.folder, run.name, resume=False, overwrite=overwrite)
    rows, held_out = load_rows(run)
    learner = open_learner(run)
    learner.check([*rows, *held_out])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.resolved.toml").write_text(dump(run), encoding="utf-8")
    console, record = Console(log=folder / LOG), Record(folder)
    record.rewind(-1)
    record.environment(describe_environment(run.model.device))
    console.message(described(run, rows, held_out))
    before = measured(console, learner, held_out, "before")
    record.metrics(0, named(before))
    after, steps = fitted(run, console, record, learner, rows, held_out)
    write_whole(folder / "hf", learner.judge.save)
    ends = {"before": before or None, "after": after or None}
    facts = {"kind": run.kind, "model": run.model.path, "steps": steps, "rows": len(rows), "held_out": len(held_out)}
    facts |= {"eval": ends, "wall_s": round(time.monotonic() - started, 3), "peak_rss_mb": peak_rss_mb()}
    jsonl.replace(folder / "summary.json", jsonl.encode(facts, indent=2) + "\n")
    console.message(f"judge:  {folder}/hf")
    return folder


def load_rows(run: JudgeRun) -> tuple[Rows, Rows]:
    """Rows to train on and rows to measure on."""
    if run.kind == "outcome":
        return hold_out_rows(run.data, load_pairs)
    return hold_out_rows(run.data, partial(load_labelled, separator=run.separator))


def open_learner(run: JudgeRun) -> JudgeLearner:
    """The judge that starts, and its optimiser."""
    model = run.model
    if model.lora is not None:
        raise ConfigError("A judge is trained whole.", got="[model.lora]", todo="leave the table out.")
    judge = start_judge(
        run.kind,
        resolve_model(model.path),
        seed=run.seed,
        device=model.device,
        precision=model.precision,
        trust_remote_code=model.trust_remote_code,
        chat_template=model.chat_template,
    )
    if model.gradient_checkpointing:
        recompute_activations(judge.model)
    return JudgeLearner(judge, run.fit)


def fitted(
    run: JudgeRun, console: Console, record: Record, learner: JudgeLearner, rows: Rows, held_out: Rows
) -> tuple[Metrics, int]:
    """Train; what the judge says of the held-out rows then, and the steps that it took."""
    after: Metrics = {}
    steps = run.fit.steps_for(len(rows))
    with console.progress("training the judge", steps) as advance:
        for report in learner.fit(rows, seed=run.seed):
            advance(1, f"loss {report.metrics['loss']:.4f}  accuracy {report.metrics['accuracy']:.3f}")
            if report.step == steps:
                after = measured(console, learner, held_out, "after")
            record.metrics(report.step, report.metrics | named(after))
    return after, steps


def measured(console: Console, learner: JudgeLearner, held_out: Rows, when: str) -> Metrics:
    """What the judge says of the held-out rows, shown in one line; nothing where there are none."""
    if not held_out:
        return {}
    metrics = learner.measure(held_out)
    facts = "  ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in metrics.items())
    console.message(f"held-out {when} training  {facts}")
    return metrics


def named(metrics: Metrics) -> dict[str, Any]:
    """As they stand in metrics.jsonl."""
    return {f"held_out/{name}": value for name, value in metrics.items()}


def described(run: JudgeRun, rows: Rows, held_out: Rows) -> str:
    """`7058 pairs of 1620 prompts to train on, 811 of 180 held out`."""
    prompts = [len({text_of(row.prompt) for row in side}) for side in (rows, held_out)]
    held = f"{len(held_out)} of {prompts[1]} held out" if held_out else "none held out"
    return f"{len(rows)} {UNITS[run.kind]} of {prompts[0]} prompts to train on, {held}"
