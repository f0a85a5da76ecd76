"""Whether a run's models can fit at all, before one is loaded: in this process, or in those of a cluster."""

from __future__ import annotations

from scoreline.backends.runtime import Ray
from scoreline.config.run import Run
from scoreline.models.device import choose_device
from scoreline.models.footprint import refuse_too_large


def check_memory(run: Run) -> None:
    """Raise `MemoryLimitError` where the models are more than what they run on has.

    Of a cluster that runs, nobody knows its memory from here: there every process looks at its own machine first.
    """
    if not isinstance(run.runtime, Ray):
        refuse_too_large(run.model, copies(run))
    elif run.runtime.address is None:
        together = choose_device(run.model.device).type == "cpu"
        refuse_too_large(run.model, *(machine(run) if together else (max(share(run), 1.0), "the largest process")))


def copies(run: Run) -> int:
    """Arrays as large as the weights that training needs: weight, gradient, two moments, and the reference's weight.

    An adapter needs the weight alone; moments of 8 bits are half of one array together.
    """
    if run.model.lora is not None:
        return 1
    if run.train.optimizer == "adamw_8bit":
        return 3 if "logp_ref" in run.objective.needs else 2
    return 5 if "logp_ref" in run.objective.needs else 4


def share(run: Run) -> float:
    """Of those arrays, what one learner holds. Under an adapter every learner has the whole frozen weights."""
    dealt = run.runtime.learners if isinstance(run.runtime, Ray) and run.model.lora is None else 1
    return copies(run) / dealt


def machine(run: Run) -> tuple[float, str]:
    """The arrays of all processes, where they share one machine's memory, and whose they are.

    Every learner loads the whole model before it keeps its rows; every rollout worker has a whole one.
    """
    runtime = run.runtime
    assert isinstance(runtime, Ray)
    loaded = runtime.learners * (2 if "logp_ref" in run.objective.needs and run.model.lora is None else 1)
    learning = max(share(run) * runtime.learners, loaded)
    return learning + runtime.rollouts, f"{learning:g} for the learners, {runtime.rollouts} for the rollout workers"
