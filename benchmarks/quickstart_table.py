"""The quickstart recipe with several seeds, as a Markdown table: what it learned, how long it took.

python benchmarks/quickstart_table.py
python benchmarks/quickstart_table.py train.micro_batch_size=64 --seeds 0 1 --json figures.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from command import write

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "quickstart.toml"
HEADINGS = (
    "seed",
    "sampled before (avg@{k})",
    "sampled after",
    "greedy before",
    "after",
    "tokens before",
    "after",
    "seconds",
    "from evaluation to evaluation",
    "peak MB",
)


@dataclass(frozen=True)
class Outcome:
    """A finished run: the seconds of its whole process, those of its evaluations and steps, and its `summary.json`."""

    seed: int
    seconds: float
    between: float
    summary: dict[str, Any]

    @property
    def k(self) -> int:
        """Sampled answers to each held-out question."""
        return int(self.summary["eval"]["before"]["k"])

    def row(self) -> list[str]:
        """The cells of its line."""
        before, after = self.summary["eval"]["before"], self.summary["eval"]["after"]
        return [
            str(self.seed),
            interval(before["avg@k"]),
            interval(after["avg@k"]),
            f"{before['greedy']['mean']:.3f}",
            f"{after['greedy']['mean']:.3f}",
            f"{before['mean_length']:.1f}",
            f"{after['mean_length']:.1f}",
            f"{self.seconds:.0f}",
            f"{self.between:.0f}",
            f"{self.summary['peak_rss_mb']:.0f}",
        ]


def interval(share: dict[str, float]) -> str:
    """A share with its 95 % interval."""
    return f"{share['mean']:.3f} [{share['low']:.3f}, {share['high']:.3f}]"


def markdown(outcomes: Sequence[Outcome]) -> str:
    """One line a seed."""
    headings = [heading.format(k=outcomes[0].k) for heading in HEADINGS]
    rows = [headings, ["--:"] * len(headings), *(outcome.row() for outcome in outcomes)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def run(recipe: Path, seed: int, overrides: Sequence[str], folder: Path) -> Outcome:
    """One seed in a process of its own, so that its peak memory is its own."""
    given = [*overrides, f"seed={seed}", f"name=seed-{seed}", f"folder={json.dumps(str(folder))}"]
    command = [sys.executable, __file__, "--recipe", str(recipe), "--run-once", *given]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=sys.stderr)
    seconds = time.perf_counter() - started
    made = folder / f"seed-{seed}"
    return Outcome(seed, seconds, between(made), json.loads((made / "summary.json").read_text(encoding="utf-8")))


def between(made: Path) -> float:
    """Seconds from the first evaluation to the last one, both included: no imports, no files, no report."""
    evaluations, steps = (
        [json.loads(line) for line in (made / name).read_text(encoding="utf-8").splitlines()]
        for name in ("evaluation.jsonl", "metrics.jsonl")
    )
    return float(sum(row["seconds"] for row in evaluations) + sum(row["time/step"] for row in steps))


def run_here(recipe: Path, overrides: Sequence[str]) -> None:
    """The run itself, through the Python interface."""
    from scoreline.config.launch import train
    from scoreline.config.load import load
    from scoreline.config.run import Run

    train(load(Run, [recipe], overrides))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the seeds one after another and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="key=value, as for `scoreline train`")
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path, help="write machine, versions and seconds to this file")
    parser.add_argument("--run-once", action="store_true", help="train once in this process and print no table")
    args = parser.parse_args(argv)
    if args.run_once:
        run_here(args.recipe, args.overrides)
        return
    with tempfile.TemporaryDirectory() as folder:
        outcomes = [run(args.recipe, seed, args.overrides, Path(folder)) for seed in args.seeds]
    print(markdown(outcomes))
    if args.json:
        import machine  # late: a child's peak memory starts from its parent's

        seconds = [{"seed": o.seed, "seconds": o.seconds, "between": o.between} for o in outcomes]
        write(args.json, {"kind": "quickstart", "machine": machine.machine("cpu"), "outcomes": seconds})


if __name__ == "__main__":
    main()
