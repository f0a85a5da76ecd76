"""`comparison.html`: a comparison for a browser. No scripts, nothing loaded."""

from __future__ import annotations

from html import escape
from pathlib import Path

from scoreline.reports import jsonl
from scoreline.reports.compare.comparison import read
from scoreline.reports.compare.table import table
from scoreline.reports.plaintext import visible

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · Scoreline</title>
</head>
<body>
<h1>{title}</h1>
<pre>{text}</pre>
</body>
</html>
"""


def write_comparison(folder: Path) -> Path:
    """Writes `comparison.html` from the folder's comparison.json, and returns its path."""
    comparison = read(folder)
    title, text = (escape(visible(part, keep="\n")) for part in (str(comparison["title"]), table(comparison)))
    page = folder / "comparison.html"
    jsonl.replace(page, _PAGE.format(title=title, text=text))
    return page
