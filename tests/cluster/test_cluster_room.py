"""Processes that share the memory of a node of a cluster that was there before are added up before they load."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from scoreline.config import cluster as clusters
from scoreline.config.launch import train
from scoreline.errors import MemoryLimitError
from scoreline.models import tiny
from scoreline.models.footprint import sketch
from scoreline.models.memory import capacity
from scoreline.models.policy import Model
from scoreline.train.plan import Plan
from tests.cluster.small_run import on, recorded

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

Usage = namedtuple("Usage", "total used free")


def test_learners_that_fit_alone_and_not_together(
    tmp_path: Path, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of two would hold 2.5 arrays of a quarter of the memory. Nothing asks for the weights that are not there.

    The disk, which is asked first, has room for checkpoints of any size.
    """
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(1 << 60, 0, 1 << 60))
    room = capacity(torch.device("cpu"))
    assert room is not None
    config = json.loads((tiny.path() / "config.json").read_text())
    words = room // 4 // (4 * config["hidden_size"])
    (tmp_path / "config.json").write_text(json.dumps({**config, "vocab_size": words}))
    large = Model(path=str(tmp_path), device="cpu")
    assert sketch(large) is not None
    run = replace(recorded(tmp_path, on(cluster, learners=2)), model=large)
    with pytest.raises(MemoryLimitError, match=r"x 5 \(5 for the learners\) = "):
        train(run)


def test_workers_are_told_who_is_on_their_node(tmp_path: Path, cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are on the one that there is: a learner and two workers."""
    told: list[Any] = []
    spawn = clusters.spawn

    def noted(*given: Any, **more: Any) -> Any:
        told.append(more["arguments"][0].args[-2:])
        return spawn(*given, **more)

    monkeypatch.setattr(clusters, "spawn", noted)
    train(recorded(tmp_path, on(cluster, rollouts=2), train=Plan(steps=1, prompts_per_step=2, num_generations=2)))
    assert told == [(1, 2), (1, 2)]
