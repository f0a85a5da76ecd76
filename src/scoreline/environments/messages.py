"""What a prompt may be: a text, or a list of messages. Each check names the row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from scoreline.errors import DataError
from scoreline.types import Message, Prompt

ROLES = ("system", "developer", "user", "assistant", "tool")

ACCEPTED = 'a text, or a list such as [{"role": "user", "content": "What is 3 + 8?"}]'


def text_of(prompt: Prompt) -> str:
    """The text that makes two prompts the same question."""
    return prompt.content if isinstance(prompt.content, str) else json.dumps(prompt.content, sort_keys=True)


def content(value: object, place: str, *, chat: bool = False, system: str | None = None) -> str | tuple[Message, ...]:
    """A checked prompt. `chat` makes a text one user message; `system` goes before messages that have none."""
    if isinstance(value, str):
        if not value.strip():
            raise DataError(f"{place}: the prompt is empty.", todo="remove the row, or fill its prompt column")
        if not chat:
            return value
        return (*_system(system), {"role": "user", "content": value})
    turns = conversation(value, place)
    if turns[-1]["role"] == "assistant":
        raise DataError(
            f"{place}: the prompt ends in the assistant's turn, so there is nothing left to answer.",
            got=repr(turns[-1]["content"][:60]),
            todo="end the prompt before the answer; for supervised fine-tuning name the column `messages`",
        )
    return turns if turns[0]["role"] == "system" else (*_system(system), *turns)


def _system(system: str | None) -> tuple[Message, ...]:
    return ({"role": "system", "content": system},) if system is not None else ()


def conversation(value: object, place: str) -> tuple[Message, ...]:
    """A checked, non-empty list of messages."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise DataError(f"{place}: the prompt has the wrong type.", got=_show(value), accepted=ACCEPTED)
    if not value:
        raise DataError(f"{place}: the prompt is an empty list of messages.", accepted=ACCEPTED)
    return tuple(_message(turn, f"{place}, message {number}") for number, turn in enumerate(value, start=1))


def _message(turn: object, place: str) -> Message:
    if not isinstance(turn, dict):
        raise DataError(f"{place}: a message must be an object.", got=_show(turn), accepted=ACCEPTED)
    role, text = turn.get("role"), turn.get("content")
    if role not in ROLES:
        raise DataError(f"{place}: unknown role.", got=_show(role), accepted=", ".join(ROLES))
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{place}: the content must be a text that is not empty.", got=_show(text))
    unused = [key for key, extra in turn.items() if key not in ("role", "content") and extra is not None]
    if unused:
        raise DataError(f"{place}: unknown keys.", got=", ".join(map(str, unused)), accepted="role, content")
    return {"role": role, "content": text}


def _show(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"[:80]
