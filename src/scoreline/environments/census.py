"""The questions of a run, counted before its first step: repeated ones, and those on both sides of the split."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from scoreline.environments.split import PromptSet
from scoreline.types import Prompt

NAMED = 20
"""Rows that are named of each kind; all are counted."""


def census(data: PromptSet) -> dict[str, Any]:
    """Numbers of questions, and how many say the same as another one: {"count": 3, "ids": [[row, the other], ...]}.

    `duplicates` are training rows that repeat an earlier one, `leaked` held-out rows that are trained on, `left_out`
    training rows that stand in the held-out source word for word and were dropped.
    """
    known: dict[str, str] = {}
    repeated = [[p.id, first] for p in data.train if (first := known.setdefault(essence(p), p.id)) != p.id]
    leaked = [[p.id, known[said]] for p in data.held_out if (said := essence(p)) in known]
    return {
        "train": len(data.train),
        "held_out": len(data.held_out),
        "duplicates": _counted(repeated),
        "leaked": _counted(leaked),
        "left_out": _counted(data.left_out),
    }


def essence(prompt: Prompt) -> str:
    """What a prompt asks, without case, spaces, forms of Unicode, and system messages."""
    turns = [] if isinstance(prompt.content, str) else prompt.content
    asked = [turn["content"] for turn in turns if turn["role"] != "system"]
    said = prompt.content if isinstance(prompt.content, str) else "\0".join(asked)
    return "".join(unicodedata.normalize("NFKC", said).casefold().split())


def _counted(found: Sequence[Any]) -> dict[str, Any]:
    return {"count": len(found), "ids": list(found[:NAMED])}
