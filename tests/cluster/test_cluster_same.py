"""The same recipe gives the same run wherever it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from scoreline.config.launch import train
from scoreline.config.load import load
from scoreline.config.run import Run
from tests.cluster.small_run import RECIPE, checkpointed, digest

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

SMALL = ("train.steps=10", "train.prompts_per_step=8", "eval.prompts=8", "checkpoint.every=5", "eval.before=false")
SUMMED = 1e-5
"""GRPO's loss is a mean of terms of size 1 (advantages have a std of 1) that nearly cancel: 1e-5 of what is summed.

One update from one state is compared relative to the loss itself, in tests/ranks. Here ten updates have passed, and
AdamW has made whole steps out of gradients that are all rounding.
"""
ON_RAY = ("runtime.type=ray", "runtime.threads=1")


def run(folder: Path, name: str, *more: str) -> Path:
    torch.set_num_threads(1)
    return train(load(Run, [RECIPE], [*SMALL, *more, f"folder={folder}", f"name={name}"]))


def tables(folder: Path) -> dict[str, str]:
    last = folder / "checkpoints/step-000010"
    return {
        str(f.relative_to(last)): digest(f) for f in sorted(last.rglob("*.safetensors")) if f.name != "rng.safetensors"
    }


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
def test_one_learner_and_one_worker_are_one_process(tmp_path: Path, algorithm: str) -> None:
    here = run(tmp_path, "here", f"algorithm={algorithm}")
    there = run(tmp_path, "there", f"algorithm={algorithm}", *ON_RAY)
    assert tables(there) == tables(here)
    assert losses(there) == losses(here)


def test_units_are_the_same_whoever_samples_them(tmp_path: Path) -> None:
    here = run(tmp_path, "here", "runtime.unit=3")
    there = run(tmp_path, "there", *ON_RAY, "runtime.unit=3", "runtime.rollouts=2")
    assert tables(there) == tables(here)


def test_two_ranks_optimise_what_one_does(tmp_path: Path) -> None:
    one = run(tmp_path, "one", *ON_RAY, "runtime.learners=1")
    two = run(tmp_path, "two", *ON_RAY, "runtime.learners=2")
    for first, second in zip(losses(one), losses(two), strict=True):
        assert abs(second - first) < SUMMED
    a, b = (AutoModelForCausalLM.from_pretrained(f / "checkpoints/step-000010/hf") for f in (one, two))
    for mine, other in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
def test_exact_sums_make_two_ranks_one(tmp_path: Path, algorithm: str) -> None:
    """Every loss, and every bit of weights, reference, critic and moments after ten steps."""
    exact = ("train.gradient_sums=fp64", "train.micro_batch_size=8", f"algorithm={algorithm}")
    one = run(tmp_path, "one", *exact)
    two = run(tmp_path, "two", *exact, *ON_RAY, "runtime.learners=2")
    assert losses(two) == pytest.approx(losses(one), rel=1e-9)
    mine, other = (checkpointed(folder, 10) for folder in (one, two))
    assert mine.keys() == other.keys()
    assert [name for name, tensor in mine.items() if not torch.equal(tensor, other[name])] == []


def test_a_run_goes_on_with_another_number_of_learners(tmp_path: Path) -> None:
    even = ("train.schedule=constant", "train.warmup_updates=0")
    whole = run(tmp_path, "whole", *even, *ON_RAY, "runtime.learners=2")
    half = [*SMALL, *even, f"folder={tmp_path}", "name=half"]
    train(load(Run, [RECIPE], [*half, *ON_RAY, "runtime.learners=2", "train.max_tokens=3000"]))
    begun = len(losses(tmp_path / "half"))
    assert 0 < begun < 10
    train(load(Run, [RECIPE], half), resume=True)  # in one process
    assert losses(tmp_path / "half")[:begun] == losses(whole)[:begun]
    for first, second in zip(losses(whole), losses(tmp_path / "half"), strict=True):
        assert abs(second - first) < SUMMED
