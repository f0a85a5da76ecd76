"""What stands around every page: head, policy, style, headline, footer. One environment for all templates.

A page is a template that extends `base.html.j2`, which says how. What is not markup of our own is escaped; a variable
that is missing is an error, not an empty place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from scoreline.reports.answers import shown
from scoreline.reports.numerals import brief, figure, interval, number, signed_figure
from scoreline.reports.plaintext import spoken, visible

Pieces = Sequence[tuple[str, str]]
"""A sentence in pieces of (kind, text); kind is the class that tints it: "words", "before", "after", "range"."""


@dataclass(frozen=True)
class Frame:
    """The head of a page: what the window is called, the small line above, the sentence, the facts below.

    `refresh` are the seconds after which a browser reads the page again, None for a page that is finished; `status` is
    a line for what is still going on.
    """

    title: str
    eyebrow: str
    headline: Pieces
    facts: Sequence[tuple[str, str]] = ()
    status: str = ""
    refresh: int | None = None


def framed(template: str, frame: Frame, **values: Any) -> str:
    """The page as text. The same values give the same page."""
    return _pages().get_template(template).render(frame=frame, **values)


@cache
def _pages() -> Environment:
    pages = Environment(
        loader=PackageLoader("scoreline.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    numbers = {
        "brief": _brief,
        "number": number,
        "interval": interval,
        "figure": figure,
        "signed_figure": signed_figure,
    }
    pages.filters |= numbers | {"shown": _shown, "visible": _visible, "lines": _lines}
    return pages


def _brief(value: float | None) -> str:
    return "–" if value is None else brief(value)


def _shown(content: Any) -> str:
    return shown(spoken(content))


def _visible(text: Any) -> str:
    return visible(str(text))


def _lines(text: Any) -> str:
    """Visible, with its line breaks."""
    return visible(str(text), keep="\n\t")
