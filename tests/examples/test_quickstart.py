"""What docs/quickstart.md says to type: the recipes load, the verbs and options exist, the Python runs."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import scoreline as sl
from scoreline.cli import app
from scoreline.config.judge import JudgeRun
from scoreline.config.label import LabelRun
from scoreline.config.load import load
from scoreline.config.run import Eval, Run, SftRun
from scoreline.environments.rewards import Scorer
from scoreline.types import Prompt

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / "docs" / "quickstart.md").read_text("utf-8"), re.M | re.S)
FILES = {text.split()[1]: text for kind, text in BLOCKS if kind in ("toml", "python") and text.startswith("# ")}
COMMANDS = [line for kind, text in BLOCKS if kind == "" for line in text.splitlines() if line.startswith("scoreline ")]

SCHEMAS: dict[str, type] = {"sft": SftRun, "reward-model": JudgeRun, "label": LabelRun}


@pytest.fixture(autouse=True)
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that the page shows, beside the recipes."""
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)


def test_the_page_shows_files_and_commands():
    assert set(FILES) == {"score.py", "mine.toml", "first.toml"}
    assert len(COMMANDS) >= 15


@pytest.mark.parametrize("command", COMMANDS)
def test_the_verb_and_its_options_exist(command):
    _, verb, *arguments = shlex.split(command)
    shown = CliRunner().invoke(app, [verb, "--help"])
    assert shown.exit_code == 0
    assert [option for option in arguments if option.startswith("-") and option not in shown.stdout] == []


@pytest.mark.parametrize("command", [c for c in COMMANDS if ".toml" in c])
def test_the_recipes_and_values_load(command):
    _, verb, *arguments = shlex.split(command)
    said = [word for word in arguments if not word.startswith("-") and (".toml" in word or "=" in word)]
    overrides = [word for word in said if "=" in word]
    load(SCHEMAS.get(verb, Run), [Path(word) for word in said if word not in overrides], overrides)


def test_the_reward_scores():
    prompts = [Prompt("train:0", "3+8=", {"answer": "11"})] * 2
    with Scorer([sl.RewardSpec("score.py:right")]) as scorer:
        scorer.check(prompts)
        assert [reward.total for reward in scorer.score(prompts, ["#11", "#12"], [[1], [2]])] == [1.0, 0.0]


def test_the_python_trains(tmp_path):
    code = next(text for kind, text in BLOCKS if kind == "python" and "sl.launch(run)" in text)
    names: dict[str, Any] = {}
    exec(code.replace("sl.launch(run)", ""), names)
    run: sl.Run = names["run"]
    small = replace(run.train, steps=2, prompts_per_step=2)
    model = sl.Model("tiny:init")
    folder = sl.launch(replace(run, folder=str(tmp_path), train=small, model=model, eval=Eval(prompts=4)))
    assert (folder / "report.html").is_file()
