"""Two learners and two rollout workers teach SmolLM2-135M-Instruct sums of one digit, with either engine."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from scoreline.config.launch import train
from scoreline.config.load import load
from scoreline.config.run import Run

FOLDER = os.environ.get("SCORELINE_SMOLLM2", "")
RECIPE = Path(__file__).parents[2] / "recipes/laptop/smollm2_sums.toml"
pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not FOLDER, reason="SCORELINE_SMOLLM2 names no folder (make test-ray)"),
]
VLLM = ("engine=vllm", "engine.context=128", "engine.memory=0.02", "engine.rows=32", "engine.eager=true")


def taught(folder: Path, *more: str) -> list[dict[str, float]]:
    """The steps' metrics; the checkpoint must be a model that others can load."""
    size = ("train.steps=8", "eval.prompts=12", "eval.k=1", "eval.every=0", "checkpoint.every=0")
    ray = ("runtime.type=ray", "runtime.learners=2", "runtime.rollouts=2", "runtime.threads=1")
    run = train(load(Run, [RECIPE], [f"model.path={FOLDER}", f"folder={folder}", *size, *ray, *more]))
    AutoModelForCausalLM.from_pretrained(run / "checkpoints/step-000008/hf")
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def check(steps: list[dict[str, float]]) -> None:
    assert [step["step"] for step in steps] == list(range(1, 9))
    assert all(step["skipped_updates"] == 0 for step in steps)
    early, late = (sum(step["reward"] for step in part) / 3 for part in (steps[:3], steps[-3:]))
    assert late > early + 0.1


@pytest.mark.skipif(find_spec("vllm") is not None, reason="the other test is for this environment")
def test_two_learners_and_two_workers(tmp_path: Path) -> None:
    check(taught(tmp_path))


@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed (make test-vllm)")
def test_two_learners_and_two_vllm_workers(tmp_path: Path) -> None:
    steps = taught(tmp_path, *VLLM)
    check(steps)
    assert all(0.3 < step["sampling/importance_sampling_ratio/mean"] < 3 for step in steps)
