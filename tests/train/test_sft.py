"""Fine-tuning lowers the loss of answers, counts nothing else, and repeats itself exactly."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from scoreline.environments.examples import Example
from scoreline.errors import ConfigError, DataError, DivergenceError
from scoreline.models import tiny
from scoreline.models.policy import Policy
from scoreline.models.text import Text
from scoreline.train.sft import SFT, Row, accumulate, batches, finetune, learning_rate, tokenise
from scoreline.types import Prompt

QUICK = SFT(steps=4, batch_size=6, micro_batch_size=4, learning_rate=3e-3)
EXAMPLES = [
    Example(Prompt(f"train:{a}", f"{a}+{a}="), f"{'' if a % 2 else f'{a}+{a}={2 * a}'}#{2 * a}") for a in range(20)
]


def make_policy(seed: int = 0) -> Policy:
    model, tokenizer = tiny.build(seed)
    return Policy(model, Text(tokenizer, model.generation_config), torch.device("cpu"))


def weights(policy: Policy) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in policy.model.parameters()])


def gradient(policy: Policy, rows: list[Row], micro_batch_size: int) -> torch.Tensor:
    policy.model.zero_grad()
    accumulate(policy, rows, micro_batch_size)
    return torch.cat([parameter.grad.flatten() for parameter in policy.model.parameters()])


def test_the_loss_is_the_mean_over_answer_tokens() -> None:
    policy = make_policy()
    rows = tokenise(policy.text, EXAMPLES[:5], 100)
    surprise = []
    for row in rows:
        ids = torch.tensor([[*row.prompt, *row.answer]])
        logp = policy.model(ids).logits[0].log_softmax(-1)
        surprise += [-logp[len(row.prompt) - 1 + i, token].item() for i, token in enumerate(row.answer)]
    assert accumulate(policy, rows, 2)["loss"] == pytest.approx(sum(surprise) / len(surprise), abs=1e-5)


def test_answers_end_in_eos() -> None:
    policy = make_policy()
    for row in tokenise(policy.text, EXAMPLES, 100):
        assert row.answer[-1] == policy.text.eos_ids[0]


@pytest.mark.parametrize("micro_batch_size", [1, 3, 7, 20])
def test_micro_batches_add_up(micro_batch_size: int) -> None:
    policy = make_policy()
    rows = tokenise(policy.text, EXAMPLES, 100)
    whole = gradient(policy, rows, len(rows))
    torch.testing.assert_close(gradient(policy, rows, micro_batch_size), whole, atol=1e-6, rtol=1e-4)


def test_an_epoch_shows_every_example_once() -> None:
    rows = [Row((i,), (i, i)) for i in range(10)]
    endless = batches(rows, SFT(batch_size=4), 0)
    for _ in range(2):
        seen = [row for _ in range(3) for row in next(endless)]
        assert sorted(row.prompt for row in seen) == [row.prompt for row in rows]
        assert seen != rows


def test_it_learns_and_reports() -> None:
    policy = make_policy()
    reports = list(finetune(policy, EXAMPLES, replace(QUICK, steps=40)))
    assert [report.step for report in reports] == list(range(1, 41))
    assert reports[-1].metrics["loss"] < 0.6 * reports[0].metrics["loss"]
    assert reports[-1].metrics["mean_token_accuracy"] > reports[0].metrics["mean_token_accuracy"]
    assert reports[-1].metrics["epoch"] == 12.0
    assert not policy.model.training


def test_epochs_give_the_steps() -> None:
    reports = list(finetune(make_policy(), EXAMPLES, replace(QUICK, steps=None, epochs=1.5)))
    assert len(reports) == math.ceil(1.5 * 20 / 6)


def test_two_runs_are_bit_identical() -> None:
    one, same, other = make_policy(), make_policy(), make_policy()
    first = [report.metrics["loss"] for report in finetune(one, EXAMPLES, QUICK)]
    again = [report.metrics["loss"] for report in finetune(same, EXAMPLES, QUICK)]
    list(finetune(other, EXAMPLES, QUICK, seed=1))
    assert first == again
    assert torch.equal(weights(one), weights(same))
    assert not torch.equal(weights(one), weights(other))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1.0, 1.0, 0.8535534, 0.5, 0.1464466]),
    ],
)
def test_schedules_by_hand(schedule: str, expected: list[float]) -> None:
    config = SFT(learning_rate=1.0, warmup=2, schedule=schedule)  # type: ignore[arg-type]
    assert [learning_rate(step, 6, config) for step in range(1, 7)] == pytest.approx(expected)


def test_a_loss_that_is_not_finite_never_reaches_the_weights() -> None:
    policy = make_policy()
    with torch.no_grad():
        policy.model.base_model.norm.weight[0] = math.nan
    before = weights(policy)
    with pytest.raises(
        DivergenceError, match=r"step 3: .* not finite 3 times in a row[\s\S]*loss nan[\s\S]*learning_rate"
    ):
        list(finetune(policy, EXAMPLES, QUICK))
    assert torch.equal(weights(policy).nan_to_num(), before.nan_to_num())


def test_too_long_an_example_is_named() -> None:
    long = Example(Prompt("train:7", "1+1="), "1" * 50)
    with pytest.raises(DataError, match=r"train:7 is too long[\s\S]*55 tokens[\s\S]*at most 40"):
        list(finetune(make_policy(), [*EXAMPLES, long], replace(QUICK, max_length=40)))
    longer = Example(Prompt("train:8", "1+1="), "1" * 500)
    with pytest.raises(DataError, match=f"at most {tiny.CONTEXT}"):
        list(finetune(make_policy(), [longer], QUICK))


def test_no_examples() -> None:
    with pytest.raises(DataError, match="nothing to fine-tune on"):
        list(finetune(make_policy(), [], QUICK))


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"micro_batch_size": -1}, {"steps": 0}, {"epochs": 0.0}])
def test_settings_that_cannot_be(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="accepted"):
        SFT(**wrong)  # type: ignore[arg-type]
