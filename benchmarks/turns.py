"""The measurement: both sides take turns, each in a process of its own, or one side runs alone."""

from __future__ import annotations

import gc
import sys
import tempfile
import warnings
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import torch
from figures import Step
from machine import device
from transformers.utils.logging import disable_progress_bar
from workload import WORKLOADS, Setup, TrlMode, questions

from scoreline.reports.memory import peak_rss_mb

warnings.simplefilter("ignore", FutureWarning)
disable_progress_bar()


def make_setup(args: Namespace, prompts: int, trl: TrlMode = "amp") -> Setup:
    """What the command line asks for, with this many prompts a step, against this mode of TRL's."""
    work = WORKLOADS[args.workload](args.model, prompts)
    work = replace(
        work,
        micro_batch=args.micro_batch or work.micro_batch,
        trl_micro_batch=args.trl_micro_batch or args.micro_batch or work.trl_micro_batch,
    )
    if work.rows % work.trl_micro_batch:
        raise SystemExit(f"TRL's micro-batch of {work.trl_micro_batch} must divide the {work.rows} answers of a step.")
    rows = questions(work, prompts * (args.warmup + args.steps), args.gsm8k)
    return Setup(work, rows, args.steps, args.warmup, args.beta, args.precision, trl, device(args.device), args.compile)


def alternate(setup: Setup) -> tuple[list[Step], list[Step]]:
    """Ours and TRL's steps, ours after each of TRL's, those of the warm-up included.

    TRL's trainer waits in its own process while our loop takes a step, and the other way round: nothing of the one side
    runs while the other is timed, and neither computes with the other's settings of allocator and library. Garbage is
    collected outside of both.
    """
    import ours

    steps: list[Step] = []
    here, there = get_context("spawn").Pipe()
    child = get_context("spawn").Process(target=trl_side, args=(setup, there), daemon=True)
    with tempfile.TemporaryDirectory() as name:
        mine = ours.Ours(setup, Path(name))
        child.start()
        there.close()  # so that a child that dies is an error here, and no wait without end
        try:
            while (said := here.recv()) is None:
                steps.append(mine.step())
                gc.collect()
                print(f"  step {len(steps)} of {setup.rounds}: Scoreline {steps[-1].seconds:.2f} s", file=sys.stderr)
                here.send(None)
        finally:
            mine.close()
    child.join()
    return steps, said


def trl_side(setup: Setup, parent: Connection) -> None:
    """TRL's steps: after each one None, then a wait until the parent has taken its own; in the end all of them."""
    import theirs

    def turn() -> None:
        gc.collect()
        parent.send(None)
        parent.recv()

    with tempfile.TemporaryDirectory() as name:
        parent.send(theirs.run(setup, Path(name), turn))


def alone(setup: Setup, side: str) -> dict[str, float]:
    """One side by itself: megabytes resident after its imports, the peak over its steps, seconds of the median step."""
    with tempfile.TemporaryDirectory() as name:
        if side == "trl":
            import theirs

            start = peak_rss_mb()
            steps = theirs.run(setup, Path(name), lambda: None)
        else:
            import ours

            start = peak_rss_mb()
            steps = ours.run(setup, Path(name))
    return {"start": start, "peak": peak_rss_mb(), **device_peak(setup.device), **timing(steps[setup.warmup :])}


def timing(steps: Sequence[Step]) -> dict[str, float]:
    """Medians of seconds and tokens."""
    return {"seconds": median(s.seconds for s in steps), "tokens": median(s.tokens for s in steps)}


def device_peak(name: str) -> dict[str, float]:
    """The most that was ever allocated on a device with memory of its own, in megabytes of 2^20 bytes."""
    return {"device_peak": torch.cuda.max_memory_allocated() / 2**20} if name.startswith("cuda") else {}
