from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest
from reports.runs import CONFIG, evaluation, report, write_run

from scoreline.reports.doctor import CHECKS, diagnose
from scoreline.reports.doctor.chart import Chart
from scoreline.reports.doctor.series import Series, span
from scoreline.reports.history import read_history
from scoreline.reports.record import Record


def over(*values: float) -> Series:
    return Series(tuple(range(1, len(values) + 1)), values)


@pytest.mark.parametrize(("count", "window"), [(1, 1), (2, 1), (4, 2), (6, 3), (20, 3), (100, 10)])
def test_the_beginning_is_a_tenth_at_least_three_at_most_half(count: int, window: int) -> None:
    assert over(*[0.0] * count).window == window


def test_one_odd_step_moves_neither_end() -> None:
    series = over(1, 99, 1, 5, 5, 2, -99, 2)
    assert (series.first, series.last, series.change) == (1, 2, 1)
    assert series.ending == (6, 7, 8)


def test_the_highest_window() -> None:
    series = Series((1, 2, 3, 4, 5, 6), (0, 3, 6, 3, 0, 0), fmean)
    assert series.highest() == (4.0, 4)
    assert series.where(lambda value: value > 2) == (2, 3, 4)
    assert series.since(4) == Series((5, 6), (0, 0), fmean)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ((7,), "step 7"),
        ((4, 5, 6), "steps 4 to 6"),
        ((1, 3, 8), "steps 1, 3, 8"),
        ((1, 3, 5, 7, 9, 11, 13, 15), "steps 1, 3, 5, 7, 9, 11 and 2 more"),
    ],
)
def test_steps_in_words(steps: tuple[int, ...], said: str) -> None:
    assert span(steps) == said


def test_a_metric_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    write_run(tmp_path, steps=2)
    record = Record(tmp_path)
    record.report(report(3, kl=float("nan")))
    record.metrics(4, {"kl": 0.5})
    assert Chart(read_history(tmp_path)).series("kl").steps == (1, 2, 4)


def test_settings_by_address(tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "config.resolved.toml").write_text(
        CONFIG + '[train]\nminibatches = 4\nlearning_rate = 0.1\n[objective]\nkl = "none"\n'
        'credit = [{type = "GroupNorm"}]\n[[reward]]\nfunction = "a.py:score"\nweight = 0.5\n'
        '[[reward]]\nfunction = "b.py:score"\n',
        encoding="utf-8",
    )
    chart = Chart(read_history(tmp_path))
    assert (chart.updates, chart.rate, chart.grouped) == (4, 0.1, True)
    assert chart.setting("objective.kl") is None
    assert chart.setting("train.steps.of", "nothing") == "nothing"
    assert chart.weights == {"rewards/score": 0.5, "rewards/score-2": 1.0}


def test_a_task_is_solved_by_held_out_accuracy_or_by_rewards_that_agree(tmp_path: Path) -> None:
    record = write_run(tmp_path / "low", before=0.4, after=0.5)
    assert not Chart(read_history(record.folder)).solved
    record.evaluation(evaluation(7, 0.95))
    assert Chart(read_history(record.folder)).solved
    risen = write_run(tmp_path / "risen", steps=0, before=0.4, after=0.4)
    for step in range(1, 9):
        risen.report(report(step, reward=0.45 + 0.5 * (step > 4), reward_std=0.5 - 0.3 * (step > 4)))
    assert Chart(read_history(risen.folder)).solved


def test_chance_is_no_fall(tmp_path: Path) -> None:
    """Eight questions a step, three steps a window: the mean may miss by half of its spread."""
    for name, end, fell in (("chance", 0.3, False), ("fall", 0.0, True)):
        record = write_run(tmp_path / name, steps=0)
        for step in range(1, 13):
            record.report(report(step, reward=0.6 if step < 7 else end, reward_std=0.5))
        assert Chart(read_history(record.folder)).fell == fell


def test_every_check_is_silent_where_nothing_was_measured(tmp_path: Path) -> None:
    (tmp_path / "config.resolved.toml").write_text("[train]\nsteps = 9\n", encoding="utf-8")
    history = read_history(tmp_path)
    assert [check(Chart(history)) for check in CHECKS] == [None] * len(CHECKS)
    assert diagnose(history) == []


@pytest.mark.parametrize(("end", "severity"), [(0.45, "warning"), (0.95, None)])
def test_entropy_that_goes_before_the_task_is_learned(tmp_path: Path, end: float, severity: str | None) -> None:
    """From 0.3 to 0.01 nats: a collapse at an accuracy of 0.45, success at one of 0.95."""
    record = write_run(tmp_path, steps=0, before=0.4, after=end)
    config = CONFIG + '[train]\nsteps = 12\n[objective]\ncredit = [{type = "GroupNorm"}]\n'
    (tmp_path / "config.resolved.toml").write_text(config, encoding="utf-8")
    for step in range(1, 13):
        record.report(report(step, reward=0.4, reward_std=0.5, entropy=0.3 * 0.7 ** (step - 1), kl=0.1))
    found = {finding.name: finding.severity for finding in diagnose(read_history(tmp_path))}
    assert found.get("entropy-collapse") == severity


@pytest.mark.parametrize(("apart_when_fresh", "found"), [(0.001, False), (0.3, True)])
def test_stale_answers_differ_as_they_must(tmp_path: Path, apart_when_fresh: float, found: bool) -> None:
    """Only the first step's answers were sampled by the newest weights: what they say of the engine counts."""
    record = write_run(tmp_path, steps=0)
    (tmp_path / "config.resolved.toml").write_text(CONFIG + "[train]\nsteps = 8\n", encoding="utf-8")
    for step in range(1, 9):
        apart = {"sampling/sampling_logp_difference/mean": apart_when_fresh if step == 1 else 0.3}
        record.report(report(step, **apart, **{"staleness/max": float(step > 1)}))
    assert ("sampler-mismatch" in {finding.name for finding in diagnose(read_history(tmp_path))}) == found
