"""Our GRPO step against TRL's: the two take turns in one process; the ratio of their medians, and where it comes from.

python benchmarks/step.py --workload tiny
python benchmarks/step.py --workload smollm2 --model FOLDER --precision bf16 --memory --json figures.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from figures import memory_table, table, versus

# Whatever weighs something is imported late: on Linux a child's peak memory starts from its parent's, so the parent
# stays small until the children have been measured.

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}
PROMPTS = {"tiny": (8, 32), "smollm2": (4,)}
"""Prompts a step, one comparison each."""
MEMORY_STEPS = 2
"""The optimiser's state exists after the first step; the second one has the peak."""


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--workload", choices=tuple(PROMPTS), default="tiny")
    add("--model", help="model folder (smollm2: or set SCORELINE_SMOLLM2; tiny: the embedded one)")
    add("--gsm8k", default=os.environ.get("SCORELINE_GSM8K"), help="folder with train.jsonl; else built-in questions")
    add("--precision", choices=("fp32", "bf16"), default="fp32", help="Scoreline's")
    add("--trl", choices=("amp", "fp32", "bf16"), default="amp", help="TRL's: amp is its default, bf16 is pure bf16")
    add("--beta", type=float, default=0.0, help="KL coefficient of both; 0 has no reference model")
    add("--prompts", type=int, nargs="+", help="prompts a step, one comparison each")
    add("--micro-batch", type=int, help="rows that go through the model at once in training")
    add("--trl-micro-batch", type=int, help="the same for TRL; without it --micro-batch")
    add("--steps", type=int, default=5, help="timed steps of each side; 0 with --memory measures memory alone")
    add("--warmup", type=int, default=2, help="steps of each side that do not count")
    add("--threads", type=int, help="torch threads; without it OMP_NUM_THREADS, or all cores")
    add("--memory", action="store_true", help="also peak memory, each side alone in a fresh process")
    add("--json", type=Path, help="write machine, versions, medians and every step to this file")
    add("--alone", choices=("ours", "trl"), help="run one side and print its megabytes as JSON")
    return parser.parse_args(argv)


def children(args: argparse.Namespace, prompts: int) -> dict[str, dict[str, float]]:
    """Megabytes of each side, alone in a fresh process of its own."""
    told = {**vars(args), "prompts": prompts, "warmup": 0, "steps": MEMORY_STEPS, "memory": None, "json": None}
    return {side: child({**told, "alone": side}) for side in ("ours", "trl")}


def child(told: dict[str, Any]) -> dict[str, float]:
    """This script with these options; what its last line says."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in told.items() if value is not None]
    done = subprocess.run([sys.executable, __file__, *options], check=True, stdout=subprocess.PIPE, text=True)
    megabytes: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return megabytes


def compare(args: argparse.Namespace, prompts: int) -> dict[str, Any]:
    """Time both sides in turn, print the table, and give back all of it."""
    from turns import alternate, make_setup

    setup = make_setup(args, prompts)
    ours, trl = alternate(setup)
    told = versus(ours, trl)
    work = setup.workload
    sides = (f"Scoreline {args.precision}, {work.micro_batch} rows at once", f"TRL {args.trl}, {work.trl_micro_batch}")
    how = f"{'; '.join(sides)}; beta {args.beta:g}"
    print(f"\n{table(f'{work.title}; {how}', told)}\n", flush=True)
    steps = {"ours": [step.record() for step in ours], "trl": [step.record() for step in trl]}
    return {"workload": asdict(work), "medians": asdict(told), "steps": steps}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Memory first, then time."""
    shapes = args.prompts or PROMPTS[args.workload]
    memory = {prompts: children(args, prompts) for prompts in shapes} if args.memory else {}
    from turns import machine

    told: dict[str, Any] = {"arguments": vars(args) | {"json": None}, "machine": machine(), "comparisons": []}
    for prompts in shapes:
        figures = compare(args, prompts) if args.steps else {}
        if prompts in memory:
            print(f"{memory_table(f'{args.workload}, {prompts} prompts', memory[prompts])}\n", flush=True)
            figures["memory_mb"] = memory[prompts]
        told["comparisons"].append({"prompts": prompts, **figures})
    return told


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    args = arguments(argv)
    threads = {"OMP_NUM_THREADS": str(args.threads)} if args.threads else {}
    os.environ.update(ENVIRONMENT | threads)
    if args.alone:
        from turns import alone, make_setup

        print(json.dumps(alone(make_setup(args, args.prompts[0]), args.alone)))
        return
    told = measure(args)
    if args.json:
        args.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
