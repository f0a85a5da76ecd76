"""The verb doctor: what it prints, how it ends, and the folders that it cannot read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from scoreline.reports.doctor.finding import RANKS

Scoreline = Callable[..., Result]


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(trained, tmp_path / "copy"))


def test_it_prints_the_ranked_list(scoreline: Scoreline, trained: Path) -> None:
    """An untrained model: no answer is right, none ends."""
    result = scoreline("doctor", trained)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0] == "small: 2 steps"
    assert lines[1].startswith("alarm")
    words = [line.split(":")[0].strip() for line in lines]
    assert {"cause", "change", "see"} <= set(words)
    ranks = [line.split()[0] for line in lines[1:] if not line.startswith(" ")]
    assert ranks == sorted(ranks, key=RANKS.index)


def test_json_for_machines(scoreline: Scoreline, trained: Path) -> None:
    result = scoreline("doctor", trained, "--json")
    told = json.loads(result.output)
    assert result.exit_code == 1
    assert told["together"] == []
    [one] = told["runs"]
    assert one["run"] == str(trained)
    names = {"name", "severity", "title", "evidence", "cause", "change", "steps", "samples"}
    assert all(set(finding) == names for finding in one["findings"])


def test_healthy_is_zero(scoreline: Scoreline, run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    result = scoreline("doctor", run)
    assert result.exit_code == 0
    assert result.output.splitlines() == ["copy: 0 of 2 steps, unfinished", "nothing found"]


def test_several_runs(scoreline: Scoreline, trained: Path, run: Path) -> None:
    result = scoreline("doctor", trained, run)
    assert "Runs have the same seed" in result.output.split("together\n")[1]
    config = run / "config.resolved.toml"
    config.write_text(config.read_text(encoding="utf-8").replace("prompts_per_step = 2", "prompts_per_step = 3"))
    assert "differ in train.prompts_per_step." in scoreline("doctor", trained, run).output


def test_an_unfinished_run(scoreline: Scoreline, run: Path) -> None:
    (run / "summary.json").unlink()
    (run / "evaluation.jsonl").unlink()
    shutil.rmtree(run / "completions")
    first = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[0]
    (run / "metrics.jsonl").write_text(first + '{"step": 2, "rew', encoding="utf-8")
    result = scoreline("doctor", run)
    assert result.output.startswith("copy: 1 of 2 steps, unfinished")


@pytest.mark.parametrize(
    ("broken", "told"),
    [("{]\n", "metrics.jsonl, line 2: broken"), ('{"reward": 1.0}\n', "metrics.jsonl: a line without `step`")],
)
def test_a_corrupted_line_is_named(scoreline: Scoreline, run: Path, broken: str, told: str) -> None:
    first = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[0]
    (run / "metrics.jsonl").write_text(first + broken, encoding="utf-8")
    result = scoreline("doctor", run)
    assert result.exit_code == 2
    assert told in result.stderr
    assert "to do:" in result.stderr


def test_what_another_version_did_not_record_is_not_missed(scoreline: Scoreline, run: Path) -> None:
    """Metrics of other names, missing steps, an evaluation without intervals."""
    rows = [{"step": step, "mean_reward": 0.5, "reward_std": "wide"} for step in (1, 2, 5, 40)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (run / "evaluation.jsonl").write_text('{"step": 0, "accuracy": 0.5}\n{"step": 9, "avg@k": 0.7}\n', encoding="utf-8")
    (run / "data.json").write_text('{"prompts": 12, "duplicates": 3}', encoding="utf-8")
    result = scoreline("doctor", run)
    assert result.exit_code == 0, result.output
    assert "nothing found" in result.output


def test_folders_that_are_no_runs(scoreline: Scoreline, tmp_path: Path) -> None:
    nothing = scoreline("doctor", tmp_path / "nowhere")
    assert nothing.exit_code == 2
    assert "is not a run" in nothing.stderr
    (tmp_path / "config.resolved.toml").write_text("[sft]\nsteps = 3\n", encoding="utf-8")
    other = scoreline("doctor", tmp_path)
    assert other.exit_code == 2
    assert "not one of reinforcement learning" in other.stderr
