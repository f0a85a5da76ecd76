"""An advantage estimator of your own: MaxRL (arXiv 2602.02710), the gain relative to what was expected.

    python examples/custom_objective.py

A part is a frozen dataclass whose `__call__` is its formula: a `Credit` turns one `Signal` into the next. GRPO divides
by the group's std, MaxRL by its mean: a right answer to a hard question (few are right) counts for more.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import ClassVar

import scoreline as sl
from scoreline.objectives.groups import group_mean
from scoreline.objectives.returns import ToGo
from scoreline.objectives.signal import Signal


@dataclass(frozen=True)
class MaxRL:
    """A_i = (r_i - mean(r)) / mean(r), for rewards that are 0 or more (2602.02710).

    Rewards [1, 0, 0, 0] give 3, -1, -1, -1; [1, 1, 1, 0] give 1/3, 1/3, 1/3, -1. A group that earned nothing has the
    mean 0 and the advantage 0.
    """

    formula: ClassVar[str] = "A_i = (r_i - mean(r)) / mean(r)"
    source: ClassVar[str] = "MaxRL, arXiv 2602.02710"
    grouped: ClassVar[bool] = True  # the score line is other answers, so one answer a question is not enough

    def __call__(self, signal: Signal) -> Signal:
        mean = group_mean(signal.rewards, signal.rewarded, signal.group)
        relative = ((signal.rewards - mean) / mean).where(mean > 0, 0.0)
        return replace(signal, rewards=relative * signal.rewarded)


maxrl = replace(sl.grpo, credit=(MaxRL(), ToGo()), kl=None)


def configured(steps: int = 40) -> sl.Run:
    """MaxRL on sums. The report shows its formula and source beside those of the built-in parts."""
    return sl.Run(
        name="maxrl",
        algorithm="maxrl",
        objective=maxrl,
        data=sl.Data(source="arithmetic", held_out=200),
        reward=(sl.RewardSpec("arithmetic_answer"),),
        sampling=sl.Sampling(max_completion_length=32),
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
    parser = argparse.ArgumentParser(description="GRPO with an advantage of your own.")
    parser.add_argument("--steps", type=int, default=40)
    sl.launch(configured(parser.parse_args().steps), overwrite=True)
