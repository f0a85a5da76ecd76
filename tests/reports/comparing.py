"""A comparison as its file has it: arms whose accuracies rise along an S, each seed a little otherwise."""

from __future__ import annotations

import json
import math
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ARMS = {
    "naive": ("REINFORCE", "naive", "R log pi", 0.78),
    "critic": ("Actor and critic", "actor_critic", "(R − V) log pi", 0.84),
    "ppo": ("PPO", "ppo", "min(rho A, clip(rho) A) − beta KL", 0.90),
    "grpo": ("GRPO", "grpo", "min(rho A_group, clip(rho) A_group) − beta KL", 0.95),
    "grpo-far": ("GRPO, learning rate x 10", "grpo", "min(rho A_group, clip(rho) A_group) − beta KL", 0.52),
}

MORE = {
    "rloo": ("RLOO", "rloo", "(R − mean of the others) log pi", 0.93),
    "dapo": ("DAPO", "dapo", "min(rho A, clip(rho, 0.2, 0.28) A)", 0.94),
    "dr": ("Dr. GRPO", "dr_grpo", "min(rho (R − mean), ...)", 0.92),
}

T = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}


def taken(values: Sequence[float | None]) -> dict[str, Any]:
    """A mean with both its intervals."""
    known = [value for value in values if value is not None]
    mean = statistics.fmean(known) if known else None
    half = statistics.stdev(known) / math.sqrt(len(known)) if len(known) > 1 else 0.0
    t = T.get(len(known), 2.0)
    ends: dict[str, Any] = dict.fromkeys(("low", "high", "t_low", "t_high"))
    if mean is not None:
        ends = {
            "low": mean - 1.8 * half,
            "high": mean + 1.8 * half,
            "t_low": mean - t * half,
            "t_high": mean + t * half,
        }
    return {"mean": mean, **ends, "values": list(values)}


def pair(arm: str, against: str, measure: str, values: Sequence[float | None]) -> dict[str, Any]:
    return {"arm": arm, "against": against, "measure": measure, "difference": taken(values)}


def claim(
    text: str, arm: str, against: str, verdict: str, values: Sequence[float | None], **more: Any
) -> dict[str, Any]:
    about = {"text": text, "measure": "final", "arm": arm, "against": against, "expects": "more", "margin": 0.0}
    return about | {"difference": taken(values), "verdict": verdict, "why": "", **more}


def comparison(*, seeds: int = 5, arms: dict[str, Any] = ARMS, curves: bool = False) -> dict[str, Any]:
    """A comparison of these arms; drawings take the most time, so its curves come when they are asked for."""
    made = {name: _arm(name, *about, seeds) for name, about in arms.items()}
    if not curves:
        made = {name: arm | {"curves": {}} for name, arm in made.items()}
    first, *others = made
    measures = ("final", "area", "length", "kl", "seconds_per_step")
    pairs = [
        pair(name, first, measure, _differences(made[name], made[first], measure))
        for measure in measures
        for name in others
    ]
    claims = [
        claim(
            f"{name} ends above {first}",
            name,
            first,
            verdict,
            _differences(made[name], made[first], "final"),
            margin=0.02,
        )
        for name, verdict in zip(others, ("undecided", "supported", "supported", "refuted"), strict=False)
    ]
    return {
        "name": "ladder",
        "title": "The ladder on sums of three terms",
        "budget": {"kind": "tokens", "amount": 200_000},
        "seeds": list(range(seeds)),
        "measure": "avg@k",
        "environment": {"python": "3.12", "device": "cpu", "threads": 1},
        "same": {"model": "tiny", "data": "arithmetic, level 2", "evaluation": "200 held-out sums, avg@4"},
        "settings": [
            {"key": "algorithm", "values": {name: about[1] for name, about in arms.items()}},
            {"key": "objective.kl.beta", "values": dict.fromkeys(arms, 0.01) | {first: None}},
            {"key": "train.learning_rate", "values": {name: 3e-3 if "far" in name else 3e-4 for name in arms}},
        ],
        "arms": list(made.values()),
        "pairs": pairs,
        "claims": claims,
    }


def _differences(arm: dict[str, Any], other: dict[str, Any], measure: str) -> list[float]:
    values = (made["measures"][measure]["values"] for made in (arm, other))
    return [a - b for a, b in zip(*values, strict=True)]


def _arm(name: str, title: str, algorithm: str, formula: str, top: float, seeds: int) -> dict[str, Any]:
    draw = random.Random(name)
    tops = [min(0.99, top + draw.gauss(0, 0.02)) for _ in range(seeds)]
    runs = [
        {"seed": seed, "folder": f"runs/{name}-{seed}", "steps": 40, "tokens": 200_431, "seconds": 31.5}
        for seed in range(seeds)
    ]
    measures = {
        "final": tops,
        "area": [each - 0.16 + draw.gauss(0, 0.01) for each in tops],
        "greedy": [min(1.0, each + 0.03) for each in tops],
        "length": [14 + 6 * each + draw.gauss(0, 0.3) for each in tops],
        "entropy": [0.3 * (1 - each) + 0.02 for each in tops],
        "kl": [0.04 + 0.1 * draw.random() for _ in tops],
        "noise": [2e-5 * (1 + draw.random()) for _ in tops],
        "parameters": [440_000.0] * seeds,
        "memory_mb": [620 + 5 * draw.random() for _ in tops],
        "seconds_per_step": [0.7 + 0.05 * draw.random() for _ in tops],
    }
    return {
        "name": name,
        "title": title,
        "algorithm": algorithm,
        "formula": formula,
        "runs": [run | {"failed": None} for run in runs],
        "measures": {measure: taken(values) for measure, values in measures.items()},
        "curves": _curves(tops, draw),
    }


def _curves(tops: Sequence[float], draw: random.Random) -> dict[str, Any]:
    middle = draw.uniform(5, 9)

    def points(low: float, highs: Sequence[float], noise: float) -> dict[str, Any]:
        rows = []
        for place in range(21):
            share = 1 / (1 + math.exp(-(place - middle) / 2))
            spread = taken([low + (high - low) * share + draw.gauss(0, noise) for high in highs])
            rows.append([place * 10_000, spread["mean"], spread["t_low"], spread["t_high"], len(highs)])
        return {"x": "tokens", "points": rows}

    return {
        "accuracy": points(0.43, tops, 0.012),
        "reward": points(0.43, tops, 0.03),
        "kl": points(0.0, [0.1] * len(tops), 0.006),
        "length": points(8.0, [15.0 + 5 * top for top in tops], 0.4),
        "entropy": points(0.4, [0.08] * len(tops), 0.01),
    }


def write_comparison_file(folder: Path, found: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.json").write_text(json.dumps(found), encoding="utf-8")
    return folder
