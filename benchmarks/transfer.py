"""Seconds until two vLLM workers have new weights, by Ray's object store and by a stream, in the environment of
`make test-vllm`:

    .vllm/bin/python benchmarks/transfer.py --model SMOLLM2_FOLDER [--learners 1] [--dtype bf16]

One cluster of this machine, with idle workers; the two ways take turns. The learner never learns: the same weights go
there again and again. `held` is what the loop waits for (`time/sync`), `there` ends when all workers have them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

from scoreline.backends.cluster.budget import Budget
from scoreline.backends.cluster.pool import RolloutPool
from scoreline.backends.runtime import Ray
from scoreline.backends.vllm import Vllm
from scoreline.config.cluster import hosting
from scoreline.config.run import Run
from scoreline.environments.rewards import RewardSpec
from scoreline.models.policy import Model
from scoreline.types import Prompt

WAYS = ("store", "stream")


def main() -> None:
    """Warm up, then measure both ways in turns; print medians."""
    told = arguments()
    runtime = Ray(learners=told.learners, rollouts=2, threads=1, transfer="stream")
    engine = Vllm(dtype=told.dtype, context=64, memory=0.005, rows=8, eager=True)
    run = Run(model=Model(path=told.model, device="cpu"), engine=engine, runtime=runtime, reward=(RewardSpec("boxed"),))
    run = replace(run, sampling=replace(run.sampling, max_completion_length=16))
    with tempfile.TemporaryDirectory() as folder, hosting(run, Path(folder), Budget(0), print) as host:
        here = host()
        try:
            question = here.policy.text.encode(Prompt("bench", ({"role": "user", "content": "What is 2 + 3?"},)))
            pool = here.join([question])[1]
            assert isinstance(pool, RolloutPool)
            measure(pool, told.repetitions)
        finally:
            here.close()


def measure(pool: RolloutPool, repetitions: int) -> None:
    """Both ways in turns, the first turn not counted."""
    channel, took = pool.channel, {way: ([], []) for way in WAYS}
    for version in range(1, repetitions + 2):
        for turn, way in enumerate(WAYS):
            pool.channel = channel if way == "stream" else None
            started = time.perf_counter()
            pool.load(2 * version + turn)
            held = time.perf_counter()
            pool._until(lambda: not pool.jobs)
            assert (pool.weights.sent is None) == (way == "stream")
            for seconds, end in zip(took[way], (held, time.perf_counter()), strict=True):
                seconds += [end - started] if version > 1 else []
    for way, measured in took.items():
        for name, seconds in zip(("held", "there"), measured, strict=True):
            print(f"{way:6} {name:5} {median(seconds):.2f} s, {min(seconds):.2f} to {max(seconds):.2f}")


def arguments() -> argparse.Namespace:
    """What is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="the folder of SmolLM2-135M-Instruct")
    parser.add_argument("--learners", type=int, default=1)
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--repetitions", type=int, default=7)
    return parser.parse_args()


if __name__ == "__main__":
    main()
