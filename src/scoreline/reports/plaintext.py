"""Text from a model or a data set, made safe to show: every character visible."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from scoreline.types import Message

# Cc: control, Cf: invisible formatting such as right-to-left overrides, Cs: lone surrogates.
_HIDDEN = ("Cc", "Cf", "Cs")


def visible(text: str, *, keep: str = "") -> str:
    """The text with a symbol for each control character: a line feed is shown as ␊, escape as ␛, a bidi override
    as �.

    Characters of `keep` stay as they are. A zero-width joiner stays too: it belongs to many scripts and emoji.
    """
    return "".join(character if character in keep else _shown(character) for character in text)


def _shown(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    return "�" if unicodedata.category(character) in _HIDDEN and code != 0x200D else character


def clipped(text: str, limit: int) -> str:
    """At most `limit` characters, and how many more there are."""
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text) - limit:,} more characters)"


def spoken(content: str | Sequence[Message]) -> str:
    """A prompt as one text: a string as it is, a conversation as `role: content` lines."""
    if isinstance(content, str):
        return content
    return "\n".join(f"{turn.get('role', '')}: {turn.get('content', '')}" for turn in content)
