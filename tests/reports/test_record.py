from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
from reports.runs import evaluation, report, rollout, write_run

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
    answer = {"prompt": "3+8=", "completion": "11", "reward": 1.0, "parts": {"exact": 1.0}, "length": 2}
    assert rows == [answer | {"finish": "stop", "group": group} for group in (0, 1)]


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
