"""The ladder, measured: `python benchmarks/ladder.py [EXPERIMENT...]`, then docs/ladder.md.

Each experiment is a comparison in recipes/ladder/ with claims that it could refute; what is finished is not made again.
Results go to docs/results/ladder/, one file an experiment. `--smoke` makes every one of them with two seeds and three
steps in a folder of its own, and leaves docs/ alone: it shows that they run, not what comes out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ladder_page import EXPERIMENTS, RESULTS, ROOT, write_page

RECIPES = ROOT / "recipes/ladder"
RUNS = "runs"

NEEDS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "process": ((f"{RUNS}/sloppy", ("sft", "recipes/study/sloppy.toml")),),
    "iterative": (
        (f"{RUNS}/pairs", ("label", "recipes/laptop/pairs.toml")),
        (f"{RUNS}/reward_model", ("reward-model", "recipes/laptop/reward_model.toml")),
    ),
}
"""What an experiment starts from: the run's folder, and the command that makes it."""

MADE = "made-by-ladder.txt"
"""Stands in such a folder once its command has ended, and says whether it was made whole or small."""

SMALL = ("seeds=[0,1]", "budget.steps=3", "budget.tokens=none", "eval.prompts=8", "eval.every=0")
FEW = ("train.prompts_per_step=4", "train.num_generations=4", "train.minibatches=1")
"""What makes a comparison small enough to be made in seconds."""
SMALLER: dict[str, tuple[str, ...]] = {
    "absolute": (*FEW, "probe.batches=4"),
    "critic": (*FEW, "probe.batches=4"),
    "clip": FEW,
    "reference": FEW,
    "process": FEW,
    "iterative": (*FEW, "judge.prompts=8", "judge.fit.steps=5"),
    "sft": ("sft.steps=5", "data.habits.rows=400"),
    "label": ("prompts=40",),
    "reward-model": ("fit.steps=5",),
}


def scoreline(*arguments: str) -> None:
    """Run one command, with its progress on this terminal."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "scoreline", *arguments], env=env, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"scoreline {' '.join(arguments)} failed with exit code {done.returncode}")


def prepare(experiment: str, *, smoke: bool) -> None:
    """Make what the experiment starts from, where it is not there. What was made small is no start for a real one."""
    for place, (verb, recipe) in NEEDS.get(experiment, ()):
        made = ROOT / place / MADE
        if not made.is_file() or (made.read_text(encoding="utf-8") != "whole" and not smoke):
            scoreline(verb, recipe, *(SMALLER.get(verb, ()) if smoke else ()), "--overwrite")
            made.write_text("small" if smoke else "whole", encoding="utf-8")


def measure(experiment: str, folder: Path, *, smoke: bool, jobs: int | None) -> dict[str, Any]:
    """One experiment; its comparison."""
    prepare(experiment, smoke=smoke)
    small = (*SMALL, *SMALLER.get(experiment, ())) if smoke else ()
    more = ("--jobs", str(jobs)) if jobs else ()
    scoreline("compare", str(RECIPES / f"{experiment}.toml"), f"folder={folder}", *small, *more)
    found: dict[str, Any] = json.loads((folder / experiment / "comparison.json").read_text(encoding="utf-8"))
    return named_system(found)


def named_system(found: dict[str, Any]) -> dict[str, Any]:
    """The same result with its system named, not the kernel's build: that says nothing about the numbers."""
    return found | {"environment": found["environment"] | {"system": found["environment"]["system"].split()[0]}}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what was asked for, one experiment after the other, and write the page after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", nargs="*", help=f"{', '.join(EXPERIMENTS)}; left out, all of them")
    parser.add_argument("--smoke", action="store_true", help="two seeds and three steps of each; docs/ stays as it is")
    parser.add_argument("--jobs", type=int, help="runs at a time; left out, one a core")
    told = parser.parse_args(argv)
    unknown = [name for name in told.experiment if name not in EXPERIMENTS]
    if unknown:
        parser.error(f"unknown experiment {unknown[0]!r}; there are {', '.join(EXPERIMENTS)}")
    folder = Path("comparisons/ladder-smoke" if told.smoke else "comparisons/ladder")
    for name in told.experiment or EXPERIMENTS:
        found = measure(name, ROOT / folder, smoke=told.smoke, jobs=told.jobs)
        if not told.smoke:
            RESULTS.mkdir(parents=True, exist_ok=True)
            (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            write_page()
        print(f"{name}: {', '.join(claim['verdict'] for claim in found['claims'])}", flush=True)


if __name__ == "__main__":
    main()
