"""What samples a run's answers: from the table `[engine]` to an engine."""

from __future__ import annotations

from collections.abc import Sequence

from scoreline.backends.cluster.pool import RolloutPool
from scoreline.backends.vllm import Serving, Vllm, VllmEngine, check_installed, check_reported
from scoreline.errors import ConfigError
from scoreline.models.outline import Speaker
from scoreline.models.policy import Policy
from scoreline.rollout.engine import Engine, Sampling
from scoreline.rollout.local import Local, LocalEngine


def check_engine(engine: Local | Vllm, sampling: Sampling) -> None:
    """What can be refused before a model is loaded."""
    if isinstance(engine, Vllm):
        check_reported(sampling)
        check_installed()


def make_engine(
    engine: Local | Vllm,
    policy: Policy,
    sampling: Sampling,
    questions: Sequence[tuple[int, ...]],
    serving: Serving = Serving(),  # noqa: B008 - frozen
) -> LocalEngine | VllmEngine:
    """The engine, ready to answer with the policy's weights; `questions` are for its probe, where it has one, and
    `serving` is for vLLM as a rollout worker.
    """
    if isinstance(engine, Vllm):
        return VllmEngine(policy, engine, sampling, questions, serving)
    return LocalEngine(policy, max_rows=engine.rows)


def context_of(engine: Local | Vllm, policy: Speaker) -> int:
    """Tokens of question and answer together that both engine and model take."""
    if isinstance(engine, Local) or engine.context is None:
        return policy.context
    if engine.context > policy.context:
        raise ConfigError(
            "engine.context is longer than the model's own.",
            got=f"engine.context={engine.context}",
            accepted=f"at most {policy.context}",
            todo="leave engine.context out, or lower it.",
        )
    return engine.context


def describe_engine(engine: Engine) -> dict[str, str]:
    """What a report says of an engine that is not the learner's own model."""
    return engine.describe() if isinstance(engine, VllmEngine | RolloutPool) else {}
