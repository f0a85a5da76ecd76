"""One small training run for all tests of the command line, made through the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from scoreline.cli import app
from tests import parts

Run = Callable[..., Result]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="session")
def scoreline() -> Run:
    return invoke


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return parts.recipe(tmp_path_factory.mktemp("cli"))


@pytest.fixture(scope="session")
def trained(recipe: Path) -> Path:
    result = invoke("train", recipe)
    assert result.exit_code == 0, result.output
    return recipe.parent / "runs" / "small"
