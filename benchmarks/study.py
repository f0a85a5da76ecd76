"""Several recipes x several seeds, compared at equal sampled tokens: what the studies in this folder share.

Every run is a process of its own on one thread, `--jobs` of them at a time. A finished run is not made again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

COLOURS = ("#1f6f9f", "#b5492f", "#4d7c3a", "#7a5195", "#9aa0ac")
T975 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Student's t at 0.975 for n - 1 degrees of freedom, by n."""

Curve = list[tuple[float, float]]
"""(sampled tokens, value), from the first evaluation on."""


@dataclass(frozen=True)
class Arm:
    """One thing to compare: recipe files and `key=value` changes."""

    name: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Band:
    """Mean and 95 % t-interval over the seeds, on a grid of sampled tokens."""

    grid: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


def scoreline(*arguments: str, log: Path) -> None:
    """Run one command on one thread; its output goes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as out:
        told = [sys.executable, "-m", "scoreline", *arguments]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
        done = subprocess.run(told, stdout=out, stderr=subprocess.STDOUT, env=env, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed: see {log}")


def train_all(arms: Sequence[Arm], seeds: Sequence[int], folder: Path, jobs: int) -> None:
    """Train every arm with every seed, as far as that is not done."""
    wanted = [(arm, seed) for seed in seeds for arm in arms if not finished(folder / f"{arm.name}-{seed}")]

    def one(pair: tuple[Arm, int]) -> None:
        arm, seed = pair
        name = f"{arm.name}-{seed}"
        told = ("train", *arm.arguments, f"seed={seed}", f"name={name}", f"folder={folder}", "--overwrite")
        scoreline(*told, log=folder / "logs" / f"{name}.txt")
        print(f"{name} done", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, wanted))


def finished(run: Path) -> bool:
    """Whether the run was evaluated after training."""
    summary = run / "summary.json"
    return summary.is_file() and json.loads(summary.read_text(encoding="utf-8"))["eval"]["after"] is not None


def rows(run: Path, name: str) -> list[dict[str, Any]]:
    """The lines of one of the run's files."""
    return [json.loads(line) for line in (run / name).read_text(encoding="utf-8").splitlines()]


def curve(run: Path, measure: str = "avg@k") -> Curve:
    """A measure of the evaluations against the tokens sampled until then."""
    tokens = {0: 0.0} | {row["step"]: row["num_tokens"] for row in rows(run, "metrics.jsonl")}
    values = [(row["step"], row.get(measure)) for row in rows(run, "evaluation.jsonl")]
    plain = [(step, value["mean"] if isinstance(value, Mapping) else value) for step, value in values]
    return [(tokens[step], float(value)) for step, value in plain if value is not None]


def band(curves: Sequence[Curve], points: int = 41, end: float | None = None) -> Band:
    """The curves on a common grid, which ends where the shortest of them does."""
    end = min(one[-1][0] for one in curves) if end is None else end
    grid = np.linspace(max(one[0][0] for one in curves), end, points)
    each = np.array([np.interp(grid, *zip(*one, strict=True)) for one in curves])
    spans = [interval(list(column)) for column in each.T]
    mean, low, high = ([span[i] for span in spans] for i in range(3))
    return Band(list(grid), mean, low, high)


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95 % t-interval."""
    mean = fmean(values)
    half = T975[len(values)] * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return mean, mean - half, mean + half


def area(band_of: Band) -> float:
    """The mean height of a curve: area under it by the tokens."""
    return float(np.trapezoid(band_of.mean, band_of.grid) / (band_of.grid[-1] - band_of.grid[0]))


def draw(bands: Mapping[str, Band], out: Path, *, ylabel: str) -> None:
    """All bands in one picture."""
    mpl.rcParams["svg.hashsalt"] = "scoreline"
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for (name, one), colour in zip(bands.items(), COLOURS, strict=False):
        axes.fill_between(one.grid, one.low, one.high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(one.grid, one.mean, color=colour, label=name)
    axes.set(xlabel="sampled tokens", ylabel=ylabel, ylim=(0, 1.02))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(out, format="svg", metadata={"Date": None})


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))


def shown(values: Sequence[float]) -> str:
    """`0.512 [0.480, 0.544]`."""
    return "{:.3f} [{:.3f}, {:.3f}]".format(*interval(values))


def main(
    doc: str,
    arms: Callable[[Path], list[Arm]],
    prepare: Callable[[Path], None],
    summarise: Callable[[Path, list[Arm], list[int]], str],
    *,
    folder: str,
    seeds: Sequence[int],
) -> None:
    """Prepare, train, compare, as the command line says."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(folder))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    parser.add_argument("--jobs", type=int, default=2)
    told = parser.parse_args()
    place = told.folder.resolve()
    prepare(place)
    compared = arms(place)
    train_all(compared, told.seeds, place, told.jobs)
    print(summarise(place, compared, told.seeds))
