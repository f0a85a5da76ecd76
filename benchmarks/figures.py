"""What is made of the seconds: medians, ratios, tables. Plain arithmetic, without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, median
from typing import Any

PARTS = ("generation", "reward", "update", "rest")
"""The parts of a step that both sides report; they add up to it. Any other name is one side's own detail."""


@dataclass(frozen=True)
class Step:
    """One GRPO step: its seconds, the completion tokens that it sampled, and the seconds of its parts.

    `prompts` are the token ids of its questions, sorted: the evidence that both sides answered the same ones.
    `lengths` are the tokens of each answer.
    """

    seconds: float
    tokens: int
    parts: dict[str, float]
    prompts: tuple[tuple[int, ...], ...] = field(default=(), repr=False)
    lengths: tuple[int, ...] = ()

    @property
    def seconds_per_token(self) -> float:
        """The seconds of the whole step by the tokens that it sampled."""
        return self.seconds / self.tokens

    def record(self) -> dict[str, Any]:
        """For a file: everything but the questions."""
        told = {"seconds": self.seconds, "tokens": self.tokens, "parts": self.parts}
        return told | {"lengths": asdict(spread(self.lengths))} if self.lengths else told


@dataclass(frozen=True)
class Spread:
    """The tokens of some answers: mean, shortest, longest."""

    mean: float
    least: int
    most: int

    def __str__(self) -> str:
        return f"{self.mean:.0f} ({self.least} to {self.most})"


def spread(lengths: Sequence[int]) -> Spread:
    """Of at least one answer."""
    return Spread(fmean(lengths), min(lengths), max(lengths))


@dataclass(frozen=True)
class Middle:
    """The medians of one side's steps."""

    seconds: float
    tokens: float
    seconds_per_token: float
    parts: dict[str, float]
    lengths: Spread | None = None

    @property
    def tokens_per_second(self) -> float:
        """Sampled tokens in a second of whole steps."""
        return 1 / self.seconds_per_token


@dataclass(frozen=True)
class Versus:
    """TRL's steps by ours. Above 1: ours is faster.

    `ratio` is that of the medians, `lowest` and `highest` are those of two steps that stood next to one another, and
    `per_token` is the ratio of median seconds per token: where answers end by themselves, one side may sample more.
    """

    ours: Middle
    trl: Middle
    ratio: float
    lowest: float
    highest: float
    per_token: float


def middle(steps: Sequence[Step]) -> Middle:
    """Medians, each taken by itself: the medians of the parts need not add up to that of the step.

    The lengths are those of all answers together.
    """
    lengths = [length for step in steps for length in step.lengths]
    names = list(dict.fromkeys(name for step in steps for name in step.parts))
    return Middle(
        seconds=median(step.seconds for step in steps),
        tokens=median(step.tokens for step in steps),
        seconds_per_token=median(step.seconds_per_token for step in steps),
        parts={name: median(step.parts.get(name, 0.0) for step in steps) for name in names},
        lengths=spread(lengths) if lengths else None,
    )


def versus(ours: Sequence[Step], trl: Sequence[Step]) -> Versus:
    """Compare steps that alternated. Raises `ValueError` where a pair did not answer the same questions."""
    for number, (mine, other) in enumerate(zip(ours, trl, strict=True), start=1):
        if mine.prompts != other.prompts:
            raise ValueError(f"step {number}: the two sides answered different questions")
    pairs = [other.seconds / mine.seconds for mine, other in zip(ours, trl, strict=True)]
    a, b = middle(ours), middle(trl)
    return Versus(
        ours=a,
        trl=b,
        ratio=b.seconds / a.seconds,
        lowest=min(pairs),
        highest=max(pairs),
        per_token=b.seconds_per_token / a.seconds_per_token,
    )


def table(title: str, figures: Versus) -> str:
    """The comparison for a person, as a Markdown table with a line of TRL's details below."""
    a, b = figures.ours, figures.trl
    lines = [
        f"### {title}",
        "",
        "| median of a step | Scoreline | TRL | TRL / Scoreline |",
        "|---|--:|--:|--:|",
        line("seconds", a.seconds, b.seconds, b.seconds / a.seconds),
        *(line(f"- {name}", a.parts[name], b.parts[name], ratio(b.parts[name], a.parts[name])) for name in PARTS),
        f"| sampled tokens | {a.tokens:.0f} | {b.tokens:.0f} | |",
        *([f"| of an answer: mean (shortest to longest) | {a.lengths} | {b.lengths} | |"] if a.lengths else []),
        f"| tokens per second | {a.tokens_per_second:.0f} | {b.tokens_per_second:.0f} | {figures.per_token:.2f} |",
        "",
        f"Ratio of medians {figures.ratio:.2f} (single pairs {figures.lowest:.2f} to {figures.highest:.2f}), "
        f"per token {figures.per_token:.2f}.",
    ]
    details = [f"{name} {seconds:.3f}" for name, seconds in b.parts.items() if name not in PARTS]
    return "\n".join([*lines, *([f"Of TRL's seconds: {', '.join(details)}."] if details else [])])


def line(name: str, ours: float, trl: float, by: float) -> str:
    """One row of seconds."""
    return f"| {name} | {ours:.3f} | {trl:.3f} | {by:.2f} |"


def ratio(above: float, below: float) -> float:
    """A quotient that is nan by nothing."""
    return above / below if below else float("nan")


def warmup_line(ours: Sequence[Step], trl: Sequence[Step]) -> str:
    """The steps that do not count: what is compiled is compiled in them."""
    told = (f"{name} {', '.join(f'{step.seconds:.2f}' for step in steps)} s" for name, steps in sides(ours, trl))
    return f"Warm-up, compiling included, not counted: {'; '.join(told)}."


def sides(ours: Sequence[Step], trl: Sequence[Step]) -> list[tuple[str, Sequence[Step]]]:
    """Both with their names."""
    return [("Scoreline", ours), ("TRL", trl)]


def fastest(compared: Sequence[tuple[str, Versus]]) -> str:
    """TRL's mode against which our lead is smallest: seconds of different runs drift, ratios do not."""
    return min(compared, key=lambda one: one[1].per_token)[0]


def modes_table(title: str, compared: Sequence[tuple[str, Versus]]) -> str:
    """TRL's modes side by side, each against our steps that it took turns with."""
    best = fastest(compared)
    rows = [
        f"| {mode}{' (its fastest)' if mode == best else ''} | {told.ours.seconds:.3f} | {told.trl.seconds:.3f} "
        f"| {told.ratio:.2f} | {told.per_token:.2f} |"
        for mode, told in compared
    ]
    head = ["| TRL | Scoreline, s | TRL, s | ratio of steps | per token |", "|---|--:|--:|--:|--:|"]
    return "\n".join([f"### {title}: TRL's modes", "", *head, *rows])


MEMORY = {"peak": "peak", "start": "after imports", "device_peak": "peak of the device"}


def memory_table(title: str, megabytes: Mapping[str, Mapping[str, float]]) -> str:
    """Peak memory of each side in a process of its own, and what its imports alone had taken."""
    ours, trl = megabytes["ours"], megabytes["trl"]
    return "\n".join(
        [
            f"### {title}: memory of each side alone",
            "",
            "| MB resident | Scoreline | TRL | Scoreline / TRL |",
            "|---|--:|--:|--:|",
            *(
                f"| {label} | {ours[name]:.0f} | {trl[name]:.0f} | {ours[name] / trl[name]:.2f} |"
                for name, label in MEMORY.items()
                if name in ours
            ),
        ]
    )
