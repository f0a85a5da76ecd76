"""A reward model gives an answer the same score in every company."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CONFIG_MAPPING, AutoModelForSequenceClassification

from scoreline.errors import DataError, ModelError
from scoreline.models.reward import load_judge

PROMPTS = ["3+8=", "What is 3 + 8?", "12+", "Why?"]
ANSWERS = ["11", "Eleven, I should say.", "3=15", "Because."]


@pytest.fixture
def reward_model(tmp_path: Path, characters: Callable[..., Any]) -> Callable[..., str]:
    """The folder of a random reward model: `reward_model("gpt2", pad_token="<pad>")`."""

    def make(kind: str = "llama", num_labels: int = 1, **special: str) -> str:
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 64}
        ends = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
        config = CONFIG_MAPPING[kind](vocab_size=110, num_labels=num_labels, intermediate_size=32, **sizes, **ends)
        AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "judge")
        characters(**special).save_pretrained(tmp_path / "judge")
        return str(tmp_path / "judge")

    return make


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


def test_longer_than_its_context(reward_model: Callable[..., str]) -> None:
    with pytest.raises(DataError, match=r"row 1 do not fit[\s\S]*100 tokens[\s\S]*1 to 64 tokens"):
        load_judge(reward_model())(["3+8=", "x" * 50], ["11", "y" * 50])


def test_more_than_one_output(reward_model: Callable[..., str]) -> None:
    with pytest.raises(ModelError, match=r"not a reward model[\s\S]*with 3 outputs[\s\S]*num_labels = 1"):
        load_judge(reward_model(num_labels=3))


def test_a_causal_model_is_no_judge(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"not a reward model[\s\S]*LlamaForCausalLM"):
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
