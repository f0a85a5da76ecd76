"""A reward for the speed benchmark. Plain Python: the process that scores answers loads nothing else."""

from __future__ import annotations

from typing import Any


def share_of_vowels(completions: list[Any], **columns: Any) -> list[float]:
    """The share of vowels among an answer's characters: cheap, and different for almost all answers.

    A checker of mathematics would give a small model's unfinished answers zero, and a group of equal rewards has no
    gradient that is worth timing.
    """
    texts = [answer if isinstance(answer, str) else answer[-1]["content"] for answer in completions]
    return [sum(character in "aeiou" for character in text) / max(len(text), 1) for text in texts]
