"""What `scoreline compare` understands, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from scoreline.cli.comparing import spread

Scoreline = Callable[..., Result]


def test_options_that_take_several_words() -> None:
    told = [
        "a.toml",
        "--arms",
        "algorithm=naive",
        "algorithm=grpo",
        "--seeds",
        "2",
        "x=1",
        "--only",
        "a",
        "b",
        "--overwrite",
    ]
    assert spread(told) == [
        "a.toml",
        *("--arms", "algorithm=naive", "--arms", "algorithm=grpo"),
        *("--seeds", "2", "x=1"),
        *("--only", "a", "--only", "b", "--overwrite"),
    ]
    assert spread(["--arms", "--seeds", "2"]) == ["--arms", "--seeds", "2"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["RECIPE"], "There is nothing to compare"),
        (["RECIPE", "RECIPE"], "What is to be compared?"),
        (["train.steps=5"], "What is to be compared?"),
        (["RECIPE", "--arms", "algorithm=naive", "--steps", "2"], "There is nothing to compare"),
        (["RECIPE", "--arms", "algorithm=naive", "algorithm=niave", "--steps", "2"], "did you mean 'naive'?"),
        (["RECIPE", "--arms", "algorithm=naive", "algorithm=grpo", "--steps", "2", "--tokens", "9"], "one budget"),
        (["RECIPE", "--arms", "algorithm=naive", "data.level=2", "--steps", "2"], "cannot be compared"),
        (["RECIPE", "--arms", "algorithm=naive", "train.steps=9", "--seeds", "1"], "There is no budget"),
        (["RUN", "RECIPE"], "compared as they are"),
        (["RUN", "train.steps=5"], "compared as they are"),
        (["RUN"], "There is nothing to compare"),
        (["nothing.toml"], "There is no such recipe"),
    ],
)
def test_what_cannot_be_compared_says_why(
    scoreline: Scoreline, recipe: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(recipe.parent)
    words = {"RECIPE": str(recipe), "RUN": str(trained)}
    result = scoreline("compare", *(words.get(word, word) for word in arguments))
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.output
    assert not (recipe.parent / "comparisons").exists()


def test_the_short_form_trains_and_compares(
    scoreline: Scoreline, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = ("--arms", "algorithm=naive", "algorithm=rloo objective.kl=none", "--seeds", 1, "--steps", 1)
    result = scoreline("compare", recipe, *told, "--jobs", 2)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "comparisons/naive-against-rloo-kl-none/comparison.json").is_file()
    assert "rloo-kl-none" in result.output
    assert "run 2/2" in result.output
