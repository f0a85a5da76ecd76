"""The composition root: from a configuration to the parts of the loop. What can be refused is refused here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from scoreline.backends.cluster.pool import RolloutPool
from scoreline.backends.runtime import Ray
from scoreline.config.apprentice import checker_for, make_apprentice
from scoreline.config.engine import check_engine, context_of
from scoreline.config.hosts import Here, Host
from scoreline.config.jury import OWN, Jury, load_jury, load_named, named
from scoreline.config.run import Run, completed
from scoreline.config.workers import check_workers
from scoreline.environments.census import census
from scoreline.environments.prompts import load
from scoreline.environments.rewards import RewardSpec, Scorer
from scoreline.errors import ConfigError, DataError
from scoreline.models.outline import Speaker
from scoreline.models.policy import Model, Policy
from scoreline.objectives.objective import Objective
from scoreline.rollout.collect import Collector, Encoded, Sampler
from scoreline.rollout.engine import Foreseeing, Sampling
from scoreline.rollout.segments import Segmenter
from scoreline.train.apprentice import Apprentice
from scoreline.train.evaluate import Evaluator
from scoreline.train.learner import Learner, LocalLearner
from scoreline.train.loop import Parts
from scoreline.train.schedule import Warmup
from scoreline.types import Prompt


@dataclass(frozen=True)
class Built:
    """The parts of a run, the evaluator, the judges, and what owns processes or memory: scorers, what cuts steps, the
    host of the models.
    """

    parts: Parts
    evaluator: Evaluator | None
    policy: Speaker
    learner: Learner
    jury: Jury
    apprentice: Apprentice | None
    owners: ExitStack
    census: Mapping[str, Any]
    """Of the questions."""

    def save(self, folder: Path) -> None:
        """Whatever learns, into a checkpoint."""
        self.learner.save(folder)
        if self.apprentice is not None:
            self.apprentice.save(folder / OWN)

    def restore(self, folder: Path) -> None:
        """Exactly what `save` wrote."""
        self.learner.restore(folder)
        if self.apprentice is not None:
            self.apprentice.restore(folder / OWN)

    def close(self) -> None:
        """End the processes of users' functions, and give an engine's memory back."""
        self.owners.close()


@dataclass(frozen=True)
class BuiltHere(Built):
    """Built in this process, where policy and learner can be looked into."""

    policy: Policy
    learner: LocalLearner


def build(run: Run, memory: Path | None = None) -> BuiltHere:
    """Load, check and join everything in this process. Nothing is trained or written yet; judges will remember in
    `memory`.
    """
    check_engine(run.engine, run.sampling)
    host = Here(run, completed(run))
    built = assemble(run, host, memory)
    return BuiltHere(**{f.name: getattr(built, f.name) for f in fields(built)})


def assemble(run: Run, host: Host, memory: Path | None = None) -> Built:
    """The parts of a run around the models that a host has. Where they cannot be made, what owns processes is closed,
    the host too.
    """
    with ExitStack() as owners:
        owners.enter_context(closing(host))  # first in, last to end
        objective, data = completed(run), load(run.data)
        policy, jury = host.policy, load_jury(run, memory)
        scorer = Scorer(run.reward, judges=jury.functions(), steps=run.step_reward, none=run.steps.none)
        owners.enter_context(scorer)
        held_out = data.held_out[: run.eval.prompts]
        scorer.check((*data.train, *held_out))
        prompts, segmenter = encode(policy, data.train, run), make_segmenter(run, policy, owners)
        learner, engine = host.join([encoded.ids for encoded in prompts])
        sampler = Sampler(engine, host.scores(scorer), policy.text.decode, segmenter)
        warmup = Warmup(run.critic.warmup_steps, run.critic.warmup_explained_variance, run.critic.freeze_after)
        foreseeing = engine if isinstance(engine, RolloutPool) else None
        collector = make_collector(run, objective, sampler, prompts, foreseeing)
        parts = Parts(run.train, objective, collector, learner, engine, warmup, run.seed)
        evaluator = make_evaluator(run, policy, sampler, jury, held_out, owners)
        checker = checker_for(run)
        if checker is not None:
            owners.enter_context(checker).check(data.train)
        own = jury.loaded.get(OWN)
        apprentice = None if own is None else make_apprentice(run, own, sampler, policy, prompts, checker)
        told = census(data)
        return Built(parts, evaluator, policy, learner, jury, apprentice, owners.pop_all(), told)


def make_collector(
    run: Run, objective: Objective, sampler: Sampler, prompts: Sequence[Encoded], foreseeing: Foreseeing | None
) -> Collector:
    """The source of rollouts. An engine with workers of its own may sample ahead."""
    return Collector(
        sampler,
        prompts,
        run.sampling,
        prompts_per_step=run.train.prompts_per_step,
        num_generations=run.train.num_generations,
        seed=run.seed,
        resample_rounds=0 if objective.resample is None else objective.resample.rounds,
        foreseeing=foreseeing,
        max_staleness=run.runtime.max_staleness if isinstance(run.runtime, Ray) else 0,
    )


def make_segmenter(run: Run, policy: Speaker, owners: ExitStack) -> Segmenter | None:
    """What cuts answers into steps, where something rewards steps."""
    if not run.step_reward:
        return None
    segmenter = owners.enter_context(closing(Segmenter(run.steps, policy.text)))
    segmenter.check()
    return segmenter


def check_plan(run: Run) -> None:
    """Combinations of tables that cannot learn what they say."""
    if run.objective.grouped and run.train.num_generations < 2:
        raise ConfigError(
            "A group baseline needs at least two answers to a question: one answer alone is its own mean.",
            got=f"train.num_generations={run.train.num_generations} with algorithm {run.algorithm!r}",
            accepted="num_generations >= 2",
            todo="set train.num_generations=8, or use an algorithm without a group baseline.",
        )
    if run.train.steps % run.rounds.count:
        raise ConfigError(
            "The steps cannot be divided into rounds of equal length.",
            got=f"train.steps={run.train.steps}, rounds.count={run.rounds.count}",
            accepted="train.steps, those of all rounds together, a multiple of rounds.count",
            todo=f"set train.steps={run.rounds.count * max(1, run.train.steps // run.rounds.count)}.",
        )
    if run.reference.every is not None and "logp_ref" not in run.objective.needs:
        raise ConfigError(
            "There is no reference to refresh: the objective has no KL.",
            got=f"reference.every={run.reference.every} with algorithm {run.algorithm!r}",
            accepted="an objective with a KL",
            todo="add objective.kl, or leave reference.every out.",
        )
    if run.critic.freeze_after is not None and run.objective.value is None:
        raise ConfigError(
            "There is no critic to freeze: the objective has no value loss.",
            got=f"critic.freeze_after={run.critic.freeze_after} with algorithm {run.algorithm!r}",
            accepted="an objective with a value loss, such as that of actor_critic or ppo",
            todo="leave critic.freeze_after out, or choose another algorithm.",
        )
    check_workers(run)
    if run.sampling.temperature <= 0:
        raise ConfigError(
            "Training samples at a temperature above 0: greedy answers to one question are all the same.",
            got=f"sampling.temperature={run.sampling.temperature}",
            accepted="above 0, usually 1.0",
            todo="set sampling.temperature=1.0.",
        )


def make_evaluator(
    run: Run, policy: Speaker, sampler: Sampler, jury: Jury, held_out: Sequence[Prompt], owners: ExitStack
) -> Evaluator | None:
    """The evaluator, or None without held-out prompts.

    Where training is rewarded by whole answers alone and evaluation says nothing else, both score alike. Otherwise the
    evaluation has a scorer of its own for what is right, and notes what the training rewards say of the same answers.
    """
    if not held_out:
        return None
    check_right(run)
    alike = not run.eval.reward and not run.step_reward
    truth = None if alike else owners.enter_context(Scorer(right_rewards(run), judges=jury.functions()))
    if truth is not None:
        truth.check(held_out)
    return Evaluator(
        sampler if truth is None else Sampler(sampler.engine, truth, policy.text.decode),
        encode(policy, held_out, run),
        run.sampling,
        k=run.eval.k,
        right_at=run.eval.right_at,
        seed=run.seed,
        shown=run.eval.shown,
        judge=None if truth is None else sampler,
    )


def check_right(run: Run) -> None:
    """Rewards that an offset shifts do not say what is right: with offset 1 every wrong answer would reach 1."""
    shifted = [spec.offset for spec in run.reward if spec.offset]
    if shifted and not run.eval.reward:
        raise ConfigError(
            "The training rewards are shifted, and nothing else says which held-out answers are right.",
            got=f"[[reward]] with offset = {shifted[0]:g}, no [[eval.reward]]",
            accepted=f"[[eval.reward]], whose total is at least eval.right_at = {run.eval.right_at:g} when right",
            todo="add [[eval.reward]], or set data.held_out = 0 to measure nothing.",
        )


def right_rewards(run: Run) -> tuple[RewardSpec, ...]:
    """What says that a held-out answer is right."""
    if run.eval.reward or run.reward:
        return run.eval.reward or run.reward
    raise ConfigError(
        "Steps are rewarded, but nothing says whether a whole answer is right.",
        got="[[step_reward]] alone, and held-out prompts",
        accepted='[[eval.reward]] or [[reward]], such as function = "last_number"',
        todo="add [[eval.reward]], or set data.held_out = 0 to measure nothing.",
    )


def scorer_for(specs: Sequence[RewardSpec], model: Model, *, steps: Sequence[RewardSpec] = ()) -> Scorer:
    """Reward functions outside a run; a spec that names a reward model loads it."""
    judges = {name: load_named(name, spec, model.device) for name, spec in named((*specs, *steps)).items()}
    return Scorer(specs, judges=judges, steps=steps)


def encode(policy: Speaker, prompts: Sequence[Prompt], run: Run) -> list[Encoded]:
    """Every prompt as tokens, checked against the context of model and engine before the first step."""
    room = context_of(run.engine, policy) - run.sampling.max_completion_length
    if room < 1:
        raise too_long(context_of(run.engine, policy), run.sampling)
    encoded = [Encoded(prompt, policy.text.encode(prompt)) for prompt in prompts]
    fits = [e for e in encoded if len(e.ids) <= room]
    if len(fits) < len(encoded) and run.overlong == "error":
        raise overlong(encoded, room, run.sampling)
    if run.overlong == "truncate":
        return [Encoded(e.prompt, e.ids[-room:]) for e in encoded]
    if not fits:
        raise overlong(encoded, room, run.sampling)
    return fits


def too_long(context: int, sampling: Sampling) -> ConfigError:
    """Answers that the model's context cuts off, whatever the prompt."""
    return ConfigError(
        "The model's context ends before an answer may end: there is no room for a prompt.",
        got=f"sampling.max_completion_length={sampling.max_completion_length}, a context of {context} tokens",
        accepted="an answer's tokens and at least one of its prompt within the context",
        todo=f"set sampling.max_completion_length below {context}, less the longest prompt, or choose another model.",
    )


def overlong(encoded: Sequence[Encoded], room: int, sampling: Sampling) -> DataError:
    """Says how many prompts are too long, and which is the first."""
    long = [e for e in encoded if len(e.ids) > room]
    return DataError(
        f"{len(long)} of {len(encoded)} prompts leave no room for an answer in the context of the model or engine.",
        got=f"prompt {long[0].prompt.id} with {len(long[0].ids)} tokens",
        accepted=f"at most {room} tokens beside sampling.max_completion_length={sampling.max_completion_length}",
        todo="set overlong='drop' or 'truncate' (keeps the end), or lower sampling.max_completion_length.",
    )
