"""Outcome against process supervision where right answers are rare: `python benchmarks/process_supervision.py`.

One starting model, which works sums of four terms step by step and mostly wrongly; the same questions, plan and number
of answers; five seeds. The arms differ in what is rewarded: the final answer; each step, by the rule that its equation
holds; both; each step, by a process reward model trained on steps of the starting model that the rule labelled.
Curves are compared at equal sampled tokens. Writes docs/results/process_supervision.{json,md,svg}.
"""

from __future__ import annotations

import json
from pathlib import Path

import study

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "recipes/study"
BOTH = 'reward=[{function="arithmetic_answer"}]'


def arms(folder: Path) -> list[study.Arm]:
    """What is compared."""
    base = (str(RECIPES / "process.toml"), f"model.path={folder}/sloppy/hf")
    learned = f'step_reward=[{{function="{folder}/prm/hf"}}]'
    return [
        study.Arm("outcome", (base[0], str(RECIPES / "outcome.toml"), base[1])),
        study.Arm("process-rule", base),
        study.Arm("process-and-outcome", (*base, BOTH)),
        study.Arm("process-learned", (*base, learned)),
    ]


def prepare(folder: Path) -> None:
    """The starting model, and the process reward model of its steps."""
    logs, here = folder / "logs", f"folder={folder}"
    if not (folder / "sloppy/hf/config.json").is_file():
        study.scoreline("sft", str(RECIPES / "sloppy.toml"), here, "--overwrite", log=logs / "sloppy.txt")
    if not (folder / "prm/hf/config.json").is_file():
        told = (str(RECIPES / "steps.toml"), f"model.path={folder}/sloppy/hf", here)
        study.scoreline("label", *told, "--overwrite", log=logs / "steps.txt")
        told = (str(RECIPES / "prm.toml"), f"model.path={folder}/sloppy/hf", f"data.source={folder}/steps/steps.jsonl")
        study.scoreline("reward-model", *told, here, "--overwrite", log=logs / "prm.txt")


def summarise(folder: Path, compared: list[study.Arm], seeds: list[int]) -> str:
    """The files under docs/results, and the table that they hold."""
    runs = {arm.name: [folder / f"{arm.name}-{seed}" for seed in seeds] for arm in compared}
    curves = {name: [study.curve(run) for run in each] for name, each in runs.items()}
    end = min(curve[-1][0] for each in curves.values() for curve in each)
    bands = {name: study.band(each, end=end) for name, each in curves.items()}
    lines = [
        [name, study.shown([each[0][1] for each in curves[name]]), f"{study.area(band):.3f}", *last(band)]
        for name, band in bands.items()
    ]
    head = ["arm", "avg@4 before", "area", f"avg@4 at {end:,.0f} tokens", "95 % interval"]
    out = ROOT / "docs/results"
    study.draw(bands, out / "process_supervision.svg", ylabel="held-out accuracy, sampled (avg@4)")
    facts = {"seeds": seeds, "tokens": end, "curves": curves}
    (out / "process_supervision.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (out / "process_supervision.md").write_text(study.table(head, lines) + "\n", encoding="utf-8")
    return study.table(head, lines)


def last(band: study.Band) -> list[str]:
    """The end of a band."""
    return [f"{band.mean[-1]:.3f}", f"[{band.low[-1]:.3f}, {band.high[-1]:.3f}]"]


if __name__ == "__main__":
    study.main(__doc__, arms, prepare, summarise, folder="runs/process_supervision", seeds=[0, 1, 2, 3, 4])
