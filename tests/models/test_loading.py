"""What a folder holds is loaded whole, or refused with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM, BertConfig, T5Config

from scoreline.errors import ModelError
from scoreline.models import tiny
from scoreline.models.loading import load_causal_lm, load_tokenizer, resolve

KINDS = ["llama", "qwen2", "gemma2", "gpt2", "gpt_neox"]


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def refused(path: Path | str) -> str:
    with pytest.raises(ModelError) as caught:
        load_causal_lm(str(path))
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_back_as_it_was(kind: str, causal_lm: Callable[..., Any], tmp_path: Path) -> None:
    made = causal_lm(kind)
    made.save_pretrained(tmp_path)
    loaded = load_causal_lm(str(tmp_path))
    ids = torch.arange(10)[None]
    torch.testing.assert_close(loaded(ids).logits, made(ids).logits)
    assert not loaded.training
    assert loaded.dtype is torch.float32


def test_half_precision_files_are_loaded_as_fp32_master_weights(causal_lm: Callable[..., Any], tmp_path: Path) -> None:
    causal_lm().bfloat16().save_pretrained(tmp_path)
    assert load_causal_lm(str(tmp_path)).dtype is torch.float32


def test_a_tied_head_needs_no_weights_of_its_own(causal_lm: Callable[..., Any], tmp_path: Path) -> None:
    causal_lm(tie_word_embeddings=True).save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    load_causal_lm(str(tmp_path))


def test_shards_are_loaded(causal_lm: Callable[..., Any], tmp_path: Path) -> None:
    causal_lm().save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    load_causal_lm(str(tmp_path))


def test_a_missing_shard_is_named(causal_lm: Callable[..., Any], tmp_path: Path) -> None:
    causal_lm().save_pretrained(tmp_path, max_shard_size="10KB")
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    shard.unlink()
    assert shard.name in refused(tmp_path)


@pytest.mark.parametrize("path", ["/nowhere/model", "./model", "../model", "~/no-such-model", "a/b/c"])
def test_a_missing_folder(path: str) -> None:
    message = refused(path)
    assert message.startswith("The model folder is missing")
    assert "'tiny'" in message


def test_a_file_is_no_folder(folder: Path) -> None:
    assert "folder is missing" in refused(folder / "config.json")


def test_an_id_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = refused("no-such-owner/no-such-model")
    assert "the hub did not give it" in message
    assert "give its folder" in message
    with pytest.raises(ModelError, match="the hub did not give it"):
        load_tokenizer("no-such-owner/no-such-model")


def test_no_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    message = refused(folder)
    assert "no config.json" in message
    assert "model.safetensors" in message


@pytest.mark.parametrize("text", ["", "{", "not JSON"])
def test_a_broken_config(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    assert "config.json is not JSON" in refused(folder)


def test_an_unknown_architecture(folder: Path) -> None:
    edit(folder / "config.json", model_type="no_such_type")
    assert "configuration cannot be loaded" in refused(folder)


def test_no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"no tokenizer[\s\S]*tokenizer_config\.json[\s\S]*save_pretrained"):
        load_tokenizer(str(folder))


def test_a_broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="tokenizer cannot be loaded"):
        load_tokenizer(str(folder))


def test_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "no weights" in refused(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickled_weights_are_refused_unread(folder: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder / name)
    message = refused(folder)
    assert "pickled" in message
    assert name in message
    assert "save_pretrained" in message


@pytest.mark.parametrize("keep", [0, 4, 100, -10])
def test_truncated_weights(folder: Path, keep: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    message = refused(folder)
    assert "cut short or broken" in message
    assert str(file) in message


def test_garbage_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 1000)
    assert "cut short or broken" in refused(folder)


def test_missing_parameters_are_an_error_and_not_random(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    message = refused(folder)
    assert "1 parameters of the model have no weights" in message
    assert "model.layers.1.mlp.up_proj.weight" in message


def test_weights_of_another_shape(folder: Path) -> None:
    edit(folder / "config.json", hidden_size=32)
    assert "cannot be loaded" in refused(folder)


def test_encoders_are_not_causal(tmp_path: Path) -> None:
    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=50)
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
    message = refused(tmp_path)
    assert "not a causal language model" in message
    assert "BertForMaskedLM" in message


def test_encoder_decoders_are_not_causal(tmp_path: Path) -> None:
    config = T5Config(d_model=16, num_layers=1, num_heads=2, d_ff=16, d_kv=8, vocab_size=50)
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(tmp_path)
    assert "not a causal language model" in refused(tmp_path)


def test_classifiers_are_not_causal(folder: Path) -> None:
    edit(folder / "config.json", architectures=["LlamaForSequenceClassification"])
    assert "LlamaForSequenceClassification" in refused(folder)


def test_code_of_the_folder_needs_a_word(folder: Path) -> None:
    (folder / "modeling_mine.py").write_text("raise SystemExit('this ran')")
    edit(folder / "config.json", model_type="mine", auto_map={"AutoModelForCausalLM": "modeling_mine.Mine"})
    message = refused(folder)
    assert "code of its own" in message
    assert "modeling_mine.Mine" in message
    assert "trust_remote_code" in message


def test_code_beside_an_architecture_of_transformers_never_runs(folder: Path) -> None:
    (folder / "modeling_mine.py").write_text("raise SystemExit('this ran')")
    edit(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_mine.Mine"})
    assert type(load_causal_lm(str(folder))).__module__.startswith("transformers.")


def test_tiny_is_the_packaged_folder() -> None:
    assert resolve("tiny") == str(tiny.path())


def test_fresh_tiny_weights_depend_on_the_seed_alone() -> None:
    state = torch.get_rng_state()
    one, same, other = (load_causal_lm("tiny:init", seed=seed).lm_head.weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)
    assert load_tokenizer("tiny:init").get_vocab()["="] < one.shape[0]
