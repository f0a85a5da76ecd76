"""Examples for supervised fine-tuning: a prompt and the answer to imitate.

A row is `{"prompt": ..., "completion": ...}`, or `{"messages": [...]}` whose last turn is the assistant's answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from scoreline.environments import arithmetic
from scoreline.environments.messages import conversation
from scoreline.environments.prompts import Data, load, prompt_of, rows_of
from scoreline.environments.readers import Row
from scoreline.errors import DataError
from scoreline.types import Prompt

DEMONSTRATIONS = "arithmetic-demonstrations"


@dataclass(frozen=True)
class Example:
    """`Example(Prompt("train:0", "3+8="), "#11")`."""

    prompt: Prompt
    completion: str


def load_examples(data: Data) -> tuple[Example, ...]:
    """All examples of `data.source`.

    "arithmetic-demonstrations" never shows a question that `load` holds out when its source is "arithmetic" and level,
    size, seed, held_out and the prompt's form are the same.
    """
    rows = _demonstrations(data) if data.source == DEMONSTRATIONS else rows_of(data, data.source, data.split)
    return tuple(_example(row, data, f"{data.split}:{index}") for index, row in enumerate(rows))


def _demonstrations(data: Data) -> Iterator[Row]:
    questions = replace(data, source="arithmetic", columns={}, limit=None, held_out_source=None, held_out_split=None)
    held = load(questions).held_out
    avoid = {prompt.columns["expression"] for prompt in held}
    made = arithmetic.demonstrations(data.level, data.seed, data.habits, avoid)
    return (Row(f"{DEMONSTRATIONS}, row {number}", columns) for number, columns in enumerate(made, start=1))


def _example(row: Row, data: Data, id: str) -> Example:
    if "messages" in row.columns:
        row = _split(row)
    completion = _completion(row)
    prompt = prompt_of(row, data, id)
    columns = {name: value for name, value in prompt.columns.items() if name != "completion"}
    return Example(replace(prompt, columns=columns), completion)


def _split(row: Row) -> Row:
    """Messages to prompt and completion: everything before the assistant's last turn is the prompt."""
    *before, last = conversation(row.columns["messages"], row.place)
    if last["role"] != "assistant" or not before:
        raise DataError(
            f"{row.place}: `messages` must end in the assistant's answer to something.",
            got=" ".join(turn["role"] for turn in (*before, last)),
            accepted="such as: system user assistant",
        )
    rest = {name: value for name, value in row.columns.items() if name != "messages"}
    return Row(row.place, {**rest, "prompt": before, "completion": last["content"]})


def _completion(row: Row) -> str:
    value = row.columns.get("completion")
    if isinstance(value, list) and len(value) == 1 and conversation(value, row.place)[0]["role"] == "assistant":
        value = value[0]["content"]
    if "completion" not in row.columns:
        raise DataError(
            f"{row.place}: no `completion` and no `messages` column.",
            got=f"columns {', '.join(row.columns)}",
            accepted="`prompt` and `completion`, or `messages`",
            todo='rename one with data.columns, such as {answer = "completion"}',
        )
    if not isinstance(value, str) or not value:
        got = f"{type(value).__name__} {value!r}"[:80]
        raise DataError(f"{row.place}: the completion must be a text that is not empty.", got=got)
    return value
