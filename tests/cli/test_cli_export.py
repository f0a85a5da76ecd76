"""An exported model is an ordinary folder that says where it comes from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import Result

Scoreline = Callable[..., Result]


@pytest.mark.parametrize("checkpoint", [[], ["--checkpoint", "best"], ["--checkpoint", "step-000002"]])
def test_it_loads_and_has_a_card(scoreline: Scoreline, trained: Path, tmp_path: Path, checkpoint: list[str]) -> None:
    result = scoreline("export", trained, "--to", tmp_path / "given", *checkpoint)
    assert result.exit_code == 0, result.output
    assert "AutoModelForCausalLM.from_pretrained" in result.output
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "given")
    ids = AutoTokenizer.from_pretrained(tmp_path / "given")("3+8=", return_tensors="pt").input_ids
    assert model.generate(ids, max_new_tokens=2, do_sample=False).shape[1] > ids.shape[1]
    card = (tmp_path / "given" / "README.md").read_text(encoding="utf-8")
    for line in ("| base model | tiny:init |", "| method | grpo |", "| data | arithmetic |", "| rewards | arithmetic_"):
        assert line in card
    assert "| step | greedy | avg@2 | pass@2 |\n| --- | --- | --- | --- |\n| 0 | 0." in card
    assert '"given"' in card
    assert not (tmp_path / "given" / "manifest.json").exists()


def test_an_empty_folder_will_do_and_a_full_one_is_left_alone(
    scoreline: Scoreline, trained: Path, tmp_path: Path
) -> None:
    assert scoreline("export", trained, "--to", tmp_path).exit_code == 0
    before = sorted(tmp_path.iterdir())
    again = scoreline("export", trained, "--to", tmp_path)
    assert again.exit_code == 2
    assert "The target is not empty" in again.stderr
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("checkpoint", "said"),
    [("bst", "did you mean 'best'?"), ("step-000009", "accepted: best, step-000002"), ("../..", "no such checkpoint")],
)
def test_a_checkpoint_that_is_not_there(
    scoreline: Scoreline, trained: Path, tmp_path: Path, checkpoint: str, said: str
) -> None:
    result = scoreline("export", trained, "--to", tmp_path / "given", "--checkpoint", checkpoint)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "given").exists()


def test_a_damaged_checkpoint_is_not_given_away(scoreline: Scoreline, trained: Path, tmp_path: Path) -> None:
    weights = trained / "checkpoints" / "best" / "hf" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + b"x")
    try:
        result = scoreline("export", trained, "--to", tmp_path / "given", "--checkpoint", "best")
    finally:
        weights.write_bytes(whole)
    assert result.exit_code == 2
    assert "model.safetensors has changed" in result.stderr


def test_what_is_no_run(scoreline: Scoreline, tmp_path: Path) -> None:
    result = scoreline("export", tmp_path, "--to", tmp_path / "given")
    assert result.exit_code == 2
    assert "is not a run" in result.stderr
