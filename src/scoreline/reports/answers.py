"""The answers that a page shows: right or wrong, each step tinted by its reward, each token by its advantage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from scoreline.reports import jsonl
from scoreline.reports.history import History
from scoreline.reports.jsonl import Row
from scoreline.reports.numerals import brief, signed
from scoreline.reports.plaintext import clipped, visible
from scoreline.reports.tints import Scale, advantages_scale, rewards_scale

LONGEST = 1600
"""Characters of one answer on the page; the files in completions/ have all of them."""


@dataclass(frozen=True)
class Span:
    """A piece of an answer: its text, the class of its tint ("" for none), what a pointer reads, and a small number."""

    text: str
    tint: str = ""
    title: str = ""
    note: str = ""


@dataclass(frozen=True)
class Answers:
    """What the page shows of a run's answers, and the scales of their tints (None where nothing is tinted).

    `pairs` are answers to the same held-out questions before and after, `stages` those of an early, a middle and a
    late step of training. Each answer is its row with `mark`, `steps_view` and `tokens_view`: spans, or empty.
    """

    pairs: list[dict[str, Any]]
    stages: list[dict[str, Any]]
    rewards: Scale | None
    advantages: Scale | None
    pairs_rewards: Scale | None

    @property
    def two_views(self) -> bool:
        """Whether some answer of the stages can be seen both ways."""
        rows = (row for stage in self.stages for question in stage["questions"] for row in question["answers"])
        return any(row["steps_view"] and row["tokens_view"] for row in rows)


def answers(history: History, before: Row | None, after: Row | None) -> Answers:
    """The answers of a run, dressed for its page."""
    right_at = history.config.get("eval", {}).get("right_at", 1.0)
    stages, pairs = _staged(history), _paired(before, after)
    trained = [row for rows in stages.values() for row in rows]
    held_out = [row for pair in pairs for row in pair]
    rewards, advantages = rewards_scale(trained), advantages_scale(trained)
    held_out_rewards = rewards_scale(held_out)
    alike = not history.config.get("eval", {}).get("reward")
    bound = right_at if alike else None
    return Answers(
        pairs=[_pair(*pair, Dresser(right_at, held_out_rewards)) for pair in pairs],
        stages=[_stage(step, rows, Dresser(bound, rewards, advantages)) for step, rows in stages.items()],
        rewards=rewards,
        advantages=advantages,
        pairs_rewards=held_out_rewards,
    )


@dataclass(frozen=True)
class Dresser:
    """Adds to a row what is seen of it. An answer is right from `right_at` on; None where rewards do not say that."""

    right_at: float | None
    rewards: Scale | None = None
    advantages: Scale | None = None

    def __call__(self, row: Row) -> Row:
        steps = _step_spans(row, self.rewards) if self.rewards and row.get("steps") else []
        tokens = _token_spans(row["tokens"], self.advantages) if self.advantages and row.get("tokens") else []
        views = {"steps_view": _clipped(steps), "tokens_view": _clipped(tokens)}
        return row | views | {"mark": self._mark(row), "sums": _sums(row)}

    def _mark(self, row: Row) -> str:
        """What the reward of the whole answer says: right, wrong, or nothing."""
        reward = row.get("total", row["reward"])
        if reward is None or self.right_at is None:
            return ""
        return "right" if reward >= self.right_at else "wrong"


def _paired(before: Row | None, after: Row | None) -> list[tuple[Row, Row]]:
    """The greedy answers to the same held-out question, before and after."""
    if before is None or after is None:
        return []
    old = {jsonl.encode(sample["prompt"]): sample for sample in before.get("samples", ())}
    both = [(old.get(jsonl.encode(sample["prompt"])), sample) for sample in after.get("samples", ())]
    return [(first, new) for first, new in both if first is not None]


def _pair(before: Row, after: Row, dress: Dresser) -> dict[str, Any]:
    return {"prompt": after["prompt"], "before": dress(before), "after": dress(after)}


def _staged(history: History, tries: int = 4) -> dict[int, list[Row]]:
    """The first answers of an early, a middle and a late step."""
    steps = sorted(history.completions)
    chosen = sorted({steps[0], steps[len(steps) // 2], steps[-1]}) if steps else []
    return {step: history.answers(step)[:tries] for step in chosen}


def _stage(step: int, rows: Sequence[Row], dress: Dresser) -> dict[str, Any]:
    groups = [list(group) for _, group in groupby(rows, key=lambda row: row["group"])]
    questions = [{"prompt": group[0]["prompt"], "answers": [dress(row) for row in group]} for group in groups]
    return {"step": step, "questions": questions}


def _sums(row: Row) -> list[str]:
    """What the reward of an answer with rewarded steps is made of."""
    if not row.get("steps"):
        return []
    total, rewards = row.get("total"), [step["reward"] for step in row["steps"]]
    known = [reward for reward in rewards if reward is not None]
    mean = f", mean {brief(sum(known) / len(known))}" if known else ", none scored"
    outcome = [] if total is None else [f"outcome {brief(total)}"]
    return [*outcome, f"{len(rewards)} step{'s' if len(rewards) > 1 else ''}{mean}"]


def _step_spans(row: Row, scale: Scale) -> list[Span]:
    """The answer with its steps marked where they stand in it; what belongs to no step stays plain."""
    text, at, spans = row["completion"], 0, []
    for step in row["steps"]:
        core = step["text"].strip()
        start = max(text.find(core, at), at)
        spans += [Span(text[at:start]), _step_span(core, step, scale)]
        at = start + (len(core) if text.startswith(core, start) else 0)
    return [*spans, Span(text[at:])]


def _step_span(text: str, step: Mapping[str, Any], scale: Scale) -> Span:
    reward, parts = step["reward"], step.get("parts") or {}
    each = ", ".join(f"{name} {'–' if part is None else brief(part)}" for name, part in parts.items())
    if reward is None:
        return Span(text, "t0 plain", "step not scored", "–")
    words = f"step reward {brief(reward)}" + (f" ({each})" if len(parts) > 1 else "")
    return Span(text, scale.tint(reward), words, brief(reward))


def _token_spans(tokens: Sequence[Sequence[Any]], scale: Scale) -> list[Span]:
    """Neighbours of one advantage are one span."""
    spans = []
    for advantage, run in groupby(tokens, key=lambda token: token[1]):
        pieces = [piece for piece, _ in run]
        count = f", {len(pieces)} tokens" if len(pieces) > 1 else ""
        tint, value = ("", "not known") if advantage is None else (scale.tint(advantage), signed(advantage))
        spans.append(Span("".join(pieces), tint, f"advantage {value}{count}"))
    return spans


def _clipped(spans: Sequence[Span]) -> list[Span]:
    """The spans up to `LONGEST` characters, every character visible, without those that show nothing."""
    return [span for span in _up_to(spans, LONGEST) if span.text or span.note]


def _up_to(spans: Sequence[Span], room: int) -> Iterator[Span]:
    left = sum(len(span.text) for span in spans)
    for span in spans:
        if len(span.text) > room:
            yield Span(visible(span.text[:room], keep="\n\t"), span.tint, visible(span.title))
            yield Span(f" … ({left - room:,} more characters)")
            return
        yield Span(visible(span.text, keep="\n\t"), span.tint, visible(span.title), span.note)
        room, left = room - len(span.text), left - len(span.text)


def shown(text: str) -> str:
    """A text as the page shows it: cut at `LONGEST` characters, every character visible."""
    return visible(clipped(text, LONGEST), keep="\n\t")
