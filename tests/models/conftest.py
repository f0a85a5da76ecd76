"""Small real models and tokenizers, made on the spot."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from tokenizers.decoders import Fuse
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedTokenizerFast

SIZES: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 2},
    "qwen2": {"num_key_value_heads": 2, "use_sliding_window": False},
    "gemma2": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 16},
    "gpt2": {},
    "gpt_neox": {},
}
SHARED = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


@pytest.fixture
def characters() -> Callable[..., PreTrainedTokenizerFast]:
    """A tokenizer of one token a character; special tokens as given: `characters(eos_token="<eos>")`."""

    def make(*extra: str, **special: str) -> PreTrainedTokenizerFast:
        vocabulary = {token: i for i, token in enumerate([*string.printable, "<unk>"])}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        tokenizer.decoder = Fuse()
        made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **special)
        made.add_special_tokens({"additional_special_tokens": list(extra)})
        return made

    return make


@pytest.fixture
def causal_lm() -> Callable[..., Any]:
    """A random model of a kind: `causal_lm("gpt2")`."""

    def make(kind: str = "llama", vocab_size: int = 110, **more: Any) -> Any:
        torch.manual_seed(0)
        config = CONFIG_MAPPING[kind](vocab_size=vocab_size, **{**SHARED, **SIZES[kind], **more})
        return AutoModelForCausalLM.from_config(config).eval()

    return make


@pytest.fixture
def judge_folder(tmp_path: Path, characters: Callable[..., Any]) -> Callable[..., str]:
    """The folder of a random judge: `judge_folder(AutoModelForTokenClassification, "gpt2", pad_token="<pad>")`."""

    def make(head: Any, kind: str = "llama", num_labels: int = 1, **special: str) -> str:
        torch.manual_seed(0)
        config = CONFIG_MAPPING[kind](vocab_size=110, num_labels=num_labels, **SHARED)
        head.from_config(config).save_pretrained(tmp_path / "judge")
        characters(**special).save_pretrained(tmp_path / "judge")
        return str(tmp_path / "judge")

    return make


@pytest.fixture
def folder(tmp_path: Path, causal_lm: Callable[..., Any], characters: Callable[..., Any]) -> Path:
    """A complete model folder."""
    causal_lm().save_pretrained(tmp_path / "model")
    characters(eos_token="<eos>").save_pretrained(tmp_path / "model")
    return tmp_path / "model"
