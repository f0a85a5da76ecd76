from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from reports.runs import CONFIG, evaluation, report, write_rounds

from scoreline.reports.history import read_history
from scoreline.reports.judged import Judged, findings, judge
from scoreline.reports.record import Record


def seen(folder: Path) -> Judged:
    judged = judge(read_history(folder))
    assert judged is not None
    return judged


def row(step: int, true: float, judged: float) -> dict[str, Any]:
    return {"step": step, "avg@k": {"mean": true, "low": true - 0.05, "high": true + 0.05}, "judged": judged}


def words(svg: str) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")]


@pytest.mark.parametrize(
    ("first", "last", "alarm", "sentence"),
    [
        (
            (0.4, 0.1),
            (0.6, 0.9),
            False,
            "rose from 0.10 to 0.90, and true accuracy rose with it, from 0.40 [0.35 – 0.45]",
        ),
        (
            (0.4, 0.1),
            (0.5, 0.9),
            True,
            "A sign of over-optimisation: the judged score rose from 0.10 to 0.90 while true",
        ),
        (
            (0.4, 0.1),
            (0.2, 0.9),
            True,
            "Over-optimised: the judged score rose from 0.10 to 0.90 while true accuracy fell",
        ),
        (
            (0.4, 0.9),
            (0.6, 0.9),
            False,
            "did not rise: from 0.90 to 0.90. True accuracy rose: from 0.40 [0.35 – 0.45] to",
        ),
        (
            (0.4, 0.9),
            (0.4, 0.1),
            False,
            "The judged score did not rise: from 0.90 to 0.10. True accuracy did not clearly",
        ),
        ((0.4, 0.9), (0.2, 0.1), False, "True accuracy fell: from 0.40 [0.35 – 0.45] to 0.20 [0.15 – 0.25]."),
        ((0.4, -1.5), (0.6, 2.25), False, "The judged score rose from -1.5 to 2.2, and true accuracy rose with it"),
    ],
)
def test_the_rule(first: tuple[float, float], last: tuple[float, float], alarm: bool, sentence: str) -> None:
    (finding,) = findings([row(0, *first), row(9, *last)])
    assert sentence in finding.words
    assert finding.alarm is alarm


def test_intervals_that_touch_are_no_clear_rise() -> None:
    touching = row(9, 0.5, 0.9) | {"avg@k": {"mean": 0.5, "low": 0.45, "high": 0.55}}
    first = row(0, 0.4, 0.1) | {"avg@k": {"mean": 0.4, "low": 0.35, "high": 0.45}}
    assert findings([first, touching])[0].alarm


def test_accuracy_that_was_won_and_lost_again_is_named_with_its_step() -> None:
    overall, peak = findings([row(0, 0.4, 0.1), row(5, 0.8, 0.5), row(9, 0.6, 0.9)])
    assert not overall.alarm
    assert peak.alarm
    assert peak.words.startswith("After step 5 true accuracy was lost again, from 0.80 [0.75 – 0.85] to 0.60")
    assert peak.words.endswith("while the judged score went on rising, from 0.50 to 0.90.")
    assert len(findings([row(0, 0.4, 0.1), row(5, 0.8, 0.9), row(9, 0.6, 0.5)])) == 1


def test_one_evaluation_says_nothing() -> None:
    assert findings([row(0, 0.4, 0.1)]) == []


def test_a_row_a_round_with_the_rounds_last_evaluation(tmp_path: Path) -> None:
    record = write_rounds(tmp_path, (0.4, 0.5, 0.7), (0.1, 0.2, 0.3))
    record.evaluation(evaluation(3, 0.6, judged=0.25))
    judged = seen(tmp_path)
    assert judged.columns[:3] == ["round", "true accuracy", "judged score"]
    assert judged.columns[3:] == ["judge accuracy before", "judge accuracy after", "examples", "replayed"]
    start, first, second = judged.rows
    assert start[:3] == [("start", ""), ("0.40", "0.35 – 0.45"), ("0.10", "")]
    assert first[:3] == [("1", "steps 1 – 2"), ("0.50", "0.45 – 0.55"), ("0.20", "")]
    assert second[:3] == [("2", "steps 3 – 4"), ("0.70", "0.65 – 0.75"), ("0.30", "")]
    assert second[3:] == [("0.75", ""), ("0.88", "calibration error 0.06"), ("1,200", ""), ("120", "")]
    assert judged.taught


def test_rounds_without_a_judge_or_evaluations(tmp_path: Path) -> None:
    record = Record(tmp_path)
    (tmp_path / "config.resolved.toml").write_text(CONFIG)
    for number in (1, 2):
        record.report(report(number))
        record.round(number, number, {})
    judged = seen(tmp_path)
    assert judged.columns == ["round", "true accuracy"]
    assert judged.rows == [[("1", "steps 1 – 1"), ("–", "")], [("2", "steps 2 – 2"), ("–", "")]]
    assert (judged.findings, judged.curves, judged.taught) == ([], [], False)


def test_a_run_with_neither_rounds_nor_a_judge_has_no_such_section(tmp_path: Path) -> None:
    record = Record(tmp_path)
    (tmp_path / "config.resolved.toml").write_text(CONFIG)
    record.evaluation(evaluation(0, 0.4))
    assert judge(read_history(tmp_path)) is None


def test_judged_and_true_are_drawn_to_one_scale_with_the_rounds_marked(tmp_path: Path) -> None:
    write_rounds(tmp_path, (0.4, 0.5, 0.7), (0.1, 0.2, 0.3))
    curves = seen(tmp_path).curves
    assert [curve.name for curve in curves] == ["judged", "true", "judge"]
    shown = [words(curve.svg) for curve in curves]
    assert all({"round 1", "round 2"} <= set(texts) for texts in shown)
    assert {"judged"} <= set(shown[0])
    assert ticks(shown[0]) == ticks(shown[1])


def test_judged_scores_beyond_a_share_have_their_own_scale(tmp_path: Path) -> None:
    write_rounds(tmp_path, (0.4, 0.5, 0.7), (-3.0, 2.0, 8.0))
    judged, true, _ = seen(tmp_path).curves
    assert ticks(words(judged.svg)) != ticks(words(true.svg))


def ticks(texts: list[str]) -> list[str]:
    return [text for text in texts if "." in text]


def test_many_rounds_are_marked_by_their_numbers(tmp_path: Path) -> None:
    write_rounds(tmp_path, (0.4,) * 6, (0.1,) * 6)
    (curve, *_) = seen(tmp_path).curves
    assert "round 1" not in words(curve.svg)
    assert "5" in words(curve.svg)
