"""A process judge gives a step the same probability in every company, and reads it where the step ends."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer

from scoreline.errors import DataError, ModelError, RewardError
from scoreline.models.judges import ProcessJudge, load_judge, make_judge, start_judge
from scoreline.types import Prompt

PROMPTS = ["3+8+12=", "What is 3 + 8?", "Why?", "1+1="]
STEPS = [["3+8=11;", "11+12=23#23"], ["Eleven,\n", "I should\n", "say."], [], ["#2"]]


@pytest.fixture
def process_model(judge_folder: Callable[..., str]) -> Callable[..., str]:
    """The folder of a random process reward model: `process_model("gpt2", num_labels=1)`."""
    return partial(judge_folder, AutoModelForTokenClassification, num_labels=2)


@pytest.mark.parametrize("num_labels", [1, 2])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert"])
def test_a_batch_scores_as_one_by_one(kind: str, num_labels: int, process_model: Callable[..., str]) -> None:
    judge = load_judge(process_model(kind, num_labels=num_labels), device="cpu", batch_size=3)
    assert isinstance(judge, ProcessJudge)
    given = judge(prompts=PROMPTS, steps=STEPS, answer=["a column"] * 4)
    assert [len(row) for row in given] == [2, 3, 0, 1]
    for i, row in enumerate(given):
        assert row == pytest.approx(judge([PROMPTS[i]], [STEPS[i]])[0], abs=1e-6)
        assert all(0 < p < 1 for p in row)
    assert len({p for row in given for p in row}) == 6


def test_the_probability_is_read_at_the_last_token_of_each_step(process_model: Callable[..., str]) -> None:
    """With one token a character, the steps of `3+8+12=` + `3+8=11;` + `11+12=23#23` end at characters 14 and 25."""
    path = process_model(eos_token="<eos>")
    model, tokenizer = AutoModelForTokenClassification.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    with torch.no_grad():
        logits = model(**tokenizer("3+8+12=3+8=11;11+12=23#23", return_tensors="pt")).logits[0]
    expected = logits.softmax(-1)[[13, 24], 1].tolist()
    assert load_judge(path, device="cpu")(PROMPTS[:1], STEPS[:1]) == [pytest.approx(expected, abs=1e-6)]


def test_one_label_is_a_logit(process_model: Callable[..., str]) -> None:
    path = process_model(num_labels=1)
    model, tokenizer = AutoModelForTokenClassification.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    with torch.no_grad():
        logits = model(**tokenizer("1+1=#2", return_tensors="pt")).logits[0]
    assert load_judge(path)(["1+1="], [["#2"]]) == [[pytest.approx(logits[-1, 0].sigmoid().item(), abs=1e-6)]]


def test_a_step_is_judged_before_the_next_one_is_written(process_model: Callable[..., str]) -> None:
    judge = load_judge(process_model())
    [[first, _]], [[alone]] = judge(PROMPTS[:1], STEPS[:1]), judge(PROMPTS[:1], [STEPS[0][:1]])
    assert first == pytest.approx(alone, abs=1e-6)


def test_prompts_of_messages_have_steps_of_text(process_model: Callable[..., str]) -> None:
    judge = load_judge(process_model(), chat_template="{% for m in messages %}{{ m.content }}{% endfor %}")
    asked = [[{"role": "user", "content": p}] for p in PROMPTS]
    for one, same in zip(judge(asked, STEPS), judge(PROMPTS, STEPS), strict=True):
        assert one == pytest.approx(same, abs=1e-6)


def test_ends_of_steps_with_several_tokens() -> None:
    judge = make_judge("process", "tiny", device="cpu")
    assert isinstance(judge, ProcessJudge)
    marked = judge.encode(Prompt("train:0", "3+8="), ["3+8=11;", "#11"])
    assert (len(marked), marked.ends) == (14, (10, 13))


def test_the_first_probabilities_say_little() -> None:
    [given] = make_judge("process", "tiny", device="cpu")(PROMPTS[:1], STEPS[:1])
    assert all(0.35 < p < 0.65 for p in given)


def test_a_probability_that_is_no_number_names_the_row(process_model: Callable[..., str]) -> None:
    judge = load_judge(process_model())
    with torch.no_grad():
        judge.model.score.bias.fill_(float("inf"))
    with pytest.raises(RewardError, match=r"judge \S*/judge gave row 0 a score that is no number[\s\S]*nan"):
        judge(PROMPTS, STEPS)
    with torch.no_grad():
        judge.model.score.bias.copy_(torch.tensor([0.0, float("inf")]))
    with pytest.raises(RewardError, match=r"gave row 0[\s\S]*\[inf, inf\]"):
        judge(PROMPTS, STEPS)


def test_longer_than_its_context(process_model: Callable[..., str]) -> None:
    with pytest.raises(DataError, match=r"row 3 do not fit[\s\S]*68 tokens[\s\S]*1 to 64 tokens"):
        load_judge(process_model())(PROMPTS, [*STEPS[:3], ["x" * 64]])


def test_a_step_without_tokens(process_model: Callable[..., str]) -> None:
    with pytest.raises(DataError, match=r"of row 0 has a step without tokens"):
        load_judge(process_model())(["3+8="], [["3+8=11", ""]])


def test_three_labels_are_no_judge(process_model: Callable[..., str]) -> None:
    with pytest.raises(ModelError, match=r"head does not fit[\s\S]*LlamaForTokenClassification with 3 labels"):
        load_judge(process_model(num_labels=3))


def test_what_a_judge_to_train_starts_from(process_model: Callable[..., str], folder: Path) -> None:
    path = process_model()
    assert start_judge("process", path)(PROMPTS, STEPS) == load_judge(path)(PROMPTS, STEPS)
    assert start_judge("outcome", str(folder)).kind == "outcome"
    assert start_judge("process", "tiny:init", seed=3, device="cpu").kind == "process"
    with pytest.raises(ModelError, match=r"head does not fit[\s\S]*scores steps[\s\S]*scores answers, or a causal"):
        start_judge("outcome", path)


def test_labels_of_a_fresh_judge_are_named() -> None:
    config = make_judge("process", "tiny", device="cpu").model.config
    assert (config.num_labels, config.id2label) == (2, {0: "wrong", 1: "right"})
