"""`scoreline train --dry-run`: load and check everything, say what a step needs, save nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, replace

import torch

from scoreline.backends.runtime import Ray
from scoreline.config.build import BuiltHere, build, check_plan
from scoreline.config.disk import check_disk, need
from scoreline.config.room import check_memory, copies
from scoreline.config.run import Run
from scoreline.models.device import choose_device
from scoreline.models.footprint import footprint, refuse_too_large
from scoreline.models.memory import available, held, memory_told
from scoreline.reports import preflight as lines
from scoreline.reports.memory import peak_rss_mb
from scoreline.rollout.local import Local
from scoreline.train.estimate import Estimate, Held, Largest
from scoreline.train.portions import Portion, automatic
from scoreline.train.rehearsal import Rehearsal, longest


def preflight(run: Run, say: Callable[[str], None], *, once: bool = False) -> bool:
    """Print the estimate of the largest step, and with `once` what that step really takes; whether it fits."""
    check_plan(run)
    check_memory(run)
    check_disk(run)
    if isinstance(run.runtime, Ray):
        refuse_too_large(run.model, copies(run), "in one process, as a dry run is")
    torch.manual_seed(run.seed)
    with memory_told():
        return _preflight(run, say, once)


def _preflight(run: Run, say: Callable[[str], None], once: bool) -> bool:
    built = build(run)
    try:
        rehearsal = rehearse(run, built)
        estimate = estimated(built, rehearsal)
        if estimate.fits:
            estimate = replace(estimate, rates=rehearsal.rates())
        device = str(built.policy.device)
        said = [lines.sizes(estimate, run.model.path, device), lines.memory(estimate)]
        whole, fits = together(run, estimate), estimate.fits
        if isinstance(run.runtime, Ray):
            said.append(lines.processes(estimate, run.runtime.learners, run.runtime.rollouts))
        if whole is not None and estimate.room is not None:
            said.append(lines.together(whole, estimate.room))
            fits = fits and whole <= estimate.room
        said.append(lines.disk(*astuple(need(run))))
        for part in (*said, lines.duration(estimate, run.train.steps), lines.levers(estimate)):
            say("\n".join(part))
        if once and estimate.fits:
            _, took = rehearsal.run()
            say("\n".join(lines.tried(estimate, peak(built.policy.device), took)))
        return fits
    finally:
        built.close()


def together(run: Run, estimate: Estimate) -> int | None:
    """Bytes of all processes of a cluster that is this machine's memory alone; None where it is another one."""
    runtime = run.runtime
    if not isinstance(runtime, Ray) or runtime.address is not None or choose_device(run.model.device).type != "cpu":
        return None
    return estimate.held.together(estimate.step, runtime.learners, runtime.rollouts)


def rehearse(run: Run, built: BuiltHere) -> Rehearsal:
    """The run's parts, and its largest step."""
    plan, learner = run.train, built.learner
    prompts = longest(built.parts.collector.prompts, plan.prompts_per_step)
    portions = learner.portions
    asked = plan.micro_batch_size
    step = Largest(
        prompts=plan.prompts_per_step,
        answers=plan.num_generations,
        prompt=len(prompts[0].ids),
        answer=run.sampling.max_completion_length,
        in_flight=run.engine.rows if isinstance(run.engine, Local) else plan.prompts_per_step * plan.num_generations,
        portion=automatic(portions.models, learner.device) if asked == "auto" else Portion(asked),
        iterations=plan.num_iterations,
        minibatches=plan.minibatches,
        packed=built.policy.packs,
    )
    return Rehearsal(built.parts, learner, built.policy.text, prompts, replace(run.sampling, stop=()), step)


def estimated(built: BuiltHere, rehearsal: Rehearsal) -> Estimate:
    """The estimate of memory; what this process holds beside its models is the program's."""
    learner, device = built.learner, built.policy.device
    policy = footprint(built.policy.model, built.policy.precision)
    adapted = policy.learned is not None  # reference and critic then stand on the policy's own weights
    reference = None if learner.reference is None or adapted else policy
    trunk = None if learner.critic is None else learner.critic.trunk
    critic = None if trunk is None else footprint(trunk, built.policy.precision)
    if critic is not None and adapted:
        critic = replace(critic, parameters=critic.learned or critic.parameters)
    now = held(device)
    models = sum(model.weights for model in (policy, reference, critic) if model is not None)
    plan = rehearsal.parts.plan
    moment = 2 if plan.optimizer == "adamw_8bit" else 8
    exact = plan.gradient_sums == "fp64"
    free = available(device)
    room = None if free is None else free + now
    return Estimate(rehearsal.step, Held(max(now - models, 0), policy, reference, critic, moment, exact), room)


def peak(device: torch.device) -> int:
    """The most bytes that this process ever held where its models are."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else int(peak_rss_mb() * 2**20)
