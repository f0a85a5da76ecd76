"""A report whose run lacks something, or has more to say: findings, numbers, nulls."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from reports.reading import Page, page
from reports.runs import CONFIG, evaluation, report, rollout, write_run

from scoreline.reports import jsonl
from scoreline.reports.history import read_history
from scoreline.reports.numbers import STEPS, numbers
from scoreline.reports.page import render
from scoreline.reports.record import Record

ALARM = {
    "name": "cheating",
    "severity": "alarm",
    "title": "Reward rises <b>while</b> accuracy falls",
    "evidence": ("0.4 at step 1", "0.2 at step 6"),
    "cause": "the judge is cheated",
    "change": "objective.kl.beta up",
    "steps": tuple(range(1, 31)),
    "samples": ("train:1",),
}
NOTE = ALARM | {"severity": "note", "title": "Loss is zero", "evidence": (), "cause": "", "steps": (), "samples": ()}


def begun(folder: Path, *rows: dict[str, float]) -> Record:
    record = Record(folder)
    (folder / "config.resolved.toml").write_text(CONFIG)
    for step, metrics in enumerate(rows, start=1):
        record.report(report(step, **metrics))
    return record


@pytest.mark.parametrize("made", [dict, lambda finding: SimpleNamespace(**finding)], ids=["mapping", "object"])
def test_findings_have_a_section_of_their_own(tmp_path: Path, made: type) -> None:
    write_run(tmp_path)
    history = read_history(tmp_path)
    written = Page(render(history, [made(ALARM), made(NOTE)]))
    for part in (
        "What the doctor found",
        "alarm",
        "Reward rises <b>while</b>",
        "0.2 at step 6",
        "objective.kl.beta up",
    ):
        assert part in written.text
    assert "11, 12, … (30 in all)" in written.text
    assert ("class", "card alarm") in written.attributes
    assert "What the doctor found" not in Page(render(history)).text


def test_a_severity_that_nobody_knows_looks_like_a_note(tmp_path: Path) -> None:
    write_run(tmp_path)
    attributes = Page(render(read_history(tmp_path), [ALARM | {"severity": '"><script>'}])).attributes
    assert ("class", "card note") in attributes


def test_the_numbers_are_a_table_of_some_steps(tmp_path: Path) -> None:
    begun(tmp_path, *({"entropy": 1 / step, "kl": float("nan")} for step in range(1, 41)))
    table = numbers(read_history(tmp_path))
    assert table is not None
    steps = [int(row[0].text) for row in table.rows]
    assert (len(steps), steps[0], steps[-1]) == (STEPS, 1, 40)
    assert [column.title for column in table.columns] == ["step", "reward", "entropy", "length", "seconds"]
    assert "12 of 40 steps" in table.caption


@pytest.mark.parametrize("count", [1, 2, STEPS, STEPS + 1])
def test_few_steps_are_all_there(tmp_path: Path, count: int) -> None:
    begun(tmp_path, *({} for _ in range(count)))
    table = numbers(read_history(tmp_path))
    assert table is not None
    assert len(table.rows) == min(count, STEPS)
    assert table.rows[-1][0].text == str(count)


def test_a_run_without_steps_has_no_numbers(tmp_path: Path) -> None:
    begun(tmp_path)
    assert numbers(read_history(tmp_path)) is None


def test_accuracies_that_are_null_claim_nothing(tmp_path: Path) -> None:
    record = write_run(tmp_path)
    record.evaluation(evaluation(6, float("nan")))
    text = page(tmp_path).text
    assert "made no clear difference to held-out accuracy" in text
    assert "–" in text


def test_evaluations_of_another_version_leave_gaps(tmp_path: Path) -> None:
    record = write_run(tmp_path)
    for row in ({"step": 3}, {"step": 6, "greedy": None}, {"step": 7, "judged": 0.5}):
        jsonl.append(record.folder / "evaluation.jsonl", row)
    text = page(tmp_path).text
    assert "GRPO has come" not in text
    assert "Learning" in text


def test_metrics_of_nothing_but_nulls(tmp_path: Path) -> None:
    nothing = dict.fromkeys(("reward", "kl", "completions/mean_length", "time/step", "entropy", "beta"), float("nan"))
    begun(tmp_path, nothing, nothing)
    assert "GRPO has come 2 steps so far" in " ".join(page(tmp_path).text.split())


def test_a_run_without_completions_objective_machine_or_summary(tmp_path: Path) -> None:
    write_run(tmp_path)
    for path in (*tmp_path.glob("completions/*"), *tmp_path.glob("*.json")):
        path.unlink()
    text = page(tmp_path).text
    assert "How it went" in text
    for part in ("How the answers changed", "The objective", "The machine"):
        assert part not in text


def test_right_to_left_text_is_kept_and_may_choose_its_direction(tmp_path: Path) -> None:
    record = write_run(tmp_path)
    record.report(report(6, answers=[rollout("שלוש ועוד שמונה = 11", prompt="كم ٣ + ٨؟")]))
    written = page(tmp_path)
    assert "שלוש ועוד שמונה = 11" in written.text
    assert "كم ٣ + ٨؟" in written.text
    assert ("dir", "auto") in written.attributes
