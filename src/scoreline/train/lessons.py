"""What a round teaches a judge: rows made of the policy's fresh answers, or rows that were supplied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scoreline.rollout.collect import JUDGE, Encoded
from scoreline.rollout.sampling import uniforms
from scoreline.rollout.teaching import Teacher
from scoreline.train.replay import Row


@dataclass(frozen=True)
class Fresh:
    """`count` questions of each round, drawn without repetition, for a teacher to make rows of.

    What is sampled draws from streams (seed, JUDGE, round, question, ...): training never draws the same numbers.
    """

    teacher: Teacher
    prompts: Sequence[Encoded]
    count: int
    seed: int

    def __call__(self, number: int) -> tuple[list[Row], int]:
        """The rows of round `number`, and the tokens sampled for them."""
        order = np.argsort(uniforms((self.seed, JUDGE, 0, number), len(self.prompts)), kind="stable")
        places = [int(place) for place in order[: self.count]]
        streams = [(self.seed, JUDGE, number, place) for place in places]
        taught = self.teacher([self.prompts[place] for place in places], streams)
        return list(taught.rows), taught.sampled_tokens


@dataclass(frozen=True)
class Supplied:
    """Rows that are there already: round r of I takes every I-th one, from the r-th on."""

    rows: Sequence[Row]
    rounds: int

    def __call__(self, number: int) -> tuple[list[Row], int]:
        """The rows of round `number`; nothing is sampled."""
        return list(self.rows[number - 1 :: self.rounds]), 0
