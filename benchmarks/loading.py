"""The most memory that a learner holds until its models are made: one that reads all, and each of several.

    python benchmarks/loading.py --model FOLDER [--learners 2]

Every learner is a process of its own, on the CPU, over gloo. Linux alone says what a process held at most.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import socket
from pathlib import Path
from typing import Any

import torch

from scoreline.backends.fsdp import join
from scoreline.config.cluster import make_rank
from scoreline.config.run import Run, completed
from scoreline.models.policy import Model
from scoreline.objectives.zoo import ZOO
from scoreline.train.ranks import ALONE

MODELS = {"policy": "naive", "policy, reference": "grpo", "policy, reference, critic": "ppo"}
"""What is made, and an algorithm that needs it."""


def main() -> None:
    """A Markdown table in MiB."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--learners", type=int, default=2)
    told = parser.parse_args()
    names = ["models", "one that reads all", *(f"learner {rank}" for rank in range(told.learners))]
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for what, algorithm in MODELS.items():
        found = [*peaks(told.model, algorithm, 1), *peaks(told.model, algorithm, told.learners)]
        print(f"| {what} | {' | '.join(f'{peak:,} MiB' for peak in found)} |", flush=True)


def peaks(model: str, algorithm: str, world: int) -> list[int]:
    """MiB of each learner, in their order."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    spawned: Any = multiprocessing.get_context("spawn")
    with spawned.Pool(world) as pool:
        found: list[int] = pool.starmap(peak, [(model, algorithm, rank, world, port) for rank in range(world)], 1)
    return found


def peak(model: str, algorithm: str, rank: int, world: int, port: int) -> int:
    """What this process, a new one, held at most when it is a learner."""
    torch.set_num_threads(1)
    run = Run(objective=ZOO[algorithm], model=Model(path=model, device="cpu"))
    alone = world == 1
    ranks = ALONE if alone else join(rank, world, f"127.0.0.1:{port}", torch.device("cpu"), 120.0)
    make_rank(run, completed(run), ranks)
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
    return int(kilobytes) // 1024


if __name__ == "__main__":
    main()
