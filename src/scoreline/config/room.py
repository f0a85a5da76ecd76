"""Whether a run's models can fit at all, before one is loaded: in this process, or in those of a cluster.

All is counted in arrays as large as the policy's weights.
"""

from __future__ import annotations

from dataclasses import replace

from scoreline.backends.runtime import Ray
from scoreline.config.run import Run
from scoreline.models.device import choose_device
from scoreline.models.footprint import refuse_too_large, sketch

READING = "the first learner, which reads them"


def check_memory(run: Run) -> None:
    """Raise `MemoryLimitError` where the models are more than what they run on has.

    Of a cluster that runs, nobody knows its memory from here: there every process looks at its own machine first.
    """
    runtime = run.runtime
    if not isinstance(runtime, Ray):
        refuse(run, copies(run))
    elif runtime.address is None:
        if choose_device(run.model.device).type == "cpu":
            refuse(run, *machine(run, runtime.learners, runtime.rollouts))
        else:
            refuse(run, max(share(run), 1.0), "the largest process")
            refuse(run, reading(run), READING, "cpu")


def check_rank(run: Run, rank: int, learners: int = 1) -> None:
    """The same in the process of a learner, one of so many on its node: on a CPU all of them share its memory, a GPU
    has room for one share; and what the first one reads beside it.
    """
    if learners > 1 and choose_device(run.model.device).type == "cpu":
        refuse(run, *machine(run, learners, 0))
    else:
        refuse(run, share(run), "a learner's share")
    if rank == 0:
        refuse(run, reading(run), READING, "cpu")


def check_worker(run: Run, learners: int, rollouts: int) -> None:
    """The same in the process of a rollout worker, beside so many learners, and one of so many workers, on its node."""
    if learners + rollouts > 1 and choose_device(run.model.device).type == "cpu":
        refuse(run, *machine(run, learners, rollouts))
    else:
        refuse(run, 1, "a rollout worker's copy")


def refuse(run: Run, arrays: float, whose: str = "", device: str | None = None) -> None:
    """Raise where so many arrays are more than a device has, the run's or another; say what could be left out."""
    cluster, adapted, beside = isinstance(run.runtime, Ray), run.model.lora is not None, critic(run)
    todo = "choose a smaller model, or other machines" if cluster else "choose a smaller model or a larger machine"
    if "logp_ref" in run.objective.needs and not adapted:
        todo += "; without objective.kl there is no reference model"
    if beside:
        todo += "; with critic.kind=shared the critic is a head of the policy"
        whose = ", ".join(filter(None, (whose, f"with a critic {beside:.3g} times as large")))
    refuse_too_large(run.model if device is None else replace(run.model, device=device), arrays, whose, todo)


def critic(run: Run) -> float:
    """The weights of a critic that is a model of its own, as a part of the policy's: it has no output head. One that
    starts from an adapted policy stands on the policy's weights.
    """
    own = run.critic.path
    if "values" not in run.objective.needs or run.critic.kind == "shared" or (own is None and run.model.lora):
        return 0.0
    policy = sketch(run.model)
    trunk = sketch(run.model if own is None else replace(run.model, path=own), headless=True)
    return 0.0 if policy is None or trunk is None else trunk.weights / policy.weights


def copies(run: Run) -> float:
    """Arrays that training needs: weight, gradient, two moments, the critic's four, and the reference's weight.

    An adapter needs the weights alone; moments of 8 bits are half of one array together.
    """
    if run.model.lora is not None:
        return 1 + critic(run)
    learning = 2 if run.train.optimizer == "adamw_8bit" else 4
    return learning * (1 + critic(run)) + ("logp_ref" in run.objective.needs) + sums(run)


def sums(run: Run) -> float:
    """Of those arrays, the fp64 sums of gradients."""
    return 2 * (1 + critic(run)) if run.train.gradient_sums == "fp64" and run.model.lora is None else 0


def share(run: Run) -> float:
    """Of those arrays, what one learner holds: its rows, but the whole frozen weights under an adapter, and whole sums
    in fp64.
    """
    dealt = run.runtime.learners if isinstance(run.runtime, Ray) and run.model.lora is None else 1
    return (copies(run) - sums(run)) / dealt + sums(run)


def reading(run: Run) -> float:
    """Of those arrays, what the first learner has in its machine's memory before it trains: the weights that it reads,
    those of a critic with a `path` too, and on a CPU its rows of all models, which lie in the same memory until they
    are dealt. One that shares no rows puts each model on its device before it reads the next.
    """
    runtime, own = run.runtime, critic(run) if run.critic.path is not None else 0.0
    if not isinstance(runtime, Ray) or runtime.learners == 1 or run.model.lora is not None:
        return max(1.0, own)
    if choose_device(run.model.device).type != "cpu":
        return 1.0 + own
    models = (2 if "logp_ref" in run.objective.needs else 1) + critic(run)
    return 1.0 + own + models / runtime.learners


def machine(run: Run, learners: int, rollouts: int) -> tuple[float, str]:
    """The arrays of so many processes, where they share one machine's memory, and whose they are.

    What the learners will hold in all is more than what they load; every rollout worker has a whole policy.
    """
    learning = share(run) * learners
    parts = [(learning, "for the learners"), (float(rollouts), "for the rollout workers")]
    return learning + rollouts, ", ".join(f"{arrays:g} {whose}" for arrays, whose in parts if arrays)
