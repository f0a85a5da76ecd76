"""A formula without a test worked by hand, or without a line in docs/equations.md, fails here."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import scoreline.objectives

HERE = Path(__file__).parent


def formulas() -> list[type]:
    """Every class in objectives/ that states a formula of its own."""
    names = [m.name for m in pkgutil.iter_modules(scoreline.objectives.__path__)]
    modules = [importlib.import_module(f"scoreline.objectives.{name}") for name in names]
    classes = [c for m in modules for _, c in inspect.getmembers(m, inspect.isclass) if c.__module__ == m.__name__]
    return [c for c in classes if "formula" in vars(c)]


def test_formulas_are_found():
    assert {"GroupNorm", "GAE", "Clip", "KL", "TokenMean", "ValueLoss"} <= {c.__name__ for c in formulas()}


@pytest.mark.parametrize("part", formulas(), ids=lambda part: part.__name__)
def test_formula_has_a_golden_test_a_source_and_a_line_in_the_equations(part):
    word = re.compile(rf"\b{part.__name__}\(")
    assert any(word.search(file.read_text()) for file in HERE.glob("test_golden_*.py"))
    assert part.source
    assert f"`{part.__name__}`" in (HERE.parents[1] / "docs" / "equations.md").read_text()
