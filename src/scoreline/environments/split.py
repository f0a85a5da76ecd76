"""The held-out split: deterministic, and blind to everything but the prompt's text.

Two rows with the same text always land on the same side, so a held-out question is never trained on.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from scoreline.environments.messages import text_of
from scoreline.errors import DataError
from scoreline.types import Prompt


@dataclass(frozen=True)
class PromptSet:
    """Questions to learn from and questions to be measured on. They share no text.

    `left_out` are the ids of training rows that were dropped, since they stand in the held-out source too.
    """

    train: tuple[Prompt, ...]
    held_out: tuple[Prompt, ...]
    left_out: tuple[str, ...] = ()


def hold_out(prompts: Sequence[Prompt], amount: int | float, seed: int) -> PromptSet:
    """Hold out `amount` rows (a count, or a share below 1): the texts whose seeded hashes are lowest."""
    wanted = round(amount * len(prompts)) if isinstance(amount, float) else amount
    if wanted >= len(prompts):
        raise DataError(
            "Nothing would be left to train on.",
            got=f"data.held_out = {amount} of {len(prompts)} rows",
            todo="lower data.held_out, or name a file of its own in data.held_out_source",
        )
    held = _lowest(Counter(map(text_of, prompts)), wanted, seed)
    if amount and not held:
        raise DataError(
            "No row would be held out.",
            got=f"data.held_out = {amount} of {len(prompts)} rows",
            todo="raise data.held_out, or set it to 0 to measure nothing",
        )
    return PromptSet(
        train=tuple(prompt for prompt in prompts if text_of(prompt) not in held),
        held_out=tuple(prompt for prompt in prompts if text_of(prompt) in held),
    )


def _lowest(rows: Counter[str], wanted: int, seed: int) -> set[str]:
    """Texts in the order of their hashes, as long as all rows of a text still fit into `wanted` rows."""
    held: set[str] = set()
    for text in sorted(
        rows, key=lambda text: hashlib.sha256(f"{seed}\n{text}".encode(errors="surrogatepass")).digest()
    ):
        if rows[text] <= wanted:
            held.add(text)
            wanted -= rows[text]
    return held
