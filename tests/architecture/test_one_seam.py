"""Models without numbers are one seam: a context around those who make models, and nobody is passed a flag."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import scoreline

ROOT = Path(scoreline.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


def uses(word: str) -> set[str]:
    """The files in which a name, an attribute or a text is this word."""
    return {str(file.relative_to(ROOT)) for file in FILES if word in words(file)}


def words(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        found = getattr(node, "id", getattr(node, "attr", getattr(node, "value", None)))
        if isinstance(found, str):
            yield found


@pytest.mark.parametrize(
    ("word", "files"),
    [
        ("meta", {"models/making.py", "models/shapes.py", "models/footprint.py"}),
        ("is_meta", set()),
        ("Making", {"models/making.py", "backends/dealing.py"}),
        ("making", {"backends/dealing.py", "config/hosts.py", "train/keeping.py"}),
        ("made_by", {"config/hosts.py", "config/cluster.py"}),
        ("emptied", {"backends/fsdp.py"}),
        ("shaped", {"models/loading.py"}),
    ],
)
def test_who_knows_of_models_without_numbers(word: str, files: set[str]) -> None:
    assert uses(word) == files
