from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from reports.runs import CONFIG, NO_BATCH, annotated, letters, report, rollout, stepped

from scoreline.reports.answers import LONGEST, Answers, Span, answers
from scoreline.reports.history import read_history
from scoreline.reports.record import Record
from scoreline.types import Report, Rollout


def seen(folder: Path, *reports: Report) -> Answers:
    record = Record(folder, every=1, pieces=None if reports[0].batch is NO_BATCH else letters)
    (folder / "config.resolved.toml").write_text(CONFIG)
    for each in reports:
        record.report(each)
    return answers(read_history(folder), None, None)


def rows(shown: Answers, stage: int = 0) -> list[dict[str, Any]]:
    return [row for question in shown.stages[stage]["questions"] for row in question["answers"]]


def tinted(*rollouts: Rollout, advantages: list[list[float]]) -> Report:
    return annotated(1, rollouts, advantages)


def test_each_step_is_tinted_by_its_reward_and_says_it(tmp_path: Path) -> None:
    answer = stepped(("3+8=11\n", 1.0), ("\n11+1=13\n", 0.0), ("13", None))
    (row,) = rows(seen(tmp_path, report(1, answers=[answer])))
    assert row["steps_view"] == [
        Span("3+8=11", "t4", "step reward 1 (sums 1, judge 1)", "1"),
        Span("\n\n"),
        Span("11+1=13", "t-4", "step reward 0 (sums 0, judge 0)", "0"),
        Span("\n"),
        Span("13", "t0 plain", "step not scored", "–"),
    ]
    assert row["tokens_view"] == []
    assert row["sums"] == ["outcome 1", "3 steps, mean 0.5"]


def test_text_behind_the_last_step_stays_plain(tmp_path: Path) -> None:
    record = Record(tmp_path)
    (tmp_path / "config.resolved.toml").write_text(CONFIG)
    record.report(report(1, answers=[stepped(("1+1=2.", 1.0))]))
    path = tmp_path / "completions" / "step-000001.jsonl"
    path.write_text(path.read_text().replace('"completion": "1+1=2."', '"completion": "1+1=2. And so on"'))
    (row,) = rows(answers(read_history(tmp_path), None, None))
    assert [span.text for span in row["steps_view"]] == ["1+1=2.", " And so on"]


def test_a_step_that_is_not_in_the_text_loses_nothing(tmp_path: Path) -> None:
    record = Record(tmp_path)
    (tmp_path / "config.resolved.toml").write_text(CONFIG)
    record.report(report(1, answers=[stepped(("ab", 1.0), ("cd", 0.0))]))
    path = tmp_path / "completions" / "step-000001.jsonl"
    path.write_text(path.read_text().replace('"text": "ab"', '"text": "a\ufffd"'))
    (row,) = rows(answers(read_history(tmp_path), None, None))
    assert [span.text for span in row["steps_view"]] == ["a\ufffd", "ab", "cd"]


def test_neighbours_of_one_advantage_are_one_span(tmp_path: Path) -> None:
    first, second = stepped(("12", 1.0)), stepped(("345", 0.0))
    shown = seen(tmp_path, tinted(first, second, advantages=[[1.0, -1.0, 7.0], [0.5, 0.5, 0.0]]))
    views = [row["tokens_view"] for row in rows(shown)]
    assert views[0] == [Span("1", "t4", "advantage +1.00"), Span("2", "t-4", "advantage −1.00")]
    assert views[1] == [Span("34", "t2", "advantage +0.50, 2 tokens"), Span("5", "t0", "advantage +0.00")]
    assert shown.two_views


def test_answers_without_steps_have_the_view_of_tokens_only(tmp_path: Path) -> None:
    shown = seen(tmp_path, tinted(stepped(total=1.0), rollout("11", 1.0), advantages=[[0.0, 0.0], [0.5, 0.5]]))
    plain = rows(shown)[1]
    assert [len(plain[view]) for view in ("steps_view", "tokens_view")] == [0, 1]
    assert not shown.two_views
    assert shown.rewards is None


def test_an_advantage_that_is_not_known_has_no_tint(tmp_path: Path) -> None:
    answer = stepped(("12", 1.0))
    (row,) = rows(seen(tmp_path, tinted(answer, advantages=[[float("nan"), 1.0]])))
    assert row["tokens_view"][0] == Span("1", "", "advantage not known")


@pytest.mark.parametrize("view", ["steps_view", "tokens_view"])
def test_both_views_are_cut_at_the_same_place(tmp_path: Path, view: str) -> None:
    answer = stepped(("7" * 1000, 1.0), ("8" * 2000, 0.0), ("9", 0.5))
    (row,) = rows(seen(tmp_path, tinted(answer, advantages=[[1.0] * 1000 + [-1.0] * 2001])))
    texts = [span.text for span in row[view]]
    assert texts == ["7" * 1000, "8" * (LONGEST - 1000), " … (1,401 more characters)"]


def test_a_right_whole_answer_is_what_is_marked_right_not_its_steps(tmp_path: Path) -> None:
    good_steps, right, unscored = stepped(("1", 1.0), total=0.0), stepped(("2", 0.0)), stepped(("3", 1.0), total=None)
    marks = [row["mark"] for row in rows(seen(tmp_path, report(1, answers=[good_steps, right, unscored])))]
    assert marks == ["wrong", "right", ""]
