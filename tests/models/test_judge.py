"""A reward model gives an answer the same score in every company."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from scoreline.errors import DataError, ModelError, RewardError
from scoreline.models import tiny
from scoreline.models.judges import OutcomeJudge, load_judge, make_judge

PROMPTS = ["3+8=", "What is 3 + 8?", "12+", "Why?"]
ANSWERS = ["11", "Eleven, I should say.", "3=15", "Because."]


@pytest.fixture
def reward_model(judge_folder: Callable[..., str]) -> Callable[..., str]:
    """The folder of a random reward model: `reward_model("gpt2", pad_token="<pad>")`."""
    return partial(judge_folder, AutoModelForSequenceClassification)


SPECIALS = [{}, {"eos_token": "="}, {"pad_token": "1"}, {"pad_token": "<pad>", "eos_token": "<eos>"}]


@pytest.mark.parametrize("special", SPECIALS, ids=["none", "eos that occurs", "pad that ends an answer", "usual"])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert"])
def test_a_batch_scores_as_one_by_one(kind: str, special: dict[str, str], reward_model: Callable[..., str]) -> None:
    judge = load_judge(reward_model(kind, **special), device="cpu", batch_size=3)
    alone = [judge([p], [a])[0] for p, a in zip(PROMPTS, ANSWERS, strict=True)]
    assert judge(prompts=PROMPTS, completions=ANSWERS, answer=["a column"] * 4) == pytest.approx(alone, abs=1e-5)
    assert len(set(alone)) == 4


def test_the_score_is_the_heads_output_at_the_last_token(reward_model: Callable[..., str]) -> None:
    path = reward_model(eos_token="<eos>")
    model = AutoModelForSequenceClassification.from_pretrained(path)
    judge = load_judge(path, device="cpu")
    with torch.no_grad():
        ids = judge.text.tokenizer("3+8=11", return_tensors="pt").input_ids
        expected = model.score(model.model(ids).last_hidden_state[:, -1]).item()
    assert judge(["3+8="], ["11"]) == pytest.approx([expected], abs=1e-6)


def test_messages_are_rendered_whole(reward_model: Callable[..., str]) -> None:
    judge = load_judge(
        reward_model(eos_token="<eos>"), chat_template="{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    asked = [[{"role": "user", "content": p}] for p in PROMPTS]
    answered = [[{"role": "assistant", "content": a}] for a in ANSWERS]
    assert judge(asked, answered) == pytest.approx(judge(PROMPTS, ANSWERS), abs=1e-6)


def test_nothing_to_score(reward_model: Callable[..., str]) -> None:
    assert load_judge(reward_model())([], []) == []


def test_scores_do_not_depend_on_the_order_or_the_batch_size(reward_model: Callable[..., str]) -> None:
    path = reward_model(eos_token="<eos>")
    one, many = load_judge(path, batch_size=1), load_judge(path, batch_size=32)
    assert many(PROMPTS[::-1], ANSWERS[::-1]) == pytest.approx(one(PROMPTS, ANSWERS)[::-1], abs=1e-6)


def test_what_is_saved_scores_the_same_in_plain_transformers(reward_model: Callable[..., str], tmp_path: Path) -> None:
    judge = load_judge(reward_model(pad_token="<pad>", eos_token="<eos>"))
    expected = judge(PROMPTS, ANSWERS)  # pools with pads of its own, which must not be what is saved
    judge.save(tmp_path / "saved")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    model.config.pad_token_id = tokenizer.pad_token_id
    batch = tokenizer([p + a for p, a in zip(PROMPTS, ANSWERS, strict=True)], return_tensors="pt", padding=True)
    with torch.no_grad():
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    assert logits[:, 0].tolist() == pytest.approx(expected, abs=1e-5)


def test_scoring_leaves_the_configuration_alone(reward_model: Callable[..., str]) -> None:
    judge = load_judge(reward_model(pad_token="1"))
    before = judge.model.config.to_dict()
    judge(["3+8="], ["11"])  # an answer that ends in the pad
    assert judge.model.config.to_dict() == before


def test_bf16_rounds_a_little(reward_model: Callable[..., str]) -> None:
    path = reward_model()
    exact, rounded = load_judge(path)(PROMPTS, ANSWERS), load_judge(path, precision="bf16")(PROMPTS, ANSWERS)
    assert rounded == pytest.approx(exact, abs=0.02)
    assert rounded != exact


def test_a_score_that_is_no_number_names_the_judge_and_the_row(reward_model: Callable[..., str]) -> None:
    judge = load_judge(reward_model(eos_token="<eos>"))
    with torch.no_grad():
        judge.model.get_input_embeddings().weight[judge.text.tokenizer.convert_tokens_to_ids("W")] = float("nan")
    with pytest.raises(RewardError, match=r"judge \S*/judge gave row 1 a score that is no number[\s\S]*nan[\s\S]*fp32"):
        judge(PROMPTS[:2], ANSWERS[:2])


def test_longer_than_its_context(reward_model: Callable[..., str]) -> None:
    with pytest.raises(DataError, match=r"row 1 do not fit[\s\S]*100 tokens[\s\S]*1 to 64 tokens"):
        load_judge(reward_model())(["3+8=", "x" * 50], ["11", "y" * 50])


def test_more_than_one_output(reward_model: Callable[..., str]) -> None:
    with pytest.raises(ModelError, match=r"head does not fit[\s\S]*with 3 labels[\s\S]*num_labels = 1[\s\S]*or 2"):
        load_judge(reward_model(num_labels=3))


def test_a_causal_model_is_no_judge(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"head does not fit[\s\S]*LlamaForCausalLM, without a classification head"):
        load_judge(str(folder))


def test_a_head_without_weights_is_not_made_up(reward_model: Callable[..., str]) -> None:
    file = Path(reward_model()) / "model.safetensors"
    weights = load_file(file)
    del weights["score.weight"]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(ModelError, match=r"no weights[\s\S]*score\.weight"):
        load_judge(str(file.parent))


def test_a_causal_folder_that_calls_itself_a_judge(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    named = {"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "reward"}}
    (folder / "config.json").write_text(json.dumps({**config, **named}))
    with pytest.raises(ModelError, match=r"no weights[\s\S]*score\.weight"):
        load_judge(str(folder))


def test_a_fresh_judge_has_the_trunk_and_a_head_that_says_little() -> None:
    judge = make_judge("outcome", "tiny", device="cpu")
    assert isinstance(judge, OutcomeJudge)
    trunk = AutoModelForCausalLM.from_pretrained(tiny.path()).base_model.state_dict()
    made = judge.model.base_model.state_dict()
    assert all(torch.equal(made[name], weight) for name, weight in trunk.items())
    scores = judge(["3+8=", "3+8+12="], ["#11", "3+8=11;11+12=23#23"])
    assert 0 < max(map(abs, scores)) < 0.5


def test_a_fresh_head_depends_on_the_seed_alone() -> None:
    first, again, other = (make_judge("outcome", "tiny", seed=seed, device="cpu") for seed in (1, 1, 2))
    heads = [judge.model.score.weight for judge in (first, again, other)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_making_a_judge_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    make_judge("process", "tiny", device="cpu")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["outcome", "process"])
def test_a_judge_of_every_architecture_that_can_be_one(
    kind: Any, causal_lm: Any, characters: Any, tmp_path: Path
) -> None:
    for architecture in ("llama", "qwen2", "gemma2", "gpt2"):
        causal_lm(architecture).save_pretrained(tmp_path / architecture)
        characters(eos_token="<eos>").save_pretrained(tmp_path / architecture)
        made = make_judge(kind, str(tmp_path / architecture), device="cpu")
        made.save(tmp_path / "judge")
        loaded = load_judge(str(tmp_path / "judge"), device="cpu")
        asked = (PROMPTS, [[answer] for answer in ANSWERS]) if kind == "process" else (PROMPTS, ANSWERS)
        assert loaded(*asked) == made(*asked)
        assert loaded.kind == kind


def test_an_architecture_without_such_a_class(tmp_path: Path, characters: Any) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = CONFIG_MAPPING["granite"](vocab_size=110, num_key_value_heads=2, **sizes)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    characters(eos_token="<eos>").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"cannot become process reward models[\s\S]*GraniteForCausalLM"):
        make_judge("process", str(tmp_path))
