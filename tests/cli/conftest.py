"""One small training run for all tests of the command line, made through the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from scoreline.cli import app

RECIPE = """
name = "small"
reward = ["arithmetic_answer"]

[model]
path = "tiny:init"
device = "cpu"

[data]
level = 1

[sampling]
max_completion_length = 6

[train]
steps = 2
prompts_per_step = 2
num_generations = 2

[eval]
prompts = 4
k = 2
"""

Run = Callable[..., Result]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="session")
def scoreline() -> Run:
    return invoke


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "small.toml").write_text(f'folder = "{(folder / "runs").as_posix()}"\n{RECIPE}', encoding="utf-8")
    return folder / "small.toml"


@pytest.fixture(scope="session")
def trained(recipe: Path) -> Path:
    result = invoke("train", recipe)
    assert result.exit_code == 0, result.output
    return recipe.parent / "runs" / "small"
