"""What a labelling run has done so far, and the summary of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scoreline.environments.preferences import Labelled
from scoreline.rollout.teaching import Taught


@dataclass(frozen=True)
class Tally:
    """What was done so far: `prompts` finished, `used` of them with a row. It is saved after each batch of prompts."""

    prompts: int = 0
    used: int = 0
    rows: int = 0
    answers: int = 0
    scored: int = 0
    right: int = 0
    without_steps: int = 0
    unlabelled: int = 0
    labels: int = 0
    label_sum: float = 0.0
    tokens: int = 0
    wall_s: float = 0.0

    def plus(self, done: Taught, prompts: int, wall_s: float) -> Tally:
        """With one batch of prompts more."""
        labels = [label for row in done.rows if isinstance(row, Labelled) for label in row.labels]
        return Tally(
            self.prompts + prompts,
            self.used + len({row.prompt.id for row in done.rows}),
            self.rows + len(done.rows),
            self.answers + done.answers,
            self.scored + done.scored,
            self.right + done.right,
            self.without_steps + done.without_steps,
            self.unlabelled + done.unlabelled,
            self.labels + len(labels),
            self.label_sum + sum(labels),
            self.tokens + done.sampled_tokens,
            self.wall_s + wall_s,
        )

    @property
    def share_right(self) -> float | None:
        """The share of right answers among those that were scored."""
        return self.right / self.scored if self.scored else None

    @property
    def label_mean(self) -> float | None:
        """The mean label of a step."""
        return self.label_sum / self.labels if self.labels else None

    def summary(self, kind: str) -> dict[str, Any]:
        """What summary.json holds of a run of this kind; what it says of labels is about steps alone."""
        unused = 1 - self.used / self.prompts if self.prompts else None
        counts = {"rows": self.rows, "prompts": self.prompts, "prompts_without_rows": unused, "answers": self.answers}
        labels = {"label_mean": self.label_mean, "labels": self.labels}
        lacking = {"answers_without_steps": self.without_steps, "answers_without_labels": self.unlabelled}
        cost = {"tokens": self.tokens, "wall_s": round(self.wall_s, 3)}
        return {
            "kind": kind,
            **counts,
            "right": self.share_right,
            **(labels | lacking if kind == "steps" else {}),
            **cost,
        }

    @property
    def note(self) -> str:
        """The few numbers beside the progress bar."""
        right = [] if self.share_right is None else [f"right {self.share_right:.3f}"]
        mean = [] if self.label_mean is None else [f"label {self.label_mean:.3f}"]
        return "  ".join([f"{self.rows} rows", *right, *mean])
