"""What docs/compare.md says: the recipe loads, its commands can be typed, every measure is named."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from scoreline.cli.comparing import spread
from scoreline.config.compare.recipe import read
from scoreline.config.compare.trials import trials
from scoreline.reports.compare.measures import MEANINGS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/compare.md").read_text(encoding="utf-8")


def test_the_recipe_on_the_page_can_be_made(tmp_path: Path) -> None:
    [text] = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.M | re.S)
    (tmp_path / "quickstart.toml").write_text((ROOT / "recipes/quickstart.toml").read_text())
    (tmp_path / "some").mkdir()
    file = tmp_path / "some" / "mine.toml"
    file.write_text(text, encoding="utf-8")
    assert len(trials(read(file), tmp_path)) == 10


@pytest.mark.parametrize("recipe", ["recipes/laptop/compare.toml"])
def test_recipes_of_comparisons_can_be_made(recipe: str, tmp_path: Path) -> None:
    made = trials(read(ROOT / recipe), tmp_path)
    assert len(made) == 6
    assert len({trial.run.train.steps for trial in made}) == 1


def test_the_commands_are_understood() -> None:
    commands = re.findall(r"^(scoreline compare [^#\n]+)", PAGE, re.M)
    assert len(commands) == 3
    assert spread(shlex.split(commands[1])).count("--arms") == 2
    assert (ROOT / shlex.split(commands[0])[2]).is_file()


def test_every_measure_is_on_the_page() -> None:
    assert [name for name in MEANINGS if f"`{name}`" not in PAGE and name not in ("tokens", "steps")] == []
