"""The embedded model: a small Llama that reads and writes sums character by character.

`path()` is the trained model, an ordinary Hugging Face folder; `build(seed)` is the same architecture before training.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from tokenizers.decoders import Fuse
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
CHARACTERS = "0123456789+-=;#"
"""Everything that a sum needs: `3+8+12=` is a question, `3+8=11;11+12=23#23` a worked answer, `#23` a guess."""

CONTEXT = 128
"""Tokens, question and answer together; the longest worked answer of four terms has about 40."""


def path() -> Path:
    """The folder of the trained model, inside the installed package."""
    return Path(__file__).resolve().parent


def build(seed: int) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Fresh weights, which depend on the seed only, and the tokenizer. The caller's random state stays as it was."""
    tokenizer = character_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(architecture(tokenizer))
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, max_length=CONTEXT
    )
    return model, tokenizer


def architecture(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """About 0.44 million parameters: 1.8 MB on disk in fp32, and 2 CPU cores sample thousands of answers a second."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.05,
    )


def character_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character. Characters outside `CHARACTERS` become `<unk>`."""
    vocabulary = {token: i for i, token in enumerate([PAD, EOS, UNKNOWN, *CHARACTERS])}
    characters = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    characters.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    characters.decoder = Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=characters,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
