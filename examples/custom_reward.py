"""A reward of your own: right answers earn 1, and short ones among them up to a fifth more.

    scoreline train recipes/quickstart.toml name=short 'reward=[{function="examples/custom_reward.py:short_and_right"}]'

    python examples/custom_reward.py            the same from Python

A reward function takes by name what it needs: `prompts`, `completions`, `completion_ids`, and any column of the data,
each a list with one item for each answer. It returns one number for each answer, or None for an answer that it cannot
judge. This is TRL's signature, so a function written for TRL works here.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import scoreline as sl

BUDGET = 32


def short_and_right(
    completions: Sequence[str],
    completion_ids: Sequence[Sequence[int]],
    answer: Sequence[str],
    free: int = 4,
    **columns: Any,
) -> list[float]:
    """1 + 1/5 (1 - tokens / budget) for a right answer, where the first `free` tokens cost nothing; 0 for a wrong one.

    A right answer earns at least 1, however long: evaluation counts an answer as right from 1 on (`eval.right_at`).
    `free` is an option: `options = {free = 8}` beside the function's name.
    """

    def one(text: str, tokens: int, wanted: str) -> float:
        _, marked, written = text.rpartition("#")
        if not marked or written != wanted:
            return 0.0
        return 1.0 + 0.2 * max(0.0, 1.0 - max(0, tokens - free) / BUDGET)

    return [one(text, len(ids), wanted) for text, ids, wanted in zip(completions, completion_ids, answer, strict=True)]


def configured(steps: int = 40) -> sl.Run:
    """GRPO on sums under this reward."""
    return sl.Run(
        name="short",
        algorithm="grpo",
        objective=sl.grpo,
        data=sl.Data(source="arithmetic", held_out=200),
        reward=(sl.RewardSpec(short_and_right, options={"free": 8}),),
        sampling=sl.Sampling(max_completion_length=BUDGET),
        train=sl.Plan(
            steps=steps,
            prompts_per_step=32,
            minibatches=4,
            micro_batch_size=256,
            learning_rate=3e-4,
            schedule="linear",
        ),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="GRPO under a reward of your own.")
    parser.add_argument("--steps", type=int, default=40)
    sl.launch(configured(parser.parse_args().steps), overwrite=True)
