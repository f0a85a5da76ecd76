"""Parts of a step, measured in small: the loop here, learners and workers in processes of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import scaling_parts
from scaling_answers import batch_of, lengths, tokens_of
from scaling_controller import alone

from scoreline.config.load import load
from scoreline.config.run import Run, completed


def test_a_table_is_as_wide_as_its_longest_answer() -> None:
    told = [n for row in lengths(4, 2, 10, tail=8) for n in row]
    assert max(told) == told[-1] >= 40
    assert all(5 <= n <= 15 for n in told[:-1])
    batch = batch_of(completed(load(Run, [scaling_parts.RECIPE])), 4, 2, 10)
    assert tokens_of(batch) == int(batch.length.sum()) + 4 * 10, "a question of ten tokens is computed once"


def test_the_loop_alone_takes_time_that_is_not_scoring() -> None:
    row = alone(load(Run, [scaling_parts.RECIPE]), 2, 4, 6, 2, 1, 2)
    assert (row["answers"], row["updates"]) == (8, 2)
    assert row["padded"] >= row["tokens"] >= 24
    assert row["seconds"] > 0
    assert 0 < row["scored"] < 1


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_all_parts_are_measured_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "parts.json"
    scaling_parts.main(["--json", str(file), "--repeat", "1", "--models", "tiny", "--ranks", "1"])
    rows = json.loads(file.read_text(encoding="utf-8"))
    names = (
        "controller",
        "large",
        "update",
        "call",
        "annotate",
        "publish",
        "crowd",
        "unit",
        "delivery",
        "load",
        "fetch",
        "parcel",
    )
    assert {row["part"] for row in rows} == set(names)
    assert all(row["seconds"] > 0 for row in rows if row["part"] != "crowd")
    assert not list(tmp_path.glob("workers")), "nobody collects what these processes print"
    scaling_parts.main(["--json", str(file), "--repeat", "1", "--models", "--no-workers"])
    assert len(json.loads(file.read_text(encoding="utf-8"))) > len(rows), "what was there is kept"
