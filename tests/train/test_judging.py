"""Judges learn, repeat themselves exactly, go on where they were, and are not moved by how a batch is cut."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from scoreline.environments.preferences import Labelled, Pair
from scoreline.errors import ConfigError, DataError, DivergenceError
from scoreline.models.judges import OutcomeJudge, ProcessJudge, make_judge
from scoreline.models.policy import recompute_activations
from scoreline.train.judging import JudgeFit, JudgeLearner
from scoreline.types import Prompt

QUICK = JudgeFit(steps=4, batch_size=6, micro_batch_size=4, learning_rate=3e-3)


def prompt(a: int) -> Prompt:
    return Prompt(f"train:{a}", f"{a}+{a}=")


PAIRS = [Pair(prompt(a), f"#{2 * a}" if a % 2 else f"{a}+{a}={2 * a}#{2 * a}", f"#{2 * a + 1}") for a in range(20)]
STEPS = [
    Labelled(prompt(a), (f"{a}+{a}={2 * a + a % 2};", f"#{2 * a}")[: 1 + a % 3], (1.0 - a % 2, 0.75)[: 1 + a % 3])
    for a in range(20)
]
ROWS: dict[str, Sequence[Pair | Labelled]] = {"outcome": PAIRS, "process": STEPS}
KINDS = pytest.mark.parametrize("kind", ["outcome", "process"])


def learner(kind: str, config: JudgeFit = QUICK, *, seed: int = 0) -> JudgeLearner:
    return JudgeLearner(make_judge(kind, "tiny:init", seed=seed, device="cpu"), config)  # type: ignore[arg-type]


def weights(of: JudgeLearner) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in of.parameters])


@KINDS
def test_it_learns_what_it_is_shown(kind: str) -> None:
    taught = learner(kind, replace(QUICK, steps=60, batch_size=20, micro_batch_size=20))
    before = taught.measure(ROWS[kind])
    reports = list(taught.fit(ROWS[kind], seed=0))
    after = taught.measure(ROWS[kind])
    assert [report.step for report in reports] == list(range(1, 61))
    assert after["accuracy"] >= 0.95 > before["accuracy"]
    assert after["loss"] < 0.6 * before["loss"]
    assert reports[0].metrics["loss"] == pytest.approx(before["loss"], rel=1e-5)
    assert {"grad_norm", "learning_rate", "epoch", "num_tokens", "skipped_updates"} <= reports[-1].metrics.keys()
    assert not taught.judge.model.training


def test_what_is_measured_of_pairs() -> None:
    """By the judge's own scores, one answer at a time."""
    taught = learner("outcome", seed=3)
    assert isinstance(taught.judge, OutcomeJudge)
    margins = [
        taught.judge([pair.prompt.content], [pair.chosen])[0] - taught.judge([pair.prompt.content], [pair.rejected])[0]
        for pair in PAIRS
    ]
    measured = taught.measure(PAIRS)
    assert measured["margin"] == pytest.approx(sum(margins) / 20, abs=1e-6)
    assert measured["accuracy"] == pytest.approx(sum(margin > 0 for margin in margins) / 20)
    assert measured["loss"] == pytest.approx(sum(math.log1p(math.exp(-margin)) for margin in margins) / 20, abs=1e-6)
    sure = sum(1 / (1 + math.exp(-abs(margin))) for margin in margins) / 20  # all of them in the bin [0.5, 0.6)
    assert measured["calibration_error"] == pytest.approx(abs(sure - measured["accuracy"]), abs=1e-6)


def test_what_is_measured_of_steps() -> None:
    """The mean is over steps, not over answers."""
    taught = learner("process", seed=3)
    assert isinstance(taught.judge, ProcessJudge)
    said = taught.judge([row.prompt.content for row in STEPS], [row.steps for row in STEPS])
    pairs = [(p, y) for given, row in zip(said, STEPS, strict=True) for p, y in zip(given, row.labels, strict=True)]
    measured = taught.measure(STEPS)
    assert len(pairs) > 20
    assert measured["accuracy"] == pytest.approx(sum((p > 0.5) == (y > 0.5) for p, y in pairs) / len(pairs))
    losses = [-(y * math.log(p) + (1 - y) * math.log(1 - p)) for p, y in pairs]
    assert measured["loss"] == pytest.approx(sum(losses) / len(pairs), abs=1e-6)
    right = sum(y > 0.5 for _, y in pairs) / len(pairs)
    assert measured["majority"] == pytest.approx(max(right, 1 - right))


@KINDS
def test_micro_batches_do_not_change_the_gradient(kind: str) -> None:
    gradients = []
    for size in (1, 3, 20):
        taught = learner(kind, replace(QUICK, micro_batch_size=size))
        taught._accumulate(taught._encode(ROWS[kind]))
        gradients.append(torch.cat([p.grad.flatten() for p in taught.parameters if p.grad is not None]))
    assert len(gradients[0]) == len(weights(taught))
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], atol=1e-6, rtol=1e-4)


@KINDS
def test_gradient_checkpointing_does_not_change_the_gradient(kind: str) -> None:
    plain, saving = learner(kind), learner(kind)
    recompute_activations(saving.judge.model)
    passes = []
    for taught in (plain, saving):
        layer = taught.judge.model.base_model.layers[0].mlp
        layer.register_forward_pre_hook(lambda *_, taught=taught: passes.append(taught))
        taught._accumulate(taught._encode(ROWS[kind]))
    assert passes.count(saving) == 2 * passes.count(plain) > 0
    for one, same in zip(plain.parameters, saving.parameters, strict=True):
        torch.testing.assert_close(one.grad, same.grad, atol=1e-7, rtol=1e-5)
    assert not any(module.training for module in saving.judge.model.modules())


@KINDS
def test_two_runs_are_bit_identical(kind: str) -> None:
    one, same, other = learner(kind), learner(kind), learner(kind)
    state = torch.get_rng_state()
    first = [report.metrics["loss"] for report in one.fit(ROWS[kind], seed=0)]
    assert torch.equal(torch.get_rng_state(), state)
    again = [report.metrics["loss"] for report in same.fit(ROWS[kind], seed=0)]
    list(other.fit(ROWS[kind], seed=1))
    assert first == again
    assert torch.equal(weights(one), weights(same))
    assert not torch.equal(weights(one), weights(other))


@KINDS
def test_what_is_restored_goes_on_bit_by_bit(kind: str, tmp_path: Path) -> None:
    """AdamW lives on from one call to the next, and through save and restore."""
    one, other = learner(kind), learner(kind, seed=5)
    list(one.fit(ROWS[kind], seed=0))
    one.save(tmp_path)
    other.restore(tmp_path)
    assert torch.equal(weights(one), weights(other))
    assert other.measure(ROWS[kind]) == one.measure(ROWS[kind])
    fresh = JudgeLearner(learner(kind).judge, QUICK)
    fresh.judge.restore(tmp_path / "hf")
    for taught in (one, other, fresh):
        list(taught.fit(ROWS[kind], seed=1))
    assert torch.equal(weights(one), weights(other))
    assert not torch.equal(weights(one), weights(fresh))  # without its optimiser it goes another way
    assert {file.suffix for file in tmp_path.rglob("*") if file.is_file()} <= {".safetensors", ".json", ".jinja"}


def test_what_never_learned_can_be_saved(tmp_path: Path) -> None:
    one, other = learner("outcome"), learner("outcome", seed=5)
    one.save(tmp_path)
    other.restore(tmp_path)
    for taught in (one, other):
        list(taught.fit(PAIRS, seed=0))
    assert torch.equal(weights(one), weights(other))


@KINDS
def test_a_trained_folder_says_the_same_in_plain_transformers(kind: str, tmp_path: Path) -> None:
    taught = learner(kind)
    list(taught.fit(ROWS[kind], seed=0))
    taught.save(tmp_path)
    auto = AutoModelForSequenceClassification if kind == "outcome" else AutoModelForTokenClassification
    model, tokenizer = auto.from_pretrained(tmp_path / "hf"), AutoTokenizer.from_pretrained(tmp_path / "hf")
    texts = ["7+7=7+7=15;", "13+13=13+13=27;"]
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    with torch.no_grad():
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    answers = [text.partition("=")[2] for text in texts]
    judged = taught.judge(["7+7=", "13+13="], [[a] for a in answers] if kind == "process" else answers)
    if kind == "outcome":
        assert logits[:, 0].tolist() == pytest.approx(judged, abs=1e-6)
    else:
        ends = logits[[0, 1], [len(text) - 1 for text in texts]].softmax(-1)[:, 1]
        assert [[p] for p in ends.tolist()] == [pytest.approx(p, abs=1e-6) for p in judged]
        assert model.config.id2label == {0: "wrong", 1: "right"}


@KINDS
def test_a_loss_that_is_not_finite_never_reaches_the_weights(kind: str) -> None:
    taught = learner(kind)
    with torch.no_grad():
        taught.judge.model.base_model.norm.weight[0] = math.nan
    before = weights(taught)
    with pytest.raises(DivergenceError, match=r"Training the judge stopped at step 3[\s\S]*lower fit.learning_rate"):
        list(taught.fit(ROWS[kind], seed=0))
    assert torch.equal(weights(taught).nan_to_num(), before.nan_to_num())


def test_too_long_a_row_is_named() -> None:
    long = Pair(Prompt("train:7", "1+1="), "1" * 50, "2")
    with pytest.raises(
        DataError, match=r"prompt train:7 is too long[\s\S]*54 tokens[\s\S]*at most 40 [\s\S]*fit.max_len"
    ):
        learner("outcome", replace(QUICK, max_length=40)).check([*PAIRS, long])
    with pytest.raises(DataError, match=r"prompt train:8 is too long[\s\S]*at most 128"):
        list(learner("process").fit([Labelled(Prompt("train:8", "1+1="), ("1" * 500,), (1.0,))], seed=0))


def test_nothing_to_learn_from() -> None:
    with pytest.raises(DataError, match="nothing to train the judge on"):
        list(learner("outcome").fit([], seed=0))
    with pytest.raises(DataError, match="nothing to measure the judge on"):
        learner("process").measure([])


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"micro_batch_size": -1}, {"steps": 0}, {"epochs": 0.0}])
def test_settings_that_cannot_be(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"(fit\.|needs a step)[\s\S]*accepted"):
        JudgeFit(**wrong)  # type: ignore[arg-type]
