"""Our sampling against transformers' and vLLM's: the same questions, taking turns repetition by repetition.

python benchmarks/sampling.py --model FOLDER --precision bf16 --json figures.json
python benchmarks/sampling.py --model FOLDER --precision bf16 --vllm .vllm/bin/python --peers vllm

Every answer takes its whole budget. vLLM lives in an environment of its own, in a child process that waits on a pipe
while others have their turn. One repetition of each does not count: what compiles, compiles in it.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from command import common, prepare, write

SHAPES = ("4x8", "8x8")
OURS = "Scoreline"
PEERS = ("dynamic", "static", "batch", "vllm")

Turn = Callable[[int], tuple[float, int]]
"""Samples once, with this seed: seconds and tokens."""


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common(parser)
    add = parser.add_argument
    add("--workload", choices=("tiny", "smollm2"), default="smollm2")
    add("--shapes", nargs="+", default=list(SHAPES), help="questions x answers, one comparison each")
    add("--peers", nargs="+", choices=PEERS, help="generate with a dynamic or static cache, generate_batch, vLLM")
    add("--vllm", type=Path, help="python of the environment that has vLLM")
    add("--repetitions", type=int, default=5, help="timed repetitions of each side")
    args = parser.parse_args(argv)
    args.peers = args.peers or [name for name in PEERS if name != "vllm" or args.vllm]
    if "vllm" in args.peers and args.vllm is None:
        parser.error("vLLM needs an environment of its own: name its python with --vllm.")
    return args


@dataclass(frozen=True)
class Speed:
    """Tokens a second of one side: all repetitions, their median, and the first one, which does not count."""

    name: str
    median: float
    each: list[float]
    first_seconds: float


def turns(sides: dict[str, Turn], repetitions: int) -> list[Speed]:
    """Every side once, then again, so that a busy minute meets all of them; the first time does not count."""
    taken: dict[str, list[tuple[float, int]]] = {name: [] for name in sides}
    for seed in range(repetitions + 1):
        for name, side in sides.items():
            gc.collect()
            taken[name].append(side(seed))
            print(f"  {name}: {taken[name][-1][0]:.2f} s", file=sys.stderr)
    return [speed(name, each) for name, each in taken.items()]


def speed(name: str, taken: Sequence[tuple[float, int]]) -> Speed:
    """Of (seconds, tokens), the first apart."""
    each = [tokens / seconds for seconds, tokens in taken[1:]]
    return Speed(name, median(each), each, taken[0][0])


def table(title: str, speeds: Sequence[Speed]) -> str:
    """Medians, and ours by each."""
    ours = next(told.median for told in speeds if told.name == OURS)
    head = ["| sampling | tokens a second | Scoreline / it | first time, s |", "|---|--:|--:|--:|"]
    rows = [f"| {s.name} | {s.median:.0f} | {ours / s.median:.2f} | {s.first_seconds:.1f} |" for s in speeds]
    return "\n".join([f"### {title}", "", *head, *rows])


def compare(args: argparse.Namespace, shape: str) -> dict[str, Any]:
    """All sides on one shape."""
    import samplers

    prompts, answers = map(int, shape.split("x"))
    task = samplers.make_task(args, prompts, answers)
    with samplers.sides(args, task) as sides:
        speeds = turns(sides, args.repetitions)
    title = f"{task.workload.name}: {prompts} questions x {answers} answers x {task.workload.budget} tokens"
    print(f"\n{table(f'{title}; {args.precision}', speeds)}\n", flush=True)
    return {"shape": shape, "budget": task.workload.budget, "speeds": [asdict(told) for told in speeds]}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    args = arguments(argv)
    prepare(args.threads)
    import machine

    where = machine.machine(machine.device(args.device))
    compared = [compare(args, shape) for shape in args.shapes]
    asked = {name: getattr(args, name) for name in ("workload", "precision", "repetitions")}
    write(args.json, {"kind": "sampling", "arguments": asked, "machine": where, "comparisons": compared})


if __name__ == "__main__":
    main()
