from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch
from reports.runs import LEARNED, annotated, evaluation, letters, report, rollout, stepped, write_rounds, write_run

from scoreline.errors import CheckpointError
from scoreline.reports.memory import peak_rss_mb
from scoreline.reports.record import Record


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def refuse(word: str) -> None:
    raise AssertionError(f"{word} is not JSON")


def test_metrics_are_one_object_a_step(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.report(report(1))
    record.report(report(2))
    rows = lines(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[1]["reward"] == 0.2


def test_numbers_survive_the_file_exactly(tmp_path: Path) -> None:
    Record(tmp_path).report(report(1, kl=0.1 + 0.2))
    assert lines(tmp_path / "metrics.jsonl")[0]["kl"] == 0.1 + 0.2


def test_nan_and_infinity_are_null(tmp_path: Path) -> None:
    Record(tmp_path).report(report(1, kl=math.nan, grad_norm=-math.inf))
    row = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
    assert row["kl"] is None
    assert row["grad_norm"] is None


def test_metrics_can_be_written_without_rollouts(tmp_path: Path) -> None:
    Record(tmp_path).metrics(3, {"loss": 1.5})
    assert lines(tmp_path / "metrics.jsonl") == [{"step": 3, "loss": 1.5}]


def test_answers_are_kept_of_the_first_and_every_nth_step_and_no_more_than_asked(tmp_path: Path) -> None:
    record = Record(tmp_path, every=3, answers=2)
    for step in range(1, 8):
        record.report(report(step, answers=[rollout(group=g) for g in range(5)]))
    files = sorted(path.name for path in (tmp_path / "completions").iterdir())
    assert files == ["step-000001.jsonl", "step-000003.jsonl", "step-000006.jsonl"]
    rows = lines(tmp_path / "completions" / "step-000003.jsonl")
    answer = {"prompt": "3+8=", "completion": "11", "reward": 1.0, "id": "train:0", "parts": {"exact": 1.0}}
    assert rows == [answer | {"length": 2, "finish": "stop", "group": group, "version": 0} for group in (0, 1)]


def kept(record: Record, step: int = 1) -> list[dict[str, object]]:
    return lines(record.folder / "completions" / f"step-{step:06d}.jsonl")


def test_steps_are_kept_with_what_each_function_gave_them(tmp_path: Path) -> None:
    answer = stepped(("3+8=11\n", 1.0), ("so 12", None), total=0.5)
    record = Record(tmp_path)
    record.report(report(1, answers=[answer]))
    (row,) = kept(record)
    first = {"text": "3+8=11\n", "end": 6, "reward": 1.0, "parts": {"sums": 1.0, "judge": 1.0}}
    assert row["steps"] == [first, {"text": "so 12", "end": 11, "reward": None, "parts": {"sums": None, "judge": None}}]
    assert (row["reward"], row["total"], row["parts"]) == (1.5, 0.5, {"exact": 0.5})
    assert "tokens" not in row


def test_each_token_is_kept_with_its_advantage_and_padding_is_not(tmp_path: Path) -> None:
    record = Record(tmp_path, pieces=letters)
    record.report(annotated(1, [stepped(("12", 1.0)), stepped(("345", 0.0))], [[0.1, 1 / 3, 9.0], [-1.5, 0.0, 2e-9]]))
    first, second = (row["tokens"] for row in kept(record))
    assert first == [["1", 0.1], ["2", 0.333333]]
    assert second == [["3", -1.5], ["4", 0.0], ["5", 2e-9]]


def test_the_rows_of_a_batch_are_the_rollouts(tmp_path: Path) -> None:
    rollouts = [stepped((text, 1.0), group=int(text)) for text in ("1", "2", "3")]
    record = Record(tmp_path, answers=2, pieces=letters)
    record.report(annotated(1, rollouts, [[1.0], [2.0], [3.0]]))
    assert [row["tokens"] for row in kept(record)] == [[["1", 1.0]], [["2", 2.0]]]


def test_an_advantage_that_is_not_a_number_is_null(tmp_path: Path) -> None:
    record = Record(tmp_path, pieces=letters)
    record.report(annotated(1, [stepped(("1", 1.0))], [[math.nan]]))
    assert kept(record)[0]["tokens"] == [["1", None]]


def test_pieces_that_do_not_fit_the_tokens_are_an_error(tmp_path: Path) -> None:
    record = Record(tmp_path, pieces=lambda ids: ["one"])
    with pytest.raises(ValueError, match="zip"):
        record.report(annotated(1, [stepped(("12", 1.0))], torch.zeros(1, 2).tolist()))


def test_no_answers_are_kept_every_zero_steps(tmp_path: Path) -> None:
    Record(tmp_path, every=0).report(report(1))
    assert list((tmp_path / "completions").iterdir()) == []


@pytest.mark.parametrize("text", ["two\nlines", "half a character \ud83d", "line\u2028separator\x85", "\x00", "漢字"])
def test_any_text_survives_as_one_line(tmp_path: Path, text: str) -> None:
    Record(tmp_path, every=1).report(report(1, answers=[rollout(text)]))
    content = (tmp_path / "completions" / "step-000001.jsonl").read_bytes()
    assert content.count(b"\n") == 1
    assert json.loads(content)["completion"] == text


def test_evaluation_line(tmp_path: Path) -> None:
    Record(tmp_path).evaluation(evaluation(20, 0.5))
    (row,) = lines(tmp_path / "evaluation.jsonl")
    expected = {"mean": 0.5, "low": 0.45, "high": 0.55}
    assert row["greedy"] == row["avg@k"] == row["pass@k"] == expected
    assert (row["step"], row["k"], row["mean_length"], row["seconds"]) == (20, 4, 5.0, 0.2)
    assert row["samples"] == [{"prompt": "3+8=", "completion": "11", "reward": 1.0}]


def test_what_the_judge_says_is_written_where_there_is_one(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.evaluation(evaluation(0, 0.5, judged=0.25))
    record.evaluation(evaluation(2, 0.5, judged=-1.5, judge_accuracy=0.75))
    record.evaluation(evaluation(4, 0.5))
    rows = lines(tmp_path / "evaluation.jsonl")
    found = [{name: row[name] for name in ("judged", "judge_accuracy") if name in row} for row in rows]
    assert found == [{"judged": 0.25}, {"judged": -1.5, "judge_accuracy": 0.75}, {}]
    ends = record.summary(algorithm="grpo", model="m", steps=4, wall_s=0.1, tokens=2)["eval"]
    assert ends["before"]["judged"] == 0.25
    assert "judged" not in ends["after"]


def test_rounds_are_one_object_each_and_the_summary_has_the_last(tmp_path: Path) -> None:
    record = write_rounds(tmp_path, (0.4, 0.5), (0.1, 0.2))
    record.round(2, 4, {"judge/accuracy": 0.9, "judge/loss": math.nan})
    rows = lines(tmp_path / "rounds.jsonl")
    last = {"judge/accuracy": 0.9, "judge/loss": None}
    assert rows == [{"round": 1, "step": 2, "metrics": LEARNED}, {"round": 2, "step": 4, "metrics": last}]
    summary = record.summary(algorithm="grpo", model="m", steps=4, wall_s=0.1, tokens=2)
    assert summary["rounds"] == last


def test_a_round_that_is_done_again_is_written_once(tmp_path: Path) -> None:
    record = write_rounds(tmp_path, (0.4, 0.5, 0.6), (0.1, 0.2, 0.3))
    record.rewind(4)
    with (tmp_path / "rounds.jsonl").open("a") as file:
        file.write('{"round": 2, "st')
    record.round(2, 4, {"judge/accuracy": 1.0})
    assert [(row["round"], row["metrics"]) for row in lines(tmp_path / "rounds.jsonl")] == [
        (1, LEARNED),
        (2, {"judge/accuracy": 1.0}),
    ]


def test_rewind_forgets_the_rounds_after_the_step(tmp_path: Path) -> None:
    record = write_rounds(tmp_path, (0.4, 0.5, 0.6), (0.1, 0.2, 0.3))
    record.rewind(3)
    assert [row["round"] for row in lines(tmp_path / "rounds.jsonl")] == [1]


def test_summary_has_both_ends(tmp_path: Path) -> None:
    write_run(tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert list(summary) == ["algorithm", "model", "steps", "eval", "wall_s", "tokens", "peak_rss_mb"]
    assert list(summary["eval"]) == ["before", "after"]
    assert list(summary["eval"]["after"]) == ["greedy", "avg@k", "pass@k", "k", "mean_length"]
    assert summary["eval"]["before"]["greedy"]["mean"] == 0.4
    assert summary["eval"]["after"]["avg@k"] == {"mean": 0.9, "low": 0.85, "high": 0.9500000000000001}
    assert summary["peak_rss_mb"] > 1


def test_summary_without_evaluations_has_null_ends(tmp_path: Path) -> None:
    summary = Record(tmp_path).summary(algorithm="naive", model="m", steps=1, wall_s=0.1, tokens=2)
    assert summary["eval"] == {"before": None, "after": None}


def test_a_failed_write_leaves_the_old_summary(tmp_path: Path) -> None:
    record = write_run(tmp_path)
    old = (tmp_path / "summary.json").read_text()
    (tmp_path / ".summary.json.tmp").mkdir()
    with pytest.raises(CheckpointError, match=r"cannot write .*summary.json"):
        record.summary(algorithm="grpo", model="tiny", steps=7, wall_s=1.0, tokens=1)
    assert (tmp_path / "summary.json").read_text() == old


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
def test_a_full_disk_says_so(tmp_path: Path) -> None:
    record = Record(tmp_path)
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match=r"No space left[\s\S]*make room"):
        record.report(report(1))


def test_a_file_in_the_way_of_the_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(CheckpointError, match="cannot write"):
        Record(tmp_path / "run")


def test_rewind_forgets_later_steps_and_a_torn_line(tmp_path: Path) -> None:
    record = write_run(tmp_path, steps=6)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "rew')
    record.rewind(3)
    assert [row["step"] for row in lines(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    assert [row["step"] for row in lines(tmp_path / "evaluation.jsonl")] == [0]
    assert sorted(p.name for p in (tmp_path / "completions").iterdir()) == ["step-000001.jsonl", "step-000002.jsonl"]


def test_rewound_and_repeated_steps_leave_the_same_bytes(tmp_path: Path) -> None:
    straight, resumed = write_run(tmp_path / "a", steps=6), write_run(tmp_path / "b", steps=6)
    resumed.rewind(2)
    for step in range(3, 7):
        resumed.report(report(step))
    resumed.evaluation(evaluation(6, 0.9))
    files = [path.relative_to(straight.folder) for path in straight.folder.rglob("*.jsonl")]
    assert len(files) == 6
    for name in files:
        assert (straight.folder / name).read_bytes() == (resumed.folder / name).read_bytes()


def test_rewind_of_an_empty_run(tmp_path: Path) -> None:
    Record(tmp_path).rewind(0)
    assert not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="touches pages by hand")
def test_peak_memory_is_in_megabytes() -> None:
    before = peak_rss_mb()
    block = bytearray(b"x" * (int(before) + 64) * 2**20)
    assert before + 32 < peak_rss_mb() < before * 3 + 256
    del block
