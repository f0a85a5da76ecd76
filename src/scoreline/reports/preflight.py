"""An estimate as lines of text: what a step needs, whether it fits, and what would change that most."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from scoreline.train.estimate import Estimate

MIB, GIB = 1 << 20, 1 << 30


def sizes(estimate: Estimate, name: str, device: str) -> list[str]:
    """The model and the largest step."""
    step, policy = estimate.step, estimate.held.policy
    kind = f"{policy.parameters:,} parameters, {policy.precision}, on {device}"
    asked = f"{step.prompts} prompts of up to {step.prompt} tokens x {step.answers} answers of up to {step.answer}"
    portion = f"{step.at_once} rows ({step.tokens_at_once:,} tokens) learned from"
    return [
        f"model    {name}: {kind}",
        f"step     {asked}: {step.tokens:,} tokens",
        f"at once  {step.flying} answers sampled, {portion}",
    ]


def memory(estimate: Estimate) -> list[str]:
    """The peak by what it is for, and whether there is room."""
    room = "nobody says how much there is"
    if estimate.room is not None:
        room = f"{size(estimate.room)} there for it: it {'fits' if estimate.fits else 'does NOT fit'}"
    return [f"memory   {size(estimate.bytes)} at the peak, {room}", *_table(estimate.memory, size)]


def processes(estimate: Estimate, learners: int, workers: int) -> list[str]:
    """What the processes of a cluster hold, by the same formulas. What stands above is one process that does it all."""
    held, step = estimate.held, estimate.step
    rows = {
        f"a learner, one of {learners}": held.learner(step, learners),
        "the first, reading the weights": held.first(step, learners),
        f"a rollout worker, one of {workers}": held.worker(step, workers),
        "all on one machine": held.together(step, learners, workers),
    }
    said = "cluster  estimated, not tried: all else here is of one process that learns and samples"
    return [said, *_table(rows, size)]


def together(whole: int, room: int) -> list[str]:
    """Whether all processes of a cluster that is this machine have room on it."""
    fit = "they fit" if whole <= room else "they do NOT fit: lower runtime.rollouts or runtime.learners"
    return [f"cluster  {size(whole)} for all of it on this machine, {size(room)} there: {fit}"]


def disk(most: int, each: int, free: int, place: Path) -> list[str]:
    """What the checkpoints take at once, and what there is for them; nothing is known of an adapter's."""
    said = f"{size(most)} for checkpoints of {size(each)}" if most else "checkpoints of a size that is not known"
    return [f"disk     {said}, {size(free)} free at {place}"]


def duration(estimate: Estimate, steps: int) -> list[str]:
    """A step's time by what it is spent on, and that of the whole run."""
    if not estimate.seconds:
        return ["time     not measured: a step that does not fit is not begun"]
    whole = sum(estimate.seconds.values())
    said = (
        f"time     {seconds(whole)} a step, {steps:,} steps {seconds(whole * steps)}, without rewards and evaluations"
    )
    return [said, *_table(estimate.seconds, seconds)]


def levers(estimate: Estimate) -> list[str]:
    """The settings that matter most, and what they would save at half their value."""
    lines = ["memory depends most on (saved at half the value, or as it says)"]
    lines += _table(dict(estimate.saved_bytes()), size)
    if estimate.seconds:
        lines += ["time depends most on (saved at half the value)", *_table(dict(estimate.saved_seconds()), seconds)]
    return lines


def tried(estimate: Estimate, peak: int, took: float) -> list[str]:
    """What the largest step took, beside what was estimated for it."""
    return [
        "tried    the largest step once: longest prompts, answers of the whole budget, every update",
        f"  {'memory':<30}{size(peak):>10}   estimated {size(estimate.bytes)}",
        f"  {'time':<30}{seconds(took):>10}   estimated {seconds(sum(estimate.seconds.values()))}",
    ]


def size(count: float) -> str:
    """`512 MiB`, `3.2 GiB`."""
    return f"{count / MIB:,.0f} MiB" if count < GIB else f"{count / GIB:,.1f} GiB"


def seconds(much: float) -> str:
    """`0.21 s`, `12 s`, `3.5 min`, `2.1 h`."""
    if much < 120:
        return f"{much:.2f} s" if much < 10 else f"{much:.0f} s"
    return f"{much / 60:.1f} min" if much < 7200 else f"{much / 3600:.1f} h"


def _table(rows: Mapping[str, float], shown: Callable[[float], str]) -> list[str]:
    return [f"  {name:<30}{shown(value):>10}" for name, value in rows.items()]
