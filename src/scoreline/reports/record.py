"""The plain files of a run folder: metrics, evaluations, sampled answers and the summary.

| file | content |
|---|---|
| metrics.jsonl | one object a step: {"step": 7, "reward": 0.53, ...} |
| evaluation.jsonl | one object an evaluation, with the intervals, right answers a question and some greedy answers |
| rounds.jsonl | one object a round of iterative training, with what its judge learned |
| completions/step-000010.jsonl | some rollouts of that step, with the rewards of their steps and their advantages |
| completions/step-000010.safetensors | all columns of their batch (`trace.py`) |
| summary.json | evaluation before and after, time, tokens, memory |
| objective.json, environment.json | what the report says about the objective and the machine |
| data.json | how many questions there are, and which say the same as another one |
| failure.json | the error that ended the run, where one did |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from scoreline.reports import jsonl
from scoreline.reports.memory import peak_rss_mb
from scoreline.reports.trace import SUFFIX, whole_groups, write_trace
from scoreline.secret import masked
from scoreline.types import Batch, Metrics, Report, Rollout

if TYPE_CHECKING:
    from scoreline.objectives.explain import Explained
    from scoreline.train.evaluate import Evaluation

ROUNDS, FAILURE = "rounds.jsonl", "failure.json"

Pieces = Callable[[Sequence[int]], list[str]]
"""One piece of text for each token; joined, they are the text of the answer."""


@dataclass(frozen=True)
class Record:
    """Writes what happened in a run, so that a crash loses at most the line that was being written.

    Answers are kept of the first step and of every `every`-th (0: of none): whole groups, at most `answers` of each
    step but one group at least, or "all". `pieces` gives one piece of text a token; with it an answer is kept with the
    advantage of each of its tokens, and the tensors of the kept answers in a file of their own. All methods raise
    `CheckpointError` when the folder cannot be written.
    """

    folder: Path
    every: int = 10
    answers: int | Literal["all"] = 32
    pieces: Pieces | None = None

    def __post_init__(self) -> None:
        completions = self.folder / "completions"
        with jsonl.writing(completions):
            completions.mkdir(parents=True, exist_ok=True)

    def report(self, report: Report) -> None:
        """Metrics of the step, and its answers when it is the step's turn."""
        if self.every > 0 and (report.step == 1 or report.step % self.every == 0):
            self._keep(report)
        self.metrics(report.step, report.metrics)

    def metrics(self, step: int, metrics: Metrics) -> None:
        """One line with the numbers of a step; NaN and infinity become null."""
        jsonl.append(self.folder / "metrics.jsonl", {"step": step, **metrics})

    def evaluation(self, evaluation: Evaluation) -> None:
        """One line with accuracy, length and sample answers on held-out prompts."""
        samples = [_sample(rollout) for rollout in evaluation.samples]
        head = {"step": evaluation.step, "seconds": evaluation.seconds}
        each = {"rights": list(evaluation.rights)} if evaluation.rights else {}
        jsonl.append(self.folder / "evaluation.jsonl", head | _scores(evaluation) | each | {"samples": samples})

    def round(self, number: int, step: int, metrics: Metrics) -> None:
        """One line with what round `number`, from 1, taught its judge by `step`; a round done again replaces its line.

        A run that was killed while the judge learned comes back to the last step of the round, and learns again.
        """
        jsonl.keep(self.folder / ROUNDS, lambda row: row["round"] < number)
        jsonl.append(self.folder / ROUNDS, {"round": number, "step": step, "metrics": metrics})

    def objective(self, formula: str, parts: Sequence[Explained]) -> None:
        """The objective in words: the whole formula and each part with its own formula, source and values."""
        self._write("objective.json", {"formula": formula, "parts": [asdict(part) for part in parts]})

    def environment(self, facts: Mapping[str, Any]) -> None:
        """Versions, device and whatever else tells one machine from another."""
        self._write("environment.json", facts)

    def data(self, census: Mapping[str, Any]) -> None:
        """How many questions there are, and which say the same as another one."""
        self._write("data.json", census)

    def failed(self, step: int, error: Exception) -> None:
        """The error that ended the run after `step`. A run that is resumed forgets it."""
        self._write(FAILURE, {"step": step, "error": type(error).__name__, "words": masked(str(error))})

    def summary(
        self,
        *,
        algorithm: str,
        model: str,
        steps: int,
        wall_s: float,
        tokens: int,
        parameters: int | None = None,
        peak_gpu_mb: float | None = None,
    ) -> dict[str, Any]:
        """Writes summary.json and returns it.

        `before` is the recorded evaluation of step 0, `after` the last one of a later step; null where there is none.
        `rounds`, the metrics of the last round, is there only where there were rounds. `parameters` counts those that
        learn.
        """
        evaluations = jsonl.read(self.folder / "evaluation.jsonl")
        before = [_scored(row) for row in evaluations if row["step"] == 0]
        after = [_scored(row) for row in evaluations if row["step"] > 0]
        ends = {"before": before[-1] if before else None, "after": after[-1] if after else None}
        summary = {"algorithm": algorithm, "model": model, "steps": steps, "eval": ends}
        summary |= {"wall_s": round(wall_s, 3), "tokens": tokens, "peak_rss_mb": peak_rss_mb()}
        more = {"peak_gpu_mb": peak_gpu_mb, "parameters": parameters}
        summary |= {name: value for name, value in more.items() if value is not None}
        rounds = jsonl.read(self.folder / ROUNDS)
        summary |= {"rounds": rounds[-1]["metrics"]} if rounds else {}
        self._write("summary.json", summary)
        return summary

    def rewind(self, step: int) -> None:
        """Forgets everything after `step`, where a resumed run goes on."""
        for name in ("metrics.jsonl", "evaluation.jsonl", ROUNDS):
            jsonl.keep(self.folder / name, lambda row: row["step"] <= step)
        (self.folder / FAILURE).unlink(missing_ok=True)
        for path in (self.folder / "completions").glob("step-*.*"):
            if step_of(path) > step:
                path.unlink()

    def _keep(self, report: Report) -> None:
        """The step's answers, behind their tensors: where there are lines, there is a whole trace."""
        kept = report.rollouts[: whole_groups(report.rollouts, self.answers)]
        tokens = _tokens(kept, report.batch, self.pieces)
        rows = [_answer(rollout) | extra for rollout, extra in zip(kept, tokens, strict=True)]
        path = self.folder / "completions" / f"step-{report.step:06d}.jsonl"
        if self.pieces is not None:
            write_trace(path.with_suffix(SUFFIX), report.batch.rows(slice(len(kept))))
        jsonl.replace(path, "".join(jsonl.encode(row) + "\n" for row in rows))

    def _write(self, name: str, value: Any) -> None:
        jsonl.replace(self.folder / name, jsonl.encode(value, indent=2) + "\n")


def step_of(path: Path) -> int:
    """`completions/step-000010.jsonl` -> 10."""
    return int(path.stem.removeprefix("step-"))


_SCORES = ("greedy", "avg@k", "pass@k", "k", "mean_length")

_JUDGED = ("judged", "judge_accuracy")
"""Only where training is rewarded by something else than what says right."""


def _scores(evaluation: Evaluation) -> dict[str, Any]:
    intervals = (asdict(evaluation.greedy), asdict(evaluation.avg_at_k), asdict(evaluation.pass_at_k))
    scores = dict(zip(_SCORES, (*intervals, evaluation.k, evaluation.mean_length), strict=True))
    judged = {name: getattr(evaluation, name) for name in _JUDGED}
    return scores | {name: value for name, value in judged.items() if value is not None}


def _scored(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in (*_SCORES, *_JUDGED) if name in row}


def _sample(rollout: Rollout) -> dict[str, Any]:
    """`reward` is the answer's score; where its steps were rewarded too, `total` is the part of the whole answer."""
    sample = {"prompt": rollout.prompt.content, "completion": rollout.text, "reward": rollout.reward.score}
    return sample | _steps(rollout)


def _steps(rollout: Rollout) -> dict[str, Any]:
    reward = rollout.reward
    if not reward.steps:
        return {}
    parts = [{name: part[j] for name, part in reward.step_parts.items()} for j in range(len(rollout.steps))]
    rows = zip(rollout.steps, reward.steps, parts, strict=True)
    steps = [{"text": step.text, "end": step.end, "reward": r, "parts": p} for step, r, p in rows]
    return {"total": reward.total, "steps": steps}


def _answer(rollout: Rollout) -> dict[str, Any]:
    parts, completion = dict(rollout.reward.parts), rollout.completion
    facts = {"id": rollout.prompt.id, "parts": parts, "length": len(completion.token_ids)}
    sampled = {"finish": completion.finish, "group": rollout.group, "version": completion.version}
    versions = {"versions": completion.versions} if completion.versions else {}
    return _sample(rollout) | facts | sampled | versions


def _tokens(kept: Sequence[Rollout], batch: Batch, pieces: Pieces | None) -> list[dict[str, Any]]:
    """Each answer's tokens as [piece, advantage], to the six digits that a picture needs."""
    if pieces is None or batch.advantages is None:
        return [{} for _ in kept]
    ids = [rollout.completion.token_ids for rollout in kept]
    rows = [row[: len(own)] for row, own in zip(batch.advantages[: len(kept)].tolist(), ids, strict=True)]
    return [{"tokens": _paired(pieces(own), row)} for own, row in zip(ids, rows, strict=True)]


def _paired(pieces: Sequence[str], advantages: Sequence[float]) -> list[tuple[str, float]]:
    return [(piece, float(f"{value:.6g}")) for piece, value in zip(pieces, advantages, strict=True)]
