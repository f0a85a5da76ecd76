from __future__ import annotations

from pathlib import Path

import pytest
from reports.runs import LEARNED, evaluation, write_rounds, write_run

from scoreline.errors import CheckpointError
from scoreline.reports.history import read_history


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_run(tmp_path)
    history = read_history(tmp_path)
    assert history.config["algorithm"] == "grpo"
    assert [row["step"] for row in history.metrics] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in history.evaluations] == [0, 6]
    assert list(history.completions) == [1, 2, 4, 6]
    assert [row["completion"] for row in history.answers(4)] == ["11", "12"]
    assert history.summary["steps"] == 6
    assert history.objective["parts"][0]["part"] == "GroupNorm"
    assert history.environment["device"] == "cpu"


def test_rounds_are_read(tmp_path: Path) -> None:
    write_rounds(tmp_path, (0.4, 0.5, 0.6), (0.1, 0.2, 0.3))
    assert [(row["round"], row["step"]) for row in read_history(tmp_path).rounds] == [(1, 2), (2, 4)]
    assert read_history(tmp_path).rounds[1]["metrics"] == LEARNED


def test_a_step_that_was_evaluated_twice_counts_once(tmp_path: Path) -> None:
    write_run(tmp_path).evaluation(evaluation(6, 0.7))
    assert [row["avg@k"]["mean"] for row in read_history(tmp_path).evaluations] == [0.4, 0.7]


def test_a_run_that_has_only_begun(tmp_path: Path) -> None:
    (tmp_path / "config.resolved.toml").write_text('algorithm = "ppo"\n')
    history = read_history(tmp_path)
    assert (history.metrics, history.evaluations, history.summary, history.completions) == ((), (), {}, {})
    assert history.rounds == ()


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    write_run(tmp_path)
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:-9])
    assert [row["step"] for row in read_history(tmp_path).metrics] == [1, 2, 3, 4, 5]


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    write_run(tmp_path)
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('{"step": 3', "{step 3"))
    with pytest.raises(CheckpointError, match=r"metrics.jsonl, line 3: broken"):
        read_history(tmp_path)


def test_a_broken_summary_is_named(tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"summary.json is not a JSON object"):
        read_history(tmp_path)


@pytest.mark.parametrize(("name", "got"), [("nowhere", "no such folder"), (".", "without config.resolved.toml")])
def test_no_run(tmp_path: Path, name: str, got: str) -> None:
    with pytest.raises(CheckpointError, match=rf"is not a run[\s\S]*{got}[\s\S]*scoreline train"):
        read_history(tmp_path / name)


def test_a_broken_configuration_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.resolved.toml").write_text("algorithm = ")
    with pytest.raises(CheckpointError, match=r"config.resolved.toml is not TOML"):
        read_history(tmp_path)
