from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from reports.runs import CONFIG, report, write_run

from scoreline.errors import CheckpointError
from scoreline.reports.history import read_history
from scoreline.reports.page import write_report
from scoreline.reports.record import Record
from scoreline.reports.standing import standing
from scoreline.reports.watch import follow

PLANNED = CONFIG + "\n[train]\nsteps = 60\n"


def begun(folder: Path, steps: int = 3, config: str = PLANNED, **metrics: float) -> Record:
    record = Record(folder, every=0)
    (folder / "config.resolved.toml").write_text(config)
    for step in range(1, steps + 1):
        record.report(report(step, **metrics))
    return record


def end(record: Record, steps: int) -> None:
    record.summary(algorithm="grpo", model="tiny", steps=steps, wall_s=1.0, tokens=1)


def test_a_run_that_is_not_finished_says_how_far_it_is(tmp_path: Path) -> None:
    begun(tmp_path, 12, **{"time/step": 2.5})
    found = standing(read_history(tmp_path))
    assert (found.done, found.seconds, found.ended) == ("step 12 of 60", 120.0, False)
    assert "Not finished: step 12 of 60, about 2 min left." in write_report(tmp_path).read_text()


def test_a_budget_of_tokens_ends_a_run_before_its_last_step(tmp_path: Path) -> None:
    record = begun(tmp_path, 10, PLANNED + "max_tokens = 1500\n", **{"num_tokens": 1000.0, "time/step": 2.0})
    found = standing(read_history(tmp_path))
    assert found.words(followed=True) == "In progress: step 10, 1,000 of 1,500 tokens, about 10 s left."
    end(record, 10)
    assert standing(read_history(tmp_path)).ended


def test_a_run_that_goes_on_after_its_end_has_not_ended(tmp_path: Path) -> None:
    record = begun(tmp_path, 3, PLANNED.replace("60", "3"))
    end(record, 3)
    assert standing(read_history(tmp_path)).ended
    (tmp_path / "config.resolved.toml").write_text(PLANNED)
    assert not standing(read_history(tmp_path)).ended
    record.report(report(4))
    assert not standing(read_history(tmp_path)).ended


def test_a_run_that_began_again_has_not_ended(tmp_path: Path) -> None:
    record = begun(tmp_path, 2)
    end(record, 1)
    assert not standing(read_history(tmp_path)).ended


def test_a_run_without_a_step(tmp_path: Path) -> None:
    begun(tmp_path, 0)
    found = standing(read_history(tmp_path))
    assert found.words(followed=True) == "In progress: step 0 of 60."
    assert found.seconds is None


def test_fine_tuning_has_no_end_to_wait_for(tmp_path: Path) -> None:
    begun(tmp_path, 3, 'name = "sft"\n\n[sft]\nepochs = 1\n')
    assert standing(read_history(tmp_path)).ended
    assert follow(tmp_path, wait=lambda seconds: pytest.fail("waited")).exists()


def test_a_finished_run_says_nothing_and_does_not_come_again(tmp_path: Path) -> None:
    write_run(tmp_path)
    html = write_report(tmp_path).read_text()
    assert 'role="status"' not in html
    assert 'http-equiv="refresh"' not in html


class Clock:
    """Time that passes as a run goes on: at each wait the next thing happens."""

    def __init__(self, page: Path, *events: Callable[[], object]) -> None:
        self.page, self.events, self.pages, self.waited = page, list(events), [], []

    def __call__(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.pages.append(self.page.read_text())
        self.events.pop(0)()


def test_the_page_follows_the_run_until_it_has_ended(tmp_path: Path) -> None:
    record = begun(tmp_path, 1)
    page = tmp_path / "report.html"
    clock = Clock(page, lambda: None, lambda: record.report(report(2)), lambda: end(begun(tmp_path, 60), 60))
    assert follow(tmp_path, 3.0, wait=clock) == page
    assert ["step 1 of 60" in html for html in clock.pages] == [True, True, False]
    assert "step 2 of 60" in clock.pages[2]
    assert all('<meta http-equiv="refresh" content="3">' in html for html in clock.pages)
    assert all(seconds >= 3.0 for seconds in clock.waited)
    assert 'http-equiv="refresh"' not in page.read_text()
    assert "In progress" not in page.read_text()


def test_the_page_is_not_drawn_again_while_nothing_happens(tmp_path: Path) -> None:
    begun(tmp_path, 1)
    page, times = tmp_path / "report.html", []

    def stop() -> None:
        times.append(page.stat().st_mtime_ns)
        raise KeyboardInterrupt

    follow(tmp_path, wait=Clock(page, lambda: times.append(page.stat().st_mtime_ns), stop))
    assert times[0] == times[1]


def test_ctrl_c_ends_quietly_and_leaves_a_page_that_does_not_come_again(tmp_path: Path) -> None:
    begun(tmp_path, 5)

    def stop() -> None:
        raise KeyboardInterrupt

    html = follow(tmp_path, wait=Clock(tmp_path / "report.html", stop)).read_text()
    assert "Not finished: step 5 of 60" in html
    assert 'http-equiv="refresh"' not in html


def test_no_run_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a run"):
        follow(tmp_path, wait=lambda seconds: pytest.fail("waited"))


def test_nothing_is_expected_of_nulls(tmp_path: Path) -> None:
    begun(tmp_path, 2, **{"time/step": float("nan"), "num_tokens": float("inf"), "reward": float("nan")})
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["time/step"] is None
    assert standing(read_history(tmp_path)).words(followed=False) == "Not finished: step 2 of 60."
    assert write_report(tmp_path).exists()
