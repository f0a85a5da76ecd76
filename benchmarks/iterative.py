"""Iterative RL against one long round with a fixed judge: `python benchmarks/iterative.py`.

The same starting policy and judge, the same plan, three seeds. `iterative` has three rounds, in which the reference is
refreshed and the judge goes on learning from fresh samples, with 10 % replay; `fixed` has one round as long. The
tokens that were sampled for the judge count. Curves are compared at equal sampled tokens. Writes
docs/results/iterative.{json,md,svg}.
"""

from __future__ import annotations

import json
from pathlib import Path

import study

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "recipes/laptop"
MEASURES = {"true accuracy": "avg@k", "judged reward": "judged", "judge accuracy": "judge_accuracy"}


def arms(folder: Path) -> list[study.Arm]:
    """What is compared."""
    base = (
        str(RECIPES / "iterative.toml"),
        f"judge.path={folder}/reward_model/hf",
        f"judge.history.source={folder}/pairs/pairs.jsonl",
    )
    return [
        study.Arm("iterative", base),
        study.Arm("fixed", (*base, "rounds.count=1", "train.steps=66")),
    ]


def prepare(folder: Path) -> None:
    """The judge that both arms start with."""
    logs, here = folder / "logs", f"folder={folder}"
    if not (folder / "reward_model/hf/config.json").is_file():
        study.scoreline("label", str(RECIPES / "pairs.toml"), here, "--overwrite", log=logs / "pairs.txt")
        told = (str(RECIPES / "reward_model.toml"), f"data.source={folder}/pairs/pairs.jsonl", here)
        study.scoreline("reward-model", *told, "--overwrite", log=logs / "reward_model.txt")


def summarise(folder: Path, compared: list[study.Arm], seeds: list[int]) -> str:
    """The files under docs/results, and their tables."""
    out, texts = ROOT / "docs/results", []
    runs = {arm.name: [folder / f"{arm.name}-{seed}" for seed in seeds] for arm in compared}
    end = min(study.curve(run)[-1][0] for each in runs.values() for run in each)
    facts: dict[str, object] = {"seeds": seeds, "tokens": end}
    for title, measure in MEASURES.items():
        curves = {name: [study.curve(run, measure) for run in each] for name, each in runs.items()}
        bands = {name: study.band(each, end=end) for name, each in curves.items()}
        facts[title] = curves
        if measure == "avg@k":
            study.draw(bands, out / "iterative.svg", ylabel=title)
        texts += [f"{title}, by sampled tokens", "", quarters(bands), ""]
    texts += ["the judge, round by round (mean over seeds)", "", by_round(runs["iterative"])]
    facts["rounds"] = {run.name: study.rows(run, "rounds.jsonl") for run in runs["iterative"]}
    (out / "iterative.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (out / "iterative.md").write_text("\n".join(texts) + "\n", encoding="utf-8")
    return "\n".join(texts)


def quarters(bands: dict[str, study.Band]) -> str:
    """Mean and interval at the start, at each quarter of the tokens, and at the end."""
    places = [0, 10, 20, 30, 40]
    grid = next(iter(bands.values())).grid
    head = ["arm", *(f"{grid[i]:,.0f}" for i in places)]
    lines = [
        [name, *(f"{b.mean[i]:.3f} [{b.low[i]:.3f}, {b.high[i]:.3f}]" for i in places)] for name, b in bands.items()
    ]
    return study.table(head, lines)


def by_round(runs: list[Path]) -> str:
    """What the judge knew of each round's fresh samples before and after it learned from others of them."""
    names = ["judge/accuracy_before", "judge/accuracy", "judge/examples", "judge/replayed"]
    each = [study.rows(run, "rounds.jsonl") for run in runs]
    lines = [
        [str(at[0]["round"]), *(f"{sum(row['metrics'].get(name, 0.0) for row in at) / len(at):.3f}" for name in names)]
        for at in zip(*each, strict=True)
    ]
    return study.table(["round", *names], lines)


if __name__ == "__main__":
    study.main(__doc__, arms, prepare, summarise, folder="runs/iterative_study", seeds=[0, 1, 2])
