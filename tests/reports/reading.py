"""A report as a browser reads it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from scoreline.reports.page import write_report


class Page(HTMLParser):
    """The elements, their attributes and the visible text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def page(folder: Path) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))
