"""Preference pairs from answers that were checked: a right one is chosen over a wrong one to the same question."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence

from scoreline.environments.preferences import Pair
from scoreline.types import Prompt, Rollout


def pairs(rollouts: Iterable[Rollout], *, right_at: float = 1.0, most: int = 4, seed: int = 0) -> list[Pair]:
    """At most `most` pairs a question, in the order of the questions. Answers are right from a total of `right_at` on.

    A blank answer, or one without a total, is in no pair, and answers with the same text count once. The pairs are
    spread over the answers: none is in a second pair while another of its side is in none. Which ones meet depends on
    the seed, the question and its answers, not on the other questions.
    """
    asked: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        asked.setdefault(rollout.prompt.id, []).append(rollout)
    return [pair for answers in asked.values() for pair in _paired(answers, right_at, most, seed)]


def _paired(answers: Sequence[Rollout], right_at: float, most: int, seed: int) -> list[Pair]:
    prompt = answers[0].prompt
    totals = {r.text: r.reward.total for r in answers if r.reward.total is not None and r.text.strip()}
    right = _shuffled([text for text, total in totals.items() if total >= right_at], prompt, seed, "right")
    wrong = _shuffled([text for text, total in totals.items() if total < right_at], prompt, seed, "wrong")
    return [Pair(prompt, right[i], wrong[j]) for i, j in diagonal(len(right), len(wrong), most)]


def _shuffled(texts: Sequence[str], prompt: Prompt, seed: int, side: str) -> list[str]:
    return random.Random(f"pairs/{seed}/{side}/{prompt.id}").sample(texts, len(texts))


def diagonal(rows: int, columns: int, most: int) -> list[tuple[int, int]]:
    """The first `most` cells of a table, each once, that use its rows and its columns as evenly as can be.

    Cell k is (k mod rows, k mod columns), one further to the right each time the diagonal has come back to where it
    began, after the least common multiple of both.
    """
    round_trip = math.lcm(rows, columns)
    return [(k % rows, (k + k // round_trip) % columns) for k in range(min(most, rows * columns))]
