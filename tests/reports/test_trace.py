"""The tensors of kept answers come back as they were; whole groups; files that are missing or broken say so."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from reports.runs import CONFIG, letters, report, rollout
from safetensors.torch import load_file, save_file

from scoreline.errors import CheckpointError
from scoreline.objectives.zoo import ppo
from scoreline.reports.history import read_history
from scoreline.reports.record import Record
from scoreline.reports.trace import read_trace, whole_groups, write_trace
from scoreline.train.collate import collate
from scoreline.types import Batch, Report
from tests import parts


def full_batch() -> Batch:
    """Every column, with numbers that no rounding survives."""
    bare = collate(parts.rollouts(parts.policy()))
    shape, rows = bare.mask.shape, len(bare)
    drawn = {name: torch.randn(shape) / 3 for name in ("logp_old", "logp_ref", "values", "logp")}
    batch = ppo.estimate(replace(bare, **drawn, value_end=torch.randn(rows)))
    return replace(batch, weights=ppo.aggregate(batch.mask))


def stepping(step: int, batch: Batch, groups: int = 4) -> Report:
    size = len(batch) // groups
    answers = [rollout("x" * int(n), group=i // size) for i, n in enumerate(batch.length)]
    return replace(report(step, answers=answers), batch=batch)


def test_every_column_comes_back_exactly(tmp_path: Path) -> None:
    batch = full_batch()
    write_trace(tmp_path / "step-000001.safetensors", batch)
    again = read_trace(tmp_path / "step-000001.safetensors")
    for field in fields(Batch):
        before, after = getattr(batch, field.name), getattr(again, field.name)
        assert before is not None
        assert after.dtype == before.dtype
        assert torch.equal(after, before), field.name
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001.safetensors"]


def test_columns_that_a_batch_lacks_stay_absent_and_padding_is_left_out(tmp_path: Path) -> None:
    batch = collate(parts.rollouts(parts.policy()))
    short = batch.rows(batch.length < batch.length.max())
    write_trace(tmp_path / "t.safetensors", short)
    again = read_trace(tmp_path / "t.safetensors")
    assert again.logp_old is None
    assert again.mask.shape == (len(short), int(short.length.max()))
    assert torch.equal(again.logp_sampler, short.logp_sampler[:, : again.mask.shape[1]])


@pytest.mark.parametrize(
    ("limit", "kept"), [(32, 7), ("all", 7), (7, 7), (6, 5), (5, 5), (4, 3), (3, 3), (2, 3), (0, 3)]
)
def test_groups_are_kept_whole(limit: int, kept: int) -> None:
    answers = [rollout(group=group) for group in (0, 0, 0, 1, 1, 2, 2)]
    assert whole_groups(answers, limit) == kept
    assert whole_groups([], limit) == 0


def test_a_record_keeps_the_tensors_of_the_answers_it_keeps(tmp_path: Path) -> None:
    batch = full_batch()
    Record(tmp_path, answers=9, pieces=letters).report(stepping(1, batch))
    (tmp_path / "config.resolved.toml").write_text(CONFIG)
    history = read_history(tmp_path)
    kept = history.batch(1)
    assert len(kept) == len(history.answers(1)) == 8
    assert torch.equal(kept.length, batch.length[:8])
    for row in range(8):
        n = int(kept.length[row])
        assert torch.equal(kept.advantages[row, :n], batch.advantages[row, :n])  # type: ignore[index]


def test_rewind_forgets_tensors_too(tmp_path: Path) -> None:
    record = Record(tmp_path, every=1, answers="all", pieces=letters)
    for step in (1, 2, 3):
        record.report(stepping(step, full_batch()))
    record.rewind(1)
    names = sorted(path.name for path in (tmp_path / "completions").iterdir())
    assert names == ["step-000001.jsonl", "step-000001.safetensors"]


def test_a_step_without_tensors_names_those_that_have_some(tmp_path: Path) -> None:
    (tmp_path / "config.resolved.toml").write_text(CONFIG)
    with pytest.raises(CheckpointError, match=r"no tensors of step 1[\s\S]*a run of this version[\s\S]*train again"):
        read_history(tmp_path).batch(1)
    record = Record(tmp_path, every=2, pieces=letters)
    for step in (1, 2):
        record.report(stepping(step, full_batch()))
    with pytest.raises(CheckpointError, match=r"no tensors of step 7[\s\S]*step 1, 2"):
        read_history(tmp_path).batch(7)


def test_a_torn_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "step-000001.safetensors"
    write_trace(path, full_batch())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match=r"step-000001.safetensors cannot be read[\s\S]*restore the file"):
        read_trace(path)
    path.write_bytes(b"not tensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_trace(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_trace(tmp_path / "missing.safetensors")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mask": None}, "no column mask"),
        ({"hidden": torch.zeros(16)}, "does not know: hidden"),
        ({"length": torch.zeros(3)}, "columns of 3 and 16 rows"),
    ],
)
def test_a_file_that_holds_no_batch_says_why(tmp_path: Path, change: dict[str, torch.Tensor | None], said: str) -> None:
    path = tmp_path / "step-000001.safetensors"
    write_trace(path, full_batch())
    columns = {name: column for name, column in (load_file(path) | change).items() if column is not None}
    save_file(columns, path)
    with pytest.raises(CheckpointError, match=said):
        read_trace(path)
