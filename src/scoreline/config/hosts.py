"""Where a run's models live: in this process, or on a cluster. Everything else of a run is the same."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from scoreline.backends.vllm import VllmEngine
from scoreline.config.engine import make_engine
from scoreline.config.run import Run
from scoreline.environments.rewards import Scorer
from scoreline.models.critic import make_critic
from scoreline.models.outline import Speaker
from scoreline.models.policy import Policy, load_policy
from scoreline.objectives.objective import Objective
from scoreline.rollout.collect import Scores
from scoreline.rollout.engine import Engine
from scoreline.rollout.units import InUnits
from scoreline.train.learner import Learner, LocalLearner
from scoreline.train.ranks import ALONE, Ranks

Ids = tuple[int, ...]


class Host(Protocol):
    """Loads the models of a run."""

    @property
    def policy(self) -> Speaker: ...

    def join(self, questions: Sequence[Ids]) -> tuple[Learner, Engine]:
        """What learns and what samples, with the same weights; `questions` are those that probes may ask."""
        ...

    def scores(self, scorer: Scorer) -> Scores:
        """What scores the answers of training; `scorer` is this process's."""
        ...

    def close(self) -> None:
        """End processes, and give memory back."""
        ...


class Here:
    """This process."""

    def __init__(self, run: Run, objective: Objective) -> None:
        self.run, self.objective, self.policy = run, objective, load_policy(run.model)
        self.engine: Engine | None = None

    def join(self, questions: Sequence[Ids]) -> tuple[LocalLearner, Engine]:
        """The engine reads the learner's own weights."""
        self.engine = engine = make_engine(self.run.engine, self.policy, self.run.sampling, questions)
        learner, unit = make_learner(self.run, self.objective, self.policy), self.run.runtime.unit
        return learner, engine if unit is None else InUnits(engine, unit)

    def scores(self, scorer: Scorer) -> Scores:
        """It is this process's."""
        return scorer

    def close(self) -> None:
        """An engine outside the learner has memory of its own."""
        if isinstance(self.engine, VllmEngine):
            self.engine.close()


def made_by(run: Run, ranks: Ranks) -> AbstractContextManager[None]:
    """How the learner's models are made; those under an adapter stay whole, and every rank reads its own."""
    return nullcontext() if run.model.lora is not None else ranks.making()


def make_learner(run: Run, objective: Objective, policy: Policy, ranks: Ranks = ALONE) -> LocalLearner:
    """The learner with the reference and the critic that the objective needs, and no others."""
    needs = objective.needs
    remote, lora = run.model.trust_remote_code, run.model.lora
    with made_by(run, ranks):
        reference = policy.frozen() if "logp_ref" in needs else None
        critic = make_critic(run.critic, policy, trust_remote_code=remote, lora=lora) if "values" in needs else None
    return LocalLearner(
        policy,
        objective,
        reference=reference,
        critic=critic,
        learning_rate=run.train.learning_rate,
        critic_learning_rate=run.critic.learning_rate,
        weight_decay=run.train.weight_decay,
        max_grad_norm=run.train.max_grad_norm,
        micro_batch_size=run.train.micro_batch_size,
        temperature=run.sampling.temperature,
        optimizer=run.train.optimizer,
        gradient_sums=run.train.gradient_sums,
        ranks=ranks,
    )
