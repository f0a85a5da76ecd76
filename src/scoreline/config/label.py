"""Data for judges from a policy's own answers: preference pairs, or steps with labels. The verb `label`."""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from scoreline.backends.vllm import Vllm, VllmEngine
from scoreline.config.build import encode, scorer_for
from scoreline.config.dump import dump
from scoreline.config.engine import check_engine, context_of, make_engine
from scoreline.config.launch import claim, describe_environment, resolve_model
from scoreline.config.recipe import read
from scoreline.config.run import Run
from scoreline.config.session import Interrupted
from scoreline.config.tally import Tally
from scoreline.environments.preferences import Labelled, Pair
from scoreline.environments.prompts import Data, load
from scoreline.environments.rewards import RewardSpec, Scorer
from scoreline.environments.steps import Splitter
from scoreline.errors import CheckpointError, ConfigError, DataError
from scoreline.models.policy import Model, Policy, load_policy
from scoreline.reports import jsonl
from scoreline.reports.console import LOG, Console
from scoreline.rollout.collect import LABEL, Encoded, Sampler, order
from scoreline.rollout.continuations import Estimate, Shepherd
from scoreline.rollout.engine import Engine, Sampling
from scoreline.rollout.local import Local
from scoreline.rollout.segments import Segmenter
from scoreline.rollout.teaching import PairTeacher, StepTeacher, Teacher
from scoreline.train.checkpoint import flush

Question = tuple[Encoded, tuple[int, ...]]
"""A question and the stream that its answers draw from."""

RESOLVED, STATE, SUMMARY, ENVIRONMENT = "config.resolved.toml", "state.json", "summary.json", "environment.json"


@dataclass(frozen=True)
class LabelRun:
    """Rows for a judge, made of answers to training questions. `runs/name/pairs.jsonl` or `steps.jsonl` holds them.

    An answer is right when its total reward is at least `right_at`. `model.path` may be a run, which stands for its
    newest model. `engine` samples.
    """

    name: str = "label"
    folder: str = "runs"
    seed: int = 0
    kind: Literal["steps", "pairs"] = "steps"
    """"steps": the steps of each distinct answer with labels from 0 to 1. "pairs": right answers over wrong ones."""
    by: Literal["continuations", "checker"] = "continuations"
    """Where steps get labels from: answers sampled on from their ends (Math-Shepherd), or the step rewards."""
    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    reward: tuple[RewardSpec, ...] = ()
    right_at: float = 1.0
    steps: Splitter = field(default_factory=Splitter)
    step_reward: tuple[RewardSpec, ...] = ()
    overlong: Literal["error", "drop", "truncate"] = "error"
    sampling: Sampling = field(default_factory=Sampling)
    engine: Local | Vllm = Local()  # noqa: RUF009 - frozen
    prompts: int | None = None
    """How many questions, drawn by the seed; without it all that are not held out."""
    num_generations: int = 8
    """Answers to each question."""
    continuations: int = 8
    """Answers sampled on from the end of each step."""
    labels: Estimate = "soft"
    """"soft": the share of continuations that end right. "hard": 1 if one of them does."""
    most: int = 4
    """Pairs of one question at most."""

    def __post_init__(self) -> None:
        for name in ("prompts", "num_generations", "continuations", "most"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is too small.", got=f"{name}={value}", accepted="1 or more")

    @property
    def file(self) -> str:
        """The file that the rows go to."""
        return f"{self.kind}.jsonl"


def label(run: LabelRun, *, resume: bool = False, overwrite: bool = False) -> Path:
    """Answer questions and write what a judge can learn from; the run's folder.

    The rows of a run that was killed and resumed are, byte for byte, those of one that was not.
    """
    folder = claim(run.folder, run.name, resume=resume, overwrite=overwrite)
    check(run)
    run = replace(run, model=replace(run.model, path=resolve_model(run.model.path)))
    tally = begun(run, folder) if resume else Tally()
    with teaching(run) as (teacher, asked):
        prepare(run, folder, tally)
        console = Console(log=folder / LOG)
        try:
            tally = go(run, folder, console, teacher, asked, tally)
        except KeyboardInterrupt:
            todo = "--resume goes on."
            raise Interrupted(
                f"Stopped by Ctrl-C; the rows of finished questions are in {folder}.", todo=todo
            ) from None
    finish(run, folder, console, tally)
    return folder


def check(run: LabelRun) -> None:
    """Combinations of keys that cannot make what they say."""
    by_checker = run.kind == "steps" and run.by == "checker"
    if by_checker != bool(run.step_reward):
        raise ConfigError(
            "Labels by a checker of steps need step rewards, and nothing else does.",
            got=f"kind={run.kind!r}, by={run.by!r}, {len(run.step_reward)} [[step_reward]]",
            accepted='kind="steps", by="checker" with at least one [[step_reward]], or no [[step_reward]]',
            todo='add [[step_reward]] function="arithmetic_steps", or set by="continuations" and leave it out.',
        )
    if run.sampling.temperature <= 0 and not by_checker:
        raise ConfigError(
            "Answers that are compared are sampled at a temperature above 0: greedy ones are all the same.",
            got=f"sampling.temperature={run.sampling.temperature}",
            accepted="above 0, usually 1.0",
            todo="set sampling.temperature=1.0.",
        )
    if run.kind == "pairs" and run.num_generations < 2:
        raise ConfigError(
            "A pair needs two answers to one question.",
            got=f"num_generations={run.num_generations}",
            accepted="2 or more",
            todo="set num_generations=8.",
        )


def begun(run: LabelRun, folder: Path) -> Tally:
    """What a run that is resumed has done, if it goes on as it began."""
    if not (folder / RESOLVED).is_file() or not (folder / STATE).is_file():
        return Tally()
    before, now = read(folder / RESOLVED), tomllib.loads(dump(run))
    changed = [key for key in now if before.get(key) != now[key] and key not in ("name", "folder")]
    if changed:
        raise ConfigError(
            "The recipe is not the one that this run began with: its rows would be of two kinds.",
            got=", ".join(f"another {key}" for key in changed),
            accepted=f"what stands in {folder / RESOLVED}",
            todo="resume with the recipe as it was, start again with --overwrite, or set name=...",
        )
    return Tally(**json.loads((folder / STATE).read_text(encoding="utf-8")))


@contextmanager
def teaching(run: LabelRun) -> Iterator[tuple[Teacher, list[Question]]]:
    """What makes the rows, and the questions. All that can be refused is refused here."""
    check_engine(run.engine, run.sampling)
    policy = load_policy(run.model, seed=run.seed)
    asked = questions(run, policy)
    segmenter = Segmenter(run.steps, policy.text)
    scorer = scorer_for(run.reward, run.model, steps=run.step_reward)
    try:
        segmenter.check()
        scorer.check([encoded.prompt for encoded, _ in asked])
        with sampling_with(run, policy, asked) as engine:
            yield make_teacher(run, policy, engine, scorer, segmenter), asked
    finally:
        segmenter.close()
        scorer.close()


@contextmanager
def sampling_with(run: LabelRun, policy: Policy, asked: Sequence[Question]) -> Iterator[Engine]:
    """The engine, for as long as it is needed."""
    engine = make_engine(run.engine, policy, run.sampling, [encoded.ids for encoded, _ in asked])
    try:
        yield engine
    finally:
        if isinstance(engine, VllmEngine):
            engine.close()


def questions(run: LabelRun, policy: Policy) -> list[Question]:
    """The questions with their streams, (seed, LABEL, place of the question in the data), in the data's order."""
    train = load(run.data).train
    drawn = sorted(order(run.seed, 0, len(train)).tolist()[: run.prompts])
    place = {train[i].id: i for i in drawn}
    fits = encode(
        policy, [train[i] for i in drawn], Run(sampling=run.sampling, overlong=run.overlong, engine=run.engine)
    )
    return [(encoded, (run.seed, LABEL, place[encoded.prompt.id])) for encoded in fits]


def make_teacher(run: LabelRun, policy: Policy, engine: Engine, scorer: Scorer, segmenter: Segmenter) -> Teacher:
    """What makes rows of the kind that the run says."""
    decode, n = policy.text.decode, run.num_generations
    if run.kind == "pairs":
        return PairTeacher(Sampler(engine, scorer, decode), run.sampling, n, run.right_at, run.most, run.seed)
    shepherd = Shepherd(
        engine,
        scorer,
        decode,
        run.sampling,
        run.continuations,
        run.labels,
        run.right_at,
        context_of(run.engine, policy),
    )
    by = shepherd if run.by == "continuations" else None
    return StepTeacher(Sampler(engine, scorer, decode, segmenter), run.sampling, n, by, run.right_at, run.steps.none)


def prepare(run: LabelRun, folder: Path, tally: Tally) -> None:
    """The run's folder as it is after the batches that are counted: what a killed run wrote of the next one goes."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = jsonl.read(folder / run.file)[: tally.rows] if tally.rows else []
    if len(rows) < tally.rows:
        raise CheckpointError(
            "The run has lost rows.",
            got=f"{len(rows)} in {folder / run.file}",
            accepted=f"the {tally.rows} that {STATE} counts",
            todo="restore the file, or start again with --overwrite.",
        )
    for name in {SUMMARY, "pairs.jsonl", "steps.jsonl"} - {run.file} | ({STATE} if not tally.prompts else set()):
        (folder / name).unlink(missing_ok=True)
    jsonl.replace(folder / run.file, "".join(jsonl.encode(row) + "\n" for row in rows))
    jsonl.replace(folder / RESOLVED, dump(run))
    write(folder / ENVIRONMENT, describe_environment(run.model.device))
    write(folder / STATE, asdict(tally))


def go(
    run: LabelRun, folder: Path, console: Console, teacher: Teacher, asked: Sequence[Question], tally: Tally
) -> Tally:
    """All questions, a batch that fills the engine's rows at a time. Batches are the same after a resume."""
    size = max(1, run.engine.rows // run.num_generations)
    with console.progress(f"labelling {run.name}", len(asked), done=tally.prompts) as advance:
        for start in range(tally.prompts, len(asked), size):
            started, batch = time.monotonic(), asked[start : start + size]
            done = teacher([encoded for encoded, _ in batch], [stream for _, stream in batch])
            for row in done.rows:
                jsonl.append(folder / run.file, row_of(row))
            flush(folder / run.file)
            tally = tally.plus(done, len(batch), time.monotonic() - started)
            write(folder / STATE, asdict(tally))
            advance(len(batch), tally.note)
    return tally


def row_of(row: Pair | Labelled) -> dict[str, Any]:
    """A line of the file: what the judge learns from, then the question's id and those of its columns that are JSON."""
    prompt = row.prompt
    if isinstance(row, Pair):
        taught: dict[str, Any] = {"prompt": prompt.content, "chosen": row.chosen, "rejected": row.rejected}
    else:
        taught = {"prompt": prompt.content, "completions": row.steps, "labels": row.labels}
    columns = {name: value for name, value in prompt.columns.items() if name not in taught and is_json(value)}
    return {**taught, **columns, "prompt_id": prompt.id}


def is_json(value: Any) -> bool:
    """Whether JSON has a word for it."""
    try:
        jsonl.encode(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def finish(run: LabelRun, folder: Path, console: Console, tally: Tally) -> None:
    """The summary; an error when there is no row."""
    write(folder / SUMMARY, tally.summary(run.kind))
    if not tally.rows:
        raise barren(run, tally)
    if tally.without_steps:
        console.warning(f"{tally.without_steps} of {tally.answers} answers have no step and are in no row")
    console.message(f"{tally.rows} rows of {tally.used} of {tally.prompts} questions: {folder / run.file}")


def barren(run: LabelRun, tally: Tally) -> DataError:
    """Says why there is nothing to learn from."""
    right = (
        "none scored"
        if tally.share_right is None
        else f"{tally.share_right:.3f} right, {1 - tally.share_right:.3f} wrong"
    )
    got = f"{tally.answers} answers to {tally.prompts} questions: {right}"
    if run.kind == "pairs":
        return DataError(
            "No question has both a right and a wrong answer, so there is no pair.",
            got=got,
            accepted="questions that the model answers rightly now and then",
            todo="raise num_generations or sampling.temperature, lower right_at, or take easier or harder questions.",
        )
    return DataError(
        "No answer has steps that could be labelled.",
        got=f"{got}; {tally.without_steps} without a step, {tally.unlabelled} with a step that the checker passed over",
        accepted="answers that [steps] cuts into steps",
        todo="look at answers with `scoreline sample`, and let [steps] say where their steps end.",
    )


def write(path: Path, value: Any) -> None:
    """A whole file of JSON, or the old one."""
    jsonl.replace(path, jsonl.encode(value, indent=2) + "\n")
