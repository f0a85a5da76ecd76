"""Where a step's time goes: the parts are found, add up, and the stopwatches are taken off again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from breakdown import main, row, table

from scoreline.rollout import local


def test_the_parts_of_a_step_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, before = tmp_path / "figures.json", (torch.Tensor.backward, local.draw)
    told = ["--model", "tiny:init", "--prompts", "2", "--steps", "1", "--warmup", "1", "--operators", "3"]
    main([*told, "--device", "cpu", "--json", str(out)])
    written = json.loads(out.read_text(encoding="utf-8"))
    parts = written["parts"]
    whole = parts.pop("whole")
    assert set(parts) >= {"generation: other", "generation: drawing", "update: layers", "update: backward"}
    assert set(parts) >= {"generation: layers", "update: head", "update: optimiser"}
    assert 0 < sum(parts.values()) <= whole
    assert len(written["operators"]) == 3
    assert (torch.Tensor.backward, local.draw) == before
    assert "| **generation** |" in capsys.readouterr().out


def test_table_shares() -> None:
    spent = {"whole": 4.0, "generation: layers": 1.0, "generation: other": 1.0, "update: backward": 1.0}
    shown = table("tiny", spent)
    assert "| **generation** | 2.0000 | 50.0 % |" in shown
    assert "| rest | 1.0000 | 25.0 % |" in shown
    assert row("x", 1.0, 8.0, "y") == "| x | 1.0000 | 12.5 % | y |"
