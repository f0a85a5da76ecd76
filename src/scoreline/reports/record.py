"""The plain files of a run folder: metrics, evaluations, sampled answers and the summary.

| file | content |
|---|---|
| metrics.jsonl | one object a step: {"step": 7, "reward": 0.53, ...} |
| evaluation.jsonl | one object an evaluation, with the intervals and some greedy answers |
| completions/step-000010.jsonl | some rollouts of that step |
| summary.json | evaluation before and after, time, tokens, memory |
| objective.json, environment.json | what the report says about the objective and the machine |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoreline.reports import jsonl
from scoreline.reports.memory import peak_rss_mb
from scoreline.types import Metrics, Report, Rollout

if TYPE_CHECKING:
    from scoreline.objectives.explain import Explained
    from scoreline.train.evaluate import Evaluation


@dataclass(frozen=True)
class Record:
    """Writes what happened in a run, so that a crash loses at most the line that was being written.

    Answers are kept of the first step and of every `every`-th (0: of none), at most `answers` of each. All methods
    raise `CheckpointError` when the folder cannot be written.
    """

    folder: Path
    every: int = 10
    answers: int = 32

    def __post_init__(self) -> None:
        completions = self.folder / "completions"
        with jsonl.writing(completions):
            completions.mkdir(parents=True, exist_ok=True)

    def report(self, report: Report) -> None:
        """Metrics of the step, and its answers when it is the step's turn."""
        if self.every > 0 and (report.step == 1 or report.step % self.every == 0):
            rows = [_answer(rollout) for rollout in report.rollouts[: self.answers]]
            text = "".join(jsonl.encode(row) + "\n" for row in rows)
            jsonl.replace(self.folder / "completions" / f"step-{report.step:06d}.jsonl", text)
        self.metrics(report.step, report.metrics)

    def metrics(self, step: int, metrics: Metrics) -> None:
        """One line with the numbers of a step; NaN and infinity become null."""
        jsonl.append(self.folder / "metrics.jsonl", {"step": step, **metrics})

    def evaluation(self, evaluation: Evaluation) -> None:
        """One line with accuracy, length and sample answers on held-out prompts."""
        samples = [_sample(rollout) for rollout in evaluation.samples]
        head = {"step": evaluation.step, "seconds": evaluation.seconds}
        jsonl.append(self.folder / "evaluation.jsonl", head | _scores(evaluation) | {"samples": samples})

    def objective(self, formula: str, parts: Sequence[Explained]) -> None:
        """The objective in words: the whole formula and each part with its own formula, source and values."""
        self._write("objective.json", {"formula": formula, "parts": [asdict(part) for part in parts]})

    def environment(self, facts: Mapping[str, Any]) -> None:
        """Versions, device and whatever else tells one machine from another."""
        self._write("environment.json", facts)

    def summary(self, *, algorithm: str, model: str, steps: int, wall_s: float, tokens: int) -> dict[str, Any]:
        """Writes summary.json and returns it.

        `before` is the recorded evaluation of step 0, `after` the last one of a later step; null where there is none.
        """
        evaluations = jsonl.read(self.folder / "evaluation.jsonl")
        before = [_scored(row) for row in evaluations if row["step"] == 0]
        after = [_scored(row) for row in evaluations if row["step"] > 0]
        ends = {"before": before[-1] if before else None, "after": after[-1] if after else None}
        summary = {"algorithm": algorithm, "model": model, "steps": steps, "eval": ends}
        summary |= {"wall_s": round(wall_s, 3), "tokens": tokens, "peak_rss_mb": peak_rss_mb()}
        self._write("summary.json", summary)
        return summary

    def rewind(self, step: int) -> None:
        """Forgets everything after `step`, where a resumed run goes on."""
        for name in ("metrics.jsonl", "evaluation.jsonl"):
            jsonl.keep(self.folder / name, lambda row: row["step"] <= step)
        for path in (self.folder / "completions").glob("step-*.jsonl"):
            if step_of(path) > step:
                path.unlink()

    def _write(self, name: str, value: Any) -> None:
        jsonl.replace(self.folder / name, jsonl.encode(value, indent=2) + "\n")


def step_of(path: Path) -> int:
    """`completions/step-000010.jsonl` -> 10."""
    return int(path.stem.removeprefix("step-"))


_SCORES = ("greedy", "avg@k", "pass@k", "k", "mean_length")


def _scores(evaluation: Evaluation) -> dict[str, Any]:
    intervals = (asdict(evaluation.greedy), asdict(evaluation.avg_at_k), asdict(evaluation.pass_at_k))
    return dict(zip(_SCORES, (*intervals, evaluation.k, evaluation.mean_length), strict=True))


def _scored(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in _SCORES}


def _sample(rollout: Rollout) -> dict[str, Any]:
    return {"prompt": rollout.prompt.content, "completion": rollout.text, "reward": rollout.reward.total}


def _answer(rollout: Rollout) -> dict[str, Any]:
    parts, completion = dict(rollout.reward.parts), rollout.completion
    facts = {"parts": parts, "length": len(completion.token_ids), "finish": completion.finish, "group": rollout.group}
    return _sample(rollout) | facts
