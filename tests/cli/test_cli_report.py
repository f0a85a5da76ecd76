"""`scoreline report`: of a run, of a comparison, while a run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

Run = Callable[..., Result]


def test_a_run_has_a_report(scoreline: Run, trained: Path) -> None:
    (trained / "report.html").unlink()
    result = scoreline("report", trained)
    assert result.exit_code == 0
    assert result.output.strip() == str(trained / "report.html")
    assert (trained / "report.html").is_file()


def test_watching_a_run_that_has_ended_writes_its_page_and_ends(scoreline: Run, trained: Path) -> None:
    result = scoreline("report", trained, "--watch", "--every", "1")
    assert result.exit_code == 0
    assert "Ctrl-C ends this, not the run" in result.output
    assert "refresh" not in (trained / "report.html").read_text(encoding="utf-8")


def test_a_comparison_has_a_page(scoreline: Run, tmp_path: Path) -> None:
    found = {"name": "two", "arms": [{"name": "naive"}, {"name": "grpo"}]}
    (tmp_path / "comparison.json").write_text(json.dumps(found))
    result = scoreline("report", tmp_path)
    assert result.exit_code == 0
    assert result.output.strip() == str(tmp_path / "comparison.html")
    assert "naive and grpo" in (tmp_path / "comparison.html").read_text(encoding="utf-8")


def test_a_comparison_cannot_be_watched(scoreline: Run, tmp_path: Path) -> None:
    (tmp_path / "comparison.toml").write_text("")
    result = scoreline("report", tmp_path, "--watch")
    assert result.exit_code == 2
    assert "watch one of its runs" in result.output


def test_a_comparison_that_has_not_ended_says_so(scoreline: Run, tmp_path: Path) -> None:
    (tmp_path / "comparison.toml").write_text("")
    result = scoreline("report", tmp_path)
    assert result.exit_code == 2
    assert "goes on where it stopped" in result.output


def test_a_folder_that_is_neither_says_what_it_should_be(scoreline: Run, tmp_path: Path) -> None:
    result = scoreline("report", tmp_path, "--watch")
    assert result.exit_code == 2
    assert "is not a run" in result.output
