"""One small training run for all tests of a module, made of the module's own `RECIPE`."""

from __future__ import annotations

from pathlib import Path

import pytest

from scoreline.config.launch import train
from scoreline.config.load import load
from scoreline.config.run import Run
from tests import parts


@pytest.fixture(scope="module")
def recipe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return parts.recipe(tmp_path_factory.mktemp("small"), request.module.RECIPE)


@pytest.fixture(scope="module")
def trained(recipe: Path) -> Path:
    return train(load(Run, [recipe]))
