"""History that a judge is reminded of, so that what it learns of today's answers does not undo yesterday's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from scoreline.environments.preferences import Labelled, Pair
from scoreline.rollout.collect import JUDGE
from scoreline.rollout.sampling import uniforms
from scoreline.types import Prompt

Row = Pair | Labelled


class Replay:
    """Rows of earlier rounds, the newest `capacity` of them, and a share of them for each training set.

    DeepSeekMath (2402.03300), Algorithm 1 and section 4.1.4: a replay mechanism with 10 % historical data.
    """

    def __init__(self, rows: Sequence[Row] = (), *, share: float = 0.1, capacity: int = 20_000, seed: int = 0) -> None:
        self.rows, self.share, self.capacity, self.seed = list(rows)[-capacity:], share, capacity, seed

    def draw(self, fresh: int, number: int) -> list[Row]:
        """For `fresh` new rows as many old ones as make up `share` of both together, or all that there are.

        m = fresh share / (1 - share), rounded; drawn without repetition, as a function of seed and round alone.
        """
        wanted = min(len(self.rows), round(fresh * self.share / (1 - self.share)))
        order = np.argsort(uniforms((self.seed, JUDGE, -number), len(self.rows)), kind="stable")
        return [self.rows[i] for i in order[:wanted]]

    def add(self, rows: Sequence[Row]) -> None:
        """Remember these too, and forget the oldest beyond the capacity."""
        self.rows = [*self.rows, *rows][-self.capacity :]

    def save(self, file: Path) -> None:
        """One row a line, as JSON."""
        file.write_text("".join(json.dumps(asdict(row)) + "\n" for row in self.rows), encoding="utf-8")

    def restore(self, file: Path) -> None:
        """Exactly the rows that `save` wrote."""
        lines = file.read_text(encoding="utf-8").splitlines()
        self.rows = [row_of(json.loads(line)) for line in lines]


def row_of(saved: Mapping[str, Any]) -> Row:
    """The row that a line of the file holds."""
    content = saved["prompt"]["content"]
    prompt = Prompt(**{**saved["prompt"], "content": content if isinstance(content, str) else tuple(content)})
    if "chosen" in saved:
        return Pair(prompt, saved["chosen"], saved["rejected"])
    return Labelled(prompt, tuple(saved["steps"]), tuple(saved["labels"]))
