"""What nobody should read in a log: access tokens, and what the environment calls a key, a token or a password."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

_SECRET = re.compile(r"\b(hf_|sk-)[A-Za-z0-9_-]{8,}")
_NAMED = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD)$", re.IGNORECASE)
SHORTEST = 8
"""Characters of a secret: `1` is none, whatever it is called."""


def masked(text: str, known: Collection[str] = ()) -> str:
    """The text without access tokens: `hf_…` and `sk-…` keep their prefix only, `known` ones nothing."""
    for secret in known:
        text = text.replace(secret, "***")
    return _SECRET.sub(r"\1***", text)


def known_secrets(environment: Mapping[str, str], *files: Path) -> list[str]:
    """The values of variables such as `RAY_AUTH_TOKEN` and `OPENAI_API_KEY`, and what is in files; the longest first:
    one may begin with another.
    """
    found = {value.strip() for name, value in environment.items() if _NAMED.search(name)}
    for file in files:
        with suppress(OSError, UnicodeDecodeError):
            found.add(file.read_text(encoding="utf-8").strip())
    return sorted((secret for secret in found if len(secret) >= SHORTEST), key=len, reverse=True)
