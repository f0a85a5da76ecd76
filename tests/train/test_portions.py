"""The cut into portions: what each holds, that nothing depends on it, and that memory running out lowers it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from scoreline.models.critic import CriticConfig, make_critic
from scoreline.models.footprint import footprint
from scoreline.objectives.zoo import ppo
from scoreline.train.collate import collate
from scoreline.train.learner import LocalLearner, Update
from scoreline.train.portions import CPU_SHARE, ENOUGH, Models, Portion, Portions, Row, automatic
from tests import parts

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
ROWS = [Row(10, 4, 0), Row(10, 6, 0), Row(10, 2, 1), Row(10, 30, 1), Row(10, 1, 1)]


@pytest.mark.parametrize(
    ("portion", "packed", "counts"),
    [
        (Portion(2), True, [2, 2, 1]),
        (Portion(99), True, [5]),
        (Portion(20, "tokens"), True, [2, 1, 1, 1]),  # 10 + 4 + 6; then 12, 40 alone, 11
        (Portion(43, "tokens"), True, [3, 2]),  # 10 + 4 + 6 + 10 + 2 = 32; 10 + 30 + 1 = 41
        (Portion(32, "tokens"), False, [2, 1, 1, 1]),  # 2 x (10 + 6) = 32
        (Portion(1, "tokens"), True, [1, 1, 1, 1, 1]),  # a row always goes, however long it is
    ],
)
def test_portions_by_hand(portion: Portion, packed: bool, counts: list[int]) -> None:
    assert portion.cut(ROWS, packed=packed) == counts


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("portion", [Portion(3), Portion(1, "tokens"), Portion(60, "tokens"), Portion(9999, "tokens")])
def test_every_row_is_in_one_portion(portion: Portion, packed: bool) -> None:
    batch = collate(parts.rollouts(parts.policy(), longest=20))
    portions = Portions(7, packed=packed, device=CPU, models=Models((), lambda: 0))
    portions.portion = portion
    cut = [rows.tolist() for rows in portions.cut(batch)]
    assert sorted(row for rows in cut for row in rows) == list(range(len(batch)))
    assert portions.largest == max(map(len, cut))


def test_portions_by_tokens_are_even_where_answers_are_not() -> None:
    """Eight rows at once hold from 88 to 1,280 tokens; by tokens none holds more than 720."""
    rows = [Row(10, 1 if i < 32 else 150, i) for i in range(64)]
    by_rows = Portion(8).cut(rows, packed=True)
    by_tokens = Portion(720, "tokens").cut(rows, packed=True)
    tokens = Portion(1, "tokens")

    def costs(counts: list[int]) -> list[int]:
        ends = [sum(counts[: i + 1]) for i in range(len(counts))]
        return [tokens.cost(rows[end - n : end], packed=True) for end, n in zip(ends, counts, strict=True)]

    assert max(costs(by_rows)) == 1280
    assert max(costs(by_tokens)) <= 720
    assert len(by_tokens) <= len(by_rows) + 2


def learner(micro: Any = "auto") -> LocalLearner:
    actor = parts.policy()
    return LocalLearner(actor, replace(ppo, kl=None), critic=make_critic(CriticConfig(), actor), micro_batch_size=micro)


def test_automatic_is_a_power_of_two_that_fits() -> None:
    models = learner().portions.models
    assert automatic(models, CPU) == Portion(ENOUGH["cpu"], "tokens")
    assert automatic(Models(models.learning, lambda: 1 << 60), CPU) == Portion(1, "tokens"), "nothing is free"
    deep = replace(footprint(parts.policy().model), layers=200)
    chosen = automatic(Models((deep,), lambda: 0), CPU).size
    assert 1 < chosen < ENOUGH["cpu"]
    assert chosen.bit_count() == 1
    assert deep.activations(chosen) + deep.logits(chosen) <= CPU_SHARE < deep.activations(2 * chosen)


def test_what_is_pending_is_gradients_and_moments() -> None:
    made = learner()
    numbers = sum(p.numel() for group in made.groups.values() for p in group)
    assert made.portions.models.pending() == 12 * numbers
    batch = made.objective.estimate(made.annotate(collate(parts.rollouts(made.policy)), made.objective.passes(1)))
    made.update(replace(batch, weights=made.objective.aggregate(batch.mask)), Update())
    assert made.portions.models.pending() == 4 * numbers


def test_a_lowered_portion_is_saved_and_a_new_wish_counts_more(tmp_path: Path) -> None:
    lowered = learner("auto")
    lowered.portions.portion = Portion(128, "tokens")
    lowered.save(tmp_path)
    again, other = learner("auto"), learner(4)
    again.restore(tmp_path)
    other.restore(tmp_path)
    assert again.portions.portion == Portion(128, "tokens")
    assert other.portions.portion == Portion(4)


def shortage(folder: Path, *told: object) -> dict[str, Any]:
    folder.mkdir()
    command = [sys.executable, str(ROOT / "tests/train/shortage.py"), str(folder), *map(str, told)]
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    child = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=child)
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is enforced on Linux")
@pytest.mark.parametrize(("unit", "size"), [("rows", 16), ("tokens", 4096)])
def test_an_update_that_ran_out_of_memory_is_the_update_of_a_smaller_portion(
    tmp_path: Path, unit: str, size: int
) -> None:
    """The limit is real. The gradient differs from that of the whole batch by rounding alone, and by nothing from that
    of a learner that began with the lower number.
    """
    short = shortage(tmp_path / "short", unit, size, 60, 200)
    assert short["size"] < size
    assert any("memory ran out" in line and "going on with" in line for line in short["said"])
    began_lower = shortage(tmp_path / "lower", unit, short["size"], -1, 200)
    roomy = shortage(tmp_path / "roomy", unit, size, -1, 200)
    assert (began_lower["said"], roomy["said"]) == ([], [])
    assert (began_lower["size"], roomy["size"]) == (short["size"], size)
    weights = {name: load_file(tmp_path / name / "weights.safetensors") for name in ("short", "lower", "roomy")}
    for name, tensor in weights["short"].items():
        if name != "logp_old":  # annotated with another portion, where the gradient needed a smaller one
            assert torch.equal(tensor, weights["lower"][name]), name
        assert torch.allclose(tensor, weights["roomy"][name], atol=2e-3), name  # AdamW's first step: 1e-3 x sign
    assert short["grad_norm"] == began_lower["grad_norm"]
    assert short["grad_norm"] == pytest.approx(roomy["grad_norm"], rel=1e-5)
    assert torch.allclose(weights["short"]["logp_old"], weights["roomy"]["logp_old"], atol=1e-5)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is enforced on Linux")
def test_one_row_that_does_not_fit_says_what_to_change(tmp_path: Path) -> None:
    result = shortage(tmp_path / "none", "rows", 4, 3, 600)
    assert "one answer at a time" in result["error"]
    assert "gradient_checkpointing" in result["error"]
    assert "max_completion_length" in result["error"]
    assert result["said"], "smaller portions were tried first"


def test_other_errors_are_not_tried_again() -> None:
    made = learner(4)
    calls: list[int] = []

    def broken() -> None:
        calls.append(1)
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        made.portions.retried(broken, collate(parts.rollouts(made.policy)))
    assert calls == [1]
