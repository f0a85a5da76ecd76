"""From the table [judge] to a judge that learns at the end of each round."""

from __future__ import annotations

from collections.abc import Sequence

from scoreline.config.run import Judge, Run
from scoreline.environments.preferences import load_labelled, load_pairs
from scoreline.environments.rewards import Scorer
from scoreline.errors import ConfigError
from scoreline.models.judges import OutcomeJudge, ProcessJudge
from scoreline.models.outline import Speaker
from scoreline.rollout.collect import Encoded, Sampler
from scoreline.rollout.continuations import Shepherd
from scoreline.rollout.teaching import PairTeacher, StepTeacher, Teacher
from scoreline.train.apprentice import Apprentice, Lesson
from scoreline.train.judging import JudgeLearner
from scoreline.train.lessons import Fresh, Supplied
from scoreline.train.replay import Replay


def learns(run: Run) -> bool:
    """Whether the run's own judge goes on training."""
    return run.judge is not None and run.judge.learn and run.rounds.count > 1


def checker_for(run: Run) -> Scorer | None:
    """What tells the judge right from wrong; None where nothing must, because rows are supplied or nothing learns."""
    if run.judge is None or not learns(run) or run.judge.data is not None:
        return None
    specs = run.judge.checker or run.eval.reward
    if not specs:
        raise ConfigError(
            "The judge learns from answers that are checked, and nothing checks them.",
            got="judge.learn = true without judge.checker, judge.data or eval.reward",
            accepted="[[judge.checker]] or [[eval.reward]] with a function that knows what is right",
            todo="add one, supply rows with judge.data, or set judge.learn = false.",
        )
    return Scorer(specs, steps=run.judge.step_checker, none="outcome")


def make_apprentice(
    run: Run,
    judge: OutcomeJudge | ProcessJudge,
    sampler: Sampler,
    policy: Speaker,
    prompts: Sequence[Encoded],
    checker: Scorer | None,
) -> Apprentice | None:
    """The run's own judge as one that learns, or None. `sampler` is the training's; `checker` knows what is right."""
    told = run.judge
    if told is None or not learns(run):
        return None
    if judge.kind == "outcome" and told.step_checker:
        raise ConfigError(
            "A judge of whole answers learns from pairs, and a step checker makes none.",
            got=f"judge.path={told.path!r} with {len(told.step_checker)} [[judge.step_checker]]",
            accepted="[[judge.checker]], which says which answer is right",
            todo="remove [[judge.step_checker]], or name a judge of steps.",
        )
    loads = load_pairs if judge.kind == "outcome" else load_labelled
    replay = Replay(loads(told.history) if told.history else (), share=told.replay, seed=run.seed)
    lesson: Lesson
    if checker is None:
        assert told.data is not None
        lesson = Supplied(loads(told.data), run.rounds.count)
    else:
        teacher = make_teacher(run, told, judge.kind, sampler, policy, checker)
        lesson = Fresh(teacher, prompts, told.prompts, run.seed)
    return Apprentice(JudgeLearner(judge, told.fit), lesson, replay, held_out=told.held_out, seed=run.seed)


def make_teacher(run: Run, told: Judge, kind: str, training: Sampler, policy: Speaker, checker: Scorer) -> Teacher:
    """Pairs for an outcome judge; for a process judge labelled steps, from a step checker or from continuations."""
    decode, answers, right_at = policy.text.decode, told.num_generations, run.eval.right_at
    sampler = Sampler(training.engine, checker, decode, training.segment if kind == "process" else None)
    if kind == "outcome":
        return PairTeacher(sampler, run.sampling, answers, right_at=right_at, most=told.most, seed=run.seed)
    shepherd = Shepherd(
        training.engine,
        checker,
        decode,
        run.sampling,
        told.continuations,
        right_at=right_at,
        context=policy.context,
    )
    return StepTeacher(sampler, run.sampling, answers, None if told.step_checker else shepherd, right_at=right_at)
