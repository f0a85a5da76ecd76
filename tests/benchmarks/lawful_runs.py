"""Folders of runs whose seconds follow a known law."""

from __future__ import annotations

from pathlib import Path

from scoreline.reports.jsonl import append

LAW = {"decode_step": 0.01, "decode_row": 2e-4, "update": 0.05, "learn": 3e-4, "annotate": 1e-4, "score": 1e-5}
TABLE = '[runtime]\ntype = "ray"\nlearners = {}\nrollouts = {}\nunit = {}\nmax_staleness = {}\nthreads = 1\n'


def lawful(
    folder: Path, questions: int, *, learners: int = 0, rollouts: int = 1, unit: int = 0, stale: int = 0
) -> Path:
    """A run of 20 steps whose answers are all of one length, which grows; a step takes what `LAW` says."""
    folder.mkdir()
    table = TABLE.format(learners, rollouts, unit, stale) if learners else ""
    train = f"[train]\nprompts_per_step = {questions}\nnum_generations = 4\nminibatches = 2\nnum_iterations = 1\n"
    (folder / "config.resolved.toml").write_text(f'engine = "local"\n{train}{table}', encoding="utf-8")
    waves = -(-questions // (unit * rollouts)) if unit else 1
    for step in range(20):
        length, rows = 5.0 + step, 4 * questions
        tokens, each = rows * length, 4 * (unit or questions)
        seconds = {
            "rollout": waves
            * length
            * (LAW["decode_step"] + LAW["decode_row"] * each + (0.02 / length if unit else 0)),
            "score": rows * LAW["score"],
            "update": 2 * LAW["update"] + LAW["learn"] * tokens / max(learners, 1) + 0.06 * (learners > 1),
            "sync": 0.2 if learners else 0.0,
        }
        rest = LAW["annotate"] * tokens / max(learners, 1)
        lengths = {f"completions/{name}_length": length for name in ("mean", "min", "max")}
        times = {f"time/{name}": value for name, value in seconds.items()}
        append(
            folder / "metrics.jsonl", {"step": step + 1, **lengths, **times, "time/step": sum(seconds.values()) + rest}
        )
    return folder
