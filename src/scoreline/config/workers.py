"""What the processes of a cluster cannot do with a run's other settings."""

from __future__ import annotations

from scoreline.backends.runtime import Ray
from scoreline.backends.vllm import Vllm
from scoreline.config.run import Run
from scoreline.errors import ConfigError


def check_workers(run: Run) -> None:
    """Refuse what nobody could do, before anything is started."""
    if isinstance(run.runtime, Ray):
        check_scorers(run, run.runtime)
        check_transfer(run, run.runtime)
        check_sampling(run, run.runtime)


def check_scorers(run: Run, settings: Ray) -> None:
    """A judge that learns is one model, in one process."""
    if settings.scorers and run.judge is not None:
        raise ConfigError(
            "The run's own judge lives in one process, and rewards ask it there.",
            got=f"runtime.scorers={settings.scorers} with a table [judge]",
            accepted="runtime.scorers=0 with [judge]; reward models that a reward names by folder or id",
            todo="leave runtime.scorers out.",
        )


def check_transfer(run: Run, settings: Ray) -> None:
    """Weights are streamed by vLLM's own means, between two units."""
    if settings.transfer == "stream" and not isinstance(run.engine, Vllm):
        raise ConfigError(
            "Weights can be streamed into vLLM alone.",
            got='runtime.transfer="stream" with engine.type="local"',
            accepted='"stream" with engine.type="vllm"; "store" and "auto" with either engine',
            todo="leave runtime.transfer out, or set engine=vllm.",
        )
    if settings.transfer == "stream" and settings.in_flight:
        raise ConfigError(
            "A stream of weights waits until nobody samples.",
            got='runtime.transfer="stream" with runtime.in_flight=true',
            accepted='"store" or "auto" where weights come between two tokens',
            todo="leave runtime.transfer out.",
        )


def check_sampling(run: Run, settings: Ray) -> None:
    """Several units at once need vLLM; who is never idle is never probed."""
    if settings.at_once > 1 and not isinstance(run.engine, Vllm):
        raise ConfigError(
            "The library's own engine samples one unit at a time.",
            got=f'runtime.at_once={settings.at_once} with engine.type="local"',
            accepted='at_once above 1 with engine.type="vllm"',
            todo="leave runtime.at_once out, or set engine=vllm.",
        )
    if settings.in_flight and isinstance(run.engine, Vllm) and run.engine.probe_every:
        raise ConfigError(
            "Who gets new weights while it samples is not probed again.",
            got=f"engine.probe_every={run.engine.probe_every} with runtime.in_flight=true",
            accepted="engine.probe_every=0 with runtime.in_flight; the gap is measured in every step all the same",
            todo="leave engine.probe_every out.",
        )
