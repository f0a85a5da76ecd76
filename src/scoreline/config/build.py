"""The composition root: from a configuration to the parts of the loop. What can be refused is refused here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scoreline.config.run import Run
from scoreline.environments.prompts import load
from scoreline.environments.rewards import RewardSpec, Scorer
from scoreline.errors import ConfigError, DataError
from scoreline.models.critic import make_critic
from scoreline.models.policy import Model, Policy, load_policy
from scoreline.models.reward import load_judge
from scoreline.objectives.aggregates import FixedLength
from scoreline.objectives.objective import Objective
from scoreline.rollout.collect import Collector, Encoded, Sampler
from scoreline.rollout.engine import Sampling
from scoreline.rollout.local import LocalEngine
from scoreline.train.evaluate import Evaluator
from scoreline.train.learner import LocalLearner
from scoreline.train.loop import Parts
from scoreline.train.schedule import Warmup
from scoreline.types import Prompt


@dataclass(frozen=True)
class Built:
    """The parts of a run, the evaluator, and the scorers, which own processes."""

    parts: Parts
    evaluator: Evaluator | None
    policy: Policy
    learner: LocalLearner
    scorers: tuple[Scorer, ...]

    def close(self) -> None:
        """End the processes of the reward functions."""
        for scorer in self.scorers:
            scorer.close()


def build(run: Run) -> Built:
    """Load, check and join everything. Nothing is trained or written yet."""
    objective = completed(run)
    data = load(run.data)
    held_out = data.held_out[: run.eval.prompts]
    policy = load_policy(run.model)
    scorer = scorer_for(run.reward, run.model)
    scorer.check(data.train)
    engine = LocalEngine(policy, max_rows=run.engine_rows)
    sampler = Sampler(engine, scorer, policy.text.decode)
    collector = Collector(
        sampler,
        encode(policy, data.train, run),
        run.sampling,
        prompts_per_step=run.train.prompts_per_step,
        num_generations=run.train.num_generations,
        seed=run.seed,
        resample_rounds=0 if objective.resample is None else objective.resample.rounds,
    )
    learner = make_learner(run, objective, policy)
    warmup = Warmup(run.critic.warmup_steps, run.critic.warmup_explained_variance)
    parts = Parts(run.train, objective, collector, learner, engine, warmup, run.seed)
    evaluator, judge = make_evaluator(run, policy, engine, scorer, held_out)
    return Built(parts, evaluator, policy, learner, (scorer, judge))


def check_plan(run: Run) -> None:
    """Combinations of tables that cannot learn what they say."""
    if run.objective.grouped and run.train.num_generations < 2:
        raise ConfigError(
            "A group baseline needs at least two answers to a question: one answer alone is its own mean.",
            got=f"train.num_generations={run.train.num_generations} with algorithm {run.algorithm!r}",
            accepted="num_generations >= 2",
            todo="set train.num_generations=8, or use an algorithm without a group baseline.",
        )
    if run.sampling.temperature <= 0:
        raise ConfigError(
            "Training samples at a temperature above 0: greedy answers to one question are all the same.",
            got=f"sampling.temperature={run.sampling.temperature}",
            accepted="above 0, usually 1.0",
            todo="set sampling.temperature=1.0.",
        )


def completed(run: Run) -> Objective:
    """The objective with the token budget filled in where its aggregate asks for one."""
    aggregate = run.objective.aggregate
    if isinstance(aggregate, FixedLength) and aggregate.length is None:
        return replace(run.objective, aggregate=FixedLength(run.sampling.max_completion_length))
    return run.objective


def make_learner(run: Run, objective: Objective, policy: Policy) -> LocalLearner:
    """The learner with the reference and the critic that the objective needs, and no others."""
    needs = objective.needs
    remote = run.model.trust_remote_code
    return LocalLearner(
        policy,
        objective,
        reference=policy.frozen() if "logp_ref" in needs else None,
        critic=make_critic(run.critic, policy, trust_remote_code=remote) if "values" in needs else None,
        learning_rate=run.train.learning_rate,
        critic_learning_rate=run.critic.learning_rate,
        weight_decay=run.train.weight_decay,
        max_grad_norm=run.train.max_grad_norm,
        micro_batch_size=run.train.micro_batch_size,
        temperature=run.sampling.temperature,
    )


def make_evaluator(
    run: Run, policy: Policy, engine: LocalEngine, scorer: Scorer, held_out: Sequence[Prompt]
) -> tuple[Evaluator | None, Scorer]:
    """The evaluator, or None without held-out prompts, and the scorer that it uses."""
    judge = scorer_for(run.eval.reward, run.model) if run.eval.reward else scorer
    if not held_out:
        return None, judge
    judge.check(held_out)
    return (
        Evaluator(
            Sampler(engine, judge, policy.text.decode),
            encode(policy, held_out, run),
            run.sampling,
            k=run.eval.k,
            right_at=run.eval.right_at,
            seed=run.seed,
            shown=run.eval.shown,
        ),
        judge,
    )


def scorer_for(specs: Sequence[RewardSpec], model: Model) -> Scorer:
    """The reward functions; a spec that names a folder with a config.json is a reward model."""
    names = [spec.function for spec in specs if isinstance(spec.function, str)]
    folders = [name for name in names if (Path(name) / "config.json").is_file()]
    return Scorer(specs, judges={name: load_judge(name, device=model.device) for name in folders})


def encode(policy: Policy, prompts: Sequence[Prompt], run: Run) -> list[Encoded]:
    """Every prompt as tokens, checked against the model's context before the first step."""
    room = context(policy) - run.sampling.max_completion_length
    encoded = [Encoded(prompt, policy.text.encode(prompt)) for prompt in prompts]
    fits = [e for e in encoded if len(e.ids) <= room]
    if len(fits) < len(encoded) and run.overlong == "error":
        raise overlong(encoded, room, run.sampling)
    if run.overlong == "truncate" and room > 0:
        return [Encoded(e.prompt, e.ids[-room:]) for e in encoded]
    if not fits:
        raise overlong(encoded, room, run.sampling)
    return fits


def context(policy: Policy) -> int:
    """Tokens that the model can attend to, question and answer together."""
    return int(getattr(policy.model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30)


def overlong(encoded: Sequence[Encoded], room: int, sampling: Sampling) -> DataError:
    """Says how many prompts are too long, and which is the first."""
    long = [e for e in encoded if len(e.ids) > room]
    return DataError(
        f"{len(long)} of {len(encoded)} prompts leave no room for an answer in the model's context.",
        got=f"prompt {long[0].prompt.id} with {len(long[0].ids)} tokens",
        accepted=f"at most {room} tokens beside sampling.max_completion_length={sampling.max_completion_length}",
        todo="set overlong='drop' or 'truncate' (keeps the end), or lower sampling.max_completion_length.",
    )
