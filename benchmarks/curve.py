"""Draw a run's learning curve as an SVG file: `python benchmarks/curve.py RUN OUT.svg`.

Training reward of every step, and held-out sampled accuracy (avg@k) with its 95 % interval.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from scoreline.reports.history import read_history


def draw(run: Path, out: Path) -> None:
    """One picture with both curves."""
    history = read_history(run)
    mpl.rcParams["svg.hashsalt"] = "scoreline"
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.add_subplot()
    steps = [row["step"] for row in history.metrics]
    axes.plot(steps, [row["reward"] for row in history.metrics], color="#9aa0ac", label="training reward")
    shown = [(row["step"], row["avg@k"]) for row in history.evaluations]
    at, means = [step for step, _ in shown], [score["mean"] for _, score in shown]
    axes.fill_between(at, [s["low"] for _, s in shown], [s["high"] for _, s in shown], color="#1f6f9f", alpha=0.2)
    axes.plot(at, means, "o-", color="#1f6f9f", label="held-out accuracy, sampled")
    axes.set(xlabel="step", ylim=(0, 1.02))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(out, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
