"""Where the seconds of our step go: stopwatches around its parts, and torch's own list of operators.

python benchmarks/breakdown.py --workload tiny
python benchmarks/breakdown.py --workload smollm2 --model FOLDER --precision bf16 --operators 12 --json figures.json

Means over the timed steps. A part's seconds are those that no part inside of it took.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from command import common, prepare, write

if TYPE_CHECKING:
    from clock import Stopwatch
    from ours import Ours

PHASES = ("generation", "annotation", "update")
MEANING = {
    "layers": "the model's layers",
    "head": "the output embedding, and in learning the log-probabilities",
    "drawing": "tokens from logits",
    "backward": "gradients of head and layers",
    "clipping": "norm of the gradient",
    "optimiser": "AdamW",
    "other": "all else in this phase: requests, caches, masks, batches, the loss",
}


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common(parser)
    add = parser.add_argument
    add("--workload", choices=("tiny", "smollm2", "uneven"), default="tiny")
    add("--prompts", type=int, help="prompts a step; without it 8 for tiny, else 4")
    add("--micro-batch", type=int, help="rows that go through the model at once in training")
    add("--beta", type=float, default=0.0, help="KL coefficient; 0 has no reference model")
    add("--steps", type=int, default=3, help="timed steps")
    add("--warmup", type=int, default=2, help="steps before them")
    add("--operators", type=int, default=0, help="also the so many most expensive operators of one more step")
    return parser.parse_args(argv)


def places(mine: Ours) -> list[tuple[Any, str, str]]:
    """(object, method, part): the public methods that a step goes through."""
    import torch

    from scoreline.rollout import local

    policy, learner = mine.built.policy, mine.built.learner
    return [
        (mine.built.parts.engine, "generate", "generation"),
        (learner, "annotate", "annotation"),
        (learner, "update", "update"),
        (policy.model.base_model, "forward", "layers"),
        (policy, "logits", "head"),
        (policy, "logprobs", "head"),
        (local, "draw", "drawing"),
        (torch.Tensor, "backward", "backward"),
        (torch.nn.utils, "clip_grad_norm_", "clipping"),
        (learner.optimizer, "step", "optimiser"),
    ]


@contextmanager
def watched(mine: Ours, watch: Stopwatch) -> Iterator[None]:
    """Stopwatches around all places; a part is counted in the phase in which it is called."""

    def named(part: str) -> Callable[[], str]:
        return lambda: part if part in PHASES else f"{watch.running[0] if watch.running else 'elsewhere'}: {part}"

    found = places(mine)
    before = [getattr(owner, method) for owner, method, _ in found]
    for owner, method, part in found:
        watch.around(owner, method, named(part))
    try:
        yield
    finally:
        for (owner, method, _), inner in zip(found, before, strict=True):
            setattr(owner, method, inner)


def timed(mine: Ours, watch: Stopwatch, warmup: int, steps: int) -> dict[str, float]:
    """Mean seconds of a step by part, `whole` among them."""
    whole = 0.0
    with watched(mine, watch):
        for number in range(warmup + steps):
            if number == warmup:
                watch.clear()
            seconds = mine.step().seconds
            whole += seconds if number >= warmup else 0.0
    own = {name if ": " in name else f"{name}: other": spent / steps for name, spent in watch.own.items()}
    return {"whole": whole / steps, **own}


def table(title: str, spent: dict[str, float]) -> str:
    """Parts by phase, with their share of the step."""
    whole = spent["whole"]
    lines = [f"### {title}", "", "| part of a step | seconds | share | |", "|---|--:|--:|---|"]
    parts = {name: seconds for name, seconds in spent.items() if name != "whole"}
    for phase in PHASES:
        inside = {name.partition(": ")[2]: s for name, s in parts.items() if name.startswith(f"{phase}: ")}
        if inside:
            lines.append(row(f"**{phase}**", sum(inside.values()), whole, ""))
            lines += [row(f"- {part}", inside[part], whole, text) for part, text in MEANING.items() if part in inside]
    rest = whole - sum(parts.values())
    lines.append(row("rest", rest, whole, "rewards, advantages, metrics, what stands between the phases"))
    return "\n".join([*lines, row("whole step", whole, whole, "")])


def row(name: str, seconds: float, whole: float, text: str) -> str:
    """One line."""
    return f"| {name} | {seconds:.4f} | {100 * seconds / whole:.1f} % | {text} |"


def operators(mine: Ours, number: int) -> list[dict[str, Any]]:
    """torch's most expensive operators of one step, by their own time on the CPU or the device."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    cuda = torch.cuda.is_available() and mine.device != "cpu"
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=kinds) as found:
        mine.step()
    own = "self_device_time_total" if cuda else "self_cpu_time_total"
    events = sorted(found.key_averages(), key=lambda event: -getattr(event, own))
    whole = sum(getattr(event, own) for event in events)
    return [
        {"name": e.key, "calls": e.count, "seconds": getattr(e, own) / 1e6, "share": getattr(e, own) / whole}
        for e in events[:number]
    ]


def operators_table(found: Sequence[dict[str, Any]]) -> str:
    """For a person."""
    head = ["| operator | calls | own seconds | share |", "|---|--:|--:|--:|"]
    lines = (f"| `{o['name']}` | {o['calls']} | {o['seconds']:.3f} | {100 * o['share']:.0f} % |" for o in found)
    return "\n".join([*head, *lines])


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Build, run, print."""
    import machine
    from clock import Stopwatch
    from ours import Ours
    from turns import make_setup

    args.trl_micro_batch, args.trl = None, "amp"
    extra = argparse.Namespace(**{**vars(args), "steps": args.steps + bool(args.operators)})
    setup = make_setup(extra, args.prompts or (8 if args.workload == "tiny" else 4))
    with tempfile.TemporaryDirectory() as folder:
        mine = Ours(setup, Path(folder))
        try:
            spent = timed(mine, Stopwatch(setup.device), args.warmup, args.steps)
            found = operators(mine, args.operators) if args.operators else []
        finally:
            mine.close()
    print(f"\n{table(f'{setup.workload.title}; {args.precision}', spent)}\n", flush=True)
    print(f"{operators_table(found)}\n" if found else "", flush=True)
    told = {"title": setup.workload.title, "precision": args.precision, "parts": spent, "operators": found}
    return {"kind": "breakdown", "machine": machine.machine(setup.device), **told}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    args = arguments(argv)
    prepare(args.threads)
    write(args.json, measure(args))


if __name__ == "__main__":
    main()
