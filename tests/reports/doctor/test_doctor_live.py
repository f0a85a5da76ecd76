"""The doctor while a run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from reports.doctor.patients import SMALL, trained
from reports.runs import report

from scoreline.reports.doctor import Doctor
from scoreline.reports.doctor.chart import Chart
from scoreline.reports.doctor.finding import Finding
from scoreline.reports.history import read_history


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    (tmp_path / "config.resolved.toml").write_text(SMALL, encoding="utf-8")
    return Doctor(read_history(tmp_path), steps=40)


def seen(doctor: Doctor, step: int, **metrics: float) -> list[str]:
    return [finding.name for finding in doctor.see(report(step, **metrics))]


def test_a_finding_is_told_once_and_at_a_look(doctor: Doctor) -> None:
    told = [seen(doctor, step, **{"completions/clipped_ratio": 1.0, "kl": 0.1}) for step in range(1, 12)]
    assert told[4] == ["missing-eos"]
    assert [name for names in told for name in names] == ["missing-eos"]


def test_it_looks_forty_times_in_all_and_at_the_end(doctor: Doctor) -> None:
    long, short = Doctor(doctor.history, 2001), Doctor(doctor.history, 3)
    assert [step for step in range(1, 2002) if seen(long, step, skipped_updates=1.0, kl=0.1)] == [50]
    assert [seen(short, step, skipped_updates=1.0) for step in (1, 2, 3)] == [[], [], ["non-finite-updates"]]


def test_notes_are_not_told(doctor: Doctor) -> None:
    quiet = [seen(doctor, step, **{"clip_ratio/region_mean": 0.0, "kl": 0.1}) for step in range(1, 6)]
    assert quiet == [[]] * 5


def test_a_check_that_fails_is_told_and_ends_nothing(doctor: Doctor) -> None:
    def wrong(chart: Chart) -> Finding | None:
        raise KeyError("greedy")

    [finding] = Doctor(doctor.history, 3, [wrong]).look()
    assert finding.title == "The doctor's check wrong failed"
    assert finding.evidence == ("KeyError: 'greedy'.",)


def test_a_run_says_it_while_it_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = trained(tmp_path, "sampling.max_completion_length=1", "train.steps=6")
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: No answer ends")]
    assert len(shown) == 1
    assert "To change: sampling.max_completion_length = 2 (now 1)" in shown[0]
    assert "No answer ends" in (folder / "log.txt").read_text(encoding="utf-8")
