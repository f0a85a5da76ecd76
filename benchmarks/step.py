"""Our GRPO step against TRL's: the two take turns; the ratio of their medians, and where it comes from.

python benchmarks/step.py --workload tiny --trl amp fp32 bf16
python benchmarks/step.py --workload smollm2 --model FOLDER --precision bf16 --memory --floor --json figures.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from command import child, common, prepare, write
from figures import Versus, memory_table, modes_table, table, versus, warmup_line

if TYPE_CHECKING:
    from workload import TrlMode

PROMPTS = {"tiny": (8, 32), "smollm2": (4,), "uneven": (4,)}
"""Prompts a step, one comparison each."""
MEMORY_STEPS = 2
"""The optimiser's state exists after the first step; the second one has the peak."""


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--workload", choices=tuple(PROMPTS), default="tiny")
    common(parser)
    modes = ("amp", "fp32", "bf16")
    add("--trl", choices=modes, nargs="+", default=["amp"], help="TRL's modes, one comparison each: amp is its default")
    add("--beta", type=float, default=0.0, help="KL coefficient of both; 0 has no reference model")
    add("--prompts", type=int, nargs="+", help="prompts a step, one comparison each")
    add("--micro-batch", type=int, help="rows that go through the model at once in training")
    add("--trl-micro-batch", type=int, help="the same for TRL; without it --micro-batch")
    add("--steps", type=int, default=5, help="timed steps of each side; 0 with --memory measures memory alone")
    add("--warmup", type=int, default=2, help="steps of each side that do not count; what compiles, compiles in them")
    add("--memory", action="store_true", help="also peak memory, each side alone in a fresh process")
    add("--floor", action="store_true", help="also the arithmetic floor of our step on this machine")
    add("--alone", choices=("ours", "trl"), help="run one side and print its megabytes and seconds as JSON")
    return parser.parse_args(argv)


def children(args: argparse.Namespace, prompts: int) -> dict[str, dict[str, float]]:
    """Megabytes of our side and of each of TRL's modes, alone in a fresh process of its own."""
    told = {**vars(args), "prompts": prompts, "warmup": 0, "steps": MEMORY_STEPS, "json": None}
    told |= {"memory": None, "floor": None}
    modes = {mode: child(__file__, {**told, "trl": mode, "alone": "trl"}) for mode in args.trl}
    return {"ours": child(__file__, {**told, "alone": "ours"}), **modes}


def compare(args: argparse.Namespace, prompts: int, mode: TrlMode) -> tuple[Versus, dict[str, Any]]:
    """Time both sides in turn, print the table, and give back all of it."""
    from turns import alternate, make_setup

    setup = make_setup(args, prompts, mode)
    ours, trl = alternate(setup)
    warm, told = setup.warmup, versus(ours[setup.warmup :], trl[setup.warmup :])
    work = setup.workload
    sides = (f"Scoreline {args.precision}, {work.micro_batch} rows at once", f"TRL {mode}, {work.trl_micro_batch}")
    how = f"{'; '.join(sides)}; beta {args.beta:g}"
    print(f"\n{table(f'{work.title}; {how}', told)}", flush=True)
    print(f"\n{warmup_line(ours[:warm], trl[:warm])}\n" if warm else "", flush=True)
    found: dict[str, Any] = {"trl": mode, "workload": {**asdict(work), "model": Path(work.model).name, "reward": None}}
    found |= {"medians": asdict(told)}
    if args.floor:
        from floor import floor, floor_line

        lowest = floor(setup, ours[warm:])
        print(f"{floor_line(lowest, told.ours.seconds, told.trl.seconds)}\n", flush=True)
        found["floor"] = lowest.record()
    both = {"ours": ours, "trl": trl}
    found["warmup"] = {side: [step.record() for step in steps[:warm]] for side, steps in both.items()}
    found["steps"] = {side: [step.record() for step in steps[warm:]] for side, steps in both.items()}
    return told, found


def compare_modes(args: argparse.Namespace, prompts: int, memory: dict[str, Any]) -> list[dict[str, Any]]:
    """Each of TRL's modes in a comparison of its own, with the memory that was measured before."""
    compared, records = [], []
    for mode in args.trl:
        record: dict[str, Any] = {"trl": mode}
        if args.steps:
            told, record = compare(args, prompts, mode)
            compared.append((mode, told))
        if memory:
            record["memory_mb"] = {"ours": memory["ours"], "trl": memory[mode]}
            print(f"{memory_table(f'{args.workload}, {prompts} prompts, {mode}', record['memory_mb'])}\n", flush=True)
        records.append({"prompts": prompts, **record})
    if len(compared) > 1:
        print(f"{modes_table(f'{args.workload}, {prompts} prompts', compared)}\n", flush=True)
    return records


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Memory first, then time."""
    shapes = args.prompts or PROMPTS[args.workload]
    memory = {prompts: children(args, prompts) if args.memory else {} for prompts in shapes}
    import machine

    where = machine.machine(machine.device(args.device))
    compared = [record for prompts in shapes for record in compare_modes(args, prompts, memory[prompts])]
    asked = {name: getattr(args, name) for name in ("workload", "precision", "beta", "steps", "warmup")}
    return {"kind": "step", "arguments": asked, "machine": where, "comparisons": compared}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    args = arguments(argv)
    prepare(args.threads)
    if args.alone:
        from turns import alone, make_setup

        print(json.dumps(alone(make_setup(args, args.prompts[0], args.trl[0]), args.alone)))
        return
    write(args.json, measure(args))


if __name__ == "__main__":
    main()
