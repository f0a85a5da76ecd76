"""The measurement: both sides take turns in one process, or one side runs alone."""

from __future__ import annotations

import gc
import importlib.metadata
import os
import platform
import sys
import tempfile
import warnings
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from figures import Step
from transformers.utils.logging import disable_progress_bar
from workload import WORKLOADS, Setup, questions

from scoreline.reports.memory import peak_rss_mb

PACKAGES = ("scoreline", "torch", "transformers", "trl", "accelerate", "datasets")

warnings.simplefilter("ignore", FutureWarning)
disable_progress_bar()


def make_setup(args: Namespace, prompts: int) -> Setup:
    """What the command line asks for, with this many prompts a step."""
    work = WORKLOADS[args.workload](args.model, prompts)
    work = replace(
        work,
        micro_batch=args.micro_batch or work.micro_batch,
        trl_micro_batch=args.trl_micro_batch or args.micro_batch or work.trl_micro_batch,
    )
    if work.rows % work.trl_micro_batch:
        raise SystemExit(f"TRL's micro-batch of {work.trl_micro_batch} must divide the {work.rows} answers of a step.")
    rows = questions(work, prompts * (args.warmup + args.steps), args.gsm8k)
    return Setup(work, rows, args.steps, args.warmup, args.beta, args.precision, args.trl)


def alternate(setup: Setup) -> tuple[list[Step], list[Step]]:
    """Ours and TRL's steps, ours after each of TRL's, without those of the warm-up.

    TRL's trainer drives: where it would go on to its next step, our loop takes one. So there is one thread, and
    nothing of the one side runs while the other is timed. Garbage is collected outside of both.
    """
    import ours
    import theirs

    steps: list[Step] = []
    with tempfile.TemporaryDirectory() as name:
        mine = ours.Ours(setup, Path(name))

        def turn() -> None:
            gc.collect()
            steps.append(mine.step())
            gc.collect()
            print(f"  step {len(steps)} of {setup.rounds}: Scoreline {steps[-1].seconds:.2f} s", file=sys.stderr)

        try:
            other = theirs.run(setup, Path(name), turn)
        finally:
            mine.close()
    return steps[setup.warmup :], other[setup.warmup :]


def alone(setup: Setup, side: str) -> dict[str, float]:
    """One side by itself: megabytes resident after its imports, and the peak over its steps."""
    with tempfile.TemporaryDirectory() as name:
        if side == "trl":
            import theirs

            start = peak_rss_mb()
            theirs.run(setup, Path(name), lambda: None)
        else:
            import ours

            start = peak_rss_mb()
            mine = ours.Ours(setup, Path(name))
            for _ in range(setup.rounds):
                mine.step()
            mine.close()
    return {"start": start, "peak": peak_rss_mb()}


def machine() -> dict[str, Any]:
    """Where this is measured, and how busy it is."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def processor() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    named = [text.partition(":")[2].strip() for text in lines if text.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
