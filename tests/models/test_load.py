"""Torch's threads against the cores that are free."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from scoreline.models.load import core_quota, machine_is_busy, others


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_more_threads_than_cores_are_warned_of_and_one_thread_never() -> None:
    torch.set_num_threads((os.cpu_count() or 1) + 2)
    said = machine_is_busy()
    assert said is not None
    assert "OMP_NUM_THREADS=" in said
    torch.set_num_threads(1)
    quota = core_quota()
    assert machine_is_busy() is None or (quota is not None and quota < 0.5)


def test_what_others_use_is_a_number_of_cores() -> None:
    assert 0.0 <= others() < 10_000


def test_the_cores_of_a_container(tmp_path: Path) -> None:
    assert core_quota(tmp_path) is None
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert core_quota(tmp_path) is None
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert core_quota(tmp_path) == 1.5
    old = tmp_path / "old" / "cpu"
    old.mkdir(parents=True)
    (old / "cpu.cfs_quota_us").write_text("-1\n")
    (old / "cpu.cfs_period_us").write_text("100000\n")
    assert core_quota(tmp_path / "old") is None
    (old / "cpu.cfs_quota_us").write_text("200000\n")
    assert core_quota(tmp_path / "old") == 2.0
